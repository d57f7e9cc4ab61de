"""Every XenAPI call of what the driver does meets every trouble once: errors, lost and late replies, power cuts.

The act fails with an error of ours or of XenServer, or gets over it; then it can be done again, and when the instance
is removed the host is as empty as before. By default a few calls of each act are tried, others every day;
NOVA_LITE_CHAOS_FAULTS=all tries every one with every trouble, NOVA_LITE_CHAOS_FAULTS=7 those of day 7.
"""

import datetime
import os
import random

import pytest

from nova_lite.xensim import Simulator
from tests.chaos.xen.faults import ACTS, HurriedBench
from tests.chaos.xen.ordeal import calls_of, suffer
from tests.chaos.xen.troubles import TROUBLES

PLACES_A_DAY = 3
WHICH = os.environ.get("NOVA_LITE_CHAOS_FAULTS") or str(datetime.date.today().toordinal())
# All troubles at a time, or one after the other: the latter can be chosen from.
KINDS = [[kind] for kind in TROUBLES] if WHICH == "all" else [list(TROUBLES)]

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


@pytest.mark.parametrize("kinds", KINDS, ids=",".join)
@pytest.mark.parametrize("name", ACTS)
def test_a_call_that_meets_trouble_undoes_the_act_and_it_can_be_done_again(bench, name, kinds):
    wrong = []
    for method, nth, kind in places(name, kinds, calls_of(bench, ACTS[name])):
        problem = suffer(bench, ACTS[name], TROUBLES[kind], method, nth)
        tried = f"{kind}, {method} number {nth}"
        print(f"{name}: {tried}: {problem or 'fine'}", flush=True)  # seen as it comes with -s
        if problem:
            wrong.append(f"{tried}: {problem}")
    assert not wrong, "\n".join(wrong)
