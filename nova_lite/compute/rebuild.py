"""Rebuilding guests from an image: in place, or on this host after the old one died (evacuation)."""

from dataclasses import dataclass, field
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.build import decode_files
from nova_lite.compute.evacuated import DISKS_LEFT, DISKS_SHARED, disks_note
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.power import Power
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states

LOG = logging.getLogger(__name__)


@dataclass
class RebuildRequest:
    """What rebuild_instance was asked. Holds secrets, which its repr leaves out."""

    orig_image_ref: str | None
    image_ref: str | None
    injected_files: list[Any] | None = field(repr=False)
    new_pass: str | None = field(repr=False)
    orig_sys_metadata: dict[str, str] | None
    recreate: bool
    on_shared_storage: bool
    migration: Any


class Rebuilder:
    """Gives an instance a new guest under its old name, addresses and volumes."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, power: Power) -> None:
        self._here = here
        self._block_devices = block_devices
        self._power = power

    def rebuild(self, context: RequestContext, instance: objects.Instance, request: RebuildRequest) -> None:
        """Rebuild, or with `recreate` build again what was on a host that died; a failure leaves ERROR.

        Raises InstanceRecreateNotSupported, InstanceExists, InvalidSharedStorage, ComputeResourcesUnavailable.
        """
        with self._here.error_out(context, instance):
            if request.recreate:
                self._evacuate(context, instance, request)
            else:
                self._replace_guest(context, instance, request)

    # --- Evacuation ---

    def _evacuate(self, context: RequestContext, instance: objects.Instance, request: RebuildRequest) -> None:
        here = self._here
        self._check_evacuation(instance, request)
        if not request.on_shared_storage:
            request.image_ref = request.orig_image_ref = instance.image_ref
        migration = self._migration(context, instance, request)
        node = here.driver.get_available_nodes()[0]
        source = (instance.host, instance.node, instance.launched_on)
        try:
            with here.trackers.of(node).instance_claim(context, instance):
                here.network_api.setup_networks_on_host(context, instance, here.name)
                self._replace_guest(context, instance, request)
        except Exception:  # the row must lead to the disks, which are still at the source
            self._back_to(instance, source)
            self._set_status(migration, "error")
            raise
        self._note_disks(context, instance, migration, request)
        self._set_status(migration, "done")

    def _note_disks(self, context: RequestContext, instance: objects.Instance, migration: objects.Migration,
                    request: RebuildRequest) -> None:
        """Tell the source, for when it comes back, whether the disks that it has are still used."""
        self._here.db.instance_system_metadata_update(context, instance.uuid, {
            disks_note(migration): DISKS_SHARED if request.on_shared_storage else DISKS_LEFT})

    def _check_evacuation(self, instance: objects.Instance, request: RebuildRequest) -> None:
        driver = self._here.driver
        if not driver.capabilities["supports_recreate"]:
            raise exception.InstanceRecreateNotSupported()
        if driver.instance_exists(instance.name):
            raise exception.InstanceExists(name=instance.name)
        if bool(request.on_shared_storage) != bool(driver.instance_on_disk(instance)):
            found = "is not" if request.on_shared_storage else "is"
            raise exception.InvalidSharedStorage(
                path=self._here.conf.instances_path,
                reason=f"the disk of instance {instance.uuid} {found} within reach of host {self._here.name}")

    def _migration(self, context: RequestContext, instance: objects.Instance,
                   request: RebuildRequest) -> objects.Migration:
        """Return the record that later lets the source know what it must not start again."""
        migration = objects.Migration.of(context, request.migration)
        if migration is None:
            migration = objects.Migration(context, instance_uuid=instance.uuid, source_compute=instance.host,
                                          source_node=instance.node, migration_type="evacuation")
        migration.update({"dest_compute": self._here.name, "dest_host": self._here.driver.get_host_ip_addr(),
                          "status": "pre-migrating"})
        if "id" in migration:
            migration.save()
        else:
            migration.create()
        return migration

    @staticmethod
    def _set_status(migration: objects.Migration, status: str) -> None:
        migration.status = status
        migration.save()

    @staticmethod
    def _back_to(instance: objects.Instance, source: tuple[str | None, str | None, str | None]) -> None:
        instance.host, instance.node, instance.launched_on = source
        instance.save()

    # --- The guest ---

    def _replace_guest(self, context: RequestContext, instance: objects.Instance, request: RebuildRequest) -> None:
        here = self._here
        was_stopped = instance.vm_state == vm_states.STOPPED
        files = decode_files(request.injected_files)
        image_meta = here.image_api.show(context, request.image_ref) if request.image_ref else {}
        extra = {"image_name": image_meta.get("name", "")}
        here.conductor.notify_usage_exists(
            context, instance, current_period=True, system_metadata=request.orig_sys_metadata,
            extra_usage_info={"image_ref_url": notifications.image_url(context, request.orig_image_ref)})
        with here.announced(context, instance, "rebuild", extra) as told_at_end:
            here.update(context, instance, power_state=here.power_state(instance), task_state=task_states.REBUILDING,
                        expected_task_state=task_states.REBUILDING)
            told_at_end["network_info"] = here.network_info(context, instance)
            network_info = here.for_driver(told_at_end["network_info"])
            block_device_info = self._take_down(context, instance, network_info, keep_guest=request.recreate)
            here.update(context, instance, task_state=task_states.REBUILD_SPAWNING,
                        expected_task_state=task_states.REBUILD_BLOCK_DEVICE_MAPPING)
            with here.in_hand(instance):
                here.driver.spawn(context, instance, image_meta, files, request.new_pass, network_info=network_info,
                                  block_device_info=block_device_info)
            self._settle(context, instance, was_stopped)

    def _take_down(self, context: RequestContext, instance: objects.Instance, network_info: Any, *,
                   keep_guest: bool) -> dict[str, Any]:
        """Remove the old guest, if it is here; return the block_device_info of the new one."""
        here = self._here
        bdms = self._block_devices.of(context, instance)
        for bdm in bdms:
            if bdm.volume_id:
                here.volume_api.detach(context, here.volume_api.get(context, bdm.volume_id))
        if not keep_guest:
            here.driver.destroy(instance, network_info,
                                block_device_info=self._block_devices.info(context, instance, bdms))
        here.update(context, instance, task_state=task_states.REBUILD_BLOCK_DEVICE_MAPPING,
                    expected_task_state=task_states.REBUILDING)
        return self._block_devices.prepare(context, instance, bdms)

    def _settle(self, context: RequestContext, instance: objects.Instance, was_stopped: bool) -> None:
        """Make the instance ACTIVE, or STOPPED again if it was."""
        here = self._here
        here.update(context, instance, power_state=here.power_state(instance), vm_state=vm_states.ACTIVE,
                    task_state=task_states.POWERING_OFF if was_stopped else None, launched_at=here.clock.utcnow(),
                    expected_task_state=task_states.REBUILD_SPAWNING)
        if was_stopped:
            with here.announced(context, instance, "power_off"):
                self._power.stop(context, instance)
                here.update(context, instance, power_state=here.power_state(instance), vm_state=vm_states.STOPPED,
                            task_state=None, progress=0, expected_task_state=task_states.POWERING_OFF)
