"""Putting a host through what it will have to do: machines of our own are booted, changed, moved and removed."""

import hashlib
import io
import random
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.driver import FIRST_PICTURE_S, XenAPIDriver
from nova_lite.virt.xenapi.plan import ignoring_gone
from nova_lite.virt.xenapi.pool_moves import PoolMoves
from nova_lite.virt.xenapi.records import MIB
from nova_lite.virt.xenapi.transfer import Transfers

LOG = logging.getLogger(__name__)

OK, SKIPPED, FAILED, INTERRUPTED = "ok", "skipped", "failed", "interrupted"
PREFIX = "nova-lite-burnin"
FLAVOR = {"id": 0, "name": "burnin", "flavorid": "burnin", "memory_mb": 128, "vcpus": 1, "root_gb": 1,
          "ephemeral_gb": 0, "swap": 0, "rxtx_factor": 1.0, "vcpu_weight": None, "extra_specs": {}}
IMAGE_B = 8 * MIB
LONGEST_REMOVAL_S = 120
PASSING = ("OTHER_OPERATION_IN_PROGRESS", "OPERATION_NOT_ALLOWED", errors.VM_BAD_POWER_STATE)
CACHED = "Glance Image "  # before the image's id, in the name of the disk it is kept on
PROBLEMS = (exception.NovaException, XenAPI.Failure, NotImplementedError, RuntimeError, OSError)


@dataclass(frozen=True)
class Step:
    """What one step came to."""

    step: str
    result: str
    seconds: float
    detail: str


class _Images:
    """The image port with one image, and room for one snapshot; both in memory."""

    def __init__(self, content: bytes, image_id: str):
        self.image = {"id": image_id, "name": PREFIX, "status": "active", "size": len(content),
                      "disk_format": "raw", "container_format": "bare", "min_ram": 0, "min_disk": 0, "properties": {},
                      "os_hash_value": hashlib.sha256(content).hexdigest()}
        self._content = content
        self.snapshot_b = 0

    def open(self, context: Any, image_id: str):
        return closing(io.BytesIO(self._content))

    def update(self, context: Any, image_id: str, meta: dict, data: Any = None) -> None:
        self.snapshot_b = 0
        while block := data.read(MIB):
            self.snapshot_b += len(block)


class _Service(VirtAPI):
    """Above the driver there is nobody: what it reports is dropped."""

    def instance_update(self, context, instance_uuid, updates):
        return {"uuid": instance_uuid, **updates}

    def instance_fault_create(self, context, instance, exception, exc_info=None):
        LOG.warning("%s: %s", instance["name"], exception)


class BurnIn:
    """One run on one host. Everything it makes has a name of this run, and is removed at its end."""

    def __init__(self, conf: Any, machines: int = 2, tell: Callable[[str], None] = lambda line: None):
        self.name = f"{PREFIX}-{uuid.uuid4().hex[:8]}"
        self._images = _Images(random.SystemRandom().randbytes(IMAGE_B), self.name)
        self._clock = concurrency.Clock()
        self._driver = XenAPIDriver(_Service(), conf=conf, image_api=self._images, clock=self._clock)
        self._instances = [self._instance(number) for number in range(1, machines + 1)]
        self._tell = tell
        self._is_away = False
        self.steps: list[Step] = []

    def _instance(self, number: int) -> dict[str, Any]:
        return {"id": 0, "uuid": str(uuid.uuid4()), "name": f"{self.name}-{number}", "hostname": f"burnin-{number}",
                "os_type": "linux", "architecture": "x86_64", "vm_mode": None, "image_ref": self._images.image["id"],
                "kernel_id": None, "ramdisk_id": None, "root_gb": 1, "ephemeral_gb": 0, "auto_disk_config": False,
                "metadata": {}, "system_metadata": {"image_xenapi_use_agent": "false"}, "flavor": FLAVOR,
                "user_id": PREFIX, "project_id": PREFIX, "key_data": None, "config_drive": ""}

    @property
    def passed(self) -> bool:
        return all(step.result in (OK, SKIPPED) for step in self.steps)

    def run(self) -> list[Step]:
        """Return the steps. Ctrl-C ends the run after the machines are removed, and is told as a step."""
        try:
            self._play()
        except KeyboardInterrupt:
            self._note("interrupted", INTERRUPTED, 0.0, "by the operator")
        finally:
            self._clean_up(self.name)
        return self.steps

    def clear_up(self) -> list[Step]:
        """Remove what runs that were killed have left, of runs under way too, and do nothing else; return the steps."""
        if self._step("connect", self._connect):
            self._clean_up(PREFIX)
        return self.steps

    def _play(self) -> None:
        first = self._instances[0]
        if not self._step("connect", self._connect):
            return
        for instance in self._instances:
            is_booted = not self._is_away and self._step(f"boot {instance['name']}", self._boot, instance)
            if instance is first and not is_booted:
                return
        for name, act in (("check disk", self._check_disk), ("hard reboot", self._reboot),
                          ("pause", self._driver.pause), ("unpause", self._driver.unpause),
                          ("snapshot", self._snapshot), ("rescue and back", self._rescue),
                          ("stop for a resize and back", self._resize), ("live migration and back", self._migrate),
                          ("stop", self._driver.power_off)):
            if self._is_away:
                break  # each further step would wait for the host for its own minute
            self._step(name, act, first)

    # Steps ----------------------------------------------------------------------------------------------------

    def _step(self, name: str, act: Callable[..., Any], *args: Any) -> bool:
        self._tell(name)
        began = self._clock.monotonic()
        try:
            detail = act(*args)
        except _Skipped as skipped:
            self._note(name, SKIPPED, self._clock.monotonic() - began, str(skipped))
            return True
        except PROBLEMS as error:
            self._is_away = isinstance(error, HypervisorUnavailable)
            text = errors.describe(error) if isinstance(error, XenAPI.Failure) else str(error)
            self._note(name, FAILED, self._clock.monotonic() - began, text or type(error).__name__)
            return False
        self._note(name, OK, self._clock.monotonic() - began, detail or "")
        return True

    def _note(self, name: str, result: str, seconds: float, detail: str) -> None:
        self.steps.append(Step(name, result, round(seconds, 2), detail))

    def _connect(self) -> str:
        # Not init_host: that ends what a service had in hand, and one may be at work on this host.
        self._driver.connect().cache.wait_synced(FIRST_PICTURE_S)
        return self._session.host_endpoint.without_credentials

    @property
    def _vmops(self):
        return self._driver.vmops

    @property
    def _session(self):
        return self._vmops._session

    def _boot(self, instance: dict) -> str:
        if self._vmops.finder.lookup_fresh(instance["name"]) is not None:
            raise exception.InstanceExists(name=instance["name"])
        self._driver.spawn(None, instance, self._images.image, [], None, [], {})
        return f"domain {self._vmops.finder.fresh(self._vmops.finder.require(instance)).domid}"

    def _check_disk(self, instance: dict) -> str:
        vdi_ref = self._vmops.disks.root_vdi_of(self._vmops.finder.require(instance))
        digest, left_b = hashlib.sha256(), IMAGE_B
        with Transfers(self._session).export_vdi(vdi_ref, "raw") as stream:
            while left_b > 0 and (block := stream.read(min(MIB, left_b))):
                digest.update(block)
                left_b -= len(block)
        if digest.hexdigest() != self._images.image["os_hash_value"]:
            raise exception.ImageUnacceptable(image_id=self._images.image["id"], reason="its disk has other content")
        return f"{IMAGE_B // MIB} MiB as they were sent"

    def _reboot(self, instance: dict) -> None:
        self._driver.reboot(None, instance, [], "HARD")

    def _snapshot(self, instance: dict) -> str:
        self._driver.snapshot(None, instance, self._images.image["id"], lambda **states: None)
        return f"{self._images.snapshot_b} bytes uploaded"

    def _rescue(self, instance: dict) -> None:
        self._driver.rescue(None, instance, [], self._images.image, None)
        self._driver.unrescue(instance, [])

    def _resize(self, instance: dict) -> None:
        self._driver.migrate_disk_and_power_off(None, instance, "", {**FLAVOR, "root_gb": 2}, [])
        self._driver.finish_revert_migration(instance, [])

    def _migrate(self, instance: dict) -> str:
        sr = self._vmops.storage.for_guests()
        others = [ref for ref, host in self._session.call_xenapi("host.get_all_records").items()
                  if host["enabled"] and ref != self._session.host_ref]
        if not others:
            raise _Skipped("there is no other host in the pool")
        if not sr.shared:
            raise _Skipped("the storage repository is not shared")
        vm_ref, moves = self._vmops.finder.require(instance), PoolMoves(self._session)
        for host_ref in (others[0], self._session.host_ref):
            moves.check(vm_ref, host_ref)
            self._session.call_task("VM.pool_migrate", vm_ref, host_ref, {"live": "true"})
        return self._session.call_xenapi("host.get_name_label", others[0])

    # Cleaning up ----------------------------------------------------------------------------------------------

    def _clean_up(self, prefix: str) -> None:
        self._tell("clean up")
        try:
            if not any(step.step == "connect" and step.result == OK for step in self.steps):
                return
            try:
                self._step("clean up", self._remove_all, prefix)
            except KeyboardInterrupt:  # once more: what was begun has to go
                self._step("clean up", self._remove_all, prefix)
        finally:
            self._driver.cleanup_host(PREFIX)

    def _remove_all(self, prefix: str) -> str:
        """Remove what bears a name that begins so, wherever in the pool it is now."""
        count = 0
        for vm_ref, vm in self._session.get_all_refs_and_recs("VM"):
            if vm["name_label"].startswith(prefix):
                ignoring_gone(self._remove_vm, vm_ref)
                count += 1
        for vdi_ref, vdi in self._session.get_all_refs_and_recs("VDI"):
            if vdi["managed"] and vdi["name_label"].removeprefix(CACHED).startswith(prefix):
                ignoring_gone(self._session.call_xenapi, "VDI.destroy", vdi_ref)
                count += 1
        return f"{count} machines and disks removed"

    def _remove_vm(self, vm_ref: str) -> None:
        """Remove a VM, waiting for what the host was doing with it when the run was interrupted."""
        deadline = self._clock.monotonic() + LONGEST_REMOVAL_S
        while True:
            try:
                if self._session.call_xenapi("VM.get_power_state", vm_ref).lower() != "halted":
                    self._session.call_long("VM.hard_shutdown", vm_ref)
                return self._session.call_xenapi("VM.destroy", vm_ref)
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, *PASSING) or self._clock.monotonic() > deadline:
                    raise
            self._clock.sleep(1)


class _Skipped(Exception):
    """A step this host cannot be asked to do; the text says why."""
