"""Removing VMs and their disks."""

from collections.abc import Collection
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import busy, errors, instances, vif
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.domains import DomainIds
from nova_lite.virt.xenapi.leftovers import Leftovers
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)


class Destroyer:
    """Takes VMs away, with everything that is theirs and nothing that is not."""

    def __init__(self, session, finder: VmFinder, cache: VmCache, disks: Disks, vifs: vif.Interfaces, firewall, volumes,
                 kernels, leftovers: Leftovers, domains: DomainIds):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._disks = disks
        self._vifs = vifs
        self._firewall = firewall
        self._volumes = volumes
        self._kernels = kernels
        self._domains = domains
        self._leftovers = leftovers

    def destroy(self, instance: Any, network_info: Any, block_device_info: Any = None,
                destroy_disks: bool = True) -> None:
        """Destroy the instance's VM and its rescue VM. May be repeated; nothing there is only a warning."""
        rescue_ref = self._finder.of(instance, instances.RESCUE)
        vm_ref = self._finder.of(instance)
        if rescue_ref is not None:
            self.destroy_rescue_vm(rescue_ref, vm_ref)
        if vm_ref is None:
            LOG.warning("VM %s does not exist, nothing to destroy", self._finder.name(instance))
            self._clear_up_without_vm(instance, network_info, block_device_info, destroy_disks)
            return
        try:
            vm = self._finder.fresh(vm_ref)
        except exception.InstanceNotFound:
            LOG.warning("VM %s is gone already", self._finder.name(instance))
            self._clear_up_without_vm(instance, network_info, block_device_info, destroy_disks)
            return
        if vm.resident_on not in (errors.NULL_REF, self._session.host_ref):
            LOG.warning("VM %s runs on another host of the pool, it is not destroyed from here", vm.name_label)
            return
        original_ref = self._finder.of(instance, instances.ORIGINAL)
        kept = {vbd["VDI"] for vbd in self._disks.vbds_of(original_ref).values()} if original_ref else set()
        if not self.destroy_vm(instance, vm_ref, network_info, destroy_disks=destroy_disks, keep=kept):
            self._clear_up_without_vm(instance, network_info, block_device_info, destroy_disks)
        elif destroy_disks:
            self._leftovers.remove_disks_of(instance["uuid"])

    def _clear_up_without_vm(self, instance: Any, network_info: Any, block_device_info: dict | None,
                             destroy_disks: bool) -> None:
        """Remove what an instance has beside its VM, which somebody else has removed."""
        self._volumes.forget_mapped(block_device_info)
        self._vifs.unplug(instance, network_info)
        self._firewall.unfilter_instance(instance, network_info=network_info)
        if destroy_disks:
            self._leftovers.clear_disks_of(instance["uuid"])

    def destroy_vm(self, instance: Any, vm_ref: str, network_info: Any = None, shutdown: bool = True,
                   destroy_disks: bool = True, unfilter: bool = True, keep: Collection[str] = ()) -> bool:
        """Destroy one VM: stop it, let its volumes go, destroy its own disks but those of `keep`, and the record.

        Returns False for one that is not there any more.
        """
        self._kernels.check(instance)
        vbds = self._vbds(vm_ref)
        if vbds is None:
            return False
        self._domains.note_leaving(vm_ref)
        if shutdown:
            self._stop(vm_ref, gently=any(vbd["other_config"].get("osvol") for vbd in vbds.values()))
        self._volumes.detach_all(vm_ref, vbds)
        stubborn = []
        if destroy_disks:
            stubborn = self._destroy_own_disks({ref: vbd for ref, vbd in vbds.items() if vbd["VDI"] not in keep})
            self._kernels.remove_for(instance, vm_ref)
        self._vifs.unplug(instance, network_info, vm_ref)
        self.remove_record(vm_ref)
        for vdi_ref in stubborn:  # nothing holds them any more
            self._is_destroyed(vdi_ref)
        if unfilter:
            self._firewall.unfilter_instance(instance, network_info=network_info)
        return True

    def _vbds(self, vm_ref: str) -> dict[str, dict] | None:
        vbds = self._disks.vbds_of(vm_ref)
        if vbds or self._session.get_rec("VM", vm_ref) is not None:
            return vbds
        LOG.warning("VM %s is gone already", vm_ref)
        self._cache.note_gone(vm_ref)
        return None

    def _stop(self, vm_ref: str, gently: bool = False) -> None:
        known = self._cache.get(vm_ref)
        if known is not None and known.power_state.lower() == "halted":
            return  # if it is not, remove_record finds out
        if gently and self._stop_cleanly(vm_ref):
            return
        self._stop_hard(vm_ref)

    def _stop_cleanly(self, vm_ref: str) -> bool:
        try:
            self._session.call_task("VM.clean_shutdown", vm_ref, timeout_s=60)
        except (XenAPI.Failure, exception.NovaException) as error:
            LOG.warning("VM %s does not shut down by itself (%s), switching it off", vm_ref, error)
            return False
        self._cache.note_state(vm_ref, "Halted")
        return True

    def stop(self, vm_ref: str) -> None:
        """Switch the VM off; one that is halted or gone is no error."""
        self._stop_hard(vm_ref)

    def _stop_hard(self, vm_ref: str) -> None:
        try:
            busy.when_free(self._session.clock, busy.WITH_VM, self._session.call_long, "VM.hard_shutdown", vm_ref)
        except XenAPI.Failure as failure:
            halted = errors.is_code(failure, errors.VM_BAD_POWER_STATE) and failure.details[-1].lower() == "halted"
            if not halted and not errors.is_gone(failure):
                raise
        self._cache.note_state(vm_ref, "Halted")

    def _destroy_own_disks(self, vbds: dict[str, dict]) -> list[str]:
        """Destroy the VM's own disks; returns those the host did not let go yet."""
        return [vdi_ref for vdi_ref in self._disks.own(vbds) if not self._is_destroyed(vdi_ref)]

    def _is_destroyed(self, vdi_ref: str) -> bool:
        try:
            self._disks.destroy_vdi(vdi_ref)
        except exception.StorageError as error:
            LOG.error("%s", error)
            return False
        return True

    def remove_record(self, vm_ref: str) -> None:
        """Destroy the VM record, stopping the VM first if it turns out to run. Disks stay."""
        for last_try in (False, True):
            try:
                busy.when_free(self._session.clock, busy.WITH_VM, self._session.call_xenapi, "VM.destroy", vm_ref)
                break
            except XenAPI.Failure as failure:
                if errors.is_gone(failure):
                    break
                if last_try:
                    raise
                LOG.warning("VM %s cannot be destroyed yet: %s", vm_ref, errors.describe(failure))
                self._stop_hard(vm_ref)
        self._cache.note_gone(vm_ref)

    def destroy_rescue_vm(self, rescue_ref: str, original_ref: str | None) -> None:
        """Destroy a rescue VM and the disks that are its own: those the original VM has stay."""
        vbds = self._disks.vbds_of(rescue_ref)
        kept = set()
        if original_ref is not None:
            kept = {vbd["VDI"] for vbd in self._disks.vbds_of(original_ref).values()}
        self._domains.note_leaving(rescue_ref)
        self._stop(rescue_ref)
        stubborn = self._destroy_own_disks({ref: vbd for ref, vbd in vbds.items() if vbd["VDI"] not in kept
                                            and not vbd["other_config"].get("nova_borrowed")})
        self.remove_record(rescue_ref)
        for vdi_ref in stubborn:
            self._is_destroyed(vdi_ref)
