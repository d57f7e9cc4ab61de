"""Live migration: inside a pool over shared storage, or to another host with the disks."""

from collections.abc import Callable
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.vm_cache import VmCache
from nova_lite.virt.xenapi.volumeops import VolumeOps

LOG = logging.getLogger(__name__)


class LiveMigrations:
    """Moves running VMs. The data that travels between the hosts (migrate_data) holds a session: a secret."""

    def __init__(self, session, finder: VmFinder, cache: VmCache, disks: Disks, storage: Storage, volumes: VolumeOps):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._disks = disks
        self._storage = storage
        self._volumes = volumes

    # Destination ----------------------------------------------------------------------------------------------

    def check_destination(self, source_hostname: str | None, block_migration: bool | None) -> dict[str, Any]:
        """Return dest_check_data for a VM of the host `source_hostname`. Raises MigrationPreCheckError.

        block_migration None: decided here, disks travel unless both hosts see the same repository.
        """
        pooled = self._is_in_our_pool(source_hostname)
        sr = self._storage.for_guests()
        if block_migration is None:
            block_migration = not (pooled and sr.shared)
        if not block_migration:
            if not pooled:
                raise exception.MigrationPreCheckError(
                    reason="the source host is in another pool, and the disks are not to be moved")
            return {"migrate_data": {"block_migration": False, "destination_host_ref": self._session.host_ref}}
        network_ref = self._migration_network()
        send_data = self._session.call_xenapi("host.migrate_receive", self._session.host_ref, network_ref, {})
        return {"migrate_data": {"block_migration": True, "migrate_send_data": send_data,
                                 "destination_sr_ref": sr.ref, "vif_uuid_map": {"": network_ref}}}

    def _is_in_our_pool(self, hostname: str | None) -> bool:
        if not hostname:
            return False
        matching = [record for record in self._session.call_xenapi("host.get_all_records").values()
                    if record["hostname"] == hostname]
        if len(matching) > 1:
            raise exception.MigrationPreCheckError(reason=f"several hosts of the pool are named {hostname}")
        return bool(matching)

    def _migration_network(self) -> str:
        pifs = self._session.records_where("PIF", management="true", host=self._session.host_ref)
        if len(pifs) != 1:
            raise exception.MigrationPreCheckError(
                reason=f"this host has {len(pifs)} management interfaces, expected one")
        pif = next(iter(pifs.values()))
        if not pif["IP"]:
            raise exception.MigrationPreCheckError(reason="the management interface of this host has no address")
        return pif["network"]

    def prepare_destination(self, block_device_info: dict | None, migrate_data: dict | None) -> dict[str, Any]:
        """Connect the instance's volumes here; returns migrate_data with the repositories they are in."""
        known = dict(migrate_data or {})
        known["sr_uuid_map"] = {}
        for mapping in (block_device_info or {}).get("block_device_mapping") or []:
            sr_uuid, _ = self._volumes.connect_volume(mapping["connection_info"])
            known["sr_uuid_map"][sr_uuid] = self._session.call_xenapi("SR.get_by_uuid", sr_uuid)
        return known

    def finish_at_destination(self, instance: Any) -> None:
        """Mark the VM that arrived as ours."""
        vm_ref = self._finder.lookup_fresh(self._finder.name(instance))
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=self._finder.name(instance))
        self._session.call_xenapi("VM.set_affinity", vm_ref, self._session.host_ref)
        self._session.call_xenapi("VM.remove_from_other_config", vm_ref, "nova_host")
        self._session.call_xenapi("VM.add_to_other_config", vm_ref, "nova_host", self._session.host_uuid)
        for vbd in self._disks.vbds_of(vm_ref).values():
            if not vbd["empty"]:
                # Left behind by the host's storage migration.
                self._session.call_xenapi("VDI.remove_from_sm_config", vbd["VDI"], "base_mirror")

    # Source ---------------------------------------------------------------------------------------------------

    def check_source(self, instance: Any, dest_check_data: dict) -> dict[str, Any]:
        """Ask the host whether it could move the VM; returns migrate_data. Raises MigrationPreCheckError."""
        migrate_data = (dest_check_data or {}).get("migrate_data") or {}
        if migrate_data.get("block_migration"):
            vm_ref = self._finder.require(instance)
            try:
                self._session.call_long("VM.assert_can_migrate", vm_ref, migrate_data["migrate_send_data"], True,
                                        self._vdi_map(vm_ref, migrate_data), self._vif_map(vm_ref, migrate_data), {})
            except XenAPI.Failure as failure:
                # Only the code: the arguments may repeat the session of the destination.
                raise exception.MigrationPreCheckError(
                    reason=f"VM.assert_can_migrate failed with {errors.code_of(failure)}") from None
        return migrate_data

    def migrate(self, context: Any, instance: Any, dest: str, post_method: Callable, recover_method: Callable,
                block_migration: bool | None, migrate_data: dict | None) -> None:
        """Move the VM, then call post_method; any failure calls recover_method instead and is raised."""
        try:
            self._move(instance, migrate_data or {})
        except Exception:
            recover_method(context, instance, dest, block_migration, migrate_data)
            raise
        post_method(context, instance, dest, block_migration, migrate_data)

    def _move(self, instance: Any, migrate_data: dict) -> None:
        vm_ref = self._finder.require(instance)
        arguments: tuple
        if migrate_data.get("block_migration"):
            arguments = ("VM.migrate_send", vm_ref, migrate_data["migrate_send_data"], True,
                         self._vdi_map(vm_ref, migrate_data), self._vif_map(vm_ref, migrate_data), {})
        elif "destination_host_ref" in migrate_data:
            arguments = ("VM.pool_migrate", vm_ref, migrate_data["destination_host_ref"], {"live": "true"})
        else:
            raise exception.MigrationError(reason="the destination did not say where the VM is to go")
        try:
            self._session.call_task(*arguments)
        except XenAPI.Failure as failure:
            LOG.error("%s failed with %s", arguments[0], errors.code_of(failure))
            raise exception.MigrationError(reason=f"{arguments[0]} failed with {errors.code_of(failure)}") from None
        self._cache.note_gone(vm_ref)

    def _vdi_map(self, vm_ref: str, migrate_data: dict) -> dict[str, str]:
        by_volume = migrate_data.get("sr_uuid_map") or {}
        chosen = {}
        for vbd in self._disks.vbds_of(vm_ref).values():
            if vbd["empty"]:
                continue
            chosen[vbd["VDI"]] = migrate_data["destination_sr_ref"]
            if vbd["other_config"].get("osvol") and by_volume:
                sr_uuid = self._session.call_xenapi("SR.get_uuid", self._session.call_xenapi("VDI.get_SR", vbd["VDI"]))
                if sr_uuid in by_volume:
                    chosen[vbd["VDI"]] = by_volume[sr_uuid]
        return chosen

    def _vif_map(self, vm_ref: str, migrate_data: dict) -> dict[str, str]:
        networks = migrate_data.get("vif_uuid_map") or {}
        chosen = {}
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            port_id = vif["other_config"].get("neutron-port-id", "")
            network_ref = networks.get(port_id, networks.get(""))
            if network_ref is None:
                raise exception.MigrationError(reason=f"the destination named no network for {vif['MAC']}")
            chosen[vif_ref] = network_ref
        return chosen


def name_of_source(src_compute_info: Any) -> str | None:
    """Return the host name of a compute node record."""
    return instances.read(src_compute_info, "hypervisor_hostname")
