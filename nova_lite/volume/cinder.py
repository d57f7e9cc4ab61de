"""Volumes of OpenStack's volume service (Cinder, API 3)."""

import uuid
from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.openstack import Meanings, Service
from nova_lite.volume.port import Volume, VolumeAPI

# Key of the metadata of volumes that were made for a project by this deployment's account, whose own they are.
_PROJECT = "nova_lite:project"


class CinderVolumeAPI(VolumeAPI):
    """The volume service, asked by this deployment's account; what a user may see is decided here."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._service = Service(conf, "volume")

    # -- what there is --

    def get(self, context: RequestContext, volume_id: str) -> Volume:
        found = self._service.ask("GET", f"/volumes/{_id(volume_id)}", meanings=_meanings(volume_id)).json()["volume"]
        if not _may_see(context, found):
            raise exception.VolumeNotFound(volume_id=volume_id)
        return _known(found)

    def get_all(self, context: RequestContext) -> list[Volume]:
        """Return the volumes that the context may see."""
        found = self._service.pages("/volumes/detail", "volumes", all_tenants="1")
        return [_known(one) for one in found if _may_see(context, one)]

    def create(self, context: RequestContext, size: int, name: str, description: str, snapshot: dict | None = None,
               image_id: str | None = None, volume_type: str | None = None, metadata: dict[str, str] | None = None,
               availability_zone: str | None = None) -> Volume:
        wanted = {"size": size, "name": name, "description": description, "volume_type": volume_type,
                  "snapshot_id": snapshot and snapshot["id"], "imageRef": image_id,
                  "availability_zone": availability_zone,
                  "metadata": {**(metadata or {}), _PROJECT: context.project_id or ""}}
        answer = self._service.ask("POST", "/volumes", meanings={
            400: lambda: exception.InvalidVolume(reason="the volume service refuses it"),
            413: lambda: exception.OverQuota(overs="volumes")},
            json={"volume": {key: value for key, value in wanted.items() if value is not None}})
        return _known(answer.json()["volume"])

    def delete(self, context: RequestContext, volume_id: str) -> None:
        self.get(context, volume_id)
        self._service.ask("DELETE", f"/volumes/{_id(volume_id)}", meanings=_meanings(volume_id))

    # -- its way to an instance and back --

    def reserve_volume(self, context: RequestContext, volume_id: str) -> None:
        self._act(context, volume_id, "os-reserve")

    def unreserve_volume(self, context: RequestContext, volume_id: str) -> None:
        self._act(context, volume_id, "os-unreserve")

    def begin_detaching(self, context: RequestContext, volume_id: str) -> None:
        self._act(context, volume_id, "os-begin_detaching")

    def roll_detaching(self, context: RequestContext, volume_id: str) -> None:
        self._act(context, volume_id, "os-roll_detaching")

    def attach(self, context: RequestContext, volume: Volume, instance_uuid: str, mountpoint: str) -> None:
        self._act(context, volume["id"], "os-attach", {"instance_uuid": instance_uuid, "mountpoint": mountpoint,
                                                       "mode": "rw"})

    def detach(self, context: RequestContext, volume: Volume) -> None:
        self._act(context, volume["id"], "os-detach", {})

    def initialize_connection(self, context: RequestContext, volume: Volume, connector: dict) -> dict:
        answer = self._act(context, volume["id"], "os-initialize_connection", {"connector": connector})
        return answer.json()["connection_info"]

    def terminate_connection(self, context: RequestContext, volume: Volume, connector: dict) -> None:
        self._act(context, volume["id"], "os-terminate_connection", {"connector": connector})

    def _act(self, context: RequestContext, volume_id: str, action: str, arguments: Any = None) -> Any:
        self.get(context, volume_id)
        return self._service.ask("POST", f"/volumes/{_id(volume_id)}/action", json={action: arguments},
                                 meanings=_meanings(volume_id))

    # -- snapshots --

    def get_snapshot(self, context: RequestContext, snapshot_id: str) -> dict:
        answer = self._service.ask("GET", f"/snapshots/{_id(snapshot_id)}", meanings={
            404: lambda: exception.SnapshotNotFound(snapshot_id=snapshot_id)})
        return _known_snapshot(answer.json()["snapshot"])

    def create_snapshot_force(self, context: RequestContext, volume: Volume, name: str, description: str) -> dict:
        answer = self._service.ask("POST", "/snapshots", meanings=_meanings(volume["id"]), json={"snapshot": {
            "volume_id": volume["id"], "force": True, "name": name, "description": description}})
        return _known_snapshot(answer.json()["snapshot"])


def _id(volume_id: Any) -> str:
    try:
        return str(uuid.UUID(str(volume_id)))
    except ValueError as error:
        raise exception.VolumeNotFound(volume_id=volume_id) from error


def _meanings(volume_id: Any) -> Meanings:
    def invalid() -> Exception:
        return exception.InvalidVolume(reason=f"volume {volume_id} is not in a state for that")

    return {404: lambda: exception.VolumeNotFound(volume_id=volume_id), 400: invalid, 409: invalid}


def _may_see(context: RequestContext, volume: dict[str, Any]) -> bool:
    owner = (volume.get("metadata") or {}).get(_PROJECT) or volume.get("os-vol-tenant-attr:tenant_id")
    return bool(context.is_admin or owner in (None, context.project_id))


def _known(volume: dict[str, Any]) -> Volume:
    """Return the volume of the port's form."""
    attachment: dict[str, Any] = next(iter(volume.get("attachments") or ()), {})
    attached = bool(attachment)
    return {"id": volume["id"], "status": volume["status"], "size": volume["size"],
            "availability_zone": volume.get("availability_zone"), "created_at": volume.get("created_at"),
            "attach_status": "attached" if attached else "detached", "attach_time": attachment.get("attached_at"),
            "mountpoint": attachment.get("device"), "instance_uuid": attachment.get("server_id"),
            "display_name": volume.get("name"), "display_description": volume.get("description"),
            "volume_type_id": volume.get("volume_type"), "snapshot_id": volume.get("snapshot_id"),
            "volume_metadata": [{"key": key, "value": value} for key, value in (volume.get("metadata") or {}).items()
                                if key != _PROJECT]}


def _known_snapshot(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {"id": snapshot["id"], "volume_id": snapshot["volume_id"], "volume_size": snapshot.get("size"),
            "status": snapshot["status"], "display_name": snapshot.get("name")}
