"""Volumes whose way to an instance, or back, ended with the process that was at it."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.policy import record_fault
from nova_lite.compute.volumes import Volumes, is_connected
from nova_lite.concurrency import TimeLimitExceeded
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)


class VolumeRecovery:
    """Takes half attachments back and ends half detachments, where nobody is at work on them any more."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, volumes: Volumes, actions: Any) -> None:
        self._here = here
        self._block_devices = block_devices
        self._volumes = volumes
        self._actions = actions

    def settle(self, context: RequestContext, instances: list[objects.Instance], older_than_s: float = 0) -> None:
        """Settle the volumes of these instances that have not got on for so long; each failure is logged.

        Asks the volume service once for every volume.
        """
        mappings = self._block_devices.of_all(context, instances)
        for instance in instances:
            for bdm in mappings[instance.uuid]:
                if bdm.volume_id and (older_than_s == 0 or self._here.is_older(bdm.updated_at or bdm.created_at,
                                                                               older_than_s)):
                    self._settle_isolated(context, instance, bdm, is_late=older_than_s > 0)

    def _settle_isolated(self, context: RequestContext, instance: objects.Instance,
                         bdm: objects.BlockDeviceMapping, is_late: bool) -> None:
        try:
            with self._here.locks.hold(instance.uuid, timeout_s=0):
                self._settle(context, instance, bdm, is_late)
        except TimeLimitExceeded:
            LOG.debug("Instance %s is worked on; its volumes have to wait", instance.uuid)
        except exception.NovaException as error:
            LOG.warning("Could not settle volume %s of instance %s: %s", bdm.volume_id, instance.uuid, error)
        except Exception:  # start-up must survive any one volume
            LOG.exception("Could not settle volume %s of instance %s", bdm.volume_id, instance.uuid)

    def _settle(self, context: RequestContext, instance: objects.Instance, bdm: objects.BlockDeviceMapping,
                is_late: bool) -> None:
        status = self._here.volume_api.get(context, bdm.volume_id)["status"]
        if status == "detaching":
            LOG.info("Detaching volume %s from instance %s, which broke off", bdm.volume_id, instance.uuid)
            self._actions.detach_volume(context, volume_id=bdm.volume_id, instance=instance)
        elif status in ("attaching", "available") and is_connected(bdm):
            LOG.info("Volume %s is %s, and half attached to instance %s; what there is of it is taken back",
                     bdm.volume_id, status, instance.uuid)
            self._volumes.take_back(context, instance, bdm)
        elif status == "attaching" and is_late and instance.launched_at is not None:
            # Before, the order may still be on its way. One that comes later finds its mapping gone, and is dropped.
            self._give_back(context, instance, bdm)

    def _give_back(self, context: RequestContext, instance: objects.Instance, bdm: objects.BlockDeviceMapping) -> None:
        """Free a volume whose order to be attached was lost, unless it is meant for another instance by now."""
        LOG.warning("Volume %s was never attached to instance %s", bdm.volume_id, instance.uuid)
        record_fault(self._here.conductor, context, instance, exception.InvalidVolume(
            reason=f"volume {bdm.volume_id} was never attached"))
        meant_for = objects.BlockDeviceMapping.get_by_volume_id(context, bdm.volume_id).instance_uuid
        if meant_for == instance.uuid:
            self._here.volume_api.unreserve_volume(context.elevated(), bdm.volume_id)
        bdm.destroy()
