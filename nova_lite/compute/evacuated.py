"""Guests that were evacuated while this host was down: they live elsewhere now and must not come back here."""

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

# What the new host notes of the disks: it has new ones, or shares those of the old host.
DISKS_LEFT = "left"
DISKS_SHARED = "shared"
_NOT_YET_SETTLED = ("accepted", "pre-migrating", "done")


class EvacuatedGuests:
    """Removes, at start, the guests that have an evacuation record from this host; each record is settled once."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices) -> None:
        self._here = here
        self._block_devices = block_devices

    def remove(self, context: RequestContext) -> None:
        """Remove what was evacuated from here, and its disks unless the instance uses them at its new host.

        The new host has noted which it is (disks_note); without a note they are kept. Guests without an evacuation
        record are left alone, whatever host their rows name.
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
        try:
            instance = self._here.load(context.elevated(read_deleted="yes"), migration.instance_uuid)
        except exception.InstanceNotFound:
            LOG.warning("Nothing is known any more of evacuated instance %s: a guest of it has to be removed by hand",
                        migration.instance_uuid)
        else:
            self._remove(context, instance, migration, guests)
        migration.status = "completed"
        migration.save()

    def _remove(self, context: RequestContext, instance: objects.Instance, migration: objects.Migration,
                guests: set[str]) -> None:
        note = disks_note(migration)
        if instance.host == self._here.name and not instance.deleted:
            LOG.info("Instance %s was evacuated from here and is back", instance.uuid)
        elif instance.uuid in guests:
            destroy_disks = bool(instance.deleted) or instance.system_metadata.get(note) == DISKS_LEFT
            self._destroy(context, instance, destroy_disks)
        if note in instance.system_metadata and not instance.deleted:
            del instance.system_metadata[note]
            instance.save()

    def _destroy(self, context: RequestContext, instance: objects.Instance, destroy_disks: bool) -> None:
        LOG.info("Removing the guest of instance %s, which was evacuated to host %s, %s its disks",
                 instance.uuid, instance.host, "with" if destroy_disks else "without")
        try:
            network_info = self._here.network_info(context, instance)
            block_device_info = self._block_devices.info(context, instance)
        except exception.NotFound:
            network_info, block_device_info = NetworkInfo(), {}
        self._here.driver.destroy(instance, self._here.for_driver(network_info), block_device_info,
                                  destroy_disks=destroy_disks)


def disks_note(migration: objects.Migration) -> str:
    """Return the key of system_metadata that tells what became of the disks of an evacuation."""
    return f"evacuation_{migration.id}_disks"
