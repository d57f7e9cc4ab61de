"""Volumes of instances, as the compute API attaches and detaches them."""

import contextlib
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute import device_names
from nova_lite.compute.api_steps import NOT_SENT
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance

LOG = logging.getLogger(__name__)


class Volumes:
    """Attaching and detaching in the cell where the instance lives."""

    def __init__(self, services: Services, compute: Any) -> None:
        self._services = services
        self._compute = compute

    def attach(self, context: RequestContext, instance: Instance, volume_id: str, device: str | None,
               disk_bus: str | None, device_type: str | None) -> str:
        """Return the device name the volume will have. What was reserved is given back when it fails."""
        if device:
            device_names.split_device_name(device)  # raises InvalidDevicePath
        volume = self._services.volume_api.get(context, volume_id)
        self._services.volume_api.check_attach(context, volume, instance=instance)
        device = self._compute.reserve_block_device_name(context, instance, device, volume_id, disk_bus, device_type)
        with contextlib.ExitStack() as undo:
            undo.callback(self._free_name, context, instance, device)
            self._services.volume_api.reserve_volume(context, volume_id)
            undo.callback(self._services.volume_api.unreserve_volume, context, volume_id)
            self._compute.attach_volume(context, instance, volume_id, device)
            undo.pop_all()
        return device

    def _free_name(self, context: RequestContext, instance: Instance, device: str) -> None:
        """Give a device name back; that this fails must not hide why it is done."""
        try:
            self._services.db.block_device_mapping_destroy_by_instance_and_device(context, instance.uuid, device)
        except exception.NovaException as error:
            LOG.warning("Device name %s of instance %s is not free: %s", device, instance.uuid, error)

    def detach(self, context: RequestContext, instance: Instance, volume: Any) -> None:
        """Detach a volume given as dict or id. Raises InvalidVolume, VolumeUnattached."""
        if not isinstance(volume, dict):
            volume = self._services.volume_api.get(context, volume)
        elif "attach_status" not in volume:
            volume = self._services.volume_api.get(context, volume["id"])
        self._services.volume_api.check_detach(context, volume)
        if volume.get("instance_uuid") not in (None, instance.uuid):
            raise exception.VolumeUnattached(volume_id=volume["id"])
        self._services.volume_api.begin_detaching(context, volume["id"])
        try:
            self._compute.detach_volume(context, instance, volume["id"])
        except NOT_SENT:
            self._services.volume_api.roll_detaching(context, volume["id"])
            raise
