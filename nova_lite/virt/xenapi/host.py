"""The host: its figures, its state, its power."""

import json
import threading
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import power_state
from nova_lite.virt.xenapi import errors, plugins
from nova_lite.virt.xenapi.host_devices import HostDevices
from nova_lite.virt.xenapi.records import GIB, MIB
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)

CPU_NUMBERS = ("cpu_count", "family", "model", "stepping", "socket_count", "threads_per_core", "nr_nodes")
USING_PROCESSORS = (power_state.RUNNING, power_state.PAUSED)
ARCHITECTURES = {"x86_32": "i686", "x86_32p": "i686"}


class Host:
    """Figures and state of our host; figures are remembered for twice `keep_s` seconds unless they are refreshed.

    Memory in use is read again only when a VM changed: while the host rests, looking at it costs one call.
    """

    def __init__(self, session, cache: VmCache, storage: Storage, keep_s: float):
        self._session = session
        self._cache = cache
        self._storage = storage
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._stats: dict[str, Any] | None = None
        self._memory: dict[str, int] = {}
        self._changes_read: int | None = None
        self._read_at = 0.0
        self._capabilities: list[str] | None = None
        self._devices = HostDevices(session)

    def stats(self, refresh: bool = False) -> dict[str, Any]:
        """Return the host's figures under the keys the scheduler knows. Memory in bytes, disk in bytes."""
        with self._lock:
            age_s = self._session.clock.monotonic() - self._read_at
            # The service's report refreshes them every keep_s seconds; who asks at that moment does not read them too.
            if refresh or self._stats is None or age_s > 2 * self._keep_s:
                self._stats = self._read()
                self._read_at = self._session.clock.monotonic()
            return dict(self._stats)

    def _vms_changed(self) -> bool:
        return not self._cache.synced or self._changes_read != self._cache.changes

    def _read(self) -> dict[str, Any]:
        records = self._session.records_at_once(("host", self._session.host_ref), *self._storage.chosen)
        record = records[self._session.host_ref]
        if self._vms_changed():
            changes = self._cache.changes
            self._memory = self._read_memory(record["metrics"])
            self._changes_read = changes
        sr = self._storage.for_guests(refresh=True, just_read=records)
        self._capabilities = record["capabilities"]
        return {
            "enabled": record["enabled"],
            "host_uuid": record["uuid"],
            "host_name_label": record["name_label"],
            "host_name-label": record["name_label"],
            "host_name-description": record["name_description"],
            "host_hostname": record["hostname"],
            "hypervisor_hostname": record["hostname"],
            "host_ip_address": record["address"],
            "host_other_config": record["other_config"],
            "host_other-config": record["other_config"],
            # Later hosts have a field for it, and need not repeat it where it was before.
            "host_iscsi_iqn": record.get("iscsi_iqn") or record["other_config"].get("iscsi_iqn"),
            "host_cpu_info": _cpu_info(record["cpu_info"]),
            "host_capabilities": record["capabilities"],
            "host_memory_overhead": int(record["memory_overhead"]),
            **self._memory,
            "disk_total": sr.physical_size_b,
            "disk_used": sr.physical_utilisation_b,
            "disk_available": sr.physical_size_b - sr.physical_utilisation_b,
            "disk_allocated": sr.virtual_allocation_b,
            "supported_instances": _supported(record["capabilities"]),
            "cpu_model": _cpu_model(record["cpu_info"]),
            "vcpus_used": sum(vm.vcpus for vm in self._cache.here() if vm.state in USING_PROCESSORS),
            **self._devices.figures(record),
        }

    def _read_memory(self, metrics_ref: str) -> dict[str, int]:
        metrics = self._session.call_xenapi("host_metrics.get_record", metrics_ref)
        return {"host_memory_total": int(metrics["memory_total"]), "host_memory_free": int(metrics["memory_free"]),
                "host_memory_free_computed": self.free_memory_b()}

    def available_resource(self) -> dict[str, Any]:
        """Return the compute node's resources, as they are since a VM changed. vcpus is 0: CPU is not limited."""
        stats = self.stats(refresh=self._vms_changed())
        total_mb = stats["host_memory_total"] // MIB
        return {
            "vcpus": 0,
            "vcpus_used": 0,
            "memory_mb": total_mb,
            "memory_mb_used": total_mb - stats["host_memory_free_computed"] // MIB,
            "local_gb": stats["disk_total"] // GIB,
            "local_gb_used": stats["disk_used"] // GIB,
            "hypervisor_type": "xen",
            "hypervisor_version": 0,
            "hypervisor_hostname": stats["hypervisor_hostname"],
            "cpu_info": stats["host_cpu_info"].get("cpu_count", 0),
            "supported_instances": json.dumps(stats["supported_instances"]),
        }

    def supports_paravirtual(self) -> bool:
        """Tell whether the host still boots paravirtual guests; decided by what it says, not by its version."""
        if self._capabilities is None:
            self._capabilities = self._session.call_xenapi("host.get_capabilities", self._session.host_ref)
        return any(entry.startswith("xen-3.0-x86_64") for entry in self._capabilities)

    def free_memory_b(self) -> int:
        """Return the memory a new guest may have, as the host computes it now."""
        return int(self._session.call_xenapi("host.compute_free_memory", self._session.host_ref))

    def set_enabled(self, enabled: bool) -> str:
        """Let the host accept guests, or not; returns 'enabled' or 'disabled'."""
        self._session.call_xenapi("host.enable" if enabled else "host.disable", self._session.host_ref)
        return "enabled" if enabled else "disabled"

    def power_action(self, action: str) -> str:
        """'reboot' or 'shutdown' the host after its guests were shut down; returns the action."""
        if action == "startup":
            raise NotImplementedError("Host startup on XenServer is not supported.")
        if action not in ("reboot", "shutdown"):
            raise exception.InvalidInput(reason=f"host action {action!r}, expected reboot or shutdown")
        self._session.call_xenapi("host.disable", self._session.host_ref)
        self._shut_down_guests()
        self._session.call_xenapi(f"host.{action}", self._session.host_ref)
        return action

    def _shut_down_guests(self) -> None:
        residents = self._session.call_xenapi("host.get_resident_VMs", self._session.host_ref)
        for vm_ref in residents:
            if self._session.call_xenapi("VM.get_is_control_domain", vm_ref):
                continue
            try:
                self._session.call_task("VM.clean_shutdown", vm_ref, timeout_s=60)
            except (XenAPI.Failure, exception.NovaException) as error:
                LOG.warning("VM %s does not shut down by itself (%s), switching it off", vm_ref, error)
                self._session.call_long("VM.hard_shutdown", vm_ref)

    def uptime(self) -> str:
        """Return the host's uptime as text."""
        try:
            answer = json.loads(self._session.call_plugin("xenhost", "host_uptime", {}))
            return answer["uptime"]
        except XenAPI.Failure as failure:
            if not plugins.is_missing(failure):
                raise exception.PluginError(reason=errors.last_line(failure)) from failure
        other_config = self._session.call_xenapi("host.get_other_config", self._session.host_ref)
        boot_time = other_config.get("boot_time")
        if not boot_time:
            raise NotImplementedError("the host does not tell when it booted")
        seconds = max(0, int(self._session.clock.time() - float(boot_time)))
        days, rest = divmod(seconds, 86400)
        return f"up {days} days, {rest // 3600}:{rest % 3600 // 60:02d}"


def _cpu_info(cpu_info: dict[str, str]) -> dict[str, Any]:
    return {key: int(value) if key in CPU_NUMBERS and str(value).isdigit() else value
            for key, value in cpu_info.items()}


def _cpu_model(cpu_info: dict[str, str]) -> dict[str, Any]:
    """Return vendor, model, flags and topology as the scheduler knows them; counts are of one processor's parts."""
    sockets, threads = int(cpu_info.get("socket_count", 1)), int(cpu_info.get("threads_per_core", 1))
    cores = int(cpu_info.get("cpu_count", 1)) // max(1, sockets * threads)
    return {"vendor": cpu_info.get("vendor", ""), "model": cpu_info.get("modelname", ""),
            "features": cpu_info.get("flags", "").split(),
            "topology": {"sockets": sockets, "cores": cores, "threads": threads}}


def _supported(capabilities: list[str]) -> list[tuple[str, str, str]]:
    """`hvm-3.0-x86_64` becomes ('x86_64', 'xapi', 'hvm')."""
    found = []
    for entry in capabilities:
        os_type, _, rest = entry.partition("-")
        architecture = rest.rpartition("-")[2]
        found.append((ARCHITECTURES.get(architecture, architecture), "xapi", os_type))
    return list(dict.fromkeys(found))
