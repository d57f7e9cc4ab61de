"""What this process waits for: answers to requests that went to other cells."""

import collections
import threading
from collections.abc import Iterable

from nova_lite import exception

_MAX_WAITS = 10_000


class Wait:
    """One request's outstanding answers: a list of response texts from each neighbour asked."""

    def __init__(self, neighbours: Iterable[str], clock):
        self.missing = set(neighbours)
        self.responses: list[str] = []
        self._arrived: collections.Counter[str] = collections.Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._complete = clock.event()

    def put(self, neighbour: str | None, responses: list[str], parts: int = 1) -> None:
        """Take a neighbour's answer, or one of its parts; a second one from the same neighbour is not counted."""
        with self._lock:
            if neighbour is None and self.missing:
                neighbour = next(iter(self.missing))
            if neighbour not in self.missing:
                return
            self._arrived[neighbour] += 1
            self.responses.extend(responses)
            if self._arrived[neighbour] < parts:
                return
            self.missing.discard(neighbour)
            if not self.missing:
                self._complete.set()

    def until(self, deadline_s: float) -> list[str]:
        """Return what has arrived when all have answered or the deadline (epoch seconds) has passed."""
        while self.missing:
            left_s = deadline_s - self._clock.time()
            if left_s <= 0:
                break
            self._clock.wait(self._complete, left_s)
        with self._lock:
            return list(self.responses)


class Waits:
    """The waits of one process, by request uuid. Bounded: past the limit a call fails at once."""

    def __init__(self, clock, limit: int = _MAX_WAITS):
        self._clock = clock
        self._limit = limit
        self._by_uuid: dict[str, Wait] = {}
        self._lock = threading.Lock()

    def open(self, uuid: str, neighbours: Iterable[str]) -> Wait:
        with self._lock:
            if len(self._by_uuid) >= self._limit:
                raise exception.CellTimeout(
                    message=f"This cell waits for {self._limit} answers already; not asking for more")
            wait = self._by_uuid[uuid] = Wait(neighbours, self._clock)
            return wait

    def put(self, uuid: str, neighbour: str | None, responses: list[str], parts: int = 1) -> bool:
        """Hand in an answer; False when nobody here waits for it (late, or another process asked)."""
        with self._lock:
            wait = self._by_uuid.get(uuid)
        if wait is None:
            return False
        wait.put(neighbour, responses, parts)
        return True

    def close(self, uuid: str) -> None:
        with self._lock:
            self._by_uuid.pop(uuid, None)

    def by_neighbour(self) -> dict[str, int]:
        """Return how many requests wait for an answer of each neighbour."""
        with self._lock:
            return dict(collections.Counter(name for wait in self._by_uuid.values() for name in list(wait.missing)))

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._by_uuid

    def __len__(self) -> int:
        return len(self._by_uuid)
