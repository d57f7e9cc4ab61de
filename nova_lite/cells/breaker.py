"""What keeps a neighbour that takes no messages from costing every message the time to find that out."""

import collections
import threading
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception

LOG = logging.getLogger(__name__)

CLOSED = "closed"
OPEN = "open"
HALF_OPEN = "half-open"

_MAX_FAILURES = 3
_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 15.0
_PAUSES_PER_TRY = 4  # a pause is at most so many times as long as the try before it
_SHORT_TIMEOUT_S = 1.0


class Breaker:
    """Sends to one neighbour; after three failures in a row it refuses, without trying, for a while.

    The while begins with a second and doubles: up to a quarter of a minute where whoever tries is held up, as by a
    broker that hangs, and not at all where trying costs next to nothing, as at one that is not there. After it one
    message is let through to see: when it goes out all others may, when it does not the next while begins. A
    neighbour that is heard is tried at once. `counts`: sent, failed, refused.
    """

    def __init__(self, clock):
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._retry_at_s = 0.0
        self._is_trying = False
        self.counts: collections.Counter[str] = collections.Counter()

    @property
    def state(self) -> str:
        """closed: messages go out; open: they are refused; half-open: one may go out, or is on its way."""
        if self._failures < _MAX_FAILURES:
            return CLOSED
        return HALF_OPEN if self._is_trying or self._left_s() <= 0 else OPEN

    def info(self) -> dict[str, Any]:
        """Return what an operator may want to know: {'state', 'retry_in_s', 'sent', 'failed', 'refused'}."""
        left_s = self._left_s() if self.state == OPEN else 0.0
        return {"state": self.state, "retry_in_s": round(left_s, 1),
                **{name: self.counts[name] for name in ("sent", "failed", "refused")}}

    def send(self, name: str, send: Callable[[], None]) -> None:
        """Send to the cell `name`. Raises RpcUnavailable when it is refused, and what sending raises."""
        is_trial = self._admit(name)
        begun_s = self._clock.monotonic()
        try:
            send()
        except (exception.RpcUnavailable, exception.RpcTimeout) as error:
            self._note_failure(name, error, self._clock.monotonic() - begun_s)
            raise
        else:
            self._note_success(name)
        finally:
            if is_trial:
                self._is_trying = False

    def look_again(self) -> None:
        """The neighbour has been heard: the next message may try."""
        if self._failures >= _MAX_FAILURES:
            self._retry_at_s = min(self._retry_at_s, self._clock.monotonic())

    def _left_s(self) -> float:
        return self._retry_at_s - self._clock.monotonic()

    def _admit(self, name: str) -> bool:
        """Return whether this message is the one that tries. Raises RpcUnavailable."""
        with self._lock:
            if self.state == CLOSED:
                return False
            if self.state == HALF_OPEN and not self._is_trying:
                self._is_trying = True
                return True
            self.counts["refused"] += 1
            left_s = max(0.0, self._left_s())
        raise exception.RpcUnavailable(
            method="a message", topic=f"cell {name}",
            reason=f"the last {self._failures} could not be sent, the next attempt is made in {left_s:.1f} s")

    def _note_failure(self, name: str, error: Exception, taken_s: float) -> None:
        if isinstance(error, exception.RpcTimeout) and error.kwargs.get("timeout_s", 0) < _SHORT_TIMEOUT_S:
            return  # of a message that was late already: tells nothing of the neighbour
        with self._lock:
            self.counts["failed"] += 1
            self._failures += 1
            doublings = self._failures - _MAX_FAILURES
            if doublings < 0:
                return
            longest_s = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, _PAUSES_PER_TRY * taken_s))
            pause_s = min(longest_s, _FIRST_PAUSE_S * 2 ** min(doublings, 10))
            self._retry_at_s = self._clock.monotonic() + pause_s
        if doublings == 0:
            LOG.warning("Cell %s takes no messages (%s): none are sent to it but for a try now and then", name, error)

    def _note_success(self, name: str) -> None:
        with self._lock:
            self.counts["sent"] += 1
            failures, self._failures = self._failures, 0
        if failures >= _MAX_FAILURES:
            LOG.warning("Cell %s takes messages again", name)
