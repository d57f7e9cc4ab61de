"""What every instance action does beside its own work, written once.

`instance_action` declares how an action differs from the rule: one action at a time on an instance, on the row as it
is now, recorded as an event, announced, guarded by the task state it expects, with fault and conditional revert when
it fails. `reverts_task_state`, `wrap_instance_event`, `wrap_instance_fault` and `wrap_exception` each do one of these
things and serve alone too; they find what they need on the decorated method's object (`conductor_api`, `services`).
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.instance_locks import Hold

LOG = logging.getLogger(__name__)

Method = Callable[..., Any]


def arguments_by_name(function: Method, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by parameter name, seen through nested wrappers."""
    return dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)


def wrap_exception(function: Method) -> Method:
    """Publish an ERROR notification named after the method on any exception, then raise it on."""

    @functools.wraps(function)
    def reported(self: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(self, context, *args, **kwargs)
        except Exception as error:  # whatever went wrong is what the notification is about
            arguments = arguments_by_name(function, self, context, *args, **kwargs)
            del arguments["self"], arguments["context"]
            payload = notifications.redact({"exception": error, "args": arguments})
            notifications.send(context, compute_utils.publisher_id(self.host), function.__name__, payload,
                               priority="ERROR")
            raise

    return reported


def wrap_instance_event(function: Method) -> Method:
    """Record the call as event `compute_<method>` of the instance's action. The result is dropped, as ever."""

    @functools.wraps(function)
    def recorded(self: Any, context: Any, *args: Any, **kwargs: Any) -> None:
        uuid = arguments_by_name(function, self, context, *args, **kwargs)["instance"]["uuid"]
        with compute_utils.EventReporter(context, self.conductor_api, f"compute_{function.__name__}", uuid):
            function(self, context, *args, **kwargs)

    return recorded


def wrap_instance_fault(function: Method) -> Method:
    """Record a fault of the instance on any exception but InstanceNotFound, then raise it on."""

    @functools.wraps(function)
    def faulted(self: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(self, context, *args, **kwargs)
        except exception.InstanceNotFound:
            raise
        except Exception as error:  # every failure of the action is the instance's fault
            instance = arguments_by_name(function, self, context, *args, **kwargs)["instance"]
            record_fault(self.conductor_api, context, instance, error)
            raise

    return faulted


def record_fault(conductor: Any, context: Any, instance: Any, error: BaseException) -> None:
    """Record `error` as a fault; a failure to record it is logged, so that `error` stays first."""
    exc_info = (type(error), error, error.__traceback__)
    try:
        compute_utils.add_instance_fault_from_exc(context, conductor, instance, error, exc_info)
    except Exception:
        LOG.exception("Could not record the fault of instance %s", instance["uuid"])


def reverts_task_state(function: Method) -> Method:
    """Clear the task state when the method fails, unless another action has taken the instance over meanwhile.

    The action's own task state is the one that its `instance` argument carries when it fails.
    """

    @functools.wraps(function)
    def reverting(self: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(self, context, *args, **kwargs)
        except exception.UnexpectedTaskStateError as error:
            LOG.info("%s was probably pre-empted: %s", function.__name__, error)
            raise
        except Exception:  # the instance must not stay busy, whatever failed
            instance = arguments_by_name(function, self, context, *args, **kwargs)["instance"]
            _revert_task_state(self.conductor_api, context, instance)
            raise

    return reverting


def _revert_task_state(conductor: Any, context: Any, instance: Any) -> None:
    held = instance.get("task_state")
    try:
        conductor.instance_update(context, instance["uuid"], task_state=None, expected_task_state=[held, None])
    except (exception.InstanceNotFound, exception.UnexpectedTaskStateError) as error:
        LOG.info("Task state of instance %s is not ours to revert: %s", instance["uuid"], error)
    except Exception:  # the failure of the action itself is what the caller must see
        LOG.exception("Could not revert the task state of instance %s", instance["uuid"])


@dataclass(frozen=True)
class _Action:
    """How one instance action differs from the rule; see `instance_action`."""

    expects: tuple[str | None, ...] | None
    becomes: str | None
    notify: str | None
    elevated: bool
    hold: Hold
    missing_ok: bool

    def under_lock(self, function: Method) -> Method:
        """Hold the instance's lock and hand on the row as it is then; a vanished instance needs no action."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(manager: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
            call = signature.bind(manager, context, *args, **kwargs)
            call.arguments["context"] = context.elevated() if self.elevated else context
            uuid = call.arguments["instance"]["uuid"]
            with manager.compute_host.locks.hold(uuid, self.hold):
                try:
                    call.arguments["instance"] = manager.compute_host.load(context, uuid)
                except exception.InstanceNotFound:
                    if not self.missing_ok:
                        raise
                    LOG.info("Instance %s is gone; nothing to do for %s", uuid, function.__name__)
                    return None
                return function(*call.args, **call.kwargs)

        return locked

    def in_state(self, function: Method) -> Method:
        """Check the expected task state, announce start and end, and move the instance to its new state."""
        signature = inspect.signature(function)

        @functools.wraps(function)
        def acting(manager: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
            instance = signature.bind(manager, context, *args, **kwargs).arguments["instance"]
            if self._is_repeated(instance):
                LOG.info("Instance %s is %s and waits for nothing; dropping a repeated %s",
                         instance.uuid, instance.vm_state, function.__name__)
                return None
            self._check_expected(instance)
            here = manager.compute_host
            with here.announced(context, instance, self.notify):
                result = function(manager, context, *args, **kwargs)
                if self.becomes is not None:
                    self._settle(here, context, instance)
            return result

        return acting

    def _is_repeated(self, instance: Any) -> bool:
        """Tell whether nobody waits for the action any more: asking for it sets a task, and its end clears it."""
        waits = self.expects is None or None in self.expects or instance.task_state is not None
        return self.missing_ok and not waits

    def _check_expected(self, instance: Any) -> None:
        if self.expects is not None and instance.task_state not in self.expects:
            raise exception.UnexpectedTaskStateError(expected=self.expects, actual=instance.task_state)

    def _settle(self, here: Any, context: Any, instance: Any) -> None:
        changes = {"vm_state": self.becomes, "task_state": None, "power_state": here.power_state(instance)}
        if self.expects is not None:
            changes["expected_task_state"] = self.expects
        here.update(context, instance, **changes)


def instance_action(
    *,
    expects: Iterable[str | None] | None = None,
    becomes: str | None = None,
    notify: str | None = None,
    event: bool = True,
    fault: bool = True,
    revert: bool = True,
    elevated: bool = False,
    hold: Hold = Hold.ORDINARY,
    missing_ok: bool = True,
) -> Callable[[Method], Method]:
    """Declare a manager method `(self, context, ..., instance, ...)` as an action on one instance.

    The method gets the row as it is under the instance's lock, in place of the caller's copy.

    expects      task states in which it may start and, with `becomes`, end (default: any); a message that finds the
                 instance idle came late or again, and is dropped
    becomes      vm_state set afterwards, with the power state of the hypervisor and no task
    notify       usage notifications `<notify>.start`, `.end`, and `.error` on failure
    event        record `compute_<method>` under the request's action; the method's result is dropped
    fault        record a fault on failure
    revert       clear the task state on failure when it is still this action's
    elevated     run with an administrator's context
    hold         how it shares the instance with a delete
    missing_ok   an instance that is gone or idle needs no action (else InstanceNotFound, UnexpectedTaskStateError)
    """
    action = _Action(None if expects is None else tuple(expects), becomes, notify, elevated, hold, missing_ok)

    def decorate(function: Method) -> Method:
        method = action.in_state(function)
        if fault:
            method = wrap_instance_fault(method)
        if event:
            method = wrap_instance_event(method)
        if revert:
            method = reverts_task_state(method)
        return wrap_exception(action.under_lock(method))

    return decorate
