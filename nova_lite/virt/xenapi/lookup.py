"""Finding the VM of an instance."""

from collections.abc import Callable
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.vm_cache import Vm, VmCache


class VmFinder:
    """Names and references of VMs, by cache first and by the host when the cache does not know."""

    def __init__(self, session, cache: VmCache, name_template: str, virtapi=None):
        self._session = session
        self._cache = cache
        self._template = name_template
        self._virtapi = virtapi

    def name(self, instance: Any) -> str:
        """Return the label of the instance's VM."""
        return instances.name_of(instance, self._template)

    def lookup(self, name_label: str, instance_uuid: str | None = None) -> str | None:
        """Return the VM with this label, or None. Raises InstanceExists when several have it.

        Of several, the one that belongs to `instance_uuid` and to our host is taken, if there is exactly one such.
        """
        if not self._cache.synced:
            self._cache.all()  # what was known before the connection broke may be wrong by now
        found = self._cache.find(name_label, instance_uuid)
        if not found:
            return self.lookup_fresh(name_label)
        if len(found) > 1:
            found = [vm for vm in found if vm.is_guest and self._is_here(vm)] or found
        if len(found) > 1:
            raise exception.InstanceExists(name=name_label)
        return found[0].ref

    def lookup_fresh(self, name_label: str) -> str | None:
        """Like lookup, always asking the host."""
        refs = self._session.call_xenapi("VM.get_by_name_label", name_label)
        if len(refs) > 1:
            raise exception.InstanceExists(name=name_label)
        return refs[0] if refs else None

    def _is_here(self, vm: Vm) -> bool:
        return vm.belongs_to(self._session.host_ref, self._session.host_uuid)

    def of(self, instance: Any, suffix: str = "") -> str | None:
        """Return the VM of the instance in the role `suffix` ('', '-rescue', '-orig'), or None."""
        return self.lookup(self.name(instance) + suffix, instances.read(instance, "uuid"))

    def require(self, instance: Any, suffix: str = "") -> str:
        """Like of, raising InstanceNotFound."""
        vm_ref = self.of(instance, suffix)
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=self.name(instance) + suffix)
        return vm_ref

    def call(self, instance: Any, method: Callable[[str], Any], suffix: str = "") -> Any:
        """Run method(vm_ref); when the remembered VM turns out to be gone, look again once."""
        vm_ref = self.require(instance, suffix)
        try:
            return method(vm_ref)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, errors.HANDLE_INVALID):
                raise
        self._cache.note_gone(vm_ref)
        vm_ref = self.lookup_fresh(self.name(instance) + suffix)
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=self.name(instance) + suffix)
        return method(vm_ref)

    def vm(self, instance: Any, suffix: str = "") -> Vm:
        """Return the VM itself, from the cache when that is up to date. Raises InstanceNotFound."""
        vm_ref = self.require(instance, suffix)
        known = self._cache.get(vm_ref) if self._cache.synced else None
        if known is not None:
            return known
        return self.fresh(vm_ref)

    def fresh(self, vm_ref: str) -> Vm:
        """Return the VM as the host has it now. Raises InstanceNotFound."""
        record = self._session.get_rec("VM", vm_ref)
        if record is None:
            self._cache.note_gone(vm_ref)
            raise exception.InstanceNotFound(instance_id=vm_ref)
        return Vm.from_record(vm_ref, record)

    def resolve(self, instance_or_vm: Any, context: Any = None) -> str:
        """Return the VM for a reference, a name, an instance's integer id or an instance. Raises NotFound."""
        if isinstance(instance_or_vm, str):
            if self._is_reference(instance_or_vm):
                return instance_or_vm
            name, uuid = instance_or_vm, None
        else:
            if isinstance(instance_or_vm, int):
                instance_or_vm = self._virtapi.instance_get(context, instance_or_vm)
            name, uuid = self.name(instance_or_vm), instances.read(instance_or_vm, "uuid")
        vm_ref = self.lookup(name, uuid)
        if vm_ref is None:
            raise exception.NotFound(f"No VM is named {name}")
        return vm_ref

    def _is_reference(self, text: str) -> bool:
        if self._cache.get(text) is not None:
            return True
        try:
            self._session.call_xenapi("VM.get_uuid", text)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, errors.HANDLE_INVALID):
                raise
            return False
        return True
