"""Every XenAPI call of what the driver does fails once: by an error, or because its reply is lost after its effect.

The act fails with an error of ours or of XenServer, or gets over it; then it can be done again, and when the instance
is removed the host is as empty as before. By default a few calls of each act are tried, others every day;
NOVA_LITE_CHAOS_FAULTS=all tries every one, NOVA_LITE_CHAOS_FAULTS=7 those of day 7.
"""

import datetime
import os
import random

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.xensim import Simulator
from tests.chaos.xen.faults import ACTS, HurriedBench, calls_of, left

PLACES_A_DAY = 3
WHICH = os.environ.get("NOVA_LITE_CHAOS_FAULTS") or str(datetime.date.today().toordinal())
KINDS = ("error", "lost reply")
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


def places(name, calls):
    every = [(call, kind) for call in calls for kind in KINDS]
    if WHICH == "all":
        return every
    print(f"NOVA_LITE_CHAOS_FAULTS={WHICH}")
    return random.Random(f"{WHICH} {name}").sample(every, PLACES_A_DAY)


def plant(control, method, nth, kind):
    if kind == "lost reply":
        control.drop_reply(method, nth=nth)
    else:
        control.fail(method, nth=nth, error=["INTERNAL_ERROR", "planted"])


def suffer(bench, name, method, nth, kind):
    """Return what is wrong after one fault, '' when nothing is."""
    before = left(bench)
    act = ACTS[name](bench)
    ready = left(bench)
    plant(bench.simulator.control, method, nth, kind)
    raised = None
    try:
        act.run()
    except PROPER as error:
        raised = error
    finally:
        bench.simulator.control.clear()
    try:
        if raised is not None:
            if name not in CARRIED_ON and left(bench) != ready:
                return f"not undone after {raised!r}: {left(bench)} instead of {ready}"
            act.run()
        act.end()
    except PROPER as error:
        return f"after {raised!r} it cannot be done again: {error!r}"
    after = left(bench)
    return f"left after {raised!r}: {after} instead of {before}" if after != before else ""


@pytest.mark.parametrize("name", ACTS)
def test_a_call_that_fails_undoes_the_act_and_it_can_be_done_again(bench, name):
    wrong = []
    for (method, nth), kind in places(name, calls_of(bench, name)):
        problem = suffer(bench, name, method, nth, kind)
        if problem:
            wrong.append(f"{kind}, {method} number {nth}: {problem}")
    assert not wrong, "\n".join(wrong)
