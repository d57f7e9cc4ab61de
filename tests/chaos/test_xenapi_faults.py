"""Every XenAPI call of what the driver does meets trouble once: an error, a lost reply, a reply past the deadline, a
repository without room, a restart of the toolstack, a power cut.

The act fails with an error of ours or of XenServer, or gets over it; then it can be done again, and when the instance
is removed the host is as empty as before. By default a few calls of each act are tried, others every day;
NOVA_LITE_CHAOS_FAULTS=all tries every one with every trouble, NOVA_LITE_CHAOS_FAULTS=7 those of day 7.
"""

import contextlib
import datetime
import os
import random

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.xensim import Simulator
from tests.chaos.xen.faults import ACTS, HurriedBench, calls_of, left
from tests.chaos.xen.troubles import TROUBLES

PLACES_A_DAY = 3
WHICH = os.environ.get("NOVA_LITE_CHAOS_FAULTS") or str(datetime.date.today().toordinal())
# All troubles at a time, or one after the other: the latter can be chosen from.
KINDS = [[kind] for kind in TROUBLES] if WHICH == "all" else [list(TROUBLES)]
# What these leave when they fail is taken up where they are done again.
CARRIED_ON = ("destroy", "detach", "unrescue", "snapshot")
PROPER = (exception.NovaException, XenAPI.Failure, RuntimeError)

pytestmark = pytest.mark.timeout(3600 if WHICH == "all" else 300)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    simulator = Simulator(state_dir=str(tmp_path_factory.mktemp("faults")), name="faults")
    simulator.start()
    made = HurriedBench(simulator)
    made.spawn_warm()
    yield made
    made.close()
    simulator.stop()


def places(name, kinds, calls):
    """Return (method, which call of it, trouble) of what to try."""
    every = [(method, nth, kind) for method, nth in calls for kind in kinds if TROUBLES[kind].suits(method)]
    if WHICH == "all":
        return every
    print(f"NOVA_LITE_CHAOS_FAULTS={WHICH}")
    return random.Random(f"{WHICH} {name}").sample(every, PLACES_A_DAY)


@contextlib.contextmanager
def in_a_hurry(bench, deadline_s):
    """Let the driver wait no longer for an answer."""
    session = bench.vmops._session
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
        with trouble.befalling(bench.simulator, method, nth), in_a_hurry(bench, trouble.deadline_s):
            act.run()
    except PROPER as error:
        return error
    return None


def suffer(bench, name, trouble, method, nth):
    """Return what is wrong after one trouble, '' when nothing is."""
    before = left(bench)
    act = ACTS[name](bench)
    ready = left(bench)
    raised = meet(bench, act, trouble, method, nth)
    try:
        if not trouble.is_undone:
            bench.vmops.leftovers.clear_up()
        elif raised is not None and name not in CARRIED_ON and left(bench) != ready:
            return f"not undone after {raised!r}: {left(bench)} instead of {ready}"
        if raised is not None and not trouble.is_undone:
            act.end()
            if left(bench) != before:
                return f"left after {raised!r} and the removal: {left(bench)} instead of {before}"
            act = ACTS[name](bench)
        if raised is not None:
            act.run()
        act.end()
    except PROPER as error:
        return f"after {raised!r} it cannot be done again: {error!r}"
    after = left(bench)
    return f"left after {raised!r}: {after} instead of {before}" if after != before else ""


@pytest.mark.parametrize("kinds", KINDS, ids=",".join)
@pytest.mark.parametrize("name", ACTS)
def test_a_call_that_meets_trouble_undoes_the_act_and_it_can_be_done_again(bench, name, kinds):
    wrong = []
    for method, nth, kind in places(name, kinds, calls_of(bench, name)):
        problem = suffer(bench, name, TROUBLES[kind], method, nth)
        if problem:
            wrong.append(f"{kind}, {method} number {nth}: {problem}")
    assert not wrong, "\n".join(wrong)
