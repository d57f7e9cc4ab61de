"""Running, stopped, paused, suspended, rebooting: what the compute API does for each."""

from typing import Any

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import Instance, task_states, vm_states
from nova_lite.objects import instance_actions as actions

_SOFT_TASKS = (None, task_states.REBOOTING, task_states.REBOOT_PENDING, task_states.REBOOT_STARTED)
_HARD_TASKS = (*_SOFT_TASKS, task_states.PAUSING, task_states.UNPAUSING, task_states.SUSPENDING,
               task_states.RESUMING, task_states.POWERING_ON, task_states.POWERING_OFF)
_NOT_FROM = {
    "SOFT": (task_states.REBOOTING, task_states.REBOOT_PENDING, task_states.REBOOT_STARTED,
             task_states.REBOOTING_HARD, task_states.REBOOT_PENDING_HARD, task_states.REBOOT_STARTED_HARD),
    "HARD": (task_states.REBOOTING_HARD, task_states.REBOOT_PENDING_HARD, task_states.REBOOT_STARTED_HARD),
}
REBOOT_VM_STATES = (vm_states.ACTIVE, vm_states.STOPPED, vm_states.PAUSED, vm_states.SUSPENDED)


class Power:
    """Sets the task state, records the action, sends the order."""

    def __init__(self, steps: Any, compute: Any) -> None:
        self._steps = steps
        self._compute = compute

    def simple(self, context: RequestContext, instance: Instance, task_state: str, action: str, method: str) -> None:
        """Send an order that needs nothing but the instance."""
        with self._steps.begun(context, instance, action, task_state=task_state):
            getattr(self._compute, method)(context, instance)

    def stop(self, context: RequestContext, instance: Instance, do_cast: bool, clean_shutdown: bool) -> Any:
        with self._steps.begun(context, instance, actions.STOP, task_state=task_states.POWERING_OFF, progress=0):
            return self._compute.stop_instance(context, instance, do_cast, clean_shutdown)

    def reboot(self, context: RequestContext, instance: Instance, reboot_type: str) -> None:
        kind = str(reboot_type).upper()
        if kind not in _NOT_FROM:
            raise exception.Invalid(f"reboot_type must be SOFT or HARD, not {reboot_type!r}")
        if instance.task_state in _NOT_FROM[kind]:
            raise exception.InstanceInvalidState(attr="task_state", instance_uuid=instance.uuid,
                                                 state=instance.task_state, method="reboot")
        allowed = _HARD_TASKS if kind == "HARD" else _SOFT_TASKS
        if instance.task_state not in allowed:
            raise exception.InstanceInvalidState(attr="task_state", instance_uuid=instance.uuid,
                                                 state=instance.task_state, method="reboot")
        task_state = task_states.REBOOTING_HARD if kind == "HARD" else task_states.REBOOTING
        with self._steps.begun(context, instance, actions.REBOOT, expected=allowed, task_state=task_state):
            self._compute.reboot_instance(context, instance, None, kind)
