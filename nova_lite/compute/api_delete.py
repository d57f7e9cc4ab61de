"""Deleting instances, for good or to be restored, with or without a host that answers (compute specification §10.4)."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, servicegroup
from nova_lite.compute import utils as compute_utils
from nova_lite.context import RequestContext, Services
from nova_lite.objects import (
    BlockDeviceMappingList,
    Instance,
    Migration,
    Service,
    task_states,
    vm_states,
)
from nova_lite.objects import instance_actions as actions

LOG = logging.getLogger(__name__)

_GOING = (task_states.DELETING, task_states.SOFT_DELETING)
Order = Callable[[RequestContext, Instance, Any, list[str] | None], None]


class Deletion:
    """Deletes instances whose hosts are in this cell."""

    def __init__(self, services: Services, quotas: Any, steps: Any, compute: Any) -> None:
        self._services = services
        self._quotas = quotas
        self._steps = steps
        self._compute = compute
        self._servicegroup = servicegroup.API(services)

    def delete(self, context: RequestContext, instance: Instance) -> None:
        """Remove the instance, on its host or, if that does not answer, from here."""
        self._run(context, instance, self._terminate, task_state=task_states.DELETING, progress=0)

    def force_delete(self, context: RequestContext, instance: Instance) -> None:
        """As `delete`, which asks for no state either."""
        self.delete(context, instance)

    def soft_delete(self, context: RequestContext, instance: Instance) -> None:
        """Switch the instance off; until it is reclaimed it can be restored."""
        self._run(context, instance, self._soft_delete, task_state=task_states.SOFT_DELETING, progress=0,
                  deleted_at=self._services.clock.utcnow())

    def restore(self, context: RequestContext, instance: Instance) -> None:
        """Bring a soft-deleted instance back."""
        flavor = instance.get_flavor()
        _count, reservations = self._quotas.reserve_instances(context, flavor, 1, 1, instance.project_id)
        try:
            if not instance.host:
                instance.update({"vm_state": vm_states.ACTIVE, "task_state": None, "deleted_at": None})
                self._steps.save(instance, (None,))
            else:
                with self._steps.begun(context, instance, actions.RESTORE, task_state=task_states.RESTORING,
                                       deleted_at=None):
                    self._compute.restore_instance(context, instance)
        except Exception:  # it is not restored, so it must not be paid for
            self._quotas.rollback(context, reservations, instance.project_id)
            raise
        self._quotas.commit(context, reservations, instance.project_id)

    def is_going(self, instance: Instance) -> bool:
        """Whether somebody has given the order to delete it, and with it the quota back, before."""
        return instance.task_state in _GOING

    def _terminate(self, context: RequestContext, instance: Instance, mappings: Any,
                   reservations: list[str] | None) -> None:
        self._compute.terminate_instance(context, instance, mappings, reservations)

    def _soft_delete(self, context: RequestContext, instance: Instance, mappings: Any,
                     reservations: list[str] | None) -> None:
        self._compute.soft_delete_instance(context, instance, reservations)

    def _run(self, context: RequestContext, instance: Instance, order: Order, **changes: Any) -> None:
        if instance.disable_terminate:
            LOG.info("Instance %s must not be terminated (disable_terminate)", instance.uuid)
            return
        reservations: list[str] | None = None
        try:
            mappings = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
            already_going = self.is_going(instance)
            instance.update(changes)
            self._steps.save(instance)
            if not already_going:
                reservations = self._quotas.reserve_release(context, instance)
            if not instance.host and self._forget(context, instance, reservations):
                return
            if self._is_up(context, instance.host):
                self._confirm_first(context, instance)
                self._steps.record(context, instance, actions.DELETE)
                order(context, instance, mappings, reservations)
            else:
                self.delete_here(context, instance, mappings)
                self._quotas.commit(context, reservations, instance.project_id)
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone already", instance.uuid)
            self._quotas.rollback(context, reservations, instance.project_id)
        except Exception:  # the quota must not stay reserved
            self._quotas.rollback(context, reservations, instance.project_id)
            raise

    def _forget(self, context: RequestContext, instance: Instance, reservations: list[str] | None) -> bool:
        """Remove an instance that no host has. False, with the row read again, when one has it by now."""
        try:
            self._announce(context, instance, "delete.start")
            self._services.db.instance_destroy(context.elevated(), instance.uuid, constraint={"host": None})
        except exception.ConstraintNotMet:
            instance.refresh()
            return False
        if self._services.cells_notifier is not None:
            self._services.cells_notifier.outbox_ready(context)
        self._quotas.commit(context, reservations, instance.project_id)
        self._announce(context, instance, "delete.end")
        return True

    def _is_up(self, context: RequestContext, host: str) -> bool:
        try:
            return self._servicegroup.service_is_up(Service.get_by_compute_host(context.elevated(), host))
        except exception.ComputeHostNotFound:
            return False

    def _confirm_first(self, context: RequestContext, instance: Instance) -> None:
        """Give up the way back of a resized instance, whose old host would keep its disks for ever."""
        if instance.vm_state != vm_states.RESIZED:
            return
        try:
            migration = Migration.get_by_instance_and_status(context.elevated(), instance.uuid, "finished")
        except exception.MigrationNotFoundByStatus:
            return
        self._steps.record(context, instance, actions.CONFIRM_RESIZE)
        self._compute.confirm_resize(context, instance, migration, migration.source_compute,
                                     self._quotas.reserve_resize_release(context, instance), cast=False)
        instance.refresh()

    def delete_here(self, context: RequestContext, instance: Instance, mappings: BlockDeviceMappingList) -> None:
        """Remove what belongs to the instance without its host, whose guest is reaped when it comes back."""
        LOG.warning("The host of instance %s is down; it is deleted from the database", instance.uuid)
        self._steps.record(context, instance, actions.DELETE)
        self._announce(context, instance, "delete.start")
        elevated = context.elevated()
        self._services.network_api.deallocate_for_instance(elevated, instance)
        self._release_volumes(elevated, instance, mappings)
        instance.update({"vm_state": vm_states.DELETED, "task_state": None,
                         "terminated_at": self._services.clock.utcnow()})
        self._steps.save(instance)
        system_metadata = dict(instance.system_metadata)
        instance.destroy()
        self._announce(context, instance, "delete.end", system_metadata)

    def _release_volumes(self, context: RequestContext, instance: Instance, mappings: BlockDeviceMappingList) -> None:
        volumes, connector = self._services.volume_api, {"ip": "127.0.0.1", "initiator": "iqn.fake"}
        for mapping in mappings:
            try:
                if mapping.get("volume_id"):
                    volume = volumes.get(context, mapping.volume_id)
                    volumes.terminate_connection(context, volume, connector)
                    volumes.detach(context, volume)
                    if mapping.delete_on_termination:
                        volumes.delete(context, mapping.volume_id)
            except exception.NovaException as error:
                LOG.warning("Volume %s of instance %s was not released: %s", mapping.volume_id, instance.uuid, error)
            mapping.destroy()

    def _announce(self, context: RequestContext, instance: Instance, event: str,
                  system_metadata: dict[str, str] | None = None) -> None:
        compute_utils.notify_about_instance_usage(context, instance, event, system_metadata=system_metadata,
                                                  host=self._services.host)
