"""Sending a request that failed here back to the scheduler."""

import traceback
from typing import Any

from oslo_log import log as logging

from nova_lite import objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)


class Rescheduler:
    """Gives a failed request to another host, if it came with the means to."""

    def __init__(self, here: ComputeHost, scheduler_rpcapi: Any) -> None:
        self._here = here
        self._scheduler = scheduler_rpcapi

    def send(self, context: RequestContext, instance: objects.Instance, method: str, arguments: dict[str, Any],
             task_state: str, error: BaseException) -> bool:
        """Cast `method` to the scheduler and return whether it went; what stopped it is logged.

        A request goes only with its request_spec and with `retry` in its filter properties, which gets the failure.
        """
        try:
            return self._send(context, instance, method, arguments, task_state, error)
        except Exception:  # not sent, and the caller raises the failure that matters
            LOG.exception("Could not send instance %s back to the scheduler", instance.uuid)
            return False

    def _send(self, context: RequestContext, instance: objects.Instance, method: str, arguments: dict[str, Any],
              task_state: str, error: BaseException) -> bool:
        request_spec = arguments["request_spec"]
        retry = (arguments["filter_properties"] or {}).get("retry")
        if not retry or not request_spec:
            LOG.debug("Instance %s cannot be tried elsewhere: the request allows no retry", instance.uuid)
            return False
        request_spec["instance_uuids"] = [instance.uuid]
        self._here.update(context, instance, task_state=task_state, expected_task_state=instance.task_state)
        retry["exc"] = traceback.format_exception(error)
        getattr(self._scheduler, method)(context, **arguments)
        return True
