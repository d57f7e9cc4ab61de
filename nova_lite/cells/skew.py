"""Clocks of other cells: how far they are from ours, so that their deadlines mean here what they meant there."""

import collections
import threading

_SAMPLES = 8
_AGE_S = 20.0


class Skew:
    """Per neighbour, how much later it is here, in seconds, when a message arrives that says when it was sent.

    The least of the last few is taken: what a message takes longer than others it spent on its way, and that counts
    against its deadline. Few and recent ones, since a clock may be put right. Bounded by the number of neighbours.
    """

    def __init__(self, clock):
        self._clock = clock
        self._samples: dict[str, collections.deque[tuple[float, float]]] = {}
        self._lock = threading.Lock()

    def local_time(self, neighbour: str, their_time_s: float, sent_at_s: float) -> float:
        """Return a time that a neighbour named (epoch seconds), as our clock will show it; learns of its clock."""
        now_s = self._clock.monotonic()
        with self._lock:
            samples = self._samples.setdefault(neighbour, collections.deque(maxlen=_SAMPLES))
            while samples and samples[0][0] < now_s - _AGE_S:
                samples.popleft()
            samples.append((now_s, self._clock.time() - sent_at_s))
            return their_time_s + min(later_s for _when_s, later_s in samples)
