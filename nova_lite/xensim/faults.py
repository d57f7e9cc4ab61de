"""Planted faults and the log of calls: what a test changes and inspects, nothing a XenAPI client can reach."""

import fnmatch
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

CALLS_KEPT = 100_000


@dataclass
class Fault:
    """What happens at the nth call (1 is the next) of a method; a method may be a pattern such as `VM.*`.

    kind is `error` (refused before any effect), `error_after` (refused although the effect took place), `drop` (the
    effect takes place, the connection ends without a reply) or `delay`. `count` calls in a row are concerned.
    """

    method: str
    kind: str
    nth: int = 1
    count: int = 1
    error: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seen: int = 0

    def strikes(self, method: str) -> bool:
        """Count a matching call; return whether the fault applies to it."""
        if not fnmatch.fnmatchcase(method, self.method):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.count

    @property
    def is_spent(self) -> bool:
        return self.seen >= self.nth + self.count - 1


class Faults:
    """The planted faults and the calls received since the last reset. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._calls: deque[str] = deque(maxlen=CALLS_KEPT)
        self._counts: Counter[str] = Counter()
        self.disk_bytes_per_s = 0.0  # 0: as fast as the disk

    def plant(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def planted(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        """Forget every planted fault."""
        with self._lock:
            self._faults = []
            self.disk_bytes_per_s = 0.0

    def record(self, method: str) -> None:
        with self._lock:
            self._calls.append(method)
            self._counts[method] += 1

    def strike(self, method: str) -> list[Fault]:
        """Return the faults that apply to this call of the method; spent ones are forgotten."""
        if not self._faults:
            return []
        with self._lock:
            struck = [fault for fault in self._faults if fault.strikes(method)]
            self._faults = [fault for fault in self._faults if not fault.is_spent]
        return struck

    def calls(self) -> list[str]:
        with self._lock:
            return list(self._calls)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def reset_calls(self) -> None:
        with self._lock:
            self._calls.clear()
            self._counts.clear()
