"""Volumes: iSCSI targets that become storage repositories of the host and disks of guests."""

import re
import string
import uuid as uuidlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.driver import block_device_info_get_mapping
from nova_lite.virt.xenapi import errors, records
from nova_lite.virt.xenapi.disks import ROOT, Disks
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.storage_manager import StorageManager, repository_of
from nova_lite.virt.xenapi.volume_repositories import TEMPORARY, VolumeRepositories, VolumeRepository

LOG = logging.getLogger(__name__)

# Every host derives the same SR uuid from the same target, which live migration relies on.
SR_NAMESPACE = uuidlib.UUID("3cca4135-a809-5bb3-af62-275fbfe87178")
OSVOL = {"osvol": "True"}
TYPES = ("iscsi", "xensm")
DEVICE_NAME = re.compile(r"(?:/dev/)?(?:[hs]d|x?vd)([a-p])$")


@dataclass(frozen=True)
class Target:
    """A volume, as a connection_info describes it: the repository it is in, and which of its disks it is."""

    repository: VolumeRepository
    vdi_uuid: str | None = None
    lun: int | None = None


def device_number(mountpoint: str) -> int:
    """Return the device number of `/dev/xvdc`, `sdc`, `2`. Raises StorageError for anything else."""
    match = DEVICE_NAME.match(mountpoint)
    if match:
        return string.ascii_lowercase.index(match.group(1))
    if mountpoint.isdigit():
        return int(mountpoint)
    raise exception.StorageError(f"{mountpoint} is no device name")


def parse_target(connection_info: dict, target_host: str | None = None, target_port: int = 3260,
                 iqn_prefix: str | None = None) -> Target:
    """Return the target of a connection_info; what it leaves out is completed from the other arguments.

    Raises VolumeDriverNotFound, StorageError.
    """
    kind = connection_info.get("driver_volume_type")
    if kind not in TYPES:
        raise exception.VolumeDriverNotFound(driver_type=kind)
    data = connection_info["data"]
    if data.get("sr_uuid"):
        params = {key: data[key] for key in data.get("introduce_sr_keys", ()) if key in data}
        repository = repository_of(data["sr_uuid"], data.get("name_label") or f"{TEMPORARY}{data['sr_uuid']}", params)
        return Target(repository, data.get("vdi_uuid"), _lun(data))
    host, port = _portal(data.get("target_portal"), target_host, target_port)
    iqn = data.get("target_iqn") or (iqn_prefix and data.get("volume_id") and f"{iqn_prefix}:{data['volume_id']}")
    if not (host and iqn and data.get("volume_id")):
        raise exception.StorageError("Unable to obtain target information: volume id, portal or IQN is missing")
    params = {"target": host, "port": str(port), "targetIQN": iqn}
    if data.get("auth_method") == "CHAP":
        params |= {"chapuser": data.get("auth_username"), "chappassword": data.get("auth_password")}
    sr_uuid = str(uuidlib.uuid5(SR_NAMESPACE, f"{host}/{port}/{iqn}"))
    repository = VolumeRepository(sr_uuid, f"{TEMPORARY}{data['volume_id']}", params)
    return Target(repository, data.get("vdi_uuid"), _lun(data))


def _lun(data: dict) -> int | None:
    lun = data.get("target_lun")
    return None if lun is None else int(lun)


def _portal(portal: str | None, host: str | None, port: int) -> tuple[str | None, int]:
    """`10.0.0.1:3260,1`, `[fd00::1]:3260` and `10.0.0.1` are all seen."""
    portal = (portal or "").partition(",")[0]
    match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", portal)
    if not match:
        return host, port
    return match.group(1) or match.group(3), int(match.group(2) or match.group(4) or port)


class VolumeOps:
    """Attaches volumes to VMs and lets them go."""

    def __init__(self, session, finder: VmFinder, disks: Disks, storage: Storage, conf):
        self._session = session
        self._finder = finder
        self._disks = disks
        self._storage = storage
        self._conf = conf
        self._repositories = VolumeRepositories(session, storage)
        self._manager = StorageManager(session, self._repositories, storage)

    def attach_volume(self, connection_info: dict, instance_name: str, mountpoint: str, hotplug: bool = True) -> None:
        """Attach a volume to the VM as device `mountpoint`; plugged at once when the VM runs and hotplug is true.

        Raises InstanceNotFound, VolumeDriverNotFound, StorageError. A failure takes back what this call made.
        """
        vm_ref = self._finder.lookup(instance_name)
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=instance_name)
        with Undo(f"attach a volume to {instance_name}") as undo:
            self.attach(vm_ref, connection_info, device_number(mountpoint), undo, hotplug, instance_name)

    def attach(self, vm_ref: str, connection_info: dict, device: int, undo: Undo, hotplug: bool,
               instance_name: str = "") -> None:
        """Attach a volume to a VM whose reference is known."""
        _, vdi_ref = self._connect(connection_info, undo, instance_name)
        record = records.vbd(vm_ref, vdi_ref, device, bootable=device == ROOT, other_config=OSVOL)
        try:
            vbd_ref = self._session.call_xenapi("VBD.create", record)
            undo.add(self._disks.destroy_vbd, vbd_ref)
            if hotplug and self._session.call_xenapi("VM.get_power_state", vm_ref).lower() == "running":
                self._disks.plug(vm_ref, vbd_ref)
        except XenAPI.Failure as failure:
            raise exception.StorageError(
                f"Unable to attach volume to instance: {errors.describe(failure)}") from failure

    def connect_volume(self, connection_info: dict) -> tuple[str, str]:
        """Make the volume known to the host without attaching it; returns (SR uuid, VDI uuid)."""
        with Undo("connect a volume") as undo:
            sr_ref, vdi_ref = self._connect(connection_info, undo)
            return self._session.call_xenapi("SR.get_uuid", sr_ref), self._session.call_xenapi("VDI.get_uuid", vdi_ref)

    def _connect(self, connection_info: dict, undo: Undo, instance_name: str = "") -> tuple[str, str]:
        target = self._target(connection_info)
        repository = target.repository
        if instance_name and not repository.description:
            repository = replace(repository, description=f"Disk-for:{instance_name}")
        try:
            sr_ref = self._repositories.bring(repository, undo)
            return sr_ref, self._vdi(sr_ref, target)
        except XenAPI.Failure as failure:
            # The arguments of the failure may repeat the device configuration, password included.
            raise exception.StorageError(
                f"Unable to use SR {repository.uuid} ({repository.label}): {errors.code_of(failure)}") from None

    def _target(self, connection_info: dict) -> Target:
        options = self._conf.xenserver
        return parse_target(connection_info, options.target_host, options.target_port, options.iqn_prefix)

    def _vdi(self, sr_ref: str, target: Target) -> str:
        for last_try in (False, True):
            self._storage.scan(sr_ref)
            found = self._match(sr_ref, target)
            if found is not None:
                break
            if last_try:
                raise exception.StorageError(f"Unable to introduce VDI on SR {target.repository.uuid}: no such volume")
            self._session.clock.sleep(self._conf.xenserver.introduce_vdi_retry_wait)
        vdi_ref, vdi = found
        if vdi["managed"]:
            return vdi_ref
        return self._session.call_xenapi(
            "VDI.introduce", vdi["uuid"], vdi["name_label"], vdi["name_description"], sr_ref, vdi["type"],
            vdi["sharable"], vdi["read_only"], vdi["other_config"], vdi["location"], vdi["xenstore_data"],
            vdi["sm_config"])

    def _match(self, sr_ref: str, target: Target) -> tuple[str, dict] | None:
        vdis = self._session.records_where("VDI", SR=sr_ref)
        for vdi_ref, vdi in vdis.items():
            if target.vdi_uuid is not None:
                matches = vdi["uuid"] == target.vdi_uuid
            elif target.lun is not None:  # LUN 0 is one like any other
                matches = vdi["sm_config"].get("LUNid") == str(target.lun)
            else:
                matches = True
            if matches:
                return vdi_ref, vdi
        return None

    # Volumes that the host manages ----------------------------------------------------------------------------

    def create_volume_for_sm(self, volume: Any, sr_uuid: str) -> dict[str, str]:
        """Make a volume in a repository of the host's; returns {'vdi_uuid'}. Raises StorageError."""
        return self._manager.create_volume(volume, sr_uuid)

    def delete_volume_for_sm(self, vdi_uuid: str) -> None:
        """Remove such a volume. Raises StorageError."""
        self._manager.delete_volume(vdi_uuid)

    def create_sr(self, label: str, params: Mapping[str, Any]) -> str:
        """Make a repository; returns its uuid. params: sr_type and the device's own. Raises StorageError."""
        return self._manager.create_sr(label, params)

    def introduce_sr(self, sr_uuid: str, label: str, params: Mapping[str, Any]) -> str:
        """Make an existing repository known to our host; returns its uuid. Raises StorageError."""
        return self._manager.introduce_sr(sr_uuid, label, params)

    def is_sr_on_host(self, sr_uuid: str) -> bool:
        """Tell whether the repository is plugged on our host."""
        return self._manager.is_sr_on_host(sr_uuid)

    def forget_sr(self, sr_uuid: str) -> None:
        """Forget the repository; what is in it stays. Raises StorageError while a disk of it is attached."""
        self._manager.forget_sr(sr_uuid)

    # Letting go -----------------------------------------------------------------------------------------------

    def detach_volume(self, connection_info: dict, instance_name: str, mountpoint: str) -> None:
        """Detach the volume at `mountpoint`; nothing there is only a warning. Raises InstanceNotFound."""
        vm_ref = self._finder.lookup(instance_name)
        if vm_ref is None:
            raise exception.InstanceNotFound(instance_id=instance_name)
        device = str(device_number(mountpoint))
        for vbd_ref, vbd in self._disks.vbds_of(vm_ref).items():
            if vbd["userdevice"] == device:
                self._detach(vm_ref, vbd_ref, vbd)
                return
        LOG.warning("VM %s has no disk %s, nothing to detach", instance_name, mountpoint)
        if connection_info.get("driver_volume_type") in TYPES:
            self._forget_target(connection_info)

    def detach_all(self, vm_ref: str, vbds: dict[str, dict] | None = None) -> None:
        """Detach every volume of the VM; their disks stay as they are."""
        for vbd_ref, vbd in (self._disks.vbds_of(vm_ref) if vbds is None else vbds).items():
            if vbd["other_config"].get("osvol"):
                self._detach(vm_ref, vbd_ref, vbd)

    def _detach(self, vm_ref: str, vbd_ref: str, vbd: dict) -> None:
        sr_ref = None if vbd["empty"] else self._session.call_xenapi("VDI.get_SR", vbd["VDI"])
        if self._session.call_xenapi("VM.get_power_state", vm_ref).lower() != "halted":
            self._disks.unplug(vm_ref, vbd_ref)
        self._disks.destroy_vbd(vbd_ref)
        if sr_ref is not None:
            self.purge(sr_ref)

    def purge(self, sr_ref: str) -> None:
        """Forget the repository unless a disk in it is still attached somewhere."""
        self._repositories.purge(sr_ref)

    def forget(self, sr_ref: str) -> None:
        """Unplug and forget a repository; the volume behind it keeps its content."""
        self._repositories.forget(sr_ref)

    def attach_mapped(self, vm_ref: str, block_device_info: dict | None, undo: Undo, instance_name: str = "") -> None:
        """Attach the volumes of a block_device_info to a VM that does not run yet."""
        for mapping in block_device_info_get_mapping(block_device_info):
            self.attach(vm_ref, mapping["connection_info"], device_number(mapping["mount_device"]), undo,
                        hotplug=False, instance_name=instance_name)

    def forget_mapped(self, block_device_info: dict | None) -> None:
        """Forget the repositories of mapped volumes whose VM is gone."""
        for mapping in block_device_info_get_mapping(block_device_info):
            self._forget_target(mapping["connection_info"])

    def _forget_target(self, connection_info: dict) -> None:
        sr_ref = self._repositories.find(self._target(connection_info).repository.uuid)
        if sr_ref is not None:
            self.purge(sr_ref)

    def find_bad_volumes(self, vm_ref: str) -> list[str]:
        """Return the device names (/dev/xvdX) of volumes whose target does not answer."""
        bad = []
        for vbd in self._disks.vbds_of(vm_ref).values():
            if not vbd["other_config"].get("osvol"):
                continue
            try:
                self._session.call_long("SR.scan", self._session.call_xenapi("VDI.get_SR", vbd["VDI"]))
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, "SR_BACKEND_FAILURE_40"):
                    raise
                bad.append(f"/dev/{vbd['device']}")
        return bad

    def is_booted_from_volume(self, vm_ref: str, user_device: int = 0) -> bool:
        """Tell whether the disk at `user_device` is a volume."""
        return any(vbd["userdevice"] == str(user_device) and bool(vbd["other_config"].get("osvol"))
                   for vbd in self._disks.vbds_of(vm_ref).values())
