"""What becomes of instances that the scheduler could not serve."""

import sys
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications
from nova_lite.compute import utils as compute_utils
from nova_lite.context import NullCellsNotifier, RequestContext, Services
from nova_lite.objects import Instance, vm_states

LOG = logging.getLogger(__name__)


class FailureReport:
    """Sets states, records faults and notifies, or hands a failed build back to the parent cell."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def build_failed(self, context: RequestContext, error: Exception, request_spec: dict[str, Any],
                     instance_uuids: list[str], is_first_time: bool) -> None:
        """End the build of these instances.

        When no host here was found for a first build and none of them has run, the cells service decides: it has
        another cell try, or records the failure. Otherwise each becomes ERROR with a fault.
        """
        for uuid in instance_uuids:
            self._notify(context, "run_instance", vm_states.ERROR, error, request_spec, uuid)
        if is_first_time and isinstance(error, exception.NoValidHost) and self._given_back(
                context, instance_uuids, str(error)):
            return
        for uuid in instance_uuids:
            self._set_state(context, uuid, error, vm_state=vm_states.ERROR, task_state=None)

    def operation_failed(self, context: RequestContext, method: str, error: Exception, request_spec: dict[str, Any],
                         instance_uuid: str, *, expected_task_state: list | None = None, with_fault: bool = True,
                         **changes: Any) -> None:
        """Record why `method` failed and change the instance, which may have gone or moved on meanwhile."""
        self._set_state(context, instance_uuid, error, with_fault=with_fault,
                        expected_task_state=expected_task_state, **changes)
        self._notify(context, method, changes.get("vm_state"), error, request_spec, instance_uuid)

    def _given_back(self, context: RequestContext, instance_uuids: list[str], reason: str) -> bool:
        """Whether the cells layer took the failure over: to try another cell, or to record it as we would."""
        notifier = self._services.cells_notifier
        if notifier is None or isinstance(notifier, NullCellsNotifier):
            return False
        instances = [found for found in (self._find(context, uuid) for uuid in instance_uuids) if found]
        if not instances or any(instance.launched_at for instance in instances):
            return False
        try:
            notifier.build_failed(context, [instance.uuid for instance in instances], reason)
        except exception.NovaException as error:
            LOG.warning("Could not hand a failed build back to the cells service: %s", error)
            return False
        return True

    def _find(self, context: RequestContext, uuid: str) -> Instance | None:
        try:
            return Instance.get_by_uuid(context, uuid)
        except exception.InstanceNotFound:
            return None

    def _set_state(self, context: RequestContext, uuid: str, error: Exception, *, with_fault: bool = True,
                   expected_task_state: list | None = None, **changes: Any) -> None:
        try:
            instance = Instance.get_by_uuid(context, uuid)
            if with_fault:
                compute_utils.add_instance_fault_from_exc(context, self._services.db, instance, error, sys.exc_info())
            instance.update(changes)
            instance.save(expected_task_state=expected_task_state)
        except exception.InstanceNotFound:
            LOG.info("Instance %s was deleted; its failure is not recorded", uuid)
        except exception.UnexpectedTaskStateError as unexpected:
            LOG.info("Instance %s has moved on: %s", uuid, unexpected)

    def _notify(self, context: RequestContext, method: str, vm_state: str | None, error: Exception,
                request_spec: dict[str, Any], instance_uuid: str) -> None:
        payload = {"request_spec": request_spec, "instance_properties": request_spec.get("instance_properties", {}),
                   "instance_id": instance_uuid, "state": vm_state, "method": method, "reason": str(error)}
        notifications.send(context, f"scheduler.{self._services.host}", f"scheduler.{method}",
                           payload, priority="ERROR")
