"""Waiting until what was asked for has happened, showing how it goes."""

import time
from collections.abc import Callable
from typing import Any, TextIO

from nova_lite import exception
from nova_lite.client.errors import CommandError
from nova_lite.objects import vm_states

POLL_S = 0.1


class Waiter:
    """Follows one server until an operation on it has ended.

    `read()` returns the instance as the connected cell knows it, or raises InstanceNotFound. On a terminal one line is
    rewritten; elsewhere each change of state is a line.
    """

    def __init__(self, read: Callable[[], Any], stream: TextIO, timeout_s: float):
        self._read = read
        self._stream = stream
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._told = ""

    def until_state(self, vm_state: str) -> Any:
        """Return the instance once it is idle in `vm_state`. Raises CommandError when it ends up elsewhere."""
        while True:
            instance = self._poll()
            if instance is None:
                raise CommandError("the server is gone")
            if instance.task_state is None and instance.vm_state != vm_states.BUILDING:
                break
            self._pause(f"{vm_state} ({instance.vm_state}, {instance.task_state})")
        self._end_line()
        if instance.vm_state != vm_state:
            raise CommandError(f"expected to become {vm_state}, is {instance.vm_state}{fault_text(instance)}")
        return instance

    def until_left(self, vm_state: str) -> Any:
        """Return the instance once it is idle in another state. Raises CommandError when it is left in error."""
        while (instance := self._poll()) is not None and (
                instance.vm_state == vm_state or instance.task_state is not None):
            self._pause(f"something else than {vm_state} ({instance.vm_state}, {instance.task_state})")
        self._end_line()
        if instance is None:
            raise CommandError("the server is gone")
        if instance.vm_state == vm_states.ERROR:
            raise CommandError(f"it ended in error{fault_text(instance)}")
        return instance

    def until_gone(self) -> None:
        """Return once the server is deleted, if only softly. Raises CommandError when it is left in error."""
        while (instance := self._poll()) is not None:
            if instance.task_state is None and instance.vm_state == vm_states.SOFT_DELETED:
                break
            if instance.task_state is None and instance.vm_state == vm_states.ERROR:
                raise CommandError(f"could not be deleted{fault_text(instance)}")
            self._pause(f"deletion ({instance.vm_state}, {instance.task_state})")
        self._end_line()

    def _poll(self) -> Any:
        try:
            instance = self._read()
        except exception.InstanceNotFound:
            return None
        self._tell(instance)
        return instance

    def _pause(self, goal: str) -> None:
        if time.monotonic() > self._deadline:
            self._end_line()
            raise CommandError(f"still waiting for {goal} after {self._timeout_s:g} s")
        time.sleep(POLL_S)

    def _tell(self, instance: Any) -> None:
        line = f"{instance.display_name}: {instance.vm_state}"
        if instance.task_state:
            line += f", {instance.task_state} {instance.progress or 0}%"
        if line == self._told:
            return
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
        else:
            self._stream.write(f"{line}\n")
        self._told = line

    def _end_line(self) -> None:
        if self._told and self._stream.isatty():
            self._stream.write("\n")


def fault_text(instance: Any) -> str:
    """Return ': message' of the instance's latest fault, or nothing."""
    fault = getattr(instance, "fault", None)
    message = getattr(fault, "message", None)
    return f": {message}" if message else ""
