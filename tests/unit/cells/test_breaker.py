"""Messages to a neighbour that takes none."""

import threading

import pytest

from nova_lite import concurrency, exception
from nova_lite.cells.breaker import Breaker
from tests.fixtures.clock import FakeClock


class Neighbour:
    """Takes messages, or raises the error it is given."""

    def __init__(self, clock):
        self.clock = clock
        self.takes_s = 0.0
        self.error = None
        self.tried = 0
        self.breaker = Breaker(clock)

    def send(self):
        self.breaker.send("west", self._take)

    def _take(self):
        self.tried += 1
        self.clock.advance(self.takes_s)
        if self.error is not None:
            raise self.error

    def fail(self, times, error=None):
        self.error = error or exception.RpcUnavailable(method="m", topic="t", reason="connection refused")
        for _number in range(times):
            with pytest.raises(type(self.error)):
                self.send()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def west(clock):
    return Neighbour(clock)


def test_D23_after_three_failures_messages_are_refused_without_a_try(west):
    west.fail(5)

    assert west.tried == 3
    assert west.breaker.info() == {"state": "open", "retry_in_s": 1.0, "sent": 0, "failed": 3, "refused": 2}


def test_D23_a_refusal_says_why_and_until_when(west):
    west.fail(3)

    with pytest.raises(exception.RpcUnavailable) as caught:
        west.send()
    assert "cell west" in str(caught.value)
    assert "in 1.0 s" in str(caught.value)


def test_D23_after_the_pause_one_message_is_tried_and_opens_the_way(west, clock):
    west.fail(3)
    clock.advance(1)
    west.error = None
    assert west.breaker.state == "half-open"

    west.send()

    assert west.breaker.state == "closed"
    west.fail(2)
    assert west.breaker.state == "closed", "failures count from the start again"


def test_D23_pauses_grow_up_to_a_bound_where_every_try_holds_somebody_up(west, clock):
    west.takes_s = 5.0
    west.fail(3)
    pauses = []
    for _number in range(7):
        pauses.append(west.breaker.info()["retry_in_s"])
        clock.advance(pauses[-1])
        west.fail(1)

    assert pauses == [1, 2, 4, 8, 15, 15, 15]


def test_D23_pauses_stay_short_where_a_try_costs_nothing(west, clock):
    west.fail(3)
    for _number in range(20):
        clock.advance(west.breaker.info()["retry_in_s"])
        west.fail(1)

    assert west.breaker.info()["retry_in_s"] == 1.0


def test_D23_a_neighbour_that_is_heard_is_tried_at_once(west):
    west.takes_s = 5.0
    west.fail(4)
    west.error = None

    west.breaker.look_again()

    west.send()
    assert west.breaker.state == "closed"


def test_D23_while_one_message_tries_others_are_refused(west, clock):
    west.fail(3)
    clock.advance(1)
    begun, go_on = threading.Event(), threading.Event()
    trial = concurrency.spawn(west.breaker.send, "west", lambda: begun.set() or go_on.wait(5))
    assert begun.wait(5)

    with pytest.raises(exception.RpcUnavailable):
        west.send()

    go_on.set()
    trial.wait(5)
    assert west.breaker.state == "closed"


@pytest.mark.parametrize("error", [
    exception.RpcTimeout(method="m", topic="t", timeout_s=0.0), exception.RpcVersionCapError(
        method="m", version="2", version_cap="1"), ValueError("no JSON")])
def test_D23_failures_that_are_not_the_neighbours_do_not_count(west, error):
    west.fail(5, error)

    assert (west.tried, west.breaker.state) == (5, "closed")


def test_D23_a_try_that_ends_in_a_surprise_is_not_the_last(west, clock):
    west.fail(3)
    clock.advance(1)
    west.fail(2, ValueError("no JSON"))

    assert west.tried == 5
