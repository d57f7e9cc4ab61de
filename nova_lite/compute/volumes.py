"""Attaching volumes to guests and taking them off again."""

import contextlib
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects import block_device

LOG = logging.getLogger(__name__)

RESERVED = '{"reserved": true}'


class Volumes:
    """Volumes of guests that exist. What an operation has done is undone, newest first, when a later step fails."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices) -> None:
        self._here = here
        self._block_devices = block_devices

    def reserve_name(self, context: RequestContext, instance: objects.Instance, device: str | None,
                     volume_id: str | None, disk_bus: str | None, device_type: str | None) -> str:
        """Choose the device name of a new volume and take it by a row of its own; return the name.

        A volume that has one keeps it: the request was repeated.

        Raises InvalidDevicePath, DevicePathInUse.
        """
        bdms = self._block_devices.of(context, instance)
        for bdm in bdms:
            if volume_id is not None and bdm.volume_id == volume_id:
                return bdm.device_name
        name = compute_utils.get_device_name_for_instance(context, instance, bdms, device)
        objects.BlockDeviceMapping(
            context, instance_uuid=instance.uuid, source_type="volume", destination_type="volume", boot_index=-1,
            device_name=name, volume_id=volume_id, disk_bus=disk_bus, device_type=device_type,
            connection_info=None if volume_id else RESERVED).create()
        return name

    def attach(self, context: RequestContext, volume_id: str, mountpoint: str, instance: objects.Instance) -> None:
        """Connect the volume, hand it to the guest, and record it; on failure nothing of that remains.

        A repeated request finds the volume in use by the instance, and is dropped. Raises InvalidVolume when another
        one uses it.
        """
        bdm = self._reserved_row(context, instance, volume_id, mountpoint)
        if bdm is None:
            LOG.info("Volume %s was attached to instance %s and detached since it was asked for", volume_id,
                     instance.uuid)
            return
        context = context.elevated()
        volume_api, driver = self._here.volume_api, self._here.driver
        with contextlib.ExitStack() as undo:
            undo.callback(_quietly, bdm.destroy)
            volume = volume_api.get(context, volume_id)
            if _is_attached(volume, instance):
                LOG.info("Volume %s is attached to instance %s already", volume_id, instance.uuid)
                undo.pop_all()
                return
            undo.callback(_quietly, volume_api.unreserve_volume, context, volume_id)
            connector = driver.get_volume_connector(instance)
            self._block_devices.connect(context, instance, bdm)
            undo.callback(_quietly, volume_api.terminate_connection, context, volume, connector)
            connection_info = block_device.connection_info(bdm)
            driver.attach_volume(connection_info, instance, mountpoint)
            undo.callback(_quietly, driver.detach_volume, connection_info, instance, mountpoint)
            volume_api.attach(context, volume, instance.uuid, mountpoint)
            undo.pop_all()

    def _reserved_row(self, context: RequestContext, instance: objects.Instance, volume_id: str,
                      mountpoint: str) -> objects.BlockDeviceMapping | None:
        """Return the row of the device, made by the reservation of its name or, from an older caller, now.

        None when there was one that is gone: the volume has been detached since, and nobody waits for it any more.
        """
        for bdm in self._block_devices.of(context, instance):
            if bdm.volume_id == volume_id or block_device.same_device(bdm.device_name, mountpoint):
                bdm.update({"volume_id": volume_id, "device_name": mountpoint, "delete_on_termination": False})
                bdm.save()
                return bdm
        gone = objects.BlockDeviceMappingList.get_by_instance_uuid(context.elevated(read_deleted="only"),
                                                                   instance.uuid)
        if any(bdm.volume_id == volume_id for bdm in gone):
            return None
        bdm = objects.BlockDeviceMapping(
            context, instance_uuid=instance.uuid, source_type="volume", destination_type="volume", boot_index=-1,
            device_name=mountpoint, volume_id=volume_id, delete_on_termination=False)
        bdm.create()
        return bdm

    def take_back(self, context: RequestContext, instance: objects.Instance, bdm: objects.BlockDeviceMapping) -> None:
        """Undo an attachment that broke off after the connection was made; what cannot be undone is logged."""
        context = context.elevated()
        volume_api, driver = self._here.volume_api, self._here.driver
        volume = volume_api.get(context, bdm.volume_id)
        _quietly(driver.detach_volume, block_device.connection_info(bdm), instance, bdm.device_name)
        _quietly(volume_api.terminate_connection, context, volume, driver.get_volume_connector(instance))
        _quietly(volume_api.unreserve_volume, context, bdm.volume_id)
        bdm.destroy()

    def detach(self, context: RequestContext, volume_id: str, instance: objects.Instance) -> None:
        """Take the volume from the guest, disconnect it, and forget it. A driver's failure leaves it in use.

        A repeated request finds no volume that is being detached, and is dropped.
        """
        try:
            bdm = self._row_of(context, instance, volume_id)
            waits = self._here.volume_api.get(context, volume_id)["status"] == "detaching"
        except exception.VolumeNotFound:
            waits = False
        if not waits:
            LOG.info("Volume %s of instance %s does not wait to be detached", volume_id, instance.uuid)
            return
        self._save_usage(context, instance, bdm)
        try:
            self._detach_from_guest(instance, bdm)
        except Exception:  # the volume is still in use, and must look so
            self._here.volume_api.roll_detaching(context, volume_id)
            raise
        volume = self._disconnect(context, instance, volume_id)
        self._here.volume_api.detach(context.elevated(), volume)
        bdm.destroy()

    def remove_connection(self, context: RequestContext, volume_id: str, instance: objects.Instance) -> None:
        """Take the volume from this host, though not from the instance; what is not there is fine."""
        try:
            self._detach_from_guest(instance, self._row_of(context, instance, volume_id))
            self._disconnect(context, instance, volume_id)
        except exception.NotFound as error:
            LOG.debug("Nothing to remove of volume %s and instance %s: %s", volume_id, instance.uuid, error)

    def _row_of(self, context: RequestContext, instance: objects.Instance,
                volume_id: str) -> objects.BlockDeviceMapping:
        for bdm in self._block_devices.of(context, instance):
            if bdm.volume_id is not None and str(bdm.volume_id) == str(volume_id):
                return bdm
        raise exception.VolumeNotFound(volume_id=volume_id)

    def _detach_from_guest(self, instance: objects.Instance, bdm: objects.BlockDeviceMapping) -> None:
        if not self._here.driver.instance_exists(instance.name):
            LOG.warning("Detaching volume %s from instance %s, which the hypervisor does not know",
                        bdm.volume_id, instance.uuid)
        self._here.driver.detach_volume(block_device.connection_info(bdm) or {"serial": bdm.volume_id}, instance,
                                        bdm.device_name)

    def _disconnect(self, context: RequestContext, instance: objects.Instance, volume_id: str) -> dict[str, Any]:
        volume = self._here.volume_api.get(context, volume_id)
        self._here.volume_api.terminate_connection(context, volume,
                                                   self._here.driver.get_volume_connector(instance))
        return volume

    def _save_usage(self, context: RequestContext, instance: objects.Instance,
                    bdm: objects.BlockDeviceMapping) -> None:
        if self._here.conf.volume_usage_poll_interval <= 0:
            return
        device = block_device.strip_dev(bdm.device_name)
        try:
            rd_req, rd_bytes, wr_req, wr_bytes, _ = self._here.driver.block_stats(instance.name, device)
        except NotImplementedError:
            return
        self._here.db.vol_usage_update(context, bdm.volume_id, rd_req, rd_bytes, wr_req, wr_bytes, instance.uuid,
                                       update_totals=True)


def is_connected(bdm: objects.BlockDeviceMapping) -> bool:
    """Tell whether a host has been connected to the volume; else its device name is only reserved."""
    return bool(bdm.connection_info) and '"reserved"' not in bdm.connection_info


def _is_attached(volume: dict[str, Any], instance: objects.Instance) -> bool:
    """Tell whether the volume is attached to the instance; raises InvalidVolume when it is to another one."""
    if volume["status"] != "in-use":
        return False
    if volume.get("instance_uuid") != instance.uuid:
        raise exception.InvalidVolume(reason=f"volume {volume['id']} is in use by another instance")
    return True


def _quietly(undo: Any, *args: Any) -> None:
    """Run one step of an undo; its failure is logged, and neither stops the others nor hides the first error."""
    try:
        undo(*args)
    except Exception:
        LOG.exception("Could not undo part of a failed volume attachment")
