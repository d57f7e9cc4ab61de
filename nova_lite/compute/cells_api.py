"""The compute API of an API cell, whose instances live in cells below (cells specification A.2, A.3; seams §3.6).

The ordinary logic (policy, states, quotas) runs here on the API cell's rows; the last step is one message to the
instance's cell, where the same operation runs with the states it finds there. What has no way down is refused with
CellsOperationUnsupported.
"""

import datetime
from collections.abc import Callable
from typing import Any, NoReturn

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute import api
from nova_lite.compute.api_create import BuildOrder
from nova_lite.compute.api_delete import Deletion
from nova_lite.compute.api_guards import IDLE, guarded
from nova_lite.compute.api_images import BACKUP
from nova_lite.compute.api_resize import Resizing
from nova_lite.compute.api_steps import ApiCellSteps
from nova_lite.compute.cells_host_api import HostAPI, InstanceActionAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import (
    BlockDeviceMappingList,
    Flavor,
    Instance,
    Migration,
    MigrationList,
    task_states,
)
from nova_lite.volume.none import NoVolumes

__all__ = ["ComputeCellsAPI", "HostAPI", "InstanceActionAPI"]

LOG = logging.getLogger(__name__)

# What the cells client offers under the compute client's own names.
REDIRECTED = frozenset({
    "start_instance", "stop_instance", "reboot_instance", "suspend_instance", "resume_instance", "terminate_instance",
    "soft_delete_instance", "pause_instance", "unpause_instance", "revert_resize", "confirm_resize", "reset_network",
    "inject_network_info", "set_admin_password",
})


class Redirect:
    """Stands where the compute client stands in a cell with hosts: each order becomes a message to the cell."""

    def __init__(self, cells_api: Any) -> None:
        self._cells = cells_api

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in REDIRECTED:
            return getattr(self._cells, name)
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise exception.CellsOperationUnsupported(operation=name)

        return refuse

    def cast(self, ctxt: RequestContext, instance: Instance, method: str, *args: Any, **kwargs: Any) -> None:
        """Have a method of the compute API run where the instance lives."""
        self._cells.cast_compute_api_method(ctxt, cell_of(instance), method, instance.uuid, *args, **kwargs)

    def call(self, ctxt: RequestContext, instance: Instance, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run a method of the compute API where the instance lives, and return its result."""
        return self._cells.call_compute_api_method(ctxt, cell_of(instance), method, instance.uuid, *args, **kwargs)

    # Orders that go down as the compute API's methods.

    def restore_instance(self, ctxt: RequestContext, instance: Instance) -> None:
        self.cast(ctxt, instance, "restore")

    def rescue_instance(self, ctxt: RequestContext, instance: Instance, rescue_password: str | None,
                        rescue_image_ref: str | None = None, clean_shutdown: bool = True) -> None:
        newer: dict[str, Any] = {"rescue_image_ref": rescue_image_ref} if rescue_image_ref else {}
        if not clean_shutdown:
            newer["clean_shutdown"] = False
        self.cast(ctxt, instance, "rescue", rescue_password=rescue_password, **newer)

    def unrescue_instance(self, ctxt: RequestContext, instance: Instance) -> None:
        self.cast(ctxt, instance, "unrescue")

    def add_fixed_ip_to_instance(self, ctxt: RequestContext, instance: Instance, network_id: str) -> None:
        self.cast(ctxt, instance, "add_fixed_ip", network_id)

    def remove_fixed_ip_from_instance(self, ctxt: RequestContext, instance: Instance, address: str) -> None:
        self.cast(ctxt, instance, "remove_fixed_ip", address)

    def inject_file(self, ctxt: RequestContext, instance: Instance, path: str, file_contents: str) -> None:
        self.cast(ctxt, instance, "inject_file", path, file_contents)

    def attach_interface(self, ctxt: RequestContext, instance: Instance, network_id: str | None, port_id: str | None,
                         requested_ip: str | None) -> Any:
        return self.call(ctxt, instance, "attach_interface", network_id, port_id, requested_ip)

    def detach_interface(self, ctxt: RequestContext, instance: Instance, port_id: str) -> None:
        self.cast(ctxt, instance, "detach_interface", port_id)

    def detach_volume(self, ctxt: RequestContext, instance: Instance, volume: Any) -> None:
        self.cast(ctxt, instance, "detach_volume", volume)

    def get_diagnostics(self, ctxt: RequestContext, instance: Instance) -> Any:
        return self.call(ctxt, instance, "get_diagnostics")

    def get_console_output(self, ctxt: RequestContext, instance: Instance, tail_length: int | None) -> str:
        return self.call(ctxt, instance, "get_console_output", tail_length=tail_length)

    def get_vnc_console(self, ctxt: RequestContext, instance: Instance, console_type: str) -> dict[str, Any]:
        return self.call(ctxt, instance, "get_vnc_connect_info", console_type)

    def get_spice_console(self, ctxt: RequestContext, instance: Instance, console_type: str) -> dict[str, Any]:
        return self.call(ctxt, instance, "get_spice_connect_info", console_type)


class CellTasks:
    """Long operations, as messages to the instance's cell."""

    def __init__(self, cells_api: Any) -> None:
        self._cells = cells_api

    def resize(self, context: RequestContext, instance: Instance, flavor: Flavor, reservations: list[str] | None,
               clean_shutdown: bool, extra: dict[str, Any]) -> None:
        self._cells.resize_instance(context, instance, extra, {}, flavor, None, clean_shutdown)

    def live_migrate(self, context: RequestContext, instance: Instance, host_name: str | None,
                     block_migration: bool | None, disk_over_commit: bool | None) -> None:
        self._cells.live_migrate_instance(context, instance, host_name, block_migration, disk_over_commit)

    def rebuild(self, context: RequestContext, instance: Instance, **arguments: Any) -> None:
        self._cells.rebuild_instance(context, instance, **arguments)

    def take_image(self, context: RequestContext, instance: Instance, image_id: str, image_type: str,
                   backup_type: str | None, rotation: int | None) -> None:
        if image_type == BACKUP:
            self._cells.backup_instance(context, instance, image_id, backup_type, rotation)
        else:
            self._cells.snapshot_instance(context, instance, image_id)


class CellDeletion(Deletion):
    """Deleting by a message to the cell; to every cell while it is not known which one has the instance."""

    def __init__(self, services: Services, quotas: Any, steps: Any, compute: Redirect, cells_api: Any) -> None:
        super().__init__(services, quotas, steps, compute)
        self._cells = cells_api

    def delete(self, context: RequestContext, instance: Instance) -> None:
        self._go(context, instance, "delete", task_state=task_states.DELETING, progress=0)

    def force_delete(self, context: RequestContext, instance: Instance) -> None:
        self._go(context, instance, "force_delete", task_state=task_states.DELETING, progress=0)

    def soft_delete(self, context: RequestContext, instance: Instance) -> None:
        self._go(context, instance, "soft_delete", task_state=task_states.SOFT_DELETING, progress=0,
                 deleted_at=self._services.clock.utcnow())

    def _go(self, context: RequestContext, instance: Instance, delete_type: str, **changes: Any) -> None:
        if instance.disable_terminate:
            LOG.info("Instance %s must not be terminated (disable_terminate)", instance.uuid)
            return
        try:
            if instance.cell_name or not self._delete_everywhere(context, instance, delete_type):
                self._send(context, instance, delete_type, changes)
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone already", instance.uuid)

    def _send(self, context: RequestContext, instance: Instance, delete_type: str, changes: dict[str, Any]) -> None:
        reservations = self._quotas.reserve_release(context, instance) if not self.is_going(instance) else None
        try:
            with self._steps.begun(context, instance, expected=None, **changes):
                if delete_type == "soft_delete":
                    self._compute.soft_delete_instance(context, instance)
                else:
                    self._compute.terminate_instance(context, instance, None, delete_type=delete_type)
        except Exception:  # nothing goes down, so nothing is given back
            self._quotas.rollback(context, reservations, instance.project_id)
            raise
        self._quotas.commit(context, reservations, instance.project_id)

    def _delete_everywhere(self, context: RequestContext, instance: Instance, delete_type: str) -> bool:
        """Delete an instance that no cell has announced. False, with the row read again, when one has by now."""
        kind = "soft" if delete_type == "soft_delete" else "hard"
        self._cells.instance_delete_everywhere(context, instance, kind)
        reservations = self._quotas.reserve_release(context, instance) if not self.is_going(instance) else None
        try:
            self._announce(context, instance, "delete.start")
            self._services.db.instance_destroy(context.elevated(), instance.uuid, constraint={"cell_name": None})
        except exception.ConstraintNotMet:
            self._quotas.rollback(context, reservations, instance.project_id)
            instance.refresh()
            return False
        except Exception:  # it is still there, so it still counts
            self._quotas.rollback(context, reservations, instance.project_id)
            raise
        self._quotas.commit(context, reservations, instance.project_id)
        self._announce(context, instance, "delete.end")
        return True


class CellResizing(Resizing):
    """Resizing by messages; a migration row kept here tells later operations what the quota was changed by."""

    def resize(self, context: RequestContext, instance: Instance, flavor_id: str | None, clean_shutdown: bool,
               flavor: Any, same_is_move: bool, extra: dict[str, Any]) -> Flavor:
        wanted = super().resize(context, instance, flavor_id, clean_shutdown, flavor, same_is_move, extra)
        old = instance.get_flavor()
        self._close_records(context.elevated(), instance)
        Migration(context.elevated(), instance_uuid=instance.uuid, status="finished", source_compute=instance.host,
                  old_instance_type_id=old.get("id"), new_instance_type_id=wanted.get("id"), hidden=False,
                  migration_type="migration" if wanted.flavorid == old.flavorid else "resize").create()
        return wanted

    def _close_records(self, context: RequestContext, instance: Instance) -> None:
        """An instance that can be resized waits for no confirmation: what still looks so has failed below."""
        for record in MigrationList.get_by_filters(context, {"instance_uuid": instance.uuid, "status": "finished"}):
            self._mark(record, "error")

    def _to_send(self, context: RequestContext, instance: Instance, reservations: list[str] | None) -> list[str] | None:
        # Cells below keep no quota that these could be settled in.
        self._quotas.commit(context, reservations, instance.project_id)
        return None

    def _finished(self, context: RequestContext, instance: Instance) -> Migration | None:
        try:
            return super()._finished(context, instance)
        except exception.MigrationNotFoundByStatus:
            return None


class ComputeCellsAPI(api.API):
    """As `compute.api.API`, for instances in cells below. `cells_api`: the client of this cell's `nova-cells`."""

    hosts_are_here = False

    def __init__(self, services: Services, cells_api: Any) -> None:
        self._cells = cells_api
        self._assemble(services, ApiCellSteps(), Redirect(cells_api))

    def _tasks(self, services: Services) -> CellTasks:
        return CellTasks(self._cells)

    def _deletion_of(self, services: Services) -> CellDeletion:
        return CellDeletion(services, self._quotas, self._steps, self._compute, self._cells)

    def _resizing_of(self, services: Services, tasks: Any) -> CellResizing:
        return CellResizing(services, self._quotas, self._steps, self._compute, tasks)

    def check_placed(self, instance: Instance) -> None:
        """Raise InstanceUnknownCell while no cell has announced the instance."""
        cell_of(instance)

    def _is_own_path(self, path: str) -> bool:
        return False

    def _send_build(self, context: RequestContext, order: BuildOrder, instances: list[Instance], groups: list[str],
                    mappings: BlockDeviceMappingList) -> None:
        arguments = {
            "instances": instances, "image": order.image,
            "filter_properties": {**order.filter_properties(), "instance_type": order.flavor},
            "admin_password": order.admin_password, "injected_files": order.injected_files or [],
            "requested_networks": order.requested_networks, "security_groups": groups,
            "block_device_mapping": mappings}
        self._write_down(context, arguments)
        self._cells.build_instances(context, **arguments)

    def _write_down(self, context: RequestContext, arguments: dict[str, Any]) -> None:
        """Keep the order until a cell has told of its instances: a message can be lost."""
        services = self.services
        look_again = services.clock.utcnow() + datetime.timedelta(seconds=services.conf.cells.build_repeat_interval)
        services.db.build_order_create(context, [one.uuid for one in arguments["instances"]],
                                       {"ctxt": context.to_dict(), "kwargs": arguments}, look_again)

    def get_migrations(self, context: RequestContext, filters: dict[str, Any] | None) -> Any:
        return self._cells.get_migrations(context, dict(filters or {}))

    @guarded(vm_state=(api.ACTIVE, api.STOPPED), task_state=IDLE, policy=False)
    def evacuate(self, context: RequestContext, instance: Any, host: str, on_shared_storage: bool,
                 admin_password: str | None = None, force: bool | None = None) -> None:
        self._compute.cast(context, instance, "evacuate", self.own_host(instance, host), on_shared_storage,
                           admin_password)

    @guarded(vm_state=api.ATTACHABLE, lock=True)
    def attach_volume(self, context: RequestContext, instance: Any, volume_id: str, device: str | None = None,
                      disk_bus: str | None = None, device_type: str | None = None) -> str:
        self._check_volume(context, volume_id)
        newer = {name: value for name, value in (("disk_bus", disk_bus), ("device_type", device_type)) if value}
        return self._compute.call(context, instance, "attach_volume", volume_id, device, **newer)

    @guarded(vm_state=api.ATTACHABLE, lock=True)
    def detach_volume(self, context: RequestContext, instance: Any, volume: Any) -> None:
        self._check_volume(context, volume["id"] if isinstance(volume, dict) else volume)
        self._compute.detach_volume(context, instance, volume)

    def _check_volume(self, context: RequestContext, volume_id: str) -> None:
        # Volumes belong to the cells; only where one service serves them all can it be asked here.
        if not isinstance(self.services.volume_api, NoVolumes):
            self.services.volume_api.get(context, volume_id)

    @guarded(vm_state=api.DESCRIBABLE, lock=True)
    def update_instance_metadata(self, context: RequestContext, instance: Any, metadata: dict[str, str],
                                 delete: bool = False) -> dict[str, str]:
        after = self._metadata.update(context, instance, metadata, delete, tell=False)
        self._compute.cast(context, instance, "update_instance_metadata", metadata, delete=delete)
        return after

    @guarded(vm_state=api.DESCRIBABLE, lock=True)
    def delete_instance_metadata(self, context: RequestContext, instance: Any, key: str) -> None:
        self._metadata.delete(context, instance, key, tell=False)
        self._compute.cast(context, instance, "delete_instance_metadata", key)

    @guarded(vm_state=(api.ACTIVE, api.STOPPED), task_state=IDLE, policy=False)
    def snapshot_volume_backed(self, context: RequestContext, instance: Any, image_meta: dict[str, Any], name: str,
                               extra_properties: dict[str, Any] | None = None) -> dict[str, Any]:
        raise exception.CellsOperationUnsupported(operation="snapshot_volume_backed")


def cell_of(instance: Instance) -> str:
    """Return the full name of the instance's cell. Raises InstanceUnknownCell."""
    if not instance.cell_name:
        raise exception.InstanceUnknownCell(instance_uuid=instance.uuid)
    return instance.cell_name
