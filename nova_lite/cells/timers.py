"""Work that is to be done later, without a worker that sleeps until then."""

import heapq
import itertools
import threading
from collections.abc import Callable

from oslo_log import log as logging

from nova_lite import concurrency

LOG = logging.getLogger(__name__)


class Timers:
    """Runs jobs when their time has come, in a few workers of its own. Bounded; has a thread only while jobs wait."""

    def __init__(self, clock, name: str, workers: int = 4, limit: int = 1000):
        self._clock = clock
        self._limit = limit
        self._pool = concurrency.Pool(name, workers)
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._is_watching = False
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def later(self, delay_s: float, job: Callable[[], None]) -> None:
        """Run a job in `delay_s` seconds. Raises concurrency.PoolFull when too many wait, or after the stop."""
        with self._changed:
            if self._is_stopped:
                raise concurrency.PoolFull("the service stops")
            if len(self._waiting) >= self._limit:
                raise concurrency.PoolFull(f"{self._limit} jobs wait already")
            heapq.heappush(self._waiting, (self._clock.monotonic() + delay_s, next(self._numbers), job))
            self._changed.notify()
            if not self._is_watching:
                self._is_watching = True
                concurrency.spawn(self._watch)

    def soon(self, job: Callable[[], None]) -> None:
        """Run a job as soon as a worker is free; here and now after the stop."""
        try:
            self._pool.submit(_run, job)
        except RuntimeError:
            _run(job)

    def stop(self) -> list[Callable[[], None]]:
        """Run nothing more; return the jobs whose time had not come."""
        with self._changed:
            self._is_stopped = True
            jobs = [job for _due_s, _number, job in sorted(self._waiting)]
            self._waiting.clear()
            self._changed.notify()
        self._pool.shutdown()
        return jobs

    def _watch(self) -> None:
        while (job := self._next()) is not None:
            self.soon(job)

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next job's time and return it; None when there is none left."""
        with self._changed:
            while self._waiting:
                left_s = self._waiting[0][0] - self._clock.monotonic()
                if left_s <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._clock.wait(self._changed, left_s)
            self._is_watching = False
            return None


def _run(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:  # thread top
        LOG.exception("What was put off has failed")
