"""What the rest of the project asks of a volume service."""

import abc
from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext

Volume = dict[str, Any]

AVAILABLE = "available"


class VolumeAPI(abc.ABC):
    """A volume service.

    A volume is a dict: `id, status, size (GB), availability_zone, created_at, attach_time, attach_status, mountpoint,
    instance_uuid (while attached), display_name, display_description, volume_type_id, snapshot_id, volume_metadata
    [{key, value}]`. Missing ones raise VolumeNotFound, SnapshotNotFound; a state that forbids raises InvalidVolume.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    @abc.abstractmethod
    def get(self, context: RequestContext, volume_id: str) -> Volume:
        """Return the volume."""

    @abc.abstractmethod
    def create(self, context: RequestContext, size: int, name: str, description: str, snapshot: dict | None = None,
               image_id: str | None = None, volume_type: str | None = None, metadata: dict[str, str] | None = None,
               availability_zone: str | None = None) -> Volume:
        """Make a volume of `size` GB, empty or from a snapshot or an image; it is `creating` when this returns."""

    @abc.abstractmethod
    def delete(self, context: RequestContext, volume_id: str) -> None:
        """Delete the volume."""

    def check_attach(self, context: RequestContext, volume: Volume, instance: Any = None) -> None:
        """Raise InvalidVolume unless the volume is available, not attached, and in the instance's zone."""
        if volume["status"] != AVAILABLE:
            raise exception.InvalidVolume(reason=f"volume {volume['id']} is {volume['status']}, not {AVAILABLE}")
        if volume["attach_status"] == "attached":
            raise exception.InvalidVolume(reason=f"volume {volume['id']} is attached already")
        zone = volume["availability_zone"]
        if instance and zone and not self._conf.cinder_cross_az_attach and instance["availability_zone"] != zone:
            raise exception.InvalidVolume(reason=f"volume {volume['id']} is in zone {zone}, the instance is not")

    def check_detach(self, context: RequestContext, volume: Volume) -> None:
        """Raise InvalidVolume when the volume is not attached."""
        if volume["status"] == AVAILABLE:
            raise exception.InvalidVolume(reason=f"volume {volume['id']} is not attached")

    @abc.abstractmethod
    def reserve_volume(self, context: RequestContext, volume_id: str) -> None:
        """Mark the volume `attaching`, so that nobody else takes it."""

    @abc.abstractmethod
    def unreserve_volume(self, context: RequestContext, volume_id: str) -> None:
        """Take the reservation back."""

    @abc.abstractmethod
    def begin_detaching(self, context: RequestContext, volume_id: str) -> None:
        """Mark the volume `detaching`."""

    @abc.abstractmethod
    def roll_detaching(self, context: RequestContext, volume_id: str) -> None:
        """Mark the volume `in-use` again."""

    @abc.abstractmethod
    def attach(self, context: RequestContext, volume: Volume, instance_uuid: str, mountpoint: str) -> None:
        """Record the volume as attached."""

    @abc.abstractmethod
    def detach(self, context: RequestContext, volume: Volume) -> None:
        """Record the volume as not attached."""

    @abc.abstractmethod
    def initialize_connection(self, context: RequestContext, volume: Volume, connector: dict) -> dict:
        """Let the host `{ip, initiator, host}` reach the volume; returns `{driver_volume_type, data}`."""

    @abc.abstractmethod
    def terminate_connection(self, context: RequestContext, volume: Volume, connector: dict) -> None:
        """Let the host no longer reach the volume."""

    @abc.abstractmethod
    def get_snapshot(self, context: RequestContext, snapshot_id: str) -> dict:
        """Return the snapshot: `id, volume_id, volume_size, status, display_name`."""

    @abc.abstractmethod
    def create_snapshot_force(self, context: RequestContext, volume: Volume, name: str, description: str) -> dict:
        """Snapshot the volume even while it is attached."""
