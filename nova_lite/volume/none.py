"""A deployment without a volume service."""

from typing import Any, NoReturn

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.volume.port import Volume, VolumeAPI


class NoVolumes(VolumeAPI):
    """Knows no volume and makes none; every request ends in one clear line."""

    def __init__(self, conf: cfg.ConfigOpts | None = None) -> None:
        pass

    def get(self, context: RequestContext, volume_id: str) -> Volume:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def get_snapshot(self, context: RequestContext, snapshot_id: str) -> dict:
        raise exception.SnapshotNotFound(snapshot_id=snapshot_id)

    def delete(self, context: RequestContext, volume_id: str) -> None:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def reserve_volume(self, context: RequestContext, volume_id: str) -> None:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def unreserve_volume(self, context: RequestContext, volume_id: str) -> None:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def begin_detaching(self, context: RequestContext, volume_id: str) -> None:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def roll_detaching(self, context: RequestContext, volume_id: str) -> None:
        raise exception.VolumeNotFound(volume_id=volume_id)

    def create(self, context: RequestContext, size: int, name: str, description: str, snapshot: dict | None = None,
               image_id: str | None = None, volume_type: str | None = None, metadata: dict[str, str] | None = None,
               availability_zone: str | None = None) -> Volume:
        self._refuse()

    def check_attach(self, context: RequestContext, volume: Volume, instance: Any = None) -> None:
        self._refuse()

    def check_detach(self, context: RequestContext, volume: Volume) -> None:
        self._refuse()

    def attach(self, context: RequestContext, volume: Volume, instance_uuid: str, mountpoint: str) -> None:
        self._refuse()

    def detach(self, context: RequestContext, volume: Volume) -> None:
        self._refuse()

    def initialize_connection(self, context: RequestContext, volume: Volume, connector: dict) -> dict:
        self._refuse()

    def terminate_connection(self, context: RequestContext, volume: Volume, connector: dict) -> None:
        self._refuse()

    def create_snapshot_force(self, context: RequestContext, volume: Volume, name: str, description: str) -> dict:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise exception.InvalidVolume(reason="this cell has no volume service ([volume] backend = none)")
