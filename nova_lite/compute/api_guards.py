"""What is checked before an instance operation does anything: policy, lock, host, states, in this order."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications
from nova_lite.compute import api_checks as checks
from nova_lite.context import RequestContext
from nova_lite.objects import Instance

LOG = logging.getLogger(__name__)

ANY: None = None  # a state that is not looked at
IDLE = (None,)  # no task in progress

Method = Callable[..., Any]


def guarded(*, vm_state: Collection[str] | None = ANY, task_state: Collection[str | None] | None = ANY,
            lock: bool = False, host: bool = False, policy: bool = True,
            placed: bool = True) -> Callable[[Method], Method]:
    """Declare an API method `(self, context, instance, ...)` and what must hold before it runs.

    vm_state, task_state   the states it may start in; ANY: not looked at
    lock                   refused on a locked instance, unless an administrator asks
    host                   refused while the instance is on no host
    policy                 rule `compute:<method>` must allow it
    placed                 in an API cell: refused while the instance's cell is not known

    `instance` may be an Instance or a dict. Keywords that the method does not know come from newer neighbours: they
    are dropped when they say nothing, else refused; so are texts that no name or id can have. Raises
    PolicyNotAuthorized, InstanceIsLocked, InstanceNotReady, InstanceInvalidState, Invalid.
    """

    def decorate(method: Method) -> Method:
        parameters = list(inspect.signature(method).parameters)
        known, positional = set(parameters), parameters[3:]

        @functools.wraps(method)
        def checked(self: Any, context: RequestContext, instance: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs = _understood(method.__name__, known, kwargs)
            instance = as_instance(context, instance)
            if policy:
                self.authorize(context, method.__name__, instance)
            if lock:
                check_lock(context, instance)
            if placed:
                self.check_placed(instance)
            if host and not instance.host:
                raise exception.InstanceNotReady(instance_id=instance.uuid)
            check_state(instance, method.__name__, "vm_state", vm_state)
            check_state(instance, method.__name__, "task_state", task_state)
            checks.check_arguments({**dict(zip(positional, args, strict=False)), **kwargs})
            return method(self, context, instance, *args, **kwargs)

        return tells_faults(checked)

    return decorate


def tells_faults(method: Method) -> Method:
    """Announce a failure that is nobody's mistake as `api.fault`, where notify_api_faults asks for it; raise it on."""

    @functools.wraps(method)
    def told(self: Any, context: RequestContext, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, context, *args, **kwargs)
        except Exception as error:
            status = getattr(error, "code", 500)
            if status >= 500:
                notifications.send_api_fault(context, method.__name__, status, error)
            raise

    return told


def as_instance(context: RequestContext, instance: Any) -> Instance:
    """Return the object of an instance given as object or dict; a dict only says which one. Raises InstanceNotFound."""
    if not isinstance(instance, Instance):
        return Instance.get_by_uuid(context, instance["uuid"])
    if instance._context is None or not instance._context.is_bound:
        instance._context = context
    return instance


def check_lock(context: RequestContext, instance: Instance) -> None:
    """Raise InstanceIsLocked when the instance is locked for this user."""
    if instance.locked and not context.is_admin:
        raise exception.InstanceIsLocked(instance_uuid=instance.uuid)


def check_state(instance: Instance, method: str, attr: str, allowed: Collection[str | None] | None) -> None:
    """Raise InstanceInvalidState unless the state is one of `allowed` (None: any)."""
    if allowed is not None and getattr(instance, attr) not in allowed:
        raise exception.InstanceInvalidState(attr=attr, instance_uuid=instance.uuid, state=getattr(instance, attr),
                                             method=method)


def _understood(method: str, known: set[str], kwargs: dict[str, Any]) -> dict[str, Any]:
    if known.issuperset(kwargs) or "extra" in known:
        return kwargs
    unknown = {name: value for name, value in kwargs.items() if name not in known}
    asked_for = sorted(name for name, value in unknown.items() if value)
    if asked_for:
        raise exception.Invalid(f"{method} does not support {', '.join(asked_for)}")
    LOG.debug("Dropping %s of %s, which say nothing", ", ".join(sorted(unknown)), method)
    return {name: value for name, value in kwargs.items() if name in known}
