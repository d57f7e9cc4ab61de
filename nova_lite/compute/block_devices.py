"""The block devices of an instance: made ready for a guest, described to the driver, and given back."""

import json
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects import block_device

LOG = logging.getLogger(__name__)


class BlockDevices:
    """Volumes, swap and ephemeral disks of instances, between the tables, the volume port and the driver."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def of(self, context: RequestContext, instance: Any) -> list[objects.BlockDeviceMapping]:
        """Return the block device mappings of the instance."""
        return list(objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance["uuid"]))

    def of_all(self, context: RequestContext,
               instances: list[objects.Instance]) -> dict[str, list[objects.BlockDeviceMapping]]:
        """Return {uuid: block device mappings} of several instances, in one query."""
        found: dict[str, list[objects.BlockDeviceMapping]] = {instance.uuid: [] for instance in instances}
        for bdm in objects.BlockDeviceMappingList.get_by_instance_uuids(context, list(found)) if found else ():
            found[bdm.instance_uuid].append(bdm)
        return found

    def info(self, context: RequestContext, instance: Any, bdms: Iterable[Any] | None = None) -> dict[str, Any]:
        """Return the block_device_info of a guest that exists: its connected volumes."""
        return block_device.volumes_only_info(self.of(context, instance) if bdms is None else bdms)

    def prepare(self, context: RequestContext, instance: objects.Instance,
                bdms: list[objects.BlockDeviceMapping]) -> dict[str, Any]:
        """Create and attach what a new guest needs; return its whole block_device_info.

        Raises InvalidVolume, VolumeNotFound, SnapshotNotFound.
        """
        wanted = [bdm for bdm in bdms if not bdm.no_device]
        for bdm in wanted:
            if block_device.is_volume(bdm):
                self._ensure_volume(context, instance, bdm)
                self._attach(context, instance, bdm)
        return {
            "root_device_name": instance.root_device_name,
            "swap": block_device.driver_swap(wanted),
            "ephemerals": block_device.driver_ephemerals(wanted),
            "block_device_mapping": block_device.driver_volumes(wanted),
        }

    def _ensure_volume(self, context: RequestContext, instance: objects.Instance,
                       bdm: objects.BlockDeviceMapping) -> None:
        if bdm.volume_id:
            return
        volume_api = self._here.volume_api
        snapshot = volume_api.get_snapshot(context, bdm.snapshot_id) if bdm.snapshot_id else None
        volume = volume_api.create(context, bdm.volume_size, "", "", snapshot=snapshot, image_id=bdm.image_id)
        bdm.volume_id = volume["id"]
        bdm.save()
        self._await_created(context, instance, volume["id"])

    def _await_created(self, context: RequestContext, instance: objects.Instance, volume_id: str) -> None:
        conf = self._here.conf
        for _ in range(conf.block_device_allocate_retries + 1):
            status = self._here.volume_api.get(context, volume_id)["status"]
            if status not in ("creating", "downloading"):
                break
            self._here.clock.sleep(conf.block_device_allocate_retries_interval)
        if status != "available":
            raise exception.InvalidVolume(
                reason=f"volume {volume_id} for instance {instance.uuid} is {status}, expected available")

    def _attach(self, context: RequestContext, instance: objects.Instance, bdm: objects.BlockDeviceMapping) -> None:
        volume_api = self._here.volume_api
        volume = volume_api.get(context, bdm.volume_id)
        volume_api.check_attach(context, volume, instance=instance)
        self.connect(context, instance, bdm)
        volume_api.attach(context.elevated(), volume, instance.uuid, bdm.device_name)

    def connect(self, context: RequestContext, instance: Any, bdm: objects.BlockDeviceMapping) -> None:
        """Ask for a connection of this host to the volume and store it in the mapping."""
        connector = self._here.driver.get_volume_connector(instance)
        volume = self._here.volume_api.get(context, bdm.volume_id)
        info = self._here.volume_api.initialize_connection(context.elevated(), volume, connector)
        bdm.connection_info = json.dumps({"serial": bdm.volume_id, **info})
        bdm.save()

    def reconnect(self, context: RequestContext, instance: Any) -> dict[str, Any]:
        """Connect this host to every volume the instance has; return its block_device_info.

        Volumes whose device name is only reserved are left to the order to attach them.
        """
        bdms = [bdm for bdm in self.of(context, instance) if bdm.volume_id and bdm.connection_info]
        for bdm in bdms:
            self.connect(context, instance, bdm)
        return self.info(context, instance, bdms)

    def disconnect(self, context: RequestContext, instance: Any) -> None:
        """Give up this host's connection to every volume of the instance, which stays attached."""
        for bdm in self.of(context, instance):
            if bdm.volume_id:
                self._terminate_connection(context, instance, bdm)

    def _terminate_connection(self, context: RequestContext, instance: Any, bdm: Any) -> dict[str, Any]:
        volume = self._here.volume_api.get(context, bdm["volume_id"])
        connector = self._here.driver.get_volume_connector(instance)
        self._here.volume_api.terminate_connection(context, volume, connector)
        return volume

    def detach_all(self, context: RequestContext, instance: Any, bdms: Iterable[Any]) -> None:
        """Detach every volume from the instance; volumes that are gone are warned about and passed over."""
        for bdm in bdms:
            if not bdm["volume_id"]:
                continue
            try:
                volume = self._terminate_connection(context, instance, bdm)
                self._here.volume_api.detach(context, volume)
            except (exception.DiskNotFound, exception.VolumeNotFound) as error:
                LOG.warning("Volume %s of instance %s is not there to detach: %s",
                            bdm["volume_id"], instance["uuid"], error)

    def delete_flagged(self, context: RequestContext, instance: Any, bdms: Iterable[Any]) -> None:
        """Delete the volumes that were to go with the instance; failures are warned about."""
        for bdm in bdms:
            if not (bdm["volume_id"] and bdm["delete_on_termination"]):
                continue
            try:
                self._here.volume_api.delete(context, bdm["volume_id"])
            except exception.NovaException as error:
                LOG.warning("Could not delete volume %s of instance %s: %s",
                            bdm["volume_id"], instance["uuid"], error)
