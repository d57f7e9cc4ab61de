"""Guests that were evacuated while this host was down: they live elsewhere now and must not come back here."""

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

_NOT_YET_SETTLED = ("accepted", "pre-migrating", "done")


class EvacuatedGuests:
    """Removes, at start, the guests that have an evacuation record from this host; each record is settled once."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices) -> None:
        self._here = here
        self._block_devices = block_devices

    def remove(self, context: RequestContext) -> None:
        """Remove what was evacuated from here. The disks of an instance that exists are kept: it may use them.

        Guests without an evacuation record are left alone, whatever host their rows name.
        """
        if not self._here.conf.workarounds.destroy_after_evacuate:
            return
        evacuations = objects.MigrationList.get_by_filters(context, {
            "migration_type": "evacuation", "source_compute": self._here.name, "status": list(_NOT_YET_SETTLED)})
        if not evacuations.objects:
            return
        guests = set(self._here.driver.list_instance_uuids())
        for migration in evacuations:
            try:
                self._settle(context, migration, guests)
            except Exception:  # tried again at the next start; the others must not wait for it
                LOG.exception("Could not remove the guest of evacuated instance %s", migration.instance_uuid)

    def _settle(self, context: RequestContext, migration: objects.Migration, guests: set[str]) -> None:
        instance = self._instance(context, migration.instance_uuid)
        if instance.host == self._here.name and not instance.deleted:
            LOG.info("Instance %s was evacuated from here and is back", instance.uuid)
        elif instance.uuid in guests:
            self._destroy(context, instance)
        migration.status = "completed"
        migration.save()

    def _instance(self, context: RequestContext, uuid: str) -> objects.Instance:
        return self._here.load(context.elevated(read_deleted="yes"), uuid)

    def _destroy(self, context: RequestContext, instance: objects.Instance) -> None:
        LOG.info("Removing the guest of instance %s, which was evacuated to host %s", instance.uuid, instance.host)
        try:
            network_info = self._here.network_info(context, instance)
            block_device_info = self._block_devices.info(context, instance)
        except exception.NotFound:
            network_info, block_device_info = NetworkInfo(), {}
        self._here.driver.destroy(instance, self._here.for_driver(network_info), block_device_info,
                                  destroy_disks=bool(instance.deleted))
