"""Resizing, moving, rebuilding and rescuing instances (compute specification §10.3, §10.4)."""

import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, servicegroup
from nova_lite.compute import api_block_devices as block_devices
from nova_lite.compute import api_checks as checks
from nova_lite.compute import api_rows as rows
from nova_lite.compute.api_steps import NOT_SENT
from nova_lite.context import RequestContext, Services
from nova_lite.objects import (
    BlockDeviceMappingList,
    Flavor,
    Instance,
    Migration,
    Service,
    task_states,
)
from nova_lite.objects import instance_actions as actions

LOG = logging.getLogger(__name__)


class Resizing:
    """Another size, or another host."""

    def __init__(self, services: Services, quotas: Any, steps: Any, compute: Any, tasks: Any) -> None:
        self._services = services
        self._quotas = quotas
        self._steps = steps
        self._compute = compute
        self._tasks = tasks

    def resize(self, context: RequestContext, instance: Instance, flavor_id: str | None, clean_shutdown: bool,
               flavor: Any, same_is_move: bool, extra: dict[str, Any]) -> Flavor:
        """Have the instance get the flavor; without one, or `same_is_move` and its own, it moves as it is.

        Returns the new flavor. Raises FlavorNotFound, CannotResizeToSameFlavor, TooManyInstances.
        """
        current = instance.get_flavor()
        wanted = self._wanted(context, current, flavor_id, flavor)
        is_move = flavor_id is None or wanted.flavorid == current.flavorid
        if flavor_id is not None and is_move and not same_is_move:
            raise exception.CannotResizeToSameFlavor()
        reservations = self._reserve(context, instance, wanted)
        try:
            with self._steps.begun(context, instance, actions.MIGRATE if is_move else actions.RESIZE,
                                   task_state=task_states.RESIZE_PREP, progress=0, **extra):
                self._tasks.resize(context, instance, wanted, reservations, clean_shutdown, extra)
        except Exception:  # it is not resized, so it must not be paid for
            self._quotas.rollback(context, reservations, instance.project_id)
            raise
        return wanted

    def _reserve(self, context: RequestContext, instance: Instance, wanted: Flavor) -> list[str] | None:
        return self._to_send(context, instance, self._quotas.reserve_resize(context, instance.get_flavor(), wanted,
                                                                            instance.project_id))

    def _to_send(self, context: RequestContext, instance: Instance, reservations: list[str] | None) -> list[str] | None:
        """Return the reservations that travel with the order; whoever carries it out settles them."""
        return reservations

    def _wanted(self, context: RequestContext, current: Flavor, flavor_id: str | None, flavor: Any) -> Flavor:
        if flavor_id is None:
            return current
        if flavor is not None:
            return Flavor.of(context, flavor)
        wanted = Flavor.get_by_flavor_id(context, flavor_id, read_deleted="no")
        if wanted.disabled and wanted.flavorid != current.flavorid:
            raise exception.FlavorNotFound(flavor_id=flavor_id)
        return wanted

    def confirm(self, context: RequestContext, instance: Instance, migration: Any) -> None:
        """Give up the way back."""
        elevated = context.elevated()
        migration = Migration.of(elevated, migration) or self._finished(elevated, instance)
        reservations = self._to_send(context, instance, self._quotas.reserve_resize_release(context, instance))
        try:
            with self._marked(migration, "confirming"):
                self._steps.record(context, instance, actions.CONFIRM_RESIZE)
                self._compute.confirm_resize(context, instance, migration, migration and migration.source_compute,
                                             reservations)
        except Exception:  # the quota must not stay reserved
            self._quotas.rollback(context, reservations, instance.project_id)
            raise

    def revert(self, context: RequestContext, instance: Instance) -> None:
        """Take the instance back to where and how it was."""
        elevated = context.elevated()
        migration = self._revertible(elevated, instance)
        reservations = self._to_send(context, instance, self._quotas.reserve_revert_release(context, instance))
        try:
            with self._steps.begun(context, instance, actions.REVERT_RESIZE,
                                   task_state=task_states.RESIZE_REVERTING), self._marked(migration, "reverting"):
                self._compute.revert_resize(context, instance, migration, migration and migration.dest_compute,
                                            reservations)
        except Exception:  # the quota must not stay reserved
            self._quotas.rollback(context, reservations, instance.project_id)
            raise

    @contextlib.contextmanager
    def _marked(self, migration: Migration | None, status: str) -> Iterator[None]:
        """Give the record of a move a status, for a block that sends the order; its old one when that fails."""
        before = migration and migration.status
        self._mark(migration, status)
        try:
            yield
        except NOT_SENT:
            self._mark(migration, before)
            raise

    def _mark(self, migration: Migration | None, status: str) -> None:
        if migration is not None:
            migration.status = status
            migration.save()

    def _finished(self, context: RequestContext, instance: Instance) -> Migration | None:
        return Migration.get_by_instance_and_status(context, instance.uuid, "finished")

    def _revertible(self, context: RequestContext, instance: Instance) -> Migration | None:
        """Return the move to take back: one that arrived, or that failed on either host and left both known."""
        try:
            return self._finished(context, instance)
        except exception.MigrationNotFoundByStatus:
            failed = Migration.get_by_instance_and_status(context, instance.uuid, "error")
            hosts = (failed.dest_compute, failed.source_compute)
            if instance.host not in hosts or failed.migration_type not in ("resize", "migration"):
                raise
            return failed


class LocalTasks:
    """Long operations of this cell's own hosts: what is looked up, and whom it goes to."""

    def __init__(self, services: Services, compute: Any, scheduler: Any) -> None:
        self._services = services
        self._compute = compute
        self._scheduler = scheduler

    def resize(self, context: RequestContext, instance: Instance, flavor: Flavor, reservations: list[str] | None,
               clean_shutdown: bool, extra: dict[str, Any]) -> None:
        """Ask the scheduler for a host."""
        image = self._image_of(context, instance)
        spec: dict[str, Any] = {"instance_type": flavor.to_dict(), "instance_uuids": [instance.uuid],
                "instance_properties": instance.to_legacy_dict(), "image": image}
        if not clean_shutdown:
            spec["clean_shutdown"] = False
        stay = self._services.conf.allow_resize_to_same_host
        self._scheduler.prep_resize(context, instance, flavor.to_dict(), image, spec,
                                    {"ignore_hosts": [] if stay else [instance.host]}, reservations)

    def _image_of(self, context: RequestContext, instance: Instance) -> dict[str, Any]:
        """The image of the instance; when it is gone, what the instance remembers of it."""
        if not instance.image_ref:
            return {}
        try:
            return self._services.image_api.show(context.elevated(), instance.image_ref)
        except (exception.ImageNotFound, exception.GlanceConnectionFailed):
            prefix = rows.SYSTEM_METADATA_PREFIX
            return {"id": instance.image_ref, "properties": {
                key.removeprefix(prefix): value for key, value in instance.system_metadata.items()
                if key.startswith(prefix)}}

    def live_migrate(self, context: RequestContext, instance: Instance, host_name: str | None,
                     block_migration: bool | None, disk_over_commit: bool | None) -> None:
        """Have the scheduler check and start the move."""
        self._scheduler.live_migration(context, block_migration, disk_over_commit, instance, host_name)

    def take_image(self, context: RequestContext, instance: Instance, image_id: str, image_type: str,
                   backup_type: str | None, rotation: int | None) -> None:
        """Have the instance's host fill the image."""
        self._compute.snapshot_instance(context, instance, image_id, image_type, backup_type, rotation)

    def rebuild(self, context: RequestContext, instance: Instance, kwargs: dict[str, Any], **arguments: Any) -> None:
        """Have the instance's host rebuild it; the fields changed with it (`kwargs`) are written already."""
        self._compute.rebuild_instance(context, instance, **arguments)


class Rebuilding:
    """The same instance with another disk: rebuild, evacuate, rescue."""

    def __init__(self, services: Services, quotas: Any, steps: Any, compute: Any, tasks: Any) -> None:
        self._services = services
        self._quotas = quotas
        self._steps = steps
        self._compute = compute
        self._tasks = tasks
        self._servicegroup = servicegroup.API(services)

    def rebuild(self, context: RequestContext, instance: Instance, image_href: str, admin_password: str | None,
                files: list | None, kwargs: dict[str, Any]) -> None:
        """Make the instance anew from an image. Raises what a new instance of that image would."""
        checks.check_fields(kwargs)
        image = self._services.image_api.show(context, image_href)
        checks.check_injected_files(self._quotas, context, files)
        checks.check_metadata(self._quotas, context, kwargs.get("metadata"))
        checks.check_image(image, instance.get_flavor())
        properties = block_devices.properties_of(image)
        original_ref, original = instance.image_ref, dict(instance.system_metadata)
        kept = {key: value for key, value in original.items() if not key.startswith(rows.SYSTEM_METADATA_PREFIX)}
        changes = {
            **_settable(kwargs), "image_ref": image_href, "kernel_id": properties.get("kernel_id") or "",
            "ramdisk_id": properties.get("ramdisk_id") or "", "progress": 0,
            "system_metadata": {**kept, **rows.system_metadata_of(image)},
        }
        with self._steps.begun(context, instance, actions.REBUILD, task_state=task_states.REBUILDING, **changes):
            self._tasks.rebuild(context, instance, new_pass=admin_password, injected_files=files,
                                image_ref=image_href, orig_image_ref=original_ref, orig_sys_metadata=original,
                                bdms=None, kwargs=kwargs)

    def evacuate(self, context: RequestContext, instance: Instance, host: str, on_shared_storage: bool,
                 admin_password: str | None) -> None:
        """Build the instance again on `host`, because its own is dead. Raises ComputeServiceUnavailable when not."""
        elevated = context.elevated()
        source = Service.get_by_compute_host(elevated, instance.host)
        if self._servicegroup.service_is_up(source):
            raise exception.ComputeServiceUnavailable(
                f"Compute service of {instance.host} is still in use; instance {instance.uuid} is not evacuated",
                host=instance.host)
        Service.get_by_compute_host(elevated, host)
        with self._steps.begun(context, instance, actions.EVACUATE, task_state=task_states.REBUILDING):
            migration = Migration(elevated, instance_uuid=instance.uuid, source_compute=instance.host,
                                  source_node=instance.node, dest_compute=host, status="accepted",
                                  migration_type="evacuation", hidden=False)
            migration.create()
            try:
                self._compute.rebuild_instance(
                    context, instance, new_pass=admin_password, injected_files=None, image_ref=None,
                    orig_image_ref=None, orig_sys_metadata=None, bdms=None, recreate=True,
                    on_shared_storage=on_shared_storage, host=host, migration=migration)
            except NOT_SENT:
                migration.status = "error"
                migration.save()
                raise

    def rescue(self, context: RequestContext, instance: Instance, rescue_password: str | None,
               rescue_image_ref: str | None, clean_shutdown: bool) -> None:
        """Boot the instance from a rescue image. Raises InstanceNotRescuable for one that boots from a volume."""
        mappings = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        if block_devices.is_volume_backed(instance, mappings):
            raise exception.InstanceNotRescuable(instance_id=instance.uuid, reason="it boots from a volume")
        if rescue_image_ref:
            self._services.image_api.show(context, rescue_image_ref)
        with self._steps.begun(context, instance, actions.RESCUE, task_state=task_states.RESCUING):
            self._compute.rescue_instance(context, instance, rescue_password, rescue_image_ref, clean_shutdown)


_SETTABLE_BY_REBUILD = frozenset({"display_name", "display_description", "metadata", "auto_disk_config",
                                  "access_ip_v4", "access_ip_v6", "config_drive", "key_name", "key_data",
                                  "user_data"})


def _settable(kwargs: dict[str, Any]) -> dict[str, Any]:
    unknown = {name for name, value in kwargs.items() if value and name not in _SETTABLE_BY_REBUILD}
    if unknown:
        raise exception.Invalid(f"rebuild does not support {', '.join(sorted(unknown))}")
    return {name: value for name, value in kwargs.items() if name in _SETTABLE_BY_REBUILD and value is not None}
