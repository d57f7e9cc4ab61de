"""Acts that meet trouble at one of their calls, and what they are then held to."""

import contextlib

import XenAPI

from nova_lite import exception
from tests.chaos.xen.faults import left
from tests.fixtures.xen_bench import is_background

PROPER = (exception.NovaException, XenAPI.Failure, RuntimeError)
# Calls of the machinery around the operations: sessions, the event stream, and what ends tasks.
AROUND = ("session.", "event.", "task.destroy", "task.cancel")


def numbered(calls):
    """Return [(method, which call of that method)] of what a host received, but for the calls around it."""
    seen, found = {}, []
    for call in calls:
        if is_background(call) or call.startswith(AROUND):
            continue
        method = call.removeprefix("Async.")
        seen[method] = seen.get(method, 0) + 1
        found.append((method, seen[method]))
    return found


def calls_of(bench, make_act):
    """Return the calls that an act makes, numbered."""
    act = make_act(bench)
    bench.simulator.control.reset_calls()
    act.run()
    calls = numbered(bench.simulator.control.calls())
    act.end()
    return calls


@contextlib.contextmanager
def in_a_hurry(session, deadline_s):
    """Let a session wait no longer for an answer, as it does where the deadline is None."""
    usual = session.call_timeout_s, session.task_timeout_s
    if deadline_s is not None:
        session.call_timeout_s = session.task_timeout_s = deadline_s
    try:
        yield
    finally:
        session.call_timeout_s, session.task_timeout_s = usual


def meet(bench, act, trouble, method, nth):
    """Do the act, which meets a trouble; return the error it ends with, None for success."""
    bench.simulator.control.reset_calls()
    try:
        with trouble.befalling(bench.simulator, method, nth), in_a_hurry(bench.vmops._session, trouble.deadline_s):
            act.run()
    except PROPER as error:
        return error
    return None


def suffer(bench, make_act, trouble, method, nth):
    """Return what is wrong after one trouble, '' when nothing is."""
    before = left(bench)
    act = make_act(bench)
    ready = left(bench)
    raised = meet(bench, act, trouble, method, nth)
    try:
        if not trouble.is_undone:
            bench.vmops.leftovers.clear_up()
        elif raised is not None and not act.is_carried_on and left(bench) != ready:
            return f"not undone after {raised!r}: {left(bench)} instead of {ready}"
        if raised is not None and not trouble.is_undone:
            act.end()
            if left(bench) != before:
                return f"left after {raised!r} and the removal: {left(bench)} instead of {before}"
            act = make_act(bench)
        if raised is not None:
            act.run()
        act.end()
    except PROPER as error:
        return f"after {raised!r} it cannot be done again: {error!r}"
    after = left(bench)
    return f"left after {raised!r}: {after} instead of {before}" if after != before else ""
