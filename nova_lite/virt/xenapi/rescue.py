"""Rescue: a second VM from a rescue image that sees the disks of the instance, which stays switched off."""

import datetime
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.destroy import Destroyer
from nova_lite.virt.xenapi.disks import EPHEMERAL, RESCUE, ROOT, SWAP, Disk, Disks
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.power import Power
from nova_lite.virt.xenapi.spawn import Spawner
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)


class Rescue:
    """Puts instances into rescue and ends it."""

    def __init__(self, session, finder: VmFinder, cache: VmCache, disks: Disks, power: Power, spawner: Spawner,
                 destroyer: Destroyer):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._disks = disks
        self._power = power
        self._spawner = spawner
        self._destroyer = destroyer

    def rescue(self, context: Any, instance: Any, network_info: Any, image_meta: dict,
               rescue_password: str | None = None) -> None:
        """Boot the rescue VM with the instance's root disk as its second one.

        Raises RuntimeError when the instance is in rescue already. On failure the instance runs again as before.
        """
        if self._finder.of(instance, instances.RESCUE) is not None:
            raise RuntimeError(f"Instance is already in Rescue Mode: {self._finder.name(instance)}")
        vm = self._finder.vm(instance)
        was_running = vm.power_state.lower() == "running"
        with Undo(f"rescue {vm.name_label}") as undo:
            self._power.stop(vm.ref)
            if was_running:
                undo.add(self._power.start, vm.ref)
            self._power.block(vm.ref)
            undo.add(self._power.release, vm.ref)
            self._spawner.spawn(context, instance, image_meta, network_info, admin_password=rescue_password,
                                rescue=True, borrowed=self._borrowed(vm.ref))

    def _borrowed(self, vm_ref: str) -> list[Disk]:
        """The instance's own disks as the rescue VM sees them; the numbers of root and rescue disk are swapped."""
        found = []
        for vbd in self._disks.vbds_of(vm_ref).values():
            if vbd["empty"] or vbd["type"].lower() != "disk" or not vbd["userdevice"].isdigit():
                continue
            device = int(vbd["userdevice"])
            if device == ROOT:
                found.append(Disk(vbd["VDI"], RESCUE, "root", own=False, other_config={"nova_borrowed": "True"}))
            elif (device == SWAP or device >= EPHEMERAL) and not vbd["other_config"].get("osvol"):
                found.append(Disk(vbd["VDI"], device, "borrowed", own=False, other_config={"nova_borrowed": "True"}))
        if not any(disk.userdevice == RESCUE for disk in found):
            raise exception.StorageError(f"VM {vm_ref} has no root disk to rescue")
        return found

    def unrescue(self, instance: Any) -> None:
        """End rescue and start the instance. Raises InstanceNotInRescueMode."""
        rescue_ref = self._finder.of(instance, instances.RESCUE)
        if rescue_ref is None:
            raise exception.InstanceNotInRescueMode(instance_id=instances.read(instance, "uuid"))
        vm_ref = self._finder.require(instance)
        self._destroyer.destroy_rescue_vm(rescue_ref, vm_ref)
        self._power.release(vm_ref)
        self._power.start(vm_ref)

    def end_older_than(self, timeout_s: float) -> None:
        """End every rescue on this host that began more than `timeout_s` ago; one that fails stops no other."""
        now = self._session.clock.time()
        for vm in self._cache.here():
            if not vm.name_label.endswith(instances.RESCUE):
                continue
            began = vm.other_config.get("nova_rescued_at")
            if began is None or now - float(began) < timeout_s:
                continue
            try:
                self._end(vm)
            except (XenAPI.Failure, exception.NovaException) as error:
                LOG.warning("Ending the rescue of %s failed: %s", vm.name_label, error)

    def _end(self, rescue_vm: Any) -> None:
        original = rescue_vm.name_label.removesuffix(instances.RESCUE)
        vm_ref = self._finder.lookup(original, rescue_vm.instance_uuid)
        LOG.info("The rescue of %s lasted too long, ending it", original)
        self._destroyer.destroy_rescue_vm(rescue_vm.ref, vm_ref)
        if vm_ref is None:
            LOG.warning("VM %s does not exist any more", original)
            return
        self._power.release(vm_ref)
        self._power.start(vm_ref)


class RebootPoller:
    """Gives reboots that hang a hard one."""

    def __init__(self, session, power: Power, virtapi):
        self._session = session
        self._power = power
        self._virtapi = virtapi

    def poll(self, timeout_s: float, hung: Any = None) -> None:
        """Cancel stale clean reboots of the host, then reboot the hung instances hard."""
        self._cancel_stale(timeout_s)
        if hung is None:
            hung = self._virtapi.instance_get_all_hung_in_rebooting(self._virtapi.admin_context(), timeout_s)
        for instance in hung:
            try:
                self._reboot(instance)
            except (XenAPI.Failure, exception.NovaException) as error:
                LOG.warning("Rebooting %s failed: %s", instances.read(instance, "uuid"), error)

    def _cancel_stale(self, timeout_s: float) -> None:
        now = self._session.clock.utcnow().replace(tzinfo=None)
        for task_ref, task in self._session.get_all_refs_and_recs("task"):
            if task["name_label"] not in ("VM.clean_reboot", "Async.VM.clean_reboot"):
                continue
            created = _utc(task["created"])
            if task["status"].lower() != "pending" or (now - created).total_seconds() < timeout_s:
                continue
            try:
                self._session.call_xenapi("task.cancel", task_ref)
            except XenAPI.Failure as failure:
                if not errors.is_gone(failure):
                    LOG.warning("Cancelling %s failed: %s", task_ref, errors.describe(failure))

    def _reboot(self, instance: Any) -> None:
        try:
            self._virtapi.reboot_instance(self._virtapi.admin_context(), instance, "HARD")
        except NotImplementedError:
            self._power.reboot(instance, "HARD")


def _utc(moment: Any):
    return datetime.datetime.strptime(str(moment).replace("-", "").removesuffix("Z"), "%Y%m%dT%H:%M:%S")
