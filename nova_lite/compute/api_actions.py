"""What was done to an instance, for those who may know."""

from typing import Any

from nova_lite.context import RequestContext, Services
from nova_lite.objects import InstanceAction, InstanceActionEventList, InstanceActionList


class InstanceActionAPI:
    """Actions and their events, of instances of this cell."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def actions_get(self, context: RequestContext, instance: Any) -> InstanceActionList:
        """Return the actions, latest first."""
        return InstanceActionList.get_by_instance_uuid(context, instance["uuid"])

    def action_get_by_request_id(self, context: RequestContext, instance: Any,
                                 request_id: str) -> InstanceAction | None:
        """Return the action of a request, None without one."""
        return InstanceAction.get_by_request_id(context, instance["uuid"], request_id)

    def action_events_get(self, context: RequestContext, instance: Any, action_id: int) -> InstanceActionEventList:
        """Return the steps of an action, latest first."""
        return InstanceActionEventList.get_by_action(context, action_id)
