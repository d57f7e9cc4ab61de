"""Resizing and cold migration, on both hosts.

Flow: API -> scheduler -> prep (destination) -> begin (source) -> finish (destination) -> the user confirms (source) or
reverts (destination, then source). The flavors travel with the instance: `flavor`, `new_flavor`, `old_flavor`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.policy import record_fault
from nova_lite.compute.power import Power
from nova_lite.compute.reschedule import Rescheduler
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states

LOG = logging.getLogger(__name__)

# Remembers over a resize that the guest was off; later releases use the same key.
OLD_VM_STATE = "old_vm_state"
# What is left at the source is of no use any more once the user has seen the instance at its destination.
_CONFIRMABLE = ("finished", "confirming")


def sizes_of(flavor: Any) -> dict[str, Any]:
    """Return the columns of an instance that its flavor decides."""
    return {"instance_type_id": flavor["id"], "memory_mb": flavor["memory_mb"], "vcpus": flavor["vcpus"],
            "root_gb": flavor["root_gb"], "ephemeral_gb": flavor["ephemeral_gb"]}


class Resizer:
    """One side of a resize: as destination, as source, or both on one host."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, power: Power, rescheduler: Rescheduler,
                 computes: ComputeAPI) -> None:
        self._here = here
        self._block_devices = block_devices
        self._power = power
        self._rescheduler = rescheduler
        self._computes = computes

    # --- Destination: make room ---

    def prepare(self, context: RequestContext, instance: objects.Instance, image: dict[str, Any] | None,
                flavor: objects.Flavor, reservations: list[str] | None, request_spec: dict[str, Any] | None,
                filter_properties: dict[str, Any] | None, node: str | None) -> None:
        """Claim room for the new flavor and ask the source to begin; a failure goes back to the scheduler."""
        here = self._here
        here.conductor.notify_usage_exists(context, instance, current_period=True)
        here.notify(context, instance, "resize.prep.start")
        try:
            with here.error_out(context, instance, reservations):
                try:
                    self._claim_and_ask_source(context, instance, image, flavor, reservations, request_spec,
                                               filter_properties or {}, node)
                except Exception as error:  # another host may do better
                    if not self._send_back(context, instance, image, flavor, reservations, request_spec,
                                           filter_properties, error):
                        raise
        finally:
            here.notify(context, instance, "resize.prep.end",
                        extra={"new_instance_type": flavor.name, "new_instance_type_id": flavor.id})

    def _claim_and_ask_source(self, context: RequestContext, instance: objects.Instance,
                              image: dict[str, Any] | None, flavor: objects.Flavor, reservations: list[str] | None,
                              request_spec: dict[str, Any] | None, filter_properties: dict[str, Any],
                              node: str | None) -> None:
        here = self._here
        if not instance.host:
            raise exception.MigrationError(reason=f"instance {instance.uuid} has no source host")
        if instance.host == here.name and not here.conf.allow_resize_to_same_host:
            raise exception.MigrationError(reason="source and destination are the same host")
        here.update(context, instance, new_flavor=flavor, expected_task_state=task_states.RESIZE_PREP)
        tracker = here.trackers.of(node or here.driver.get_available_nodes()[0])
        with tracker.resize_claim(context, instance, flavor, filter_properties.get("limits", {})) as claim, \
                self._failing(claim.migration):  # else the record would hold room here as long as another host has it
            clean_shutdown = (request_spec or {}).get("clean_shutdown", True)
            self._computes.resize_instance(context, instance, claim.migration, image, flavor, reservations,
                                           clean_shutdown=clean_shutdown)

    def _send_back(self, context: RequestContext, instance: objects.Instance, image: dict[str, Any] | None,
                   flavor: objects.Flavor, reservations: list[str] | None, request_spec: dict[str, Any] | None,
                   filter_properties: dict[str, Any] | None, error: Exception) -> bool:
        arguments = {"instance": instance, "instance_type": flavor, "image": image, "request_spec": request_spec,
                     "filter_properties": filter_properties, "reservations": reservations}
        if not self._rescheduler.send(context, instance, "prep_resize", arguments, task_states.RESIZE_PREP, error):
            return False
        record_fault(self._here.conductor, context, instance, error)
        return True

    # --- Source: hand over ---

    def begin(self, context: RequestContext, instance: objects.Instance, image: dict[str, Any] | None,
              reservations: list[str] | None, migration: objects.Migration, flavor: objects.Flavor | None,
              clean_shutdown: bool) -> None:
        """Stop the guest, make its disks ready for the destination, and ask that to finish."""
        here = self._here
        if flavor is None:
            flavor = objects.Flavor.get_by_id(context, migration.new_instance_type_id)
        try:
            with here.error_out(context, instance, reservations):
                self._hand_over(context, instance, image, reservations, migration, flavor, clean_shutdown)
        except Exception:  # the record keeps both hosts, and no longer holds room
            self._fail(migration)
            raise

    def _hand_over(self, context: RequestContext, instance: objects.Instance, image: dict[str, Any] | None,
                   reservations: list[str] | None, migration: objects.Migration, flavor: objects.Flavor,
                   clean_shutdown: bool) -> None:
        here = self._here
        network_info = here.network_info(context, instance)
        self._set_status(migration, "migrating")
        here.update(context, instance, task_state=task_states.RESIZE_MIGRATING,
                    expected_task_state=task_states.RESIZE_PREP)
        here.db.instance_system_metadata_update(context, instance.uuid, {OLD_VM_STATE: instance.vm_state},
                                                delete=False)
        here.notify(context, instance, "resize.start", network_info=network_info)
        disk_info = self._stop_and_ship(context, instance, migration, flavor, network_info, clean_shutdown)
        self._block_devices.disconnect(context, instance)
        here.network_api.migrate_instance_start(context, instance, migration)
        self._set_status(migration, "post-migrating")
        here.update(context, instance, host=migration.dest_compute, node=migration.dest_node,
                    task_state=task_states.RESIZE_MIGRATED, expected_task_state=task_states.RESIZE_MIGRATING)
        self._computes.finish_resize(context, instance, migration, image, disk_info, migration.dest_compute,
                                     reservations)
        here.notify(context, instance, "resize.end", network_info=network_info)

    def _stop_and_ship(self, context: RequestContext, instance: objects.Instance, migration: objects.Migration,
                       flavor: objects.Flavor, network_info: Any, clean_shutdown: bool) -> Any:
        """Return the driver's disk_info. When it fails, a guest that ran is started again."""
        here = self._here
        network_info = here.for_driver(network_info)
        block_device_info = self._block_devices.info(context, instance)
        ran = here.power_state(instance) == power_state.RUNNING
        try:
            if ran and clean_shutdown:
                self._power.stop(context, instance)
            return here.driver.migrate_disk_and_power_off(context, instance, migration.dest_host, flavor,
                                                          network_info, block_device_info)
        except Exception as error:  # whatever failed, the user's guest should run
            if not ran:
                raise
            self._start_again(context, instance, network_info, block_device_info)
            inner = error.inner_exception if isinstance(error, exception.InstanceFaultRollback) else error
            if here.power_state(instance) == power_state.RUNNING:
                raise exception.InstanceFaultRollback(inner) from error
            raise

    def _start_again(self, context: RequestContext, instance: objects.Instance, network_info: Any,
                     block_device_info: dict[str, Any]) -> None:
        if self._here.power_state(instance) == power_state.RUNNING:
            return
        try:
            self._here.driver.power_on(context, instance, network_info, block_device_info)
        except Exception:  # the failure of the migration is the one to report
            LOG.exception("Could not start instance %s again after its migration failed", instance.uuid)

    # --- Destination: bring up ---

    def finish(self, context: RequestContext, instance: objects.Instance, disk_info: Any,
               image: dict[str, Any] | None, reservations: list[str] | None, migration: objects.Migration) -> None:
        """Build the guest here from the disks the source made ready; a failure leaves ERROR and both hosts known."""
        here = self._here
        try:
            with here.error_out(context, instance, reservations):
                self._bring_up(context, instance, disk_info, image, migration)
        except Exception:  # the record keeps both hosts, so that a revert stays possible
            self._fail(migration)
            raise
        here.commit_quota(context, instance, reservations)

    def _bring_up(self, context: RequestContext, instance: objects.Instance, disk_info: Any,
                  image: dict[str, Any] | None, migration: objects.Migration) -> None:
        here = self._here
        resized = self._switch_flavor(context, instance, migration)
        here.network_api.setup_networks_on_host(context, instance, migration.dest_compute)
        here.network_api.migrate_instance_finish(context, instance, migration)
        network_info = here.network_info(context, instance)
        here.update(context, instance, task_state=task_states.RESIZE_FINISH,
                    expected_task_state=task_states.RESIZE_MIGRATED)
        here.notify(context, instance, "finish_resize.start", network_info=network_info)
        here.driver.finish_migration(context, migration, instance, disk_info, here.for_driver(network_info), image,
                                     resized, self._block_devices.reconnect(context, instance))
        was_stopped = instance.system_metadata.get(OLD_VM_STATE) == vm_states.STOPPED
        if was_stopped:
            here.driver.power_off(instance)
        self._set_status(migration, "finished")
        here.update(context, instance, vm_state=vm_states.RESIZED, launched_at=here.clock.utcnow(), task_state=None,
                    power_state=here.power_state(instance), expected_task_state=task_states.RESIZE_FINISH)
        here.notify(context, instance, "finish_resize.end", network_info=network_info)

    def _switch_flavor(self, context: RequestContext, instance: objects.Instance,
                       migration: objects.Migration) -> bool:
        """Make the new flavor current and remember the old one; return whether they differ."""
        if migration.old_instance_type_id == migration.new_instance_type_id:
            self._here.update(context, instance, old_flavor=instance.flavor)
            return False
        new = instance.new_flavor
        self._here.update(context, instance, old_flavor=instance.flavor, flavor=new, **sizes_of(new))
        return True

    # --- Source: the user is content ---

    def confirm(self, context: RequestContext, instance: objects.Instance, reservations: list[str] | None,
                migration: objects.Migration) -> None:
        """Remove what the source kept for a revert, unless the migration has been confirmed or reverted already."""
        here = self._here
        migration = objects.Migration.get_by_id(context, migration.id)
        if migration.status not in _CONFIRMABLE:
            LOG.info("Migration %s of instance %s is %s; there is nothing to confirm",
                     migration.id, instance.uuid, migration.status)
            return
        with here.announced(context, instance, "resize.confirm"), here.error_out(context, instance, reservations):
            here.network_api.setup_networks_on_host(context, instance, migration.source_compute, teardown=True)
            network_info = here.for_driver(here.network_info(context, instance))
            here.driver.confirm_migration(migration, instance, network_info)
            was_stopped = instance.system_metadata.get(OLD_VM_STATE) == vm_states.STOPPED
            here.update(context, instance, vm_state=vm_states.STOPPED if was_stopped else vm_states.ACTIVE,
                        task_state=None, old_flavor=None, new_flavor=None, system_metadata=_without_note(instance),
                        expected_task_state=[None, task_states.DELETING])
            here.trackers.of(migration.source_node).confirm_resize(context, migration)
        here.commit_quota(context, instance, reservations)

    # --- The user is not ---

    def revert(self, context: RequestContext, instance: objects.Instance, reservations: list[str] | None,
               migration: objects.Migration) -> None:
        """Destination: remove the guest here and ask the source to take its own back.

        A failure leaves ERROR and both hosts known. One that got back, and failed there, is only brought up.
        """
        here = self._here
        if instance.host == migration.source_compute != here.name:
            self._computes.finish_revert_resize(context, instance, migration, migration.source_compute, reservations)
            return
        here.conductor.notify_usage_exists(context, instance, current_period=True)
        with self._failing(migration), here.error_out(context, instance, reservations):
            here.network_api.setup_networks_on_host(context, instance, here.name, teardown=True)
            here.network_api.migrate_instance_start(context, instance, migration)
            network_info = here.for_driver(here.network_info(context, instance))
            here.driver.destroy(instance, network_info, self._block_devices.info(context, instance))
            self._block_devices.disconnect(context, instance)
            here.trackers.of(instance.node).revert_resize(context, migration, status="reverted_dest")
            self._computes.finish_revert_resize(context, instance, migration, migration.source_compute, reservations)

    def finish_revert(self, context: RequestContext, instance: objects.Instance, reservations: list[str] | None,
                      migration: objects.Migration) -> None:
        """Source: take the guest back into service with its old flavor; a failure leaves ERROR and both hosts known."""
        here = self._here
        with self._failing(migration), here.announced(context, instance, "resize.revert"), \
                here.error_out(context, instance, reservations):
            old = instance.old_flavor or instance.flavor
            was_stopped = instance.system_metadata.get(OLD_VM_STATE) == vm_states.STOPPED
            here.update(context, instance, host=migration.source_compute, node=migration.source_node, flavor=old,
                        old_flavor=None, new_flavor=None, expected_task_state=task_states.RESIZE_REVERTING,
                        **sizes_of(old))
            here.network_api.setup_networks_on_host(context, instance, migration.source_compute)
            network_info = here.for_driver(here.network_info(context, instance))
            here.driver.finish_revert_migration(instance, network_info,
                                                self._block_devices.reconnect(context, instance))
            here.network_api.migrate_instance_finish(context, instance, migration)
            if was_stopped:
                here.driver.power_off(instance)
            here.update(context, instance, launched_at=here.clock.utcnow(), task_state=None,
                        vm_state=vm_states.STOPPED if was_stopped else vm_states.ACTIVE,
                        system_metadata=_without_note(instance), power_state=here.power_state(instance),
                        expected_task_state=task_states.RESIZE_REVERTING)
            here.trackers.of(instance.node).revert_resize(context, migration)
        here.commit_quota(context, instance, reservations)

    # --- Migration records ---

    @staticmethod
    def _set_status(migration: objects.Migration, status: str) -> None:
        migration.status = status
        migration.save()

    @contextlib.contextmanager
    def _failing(self, migration: objects.Migration) -> Iterator[None]:
        """Note a failure inside in the record: what it left is found by it when the instance is deleted."""
        try:
            yield
        except exception.UnexpectedTaskStateError:  # somebody else has taken it up, or done it
            raise
        except Exception:
            self._fail(migration)
            raise

    @staticmethod
    def _fail(migration: objects.Migration) -> None:
        try:
            migration.status = "error"
            migration.save()
        except Exception:  # the failure of the resize is the one to report
            LOG.exception("Could not mark migration %s as failed", migration.id)


def _without_note(instance: objects.Instance) -> dict[str, str]:
    return {key: value for key, value in instance.system_metadata.items() if key != OLD_VM_STATE}
