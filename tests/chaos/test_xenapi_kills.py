"""kill -9 of nova-compute before and after every XenAPI call of what it does to instances.

After a restart each operation is done or undone, it can be done again, and when the instance is deleted the hosts are
as empty as before. By default one place of some operations is tried, others every day; NOVA_LITE_CHAOS_KILLS=all tries
every one of all (about ten minutes), NOVA_LITE_CHAOS_KILLS=7 those of day 7.
"""

import datetime
import os
import random

import pytest

from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.pair import Pair

OPERATIONS_A_DAY = 5
PLACES_A_DAY = 1
WHICH = os.environ.get("NOVA_LITE_CHAOS_KILLS") or str(datetime.date.today().toordinal())
TODAY = list(OPERATIONS) if WHICH == "all" else random.Random(WHICH).sample(list(OPERATIONS), OPERATIONS_A_DAY)

pytestmark = pytest.mark.timeout(3600 if WHICH == "all" else 300)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    made = Pair(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


def places(name, calls):
    """Return (number of the call, whether it is answered) of the kills to try."""
    every = [(nth, after) for nth in range(len(calls)) for after in (False, True)]
    if WHICH == "all":
        return every
    print(f"NOVA_LITE_CHAOS_KILLS={WHICH}")
    return random.Random(f"{WHICH} {name}").sample(every, PLACES_A_DAY)


def kill(pair, name, nth, after):
    """Return what is wrong after a kill and a restart, '' when nothing is."""
    died = pair.run(name, nth=nth, after=after)
    if "things" not in died:
        return died.get("problem", "nothing was prepared")
    told = pair.restart(name, died["things"])
    left = pair.left()
    if "problem" in told:
        pair.empty = left  # told once, not with every kill to come
        return told["problem"]
    if left != pair.empty:
        before, pair.empty = pair.empty, left
        return f"left on the hosts: {left} instead of {before}"
    return ""


@pytest.mark.parametrize("name", TODAY)
def test_an_operation_that_is_killed_is_done_or_undone_and_can_be_done_again(pair, name):
    whole = pair.run(name)
    assert "problem" not in whole, whole["problem"]
    assert "problem" not in (told := pair.restart(name, whole["things"])), told["problem"]
    assert pair.left() == pair.empty

    wrong = []
    for nth, after in places(name, whole["calls"]):
        problem = kill(pair, name, nth, after)
        if problem:
            wrong.append(f"{'after' if after else 'before'} call {nth}, {whole['calls'][nth]}: {problem}")
    assert not wrong, "\n".join(wrong)
