"""Volumes whose way to an instance, or back, ended with the process that was at it."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.volumes import Volumes, is_connected
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)


class VolumeRecovery:
    """Takes half attachments back and ends half detachments: at start nobody else is at work on them."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, volumes: Volumes, actions: Any) -> None:
        self._here = here
        self._block_devices = block_devices
        self._volumes = volumes
        self._actions = actions

    def settle(self, context: RequestContext, instances: list[objects.Instance]) -> None:
        """Settle the volumes of these instances. A failure is logged, and is that volume's own."""
        mappings = self._block_devices.of_all(context, instances)
        for instance in instances:
            for bdm in mappings[instance.uuid]:
                if bdm.volume_id:
                    self._settle_isolated(context, instance, bdm)

    def _settle_isolated(self, context: RequestContext, instance: objects.Instance,
                         bdm: objects.BlockDeviceMapping) -> None:
        try:
            self._settle(context, instance, bdm)
        except exception.NovaException as error:
            LOG.warning("Could not settle volume %s of instance %s: %s", bdm.volume_id, instance.uuid, error)
        except Exception:  # start-up must survive any one volume
            LOG.exception("Could not settle volume %s of instance %s", bdm.volume_id, instance.uuid)

    def _settle(self, context: RequestContext, instance: objects.Instance, bdm: objects.BlockDeviceMapping) -> None:
        status = self._here.volume_api.get(context, bdm.volume_id)["status"]
        if status == "detaching":
            LOG.info("Detaching volume %s from instance %s, which broke off", bdm.volume_id, instance.uuid)
            self._actions.detach_volume(context, volume_id=bdm.volume_id, instance=instance)
        elif status == "attaching" and is_connected(bdm):  # else the order may still be waiting for this host
            LOG.info("Taking back the attachment of volume %s to instance %s, which broke off",
                     bdm.volume_id, instance.uuid)
            with self._here.locks.hold(instance.uuid):
                self._volumes.take_back(context, instance, bdm)
