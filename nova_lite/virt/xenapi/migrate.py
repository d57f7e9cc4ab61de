"""Cold migration and resize: the source stops and steps aside as `<name>-orig`, the destination pulls its disks."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi import errors, instances, records
from nova_lite.virt.xenapi.auto_disk import AutoDisk
from nova_lite.virt.xenapi.direct_vhd import DirectVhd
from nova_lite.virt.xenapi.disks import CD_KINDS, ROOT, Disk, Disks, cd
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.transfer import TransferFailed, Transfers, chunks, open_export
from nova_lite.virt.xenapi.transport import Endpoint, TlsPolicy
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)

VERSION = 1
# Marks the attachment of a smaller copy of the root disk to the VM left behind.
SHRUNK = "nova_shrunk"


@dataclass(frozen=True)
class MovedDisk:
    """One disk of the instance at the source."""

    userdevice: int
    kind: str
    vdi_uuid: str
    virtual_size_b: int


class SourceSessions:
    """Sessions the destinations of our instances read with; each ends at confirm, revert, or after `lifetime_s`."""

    def __init__(self, session, lifetime_s: float):
        self._session = session
        self._lifetime_s = lifetime_s
        self._open: dict[str, tuple[Any, threading.Event]] = {}
        self._lock = threading.Lock()

    def open(self, instance_uuid: str) -> tuple[str, str | None]:
        """Return (session handle, fingerprint of our certificate or None)."""
        self.close(instance_uuid)
        member = self._session.log_in()
        ended = threading.Event()
        with self._lock:
            self._open[instance_uuid] = (member, ended)
        concurrency.spawn(self._expire, instance_uuid, ended)
        return member.handle, self._fingerprint()

    def _fingerprint(self) -> str | None:
        if self._session.host_endpoint.scheme != "https":
            return None
        with self._session.http_connection(30) as connection:
            connection.connect()
            return hashlib.sha256(connection.sock.getpeercert(True)).hexdigest()

    def _expire(self, instance_uuid: str, ended: threading.Event) -> None:
        if not self._session.clock.wait(ended, self._lifetime_s):
            self.close(instance_uuid)

    def close(self, instance_uuid: str) -> None:
        """End the session for this instance, if there is one."""
        with self._lock:
            member, ended = self._open.pop(instance_uuid, (None, None))
        if member is not None:
            ended.set()
            member.log_out()

    def close_all(self) -> None:
        """End all of them."""
        for instance_uuid in list(self._open):
            self.close(instance_uuid)


class Migrations:
    """Moves instances between hosts while they are switched off."""

    def __init__(self, *, session, finder: VmFinder, cache: VmCache, disks: Disks, storage: Storage, power, destroyer,
                 spawner, volumes, direct_vhd: DirectVhd, auto_disk: AutoDisk, virtapi, conf):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._disks = disks
        self._storage = storage
        self._power = power
        self._destroyer = destroyer
        self._spawner = spawner
        self._volumes = volumes
        self._direct_vhd = direct_vhd
        self._auto_disk = auto_disk
        self._virtapi = virtapi
        self._transfers = Transfers(session)
        self.sessions = SourceSessions(session, conf.xenserver.task_timeout)

    # Source ---------------------------------------------------------------------------------------------------

    def power_off_and_offer(self, context: Any, instance: Any, instance_type: Any, total_steps: int,
                            timeout_s: float = 0) -> str:
        """Stop the VM, rename it to `<name>-orig` and return disk_info, which lets the destination read its disks.

        Raises ResizeError for a flavor the disks do not fit; InstanceFaultRollback when something failed and the
        instance is as it was.
        """
        shrinks = check_resize(instance, instance_type, self._auto_disk.is_wanted)
        step = self._progress(context, instance, total_steps)
        vm = self._finder.vm(instance)
        try:
            with Undo(f"migrate {vm.name_label}") as undo:
                self._rename(vm.ref, vm.name_label + instances.ORIGINAL)
                undo.add(self._rename, vm.ref, vm.name_label)
                step(1)
                if vm.power_state.lower() != "halted":
                    self._power.stop(vm.ref, timeout_s)
                    undo.add(self._power.start, vm.ref)
                step(2)
                disks = self._disks_of(vm.ref)
                if shrinks:
                    disks[0] = self._shrunk_root(vm, instance, instance_type["root_gb"] * records.GIB, undo)
                step(3)
                handle, fingerprint = self.sessions.open(instance["uuid"])
                undo.add(self.sessions.close, instance["uuid"])
                self._volumes.detach_all(vm.ref)
                step(4)
        except (XenAPI.Failure, exception.NovaException) as error:
            raise exception.InstanceFaultRollback(error) from error
        return json.dumps({"version": VERSION, "url": self._url(), "session_ref": handle,
                           "tls_fingerprint": fingerprint, "disks": [asdict(disk) for disk in disks]})

    def _shrunk_root(self, vm: Any, instance: Any, size_b: int, undo: Undo) -> MovedDisk:
        """Return a smaller copy of the root disk; the VM left behind holds it until the migration ends."""
        copy_ref = self._auto_disk.shrunk_copy(self._disks.root_vdi_of(vm.ref), size_b, vm.name_label,
                                               self._disks.marks(instance["uuid"], "root"), undo)
        record = records.vbd(vm.ref, copy_ref, "autodetect", other_config={SHRUNK: "True"})
        undo.add(self._disks.destroy_vbd, self._session.call_xenapi("VBD.create", record))
        return MovedDisk(ROOT, "root", self._session.call_xenapi("VDI.get_uuid", copy_ref), size_b)

    def _progress(self, context: Any, instance: Any, total_steps: int):
        def report(done: int) -> None:
            try:
                self._virtapi.instance_update(context, instance["uuid"], {"progress": round(done / total_steps * 100)})
            except NotImplementedError:
                LOG.debug("progress of %s: %d of %d", instance["uuid"], done, total_steps)
        report(0)
        return report

    def _rename(self, vm_ref: str, name_label: str) -> None:
        self._session.call_xenapi("VM.set_name_label", vm_ref, name_label)
        self._cache.note_label(vm_ref, name_label)

    def _url(self) -> str:
        endpoint = self._session.host_endpoint
        if endpoint.socket_path is None:
            return endpoint.without_credentials
        return f"https://{self._session.call_xenapi('host.get_address', self._session.host_ref)}"

    def _disks_of(self, vm_ref: str) -> list[MovedDisk]:
        found = []
        for vbd in self._disks.vbds_of(vm_ref).values():
            if vbd["VDI"] not in self._disks.own({"": vbd}) or SHRUNK in vbd["other_config"]:
                continue
            vdi = self._session.call_xenapi("VDI.get_record", vbd["VDI"])
            kind = vdi["other_config"].get("nova_disk_type", "root" if vbd["userdevice"] == str(ROOT) else "user")
            found.append(MovedDisk(int(vbd["userdevice"]), kind, vdi["uuid"], int(vdi["virtual_size"])))
        return sorted(found, key=lambda disk: disk.userdevice)

    # Destination ----------------------------------------------------------------------------------------------

    def finish(self, context: Any, instance: Any, disk_info: str, network_info: Any, image_meta: dict,
               resize_instance: bool, block_device_info: dict | None = None, power_on: bool = True) -> None:
        """Build the instance here from the disks of the source, grown to the flavor if resize_instance.

        Disks this host can reach already (same pool) are taken as they are. On failure nothing of it remains here.
        """
        offer = json.loads(disk_info) if isinstance(disk_info, str) else disk_info
        with Undo(f"finish the migration of {self._finder.name(instance)}") as undo:
            disks = self._arrived(offer, instance, undo)
            if resize_instance:
                flavor = instances.flavor_of(context, instance, self._virtapi)
                self._grow_root(instance, disks, flavor["root_gb"] * records.GIB)
            self._spawner.build_from_disks(context, instance, image_meta, network_info, disks, block_device_info,
                                           power_on, undo)

    def _arrived(self, offer: dict, instance: Any, undo: Undo) -> list[Disk]:
        """Return the disks the source offers, here; those it sent as files are taken in by the dom0 plugins."""
        if offer.keys() <= {"base_copy", "cow"}:
            vdi_ref, _ = self._direct_vhd.take_in(instance["uuid"])
            undo.add(self._disks.destroy_vdi, vdi_ref)
            self._session.call_xenapi("VDI.set_name_label", vdi_ref, self._finder.name(instance))
            self._session.call_xenapi("VDI.set_other_config", vdi_ref, self._disks.marks(instance["uuid"], "root"))
            return [Disk(vdi_ref, ROOT, bootable=True)]
        if offer.get("version") != VERSION:
            raise exception.MigrationError(reason="the source offers its disks in a form this host does not know")
        return [self._take(MovedDisk(**disk), offer, instance, undo) for disk in offer["disks"]]

    def _grow_root(self, instance: Any, disks: list[Disk], wanted_b: int) -> None:
        for disk in disks:
            if disk.userdevice != ROOT:
                continue
            actual_b = self._disks.virtual_size_b(disk.vdi_ref)
            self._disks.grow(disk.vdi_ref, actual_b, wanted_b)
            if wanted_b > actual_b and self._auto_disk.is_wanted(instance):
                self._auto_disk.fill(disk.vdi_ref)

    def _take(self, moved: MovedDisk, offer: dict, instance: Any, undo: Undo) -> Disk:
        vdi_ref = self._reachable(moved.vdi_uuid) or self._pull(moved, offer, instance, undo)
        if moved.kind in CD_KINDS:
            return cd(vdi_ref, moved.userdevice, moved.kind, bootable=moved.kind == "iso")
        return Disk(vdi_ref, moved.userdevice, moved.kind, bootable=moved.userdevice == ROOT)

    def _reachable(self, vdi_uuid: str) -> str | None:
        try:
            vdi_ref = self._session.call_xenapi("VDI.get_by_uuid", vdi_uuid)
        except XenAPI.Failure as failure:
            if errors.is_gone(failure):
                return None
            raise
        return vdi_ref if self._storage.is_here(self._session.call_xenapi("VDI.get_SR", vdi_ref)) else None

    def _pull(self, moved: MovedDisk, offer: dict, instance: Any, undo: Undo) -> str:
        name_label = self._finder.name(instance)
        marks = self._disks.marks(instance["uuid"], moved.kind)
        vdi_ref = self._disks.blank(name_label, moved.virtual_size_b, marks, undo)
        source = Endpoint(offer["url"], TlsPolicy(fingerprint=offer["tls_fingerprint"]))
        query = {"session_id": offer["session_ref"], "vdi": moved.vdi_uuid, "format": "vhd"}
        try:
            with open_export(source, query, self._session.call_timeout_s) as stream:
                self._transfers.import_vhd(vdi_ref, whole_vhd(chunks(stream)), moved.virtual_size_b)
        except (TransferFailed, OSError) as error:
            raise exception.MigrationError(reason=f"disk {moved.userdevice} could not be copied: {error}") from error
        return vdi_ref

    # The end --------------------------------------------------------------------------------------------------

    def confirm(self, instance: Any, network_info: Any) -> None:
        """Remove the VM left behind, with the disks the moved instance does not use."""
        self.sessions.close(instance["uuid"])
        vm_ref = self._finder.of(instance, instances.ORIGINAL)
        if vm_ref is None:
            LOG.warning("VM %s%s does not exist, nothing to confirm", self._finder.name(instance), instances.ORIGINAL)
            return
        self._destroyer.destroy_vm(instance, vm_ref, network_info, unfilter=False,
                                   keep=self._disks_used_by(self._finder.of(instance)))

    def _disks_used_by(self, vm_ref: str | None) -> set[str]:
        return {vbd["VDI"] for vbd in self._disks.vbds_of(vm_ref).values()} if vm_ref else set()

    def _remove_shrunk(self, vm_ref: str) -> None:
        for vbd_ref, vbd in self._disks.vbds_of(vm_ref).items():
            if SHRUNK in vbd["other_config"]:
                self._disks.destroy_vbd(vbd_ref)
                self._disks.destroy_vdi(vbd["VDI"])

    def revert(self, instance: Any, block_device_info: dict | None = None, power_on: bool = True) -> None:
        """Take the VM left behind back into service under its name, and start it."""
        self.sessions.close(instance["uuid"])
        name_label = self._finder.name(instance)
        original_ref = self._finder.of(instance, instances.ORIGINAL)
        if original_ref is None:
            # It stopped before it was renamed, or all but its start has been done.
            original_ref = self._finder.require(instance)
        else:
            newer_ref = self._finder.of(instance)
            if newer_ref not in (None, original_ref):
                self._destroyer.destroy_vm(instance, newer_ref, keep=self._disks_used_by(original_ref))
            self._remove_shrunk(original_ref)
            self._bring_volumes(original_ref, name_label, block_device_info)
            self._rename(original_ref, name_label)  # the last step, since whatever is tried again begins with this VM
        if power_on and self._finder.fresh(original_ref).power_state.lower() == "halted":
            self._power.start(original_ref)

    def _bring_volumes(self, vm_ref: str, name_label: str, block_device_info: dict | None) -> None:
        """Attach the volumes to a VM that lost them when it stopped; one that still runs has kept them."""
        has_any = (block_device_info or {}).get("block_device_mapping")
        if not has_any or self._finder.fresh(vm_ref).power_state.lower() != "halted":
            return
        self._volumes.detach_all(vm_ref)
        with Undo(f"attach the volumes of {name_label}") as undo:
            self._volumes.attach_mapped(vm_ref, block_device_info, undo)

    def put_back(self, instance: Any, block_device_info: dict | None = None) -> bool:
        """Take the VM that a move which broke off left here back into service, as revert does; tell if there was one.

        Not where the instance has another flavor by now: that has to be reverted.
        """
        if instances.read(instance, "old_flavor") is not None or self._finder.of(instance, instances.ORIGINAL) is None:
            return False
        LOG.info("Taking %s%s back into service", self._finder.name(instance), instances.ORIGINAL)
        self.revert(instance, block_device_info)
        return True


def check_resize(instance: Any, instance_type: Any, may_shrink: Callable[[Any], bool] = lambda instance: False) -> bool:
    """Tell whether the root disk has to shrink for this flavor.

    Raises ResizeError where it may not, and for a flavor with smaller ephemeral disks: those never shrink.
    """
    old_gb, new_gb = instances.read(instance, "root_gb") or 0, instance_type["root_gb"]
    if old_gb and not new_gb:
        raise exception.ResizeError(reason="Can't resize a disk to 0 GB.")
    shrinks = old_gb > new_gb
    if shrinks and not may_shrink(instance):
        raise exception.ResizeError(reason=f"the root disk of {old_gb} GB cannot shrink to {new_gb} GB")
    old_gb, new_gb = instances.read(instance, "ephemeral_gb") or 0, instances.read(instance_type, "ephemeral_gb") or 0
    if old_gb > new_gb:
        raise exception.ResizeError(reason=f"the ephemeral disks of {old_gb} GB cannot shrink to {new_gb} GB")
    return shrinks


def whole_vhd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass the blocks of a VHD on; raises TransferFailed when they do not end in a footer (the source broke off)."""
    tail = b""
    for block in blocks:
        tail = (tail + block)[-512:]
        yield block
    if tail[:8] != b"conectix":
        raise TransferFailed(verb="GET", path="/export_raw_vdi", reason="the source broke off")


def confirm_old_resizes(virtapi: Any, context: Any, window_s: float) -> None:
    """Confirm the resizes nobody confirmed for `window_s` seconds; one that fails stops no other."""
    for migration in virtapi.migration_get_unconfirmed_by_dest_compute(context, window_s):
        try:
            instance = virtapi.instance_get_by_uuid(context, migration["instance_uuid"])
            virtapi.confirm_resize(context, instance, migration)
        except exception.InstanceNotFound:
            virtapi.migration_update(context, migration, "error")
        except exception.NovaException as error:
            LOG.warning("Confirming the resize of %s failed: %s", migration["instance_uuid"], error)
