"""Volumes in repositories that the host manages itself: connections of type `xensm`."""

from collections.abc import Mapping
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances, records
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.volume_repositories import ISCSI, VolumeRepositories, VolumeRepository


def repository_of(sr_uuid: str, label: str, params: Mapping[str, Any]) -> VolumeRepository:
    """Return the repository of parameters that may name, beside the device's own, sr_type and name_description."""
    device_config = {key: str(value) for key, value in params.items() if key not in ("sr_type", "name_description")}
    return VolumeRepository(sr_uuid, label, device_config, params.get("sr_type") or ISCSI,
                            params.get("name_description") or "")


class StorageManager:
    """Makes and removes such volumes and their repositories. Errors of the host are raised as StorageError."""

    def __init__(self, session, repositories: VolumeRepositories, storage: Storage):
        self._session = session
        self._repositories = repositories
        self._storage = storage

    def create_volume(self, volume: Any, sr_uuid: str) -> dict[str, str]:
        """Make a disk of volume['size'] GiB, labelled after volume['id']; returns {'vdi_uuid'}."""
        number = volume["id"]
        label = f"vol-{number:x}" if isinstance(number, int) else f"vol-{number}"
        sr_ref = self._require(sr_uuid)
        record = records.vdi(sr_ref, label, int(volume["size"]) * records.GIB,
                             description=instances.read(volume, "display_description") or "")
        vdi_ref = self._call("Unable to create a volume", "VDI.create", record)
        return {"vdi_uuid": self._session.call_xenapi("VDI.get_uuid", vdi_ref)}

    def delete_volume(self, vdi_uuid: str) -> None:
        """Destroy the disk of a volume; one that is gone is no error."""
        try:
            vdi_ref = self._session.call_xenapi("VDI.get_by_uuid", vdi_uuid)
        except XenAPI.Failure as failure:
            if errors.is_gone(failure):
                return
            raise exception.StorageError(f"Unable to find volume {vdi_uuid}: {errors.code_of(failure)}") from failure
        self._call(f"Unable to delete volume {vdi_uuid}", "VDI.destroy", vdi_ref)

    def create_sr(self, label: str, params: Mapping[str, Any]) -> str:
        """Make a new, empty repository on our host; returns its uuid. params: sr_type and the device's own."""
        wanted = repository_of("", label, params)
        sr_ref = self._call("Unable to create a repository", "SR.create", self._session.host_ref, wanted.params, "0",
                            label, wanted.description, wanted.type, "", False, {})
        return self._session.call_xenapi("SR.get_uuid", sr_ref)

    def introduce_sr(self, sr_uuid: str, label: str, params: Mapping[str, Any]) -> str:
        """Make an existing repository known to our host, unless it is known and plugged here; returns its uuid."""
        wanted = repository_of(sr_uuid, label, params)
        with Undo(f"introduce SR {sr_uuid}") as undo:
            try:
                self._storage.scan(self._repositories.bring(wanted, undo))
            except XenAPI.Failure as failure:
                # The arguments of the failure may repeat the device configuration, password included.
                raise exception.StorageError(
                    f"Unable to introduce Storage Repository {sr_uuid}: {errors.code_of(failure)}") from None
        return sr_uuid

    def is_sr_on_host(self, sr_uuid: str) -> bool:
        """Tell whether the repository is plugged on our host."""
        sr_ref = self._repositories.find(sr_uuid)
        return sr_ref is not None and self._storage.is_here(sr_ref)

    def forget_sr(self, sr_uuid: str) -> None:
        """Forget the repository; one that is not known is no error. Raises StorageError while a disk is attached."""
        sr_ref = self._repositories.find(sr_uuid)
        if sr_ref is None:
            return
        if any(vdi["VBDs"] for vdi in self._session.records_where("VDI", SR=sr_ref).values()):
            raise exception.StorageError(f"SR {sr_uuid} has disks that are attached")
        self._repositories.forget(sr_ref)

    def _require(self, sr_uuid: str) -> str:
        sr_ref = self._repositories.find(sr_uuid)
        if sr_ref is None:
            raise exception.StorageError(f"There is no SR {sr_uuid}")
        return sr_ref

    def _call(self, problem: str, method: str, *args) -> Any:
        try:
            return self._session.call_long(method, *args)
        except XenAPI.Failure as failure:
            raise exception.StorageError(f"{problem}: {errors.code_of(failure)}") from None
