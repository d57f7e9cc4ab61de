"""Clocks of cells that are not the same."""

from nova_lite.cells.skew import Skew
from tests.fixtures.clock import FakeClock


def test_a_deadline_set_by_a_clock_that_is_slow_is_as_far_away_here():
    clock = FakeClock()
    skew = Skew(clock)
    their_now_s = clock.time() - 300

    assert skew.local_time("west", their_now_s + 10, their_now_s) == clock.time() + 10


def test_what_a_message_took_longer_than_others_counts_against_its_deadline():
    clock = FakeClock()
    skew = Skew(clock)
    skew.local_time("west", clock.time() + 40, clock.time() + 30)

    late = skew.local_time("west", clock.time() + 25, clock.time() + 15)

    assert late == clock.time() - 5


def test_a_clock_that_was_put_right_is_believed_after_a_while():
    clock = FakeClock()
    skew = Skew(clock)
    skew.local_time("west", clock.time() + 100, clock.time() + 90)

    clock.advance(30)

    assert skew.local_time("west", clock.time() + 10, clock.time()) == clock.time() + 10


def test_each_neighbour_has_a_clock_of_its_own():
    clock = FakeClock()
    skew = Skew(clock)
    skew.local_time("west", clock.time() + 100, clock.time() + 90)

    assert skew.local_time("east", clock.time() + 10, clock.time()) == clock.time() + 10
