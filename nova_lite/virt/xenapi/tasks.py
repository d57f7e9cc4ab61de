"""Tasks: what a host does beside its answers, waited for by its events, or by looks now and then."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import errors

POLL_S = 3.0
# How long a task that was cancelled may take to end.
CANCEL_S = 10.0
# The host is too old for event.from, or the user may not listen: tasks are polled.
NO_EVENTS = (*errors.NO_SUCH_CALL, "RBAC_PERMISSION_DENIED")
# The events since a token are not to be had any more: the stream begins anew.
STREAM_LOST = ("EVENTS_LOST", "EVENT_FROM_TOKEN_PARSE_FAILURE")


class TaskTimeout(exception.NovaException):
    """A XenAPI task did not end in time and was cancelled."""

    msg_fmt = "%(task)s did not end within %(timeout_s)s seconds and was cancelled."


class TaskLost(exception.NovaException):
    """The host forgot a XenAPI task (its toolstack began anew): what it was to do may be done or not."""

    msg_fmt = "%(task)s was lost with the toolstack that ran it; it may be done or not."


class Tasks:
    """The tasks of a session; none of them stays on the host."""

    def __init__(self, session, poll_interval_s: float):
        self._session = session
        self.poll_interval_s = poll_interval_s
        self._has_events = True

    @contextmanager
    def lent(self, label: str, description: str) -> Iterator[str]:
        """Lend a task of our own; destroyed at the end."""
        task_ref = self._session.call_xenapi("task.create", label, description)
        try:
            yield task_ref
        finally:
            self._destroy(task_ref)

    def run(self, method: str, args: tuple, timeout_s: float, progress: Callable[[float], None] | None,
            started: Callable[[str], None] | None) -> str:
        """Run `Class.method` as a task and wait for it; as XenAPISession.call_task."""
        task_ref = self._session.call_xenapi(f"Async.{method}", *args)
        try:
            if started is not None:
                started(task_ref)
            return self.wait(task_ref, timeout_s, method, progress)
        finally:
            self._destroy(task_ref)

    def wait(self, task_ref: str, timeout_s: float, label: str, progress: Callable[[float], None] | None) -> str:
        """Wait for a task; as XenAPISession.wait_for_task."""
        for task in self._looks_at(task_ref, label, self._session.clock.monotonic() + timeout_s):
            if progress is not None:
                progress(float(task.get("progress", 0.0)))
            if _has_ended(task):
                return _result(task)
        ended = self._cancelled(task_ref, label)
        if ended is not None and ended["status"].lower() == "success":
            return _result(ended)  # at the last moment
        raise TaskTimeout(task=label, timeout_s=timeout_s)

    def _looks_at(self, task_ref: str, label: str, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the task's record whenever it changed, until the deadline (monotonic). Raises TaskLost."""
        token = ""
        while (left_s := deadline - self._session.clock.monotonic()) > 0:
            if not self._has_events:
                yield self._look_at(task_ref, label)
                self._session.clock.sleep(self.poll_interval_s)
                continue
            # Short slices, so that more waiting callers than sessions take turns.
            slice_s = max(0.1, min(left_s, POLL_S))
            try:
                batch = self._session.call_long("event.from", [f"task/{task_ref}"], token, float(slice_s),
                                                timeout_s=slice_s + 30)
            except XenAPI.Failure as failure:
                self._has_events = not errors.is_code(failure, *NO_EVENTS)
                if self._has_events and not (token and errors.is_code(failure, *STREAM_LOST)):
                    raise
                token = ""
                continue
            if not token and not batch["events"]:
                raise TaskLost(task=label)
            token = batch["token"]
            for event in batch["events"]:
                if event["operation"] == "del":
                    raise TaskLost(task=label)
                yield event["snapshot"]

    def _look_at(self, task_ref: str, label: str) -> dict[str, Any]:
        record = self._session.get_rec("task", task_ref)
        if record is None:
            raise TaskLost(task=label)
        return record

    def _cancelled(self, task_ref: str, label: str) -> dict[str, Any] | None:
        """Cancel a task and return its record when it ended; None when it cannot be cancelled, or takes too long."""
        with suppress(XenAPI.Failure, HypervisorUnavailable, TaskLost):
            self._session.call_xenapi("task.cancel", task_ref)
            for task in self._looks_at(task_ref, label, self._session.clock.monotonic() + CANCEL_S):
                if _has_ended(task):
                    return task
        return None

    def _destroy(self, task_ref: str) -> None:
        with suppress(XenAPI.Failure, HypervisorUnavailable):
            self._session.call_xenapi("task.destroy", task_ref)


def _has_ended(task: dict[str, Any]) -> bool:
    return task["status"].lower() not in ("pending", "cancelling")


def _result(task: dict[str, Any]) -> str:
    if task["status"].lower() == "success":
        match = re.fullmatch(r"<value>(.*)</value>", task["result"], re.DOTALL)
        return match.group(1) if match else task["result"]
    raise XenAPI.Failure(list(task["error_info"]) or ["TASK_CANCELLED", task.get("uuid", "")])
