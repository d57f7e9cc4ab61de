"""The steps most instance operations share: state, action record, and going back when nothing could be sent."""

import contextlib
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import Instance, InstanceAction, instance_actions

LOG = logging.getLogger(__name__)

_PROBE_S = 2  # how long a broker that is there may take to accept a message
# Nobody has got the order: no broker, no queue, or nobody who would understand it.
NOT_SENT = (exception.RpcUnavailable, exception.RpcVersionCapError)


class Steps:
    """State and action record of an operation, in the cell where the instance lives."""

    def save(self, instance: Instance, expected: Any = None) -> None:
        """Write what changed if the task state is one of `expected` (None: any). Raises UnexpectedTaskStateError."""
        instance.save(expected_task_state=list(expected) if expected is not None else None)

    def record(self, context: RequestContext, instance: Instance, action: str) -> None:
        """Record that the user began an action."""
        InstanceAction.action_start(context, instance.uuid, action)

    @contextlib.contextmanager
    def begun(self, context: RequestContext, instance: Instance, action: str | None = None, *,
              expected: Any = (None,), **changes: Any) -> Iterator[None]:
        """Change the instance and record the action, for a block that sends the order.

        When nobody gets the order, the instance goes back to where it was. An order that is waited for and not
        answered is nobody's either while the broker is away.
        """
        before = {name: getattr(instance, name) for name in changes}
        instance.update(changes)
        try:
            self.save(instance, expected)
        except exception.UnexpectedTaskStateError:
            _put_back(instance, before)
            raise
        if action is not None:
            self.record(context, instance, action)
        try:
            yield
        except NOT_SENT:
            self._take_back(instance, before, changes)
            raise
        except exception.RpcTimeout:
            if _is_broker_away(context):
                self._take_back(instance, before, changes)
            raise

    def _take_back(self, instance: Instance, before: dict[str, Any], changes: dict[str, Any]) -> None:
        LOG.warning("The order for instance %s could not be sent; it goes back to task state %s", instance.uuid,
                    before.get("task_state"))
        try:
            instance.update(before)
            self.save(instance, [changes["task_state"]] if "task_state" in changes else None)
        except (exception.InstanceNotFound, exception.UnexpectedTaskStateError) as error:
            LOG.info("Instance %s has moved on: %s", instance.uuid, error)


class ApiCellSteps(Steps):
    """The same in an API cell: the action's own message is the only one that goes down, and is recorded there."""

    def save(self, instance: Instance, expected: Any = None) -> None:
        with instance.skip_cells_sync():
            super().save(instance, expected)

    def record(self, context: RequestContext, instance: Instance, action: str) -> None:
        if action == instance_actions.CREATE:
            super().record(context, instance, action)


def _is_broker_away(context: RequestContext) -> bool:
    try:
        context.services.rpc.check(_PROBE_S)
    except (exception.RpcUnavailable, exception.RpcTimeout):
        return True
    return False


def _put_back(instance: Instance, values: dict[str, Any]) -> None:
    instance.update(values)
    instance.obj_reset_changes(list(values))
