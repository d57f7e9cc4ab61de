"""Live migration: inside a pool over shared storage, or to another host with the disks."""

from collections.abc import Callable
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.destroy import Destroyer
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.kernels import Kernels
from nova_lite.virt.xenapi.leftovers import Leftovers
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.pool_moves import PoolMoves, management_network
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.vif import Interfaces
from nova_lite.virt.xenapi.vm_cache import VmCache
from nova_lite.virt.xenapi.volumeops import VolumeOps
from nova_lite.virt.xenapi.xenstore import LiveXenstore

LOG = logging.getLogger(__name__)

PROGRESS_STEP_PERCENT = 5
# The state of an interface whose front end is connected.
CONNECTED = "4"
# What the check says of a volume whose repository the destination has not got yet.
NOT_CONNECTED_YET = ("VDI_NOT_IN_MAP", "VM_REQUIRES_SR")


class LiveMigrations:
    """Moves running VMs. The data that travels between the hosts (migrate_data) holds a session: a secret."""

    def __init__(self, *, session, finder: VmFinder, cache: VmCache, disks: Disks, storage: Storage,
                 volumes: VolumeOps, kernels: Kernels, live_xenstore: LiveXenstore, vifs: Interfaces,
                 destroyer: Destroyer, leftovers: Leftovers, virtapi):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._disks = disks
        self._storage = storage
        self._volumes = volumes
        self._kernels = kernels
        self._live_xenstore = live_xenstore
        self._vifs = vifs
        self._destroyer = destroyer
        self._leftovers = leftovers
        self._virtapi = virtapi
        self._tasks: dict[str, str] = {}

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
        network_ref = management_network(self._session, self._session.host_ref)
        send_data = self._session.call_xenapi("host.migrate_receive", self._session.host_ref, network_ref, {})
        migrate_data = {"block_migration": True, "migrate_send_data": send_data, "destination_sr_ref": sr.ref}
        if not pooled:  # inside the pool interfaces stay on their networks, and the host takes no map of them
            migrate_data["vif_uuid_map"] = {"": network_ref}
        return {"migrate_data": migrate_data}

    def _is_in_our_pool(self, hostname: str | None) -> bool:
        if not hostname:
            return False
        matching = [record for record in self._session.call_xenapi("host.get_all_records").values()
                    if record["hostname"] == hostname]
        if len(matching) > 1:
            raise exception.MigrationPreCheckError(reason=f"several hosts of the pool are named {hostname}")
        return bool(matching)

    def prepare_destination(self, instance: Any, block_device_info: dict | None, network_info: Any,
                            migrate_data: dict | None) -> dict[str, Any]:
        """Connect the instance's volumes here, make its networks; returns migrate_data that names both."""
        known = dict(migrate_data or {})
        if known.get("block_migration"):
            self._clear_earlier_attempt(instance)
        if "vif_uuid_map" in known:
            known["vif_uuid_map"] = {**known["vif_uuid_map"], **self._vifs.networks_at_destination(network_info)}
        known["sr_uuid_map"] = {}
        for mapping in (block_device_info or {}).get("block_device_mapping") or []:
            sr_uuid, _ = self._volumes.connect_volume(mapping["connection_info"])
            known["sr_uuid_map"][sr_uuid] = self._session.call_xenapi("SR.get_by_uuid", sr_uuid)
        return known

    def _clear_earlier_attempt(self, instance: Any) -> None:
        """Remove what came here of a move that broke off while this host could not be reached."""
        vm_ref = self._finder.of(instance)
        record = self._session.get_rec("VM", vm_ref) if vm_ref is not None else None
        if record is not None and record["power_state"] == "Halted":
            LOG.warning("Removing a VM %s that an earlier migration has left here", self._finder.name(instance))
            self._destroyer.destroy_vm(instance, vm_ref)
        self._leftovers.clear_disks_of(instance["uuid"])

    def finish_at_destination(self, context: Any, instance: Any) -> None:
        """Mark the VM that arrived as ours, and bring its kernel files here for its next start."""
        vm_ref = self._finder.lookup_fresh(self._finder.name(instance))
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=self._finder.name(instance))
        self._session.call_xenapi("VM.remove_from_other_config", vm_ref, "nova_host")
        self._session.call_xenapi("VM.add_to_other_config", vm_ref, "nova_host", self._session.host_uuid)
        self._bring_kernel(context, instance, vm_ref)
        self._vifs.after_start(vm_ref)
        try:
            self._settle_in(vm_ref)
        except XenAPI.Failure as failure:  # the guest runs without
            LOG.warning("%s arrived, but %s", self._finder.name(instance), errors.describe(failure))

    def _settle_in(self, vm_ref: str) -> None:
        self._session.call_xenapi("VM.set_affinity", vm_ref, self._session.host_ref)
        for vbd in self._disks.vbds_of(vm_ref).values():
            if not vbd["empty"]:
                # Left behind by the host's storage migration.
                self._session.call_xenapi("VDI.remove_from_sm_config", vbd["VDI"], "base_mirror")

    def _bring_kernel(self, context: Any, instance: Any, vm_ref: str) -> None:
        with Undo(f"bring the kernel of {self._finder.name(instance)}") as undo:
            kernel, ramdisk = self._kernels.fetch(context, instance, undo)
            if kernel:
                self._session.call_xenapi("VM.set_PV_kernel", vm_ref, kernel)
            if ramdisk:
                self._session.call_xenapi("VM.set_PV_ramdisk", vm_ref, ramdisk)

    # Source ---------------------------------------------------------------------------------------------------

    def check_source(self, instance: Any, dest_check_data: dict) -> dict[str, Any]:
        """Ask the host whether it could move the VM; returns migrate_data. Raises MigrationPreCheckError."""
        migrate_data = (dest_check_data or {}).get("migrate_data") or {}
        vm_ref = self._finder.require(instance)
        vbds = self._disks.vbds_of(vm_ref)
        has_volumes = any(map(_is_volume, vbds.values()))
        if migrate_data.get("block_migration") and has_volumes and not self._session.is_xsm_sr_check_relaxed():
            raise exception.MigrationError(
                reason="the host does not move VMs with iSCSI volumes together with their disks: set "
                       "relax-xsm-sr-check = true in its xapi.conf")
        try:
            self._ask_host(vm_ref, vbds, migrate_data)
        except XenAPI.Failure as failure:
            # The repositories of volumes are made at the destination after this check.
            if not (has_volumes and errors.is_code(failure, *NOT_CONNECTED_YET)):
                # Only the code: the arguments may repeat the session of the destination.
                raise exception.MigrationPreCheckError(
                    reason=f"VM.assert_can_migrate failed with {errors.code_of(failure)}") from None
        return migrate_data

    def _ask_host(self, vm_ref: str, vbds: dict[str, dict], migrate_data: dict) -> None:
        if migrate_data.get("block_migration"):
            self._session.call_long("VM.assert_can_migrate", vm_ref, migrate_data["migrate_send_data"], True,
                                    self._vdi_map(vbds, migrate_data), self._vif_map(vm_ref, migrate_data), {})
        elif "destination_host_ref" in migrate_data:
            PoolMoves(self._session).check(vm_ref, migrate_data["destination_host_ref"])

    def migrate(self, context: Any, instance: Any, dest: str, post_method: Callable, recover_method: Callable,
                block_migration: bool | None, migrate_data: dict | None) -> None:
        """Move the VM, then call post_method; any failure calls recover_method instead and is raised."""
        try:
            self._move(context, instance, migrate_data or {})
        except Exception:
            recover_method(context, instance, dest, block_migration, migrate_data)
            raise
        post_method(context, instance, dest, block_migration, migrate_data)

    def cancel(self, instance: Any) -> None:
        """Stop a migration of the instance that is under way; the VM stays here. Raises InstanceInvalidState."""
        task_ref = self._tasks.get(instance["uuid"])
        if task_ref is None:
            raise exception.InstanceInvalidState(instance_uuid=instance["uuid"], attr="task_state",
                                                 state="not migrating", method="cancel a live migration")
        self._session.call_xenapi("task.cancel", task_ref)

    def _move(self, context: Any, instance: Any, migrate_data: dict) -> None:
        vm_ref = self._finder.require(instance)
        vbds = self._disks.vbds_of(vm_ref)
        record = self._session.call_xenapi("VM.get_record", vm_ref)
        arguments: tuple
        if migrate_data.get("block_migration"):
            arguments = ("VM.migrate_send", vm_ref, migrate_data["migrate_send_data"], True,
                         self._vdi_map(vbds, migrate_data), self._vif_map(vm_ref, migrate_data), {})
        elif "destination_host_ref" in migrate_data:
            arguments = ("VM.pool_migrate", vm_ref, migrate_data["destination_host_ref"], {"live": "true"})
        else:
            raise exception.MigrationError(reason="the destination did not say where the VM is to go")
        volumes = [self._session.call_xenapi("VDI.get_SR", vbd["VDI"])
                   for vbd in vbds.values() if _is_volume(vbd)] if migrate_data.get("block_migration") else []
        self._tell_drivers_are_there(instance)
        try:
            self._run(context, instance, arguments)
        except exception.NovaException as error:
            if not self._has_left(vm_ref):
                raise
            LOG.warning("%s has moved, although %s", self._finder.name(instance), error)
        self._cache.note_gone(vm_ref)
        for sr_ref in volumes:
            self._volumes.forget(sr_ref)
        if record["PV_kernel"] or record["PV_ramdisk"]:
            self._kernels.remove(record["PV_kernel"], record["PV_ramdisk"])

    def _has_left(self, vm_ref: str) -> bool:
        """Tell whether a VM runs elsewhere; False when nobody can tell."""
        try:
            record = self._session.get_rec("VM", vm_ref)
        except (XenAPI.Failure, exception.NovaException) as error:
            LOG.warning("Where %s is cannot be found out: %s", vm_ref, error)
            return False
        if record is None:
            return True
        return record["power_state"] == "Running" and record["resident_on"] != self._session.host_ref

    def _run(self, context: Any, instance: Any, arguments: tuple) -> None:
        uuid = instance["uuid"]
        try:
            self._session.call_task(*arguments, progress=self._progress(context, uuid),
                                    started=lambda task_ref: self._tasks.__setitem__(uuid, task_ref))
        except XenAPI.Failure as failure:
            LOG.error("%s failed with %s", arguments[0], errors.code_of(failure))
            raise exception.MigrationError(reason=f"{arguments[0]} failed with {errors.code_of(failure)}") from None
        finally:
            self._tasks.pop(uuid, None)

    def _progress(self, context: Any, uuid: str) -> Callable[[float], None]:
        told = 0

        def report(share: float) -> None:
            nonlocal told
            percent = round(share * 100)
            if percent < told + PROGRESS_STEP_PERCENT:
                return
            told = percent
            try:
                self._virtapi.instance_update(context, uuid, {"progress": percent})
            except NotImplementedError:
                LOG.debug("live migration of %s: %d %%", uuid, percent)

        return report

    def _tell_drivers_are_there(self, instance: Any) -> None:
        """Some guests have PV drivers and do not say so, and the host refuses to move those: say it for them."""
        if self._session.plugin_version is None:
            return
        try:
            if self._live_xenstore.read(instance, "attr/PVAddons/MajorVersion") is not None:
                return
            states = self._live_xenstore.list(instance, "device/vif") or {}
            if not any(path.endswith("state") and str(state) == CONNECTED for path, state in states.items()):
                return
            for name, number in zip(("Major", "Minor", "Micro"), (*self._session.product_version, 0, 0), strict=False):
                self._live_xenstore.write(instance, f"attr/PVAddons/{name}Version", str(number))
            self._live_xenstore.write(instance, "data/updated", "1")
        except (exception.PluginError, exception.InstanceNotFound, XenAPI.Failure) as error:
            LOG.warning("Whether %s has PV drivers is not known: %s", self._finder.name(instance), error)

    def _vdi_map(self, vbds: dict[str, dict], migrate_data: dict) -> dict[str, str]:
        """Return {VDI: repository at the destination}: volumes where the destination connected them, if it did."""
        by_volume = migrate_data.get("sr_uuid_map") or {}
        chosen = {}
        for vbd in vbds.values():
            if vbd["empty"]:
                continue
            if not _is_volume(vbd):
                chosen[vbd["VDI"]] = migrate_data["destination_sr_ref"]
            elif by_volume:
                sr_uuid = self._session.call_xenapi("SR.get_uuid", self._session.call_xenapi("VDI.get_SR", vbd["VDI"]))
                if sr_uuid in by_volume:
                    chosen[vbd["VDI"]] = by_volume[sr_uuid]
        return chosen

    def _vif_map(self, vm_ref: str, migrate_data: dict) -> dict[str, str]:
        networks = migrate_data.get("vif_uuid_map")
        if networks is None:
            return {}
        chosen = {}
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            port_id = vif["other_config"].get("neutron-port-id", "")
            network_ref = networks.get(port_id, networks.get(""))
            if network_ref is None:
                raise exception.MigrationError(reason=f"the destination named no network for {vif['MAC']}")
            chosen[vif_ref] = network_ref
        return chosen


def _is_volume(vbd: dict) -> bool:
    return bool(vbd["other_config"].get("osvol"))


def name_of_source(src_compute_info: Any) -> str | None:
    """Return the host name of a compute node record."""
    return instances.read(src_compute_info, "hypervisor_hostname")
