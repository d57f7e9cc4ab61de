"""Volumes of an iSCSI portal that serves one target for each, recorded in a directory.

Who serves the targets is not our business: the simulator does, and so does any storage that is told to export
`<prefix>:volume-<id>`. Content is never copied here, so volumes start empty and there are no snapshots.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.volume.port import AVAILABLE, Volume, VolumeAPI

ATTACHING, IN_USE, DETACHING = "attaching", "in-use", "detaching"
_LONGEST_TEXT = 255
_DETACHED = {"attach_status": "detached", "attach_time": None, "mountpoint": None, "instance_uuid": None}


class LocalVolumeAPI(VolumeAPI):
    """Records of volumes in `[volume] store_path`, which every service that needs volumes sees as one directory.

    A state changes under a lock between processes, so that of two who want a volume one gets it.
    """

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self._conf.volume.store_path)

    # -- what there is --

    def get(self, context: RequestContext, volume_id: str) -> Volume:
        volume = self._load(volume_id)
        if not context.is_admin and volume["project_id"] not in (None, context.project_id):
            raise exception.VolumeNotFound(volume_id=volume_id)
        return volume

    def get_all(self, context: RequestContext) -> list[Volume]:
        """Return the volumes that the context may see, by age."""
        volumes = []
        for file in self._path.glob("*.json"):
            with contextlib.suppress(exception.VolumeNotFound):  # another project's, or deleted while we list
                volumes.append(self.get(context, file.stem))
        return sorted(volumes, key=lambda volume: (volume["created_at"], volume["id"]))

    def create(self, context: RequestContext, size: int, name: str, description: str, snapshot: dict | None = None,
               image_id: str | None = None, volume_type: str | None = None, metadata: dict[str, str] | None = None,
               availability_zone: str | None = None) -> Volume:
        if snapshot is not None or image_id is not None:
            raise exception.InvalidVolume(reason="the local volume service makes empty volumes only")
        if not isinstance(size, int) or size < 1:
            raise exception.InvalidVolume(reason=f"a volume has at least 1 GB, not {size!r}")
        _check_text("name", name)
        _check_text("description", description)
        volume = {
            "id": str(uuid.uuid4()), "status": AVAILABLE, "size": size, "availability_zone": availability_zone,
            "created_at": _now(), "display_name": name, "display_description": description, "snapshot_id": None,
            "volume_type_id": volume_type, "project_id": context.project_id, **_DETACHED,
            "volume_metadata": [{"key": key, "value": value} for key, value in (metadata or {}).items()]}
        self._path.mkdir(parents=True, exist_ok=True)
        self._save(volume)
        return volume

    def delete(self, context: RequestContext, volume_id: str) -> None:
        with self._locked():
            volume = self.get(context, volume_id)
            if volume["status"] != AVAILABLE:
                raise exception.InvalidVolume(reason=f"volume {volume_id} is {volume['status']}")
            self._file(volume_id).unlink(missing_ok=True)

    # -- its way to an instance and back --

    def reserve_volume(self, context: RequestContext, volume_id: str) -> None:
        self._move(context, volume_id, (AVAILABLE,), status=ATTACHING)

    def unreserve_volume(self, context: RequestContext, volume_id: str) -> None:
        self._move(context, volume_id, (ATTACHING, AVAILABLE), status=AVAILABLE)

    def begin_detaching(self, context: RequestContext, volume_id: str) -> None:
        self._move(context, volume_id, (IN_USE,), status=DETACHING)

    def roll_detaching(self, context: RequestContext, volume_id: str) -> None:
        self._move(context, volume_id, (DETACHING, IN_USE), status=IN_USE)

    def attach(self, context: RequestContext, volume: Volume, instance_uuid: str, mountpoint: str) -> None:
        self._move(context, volume["id"], (AVAILABLE, ATTACHING), status=IN_USE, attach_status="attached",
                   attach_time=_now(), mountpoint=mountpoint, instance_uuid=instance_uuid)

    def detach(self, context: RequestContext, volume: Volume) -> None:
        self._move(context, volume["id"], None, status=AVAILABLE, **_DETACHED)

    def initialize_connection(self, context: RequestContext, volume: Volume, connector: dict) -> dict:
        return {"driver_volume_type": "iscsi", "data": {
            "volume_id": volume["id"], "target_portal": self._conf.volume.target_portal,
            "target_iqn": f"{self._conf.volume.target_iqn_prefix}:volume-{volume['id']}", "target_lun": 0,
            "target_discovered": False}}

    def terminate_connection(self, context: RequestContext, volume: Volume, connector: dict) -> None:
        """The portal lets every host in, so there is nothing to take back."""

    # -- snapshots --

    def get_snapshot(self, context: RequestContext, snapshot_id: str) -> dict:
        raise exception.SnapshotNotFound(snapshot_id=snapshot_id)

    def create_snapshot_force(self, context: RequestContext, volume: Volume, name: str, description: str) -> dict:
        raise exception.InvalidVolume(reason="the local volume service makes no snapshots")

    # -- the records --

    def _move(self, context: RequestContext, volume_id: str, allowed: tuple[str, ...] | None, **changes: Any) -> None:
        with self._locked():
            volume = self.get(context, volume_id)
            if allowed is not None and volume["status"] not in allowed:
                raise exception.InvalidVolume(
                    reason=f"volume {volume_id} is {volume['status']}, not {' or '.join(allowed)}")
            self._save({**volume, **changes})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, volume_id: str) -> pathlib.Path:
        try:
            return self._path / f"{uuid.UUID(str(volume_id))}.json"
        except ValueError as error:
            raise exception.VolumeNotFound(volume_id=volume_id) from error

    def _load(self, volume_id: str) -> Volume:
        try:
            return json.loads(self._file(volume_id).read_text())
        except FileNotFoundError as error:
            raise exception.VolumeNotFound(volume_id=volume_id) from error

    def _save(self, volume: Volume) -> None:
        descriptor, aside = tempfile.mkstemp(prefix=".new-", dir=self._path)
        with os.fdopen(descriptor, "w") as file:
            json.dump(volume, file, indent=1, sort_keys=True)
        os.replace(aside, self._file(volume["id"]))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _check_text(what: str, text: str | None) -> None:
    """Raise InvalidVolume for what no other volume service would take either."""
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise exception.InvalidVolume(reason=f"the {what} of a volume must be valid UTF-8") from None
    if len(text) > _LONGEST_TEXT:
        raise exception.InvalidVolume(reason=f"the {what} of a volume has at most {_LONGEST_TEXT} characters")
