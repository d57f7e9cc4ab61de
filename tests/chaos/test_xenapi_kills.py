"""kill -9 of nova-compute before and after every XenAPI call of what it does to instances, and after every write.

After a restart each operation is done or undone, it can be done again, and when the instance is deleted the hosts are
as empty as before. By default one place of some operations is tried, others every day; NOVA_LITE_CHAOS_KILLS=7 tries
those of day 7, NOVA_LITE_CHAOS_KILLS=all every one of all: about 950 kills, less than half a second of processor time
each.
"""

import datetime
import os
import random
import signal
from difflib import SequenceMatcher
from typing import NamedTuple

import pytest

from tests.chaos.xen.guillotine import CALLS, WRITES
from tests.chaos.xen.operations import OPERATIONS
from tests.chaos.xen.pair import Pair

OPERATIONS_A_DAY = 4
PLACES_A_DAY = 1
WHICH = os.environ.get("NOVA_LITE_CHAOS_KILLS") or str(datetime.date.today().toordinal())
TODAY = list(OPERATIONS) if WHICH == "all" else random.Random(WHICH).sample(list(OPERATIONS), OPERATIONS_A_DAY)

pytestmark = pytest.mark.timeout(3600 if WHICH == "all" else 300)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    made = Pair(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


class Place(NamedTuple):
    """Where a process ends: `nth` is the number of the call or write, `after` whether it is done."""

    nth: int
    after: bool
    name: str
    is_new: bool = False

    def __str__(self):
        return (f"{'after' if self.after else 'before'} {self.nth}, {self.name}"
                f"{', of a process that was just started' if self.is_new else ''}")


def around_calls(at_first, later):
    """Return the places at the calls of a process that was just started, and of one that did things before.

    The second remembers what the first has to ask; where they ask the same, it is tried in the second only.
    """
    asked_at_first = [nth for tag, start, end, *_ in SequenceMatcher(None, at_first, later, False).get_opcodes()
                      if tag in ("delete", "replace") for nth in range(start, end)]
    return [Place(nth, after, calls[nth], is_new)
            for calls, numbers, is_new in ((later, range(len(later)), False), (at_first, asked_at_first, True))
            for nth in numbers for after in (False, True)]


def after_writes(at_first, later):
    """Return the places after the writes: what is before one is after another, or after a call."""
    return [Place(nth, True, name) for nth, name in enumerate(later)]


def counted(pair, name, counting):
    """Return the calls, or writes, of an operation that nobody kills."""
    whole = pair.run(name, counting)
    assert "problem" not in whole, whole["problem"]
    told = pair.restart(name, whole["things"])
    assert "problem" not in told, told["problem"]
    assert pair.left() == pair.empty
    return whole["counted"]


def kill(pair, name, counting, place):
    """Return what is wrong after a kill and a restart, '' when nothing is."""
    if place.is_new:
        pair.end()
    died = pair.run(name, counting, nth=place.nth, after=place.after)
    if "problem" in died:
        return died["problem"]
    if died.get("signal") not in (None, signal.SIGKILL):
        return f"it did not end: signal {died['signal']}"
    told = pair.restart(name, died["things"])
    left = pair.left()
    if "problem" in told:
        pair.empty = left  # told once, not with every kill to come
        return told["problem"]
    if left != pair.empty:
        before, pair.empty = pair.empty, left
        return f"left on the hosts: {left} instead of {before}"
    pair.kills += "signal" in died  # now and then there is one call less than when they were counted
    return ""


def try_places(pair, name, counting, places_of):
    pair.end()
    places, kills = places_of(*[counted(pair, name, counting) for _ in range(2)]), pair.kills
    if WHICH != "all":
        print(f"NOVA_LITE_CHAOS_KILLS={WHICH}")
        places = random.Random(f"{WHICH} {name}").sample(places, PLACES_A_DAY)

    wrong = [f"{place}: {problem}" for place in places if (problem := kill(pair, name, counting, place))]

    print(f"{name}: {pair.kills - kills} kills at {len(places)} {counting}")
    assert not wrong, "\n".join(wrong)
    assert pair.kills > kills


@pytest.mark.parametrize("name", TODAY)
def test_an_operation_that_is_killed_is_done_or_undone_and_can_be_done_again(pair, name):
    try_places(pair, name, CALLS, around_calls)


@pytest.mark.parametrize("name", TODAY)
def test_so_it_is_when_the_kill_comes_after_a_write_to_the_database(pair, name):
    try_places(pair, name, WRITES, after_writes)
