"""Faults that tests plant, by name or by chance, and what they do to a call. No XenAPI client can reach them."""

import fnmatch
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nova_lite.xensim.call_log import CallLog
from nova_lite.xensim.latency import Latency

KINDS = ("error", "error_after", "delay", "drop", "lose_reply")
UNTOUCHED = ("session.*", "event.*", "system.*")  # what random faults leave alone


@dataclass(frozen=True)
class Occasion:
    """A call that faults are matched with: its name, the names of what it concerns, and the names of who makes it."""

    method: str
    objects: Sequence[str] = ()
    callers: Sequence[str] = ()


@dataclass
class Fault:
    """What happens at the nth call (1 is the next) that matches; a method may be a pattern such as `VM.*`.

    kind is `error` (refused before any effect), `error_after` (refused although the effect took place), `delay`, `drop`
    (neither effect nor reply), or `lose_reply` (the effect takes place, the connection ends without a reply). `count`
    calls in a row are concerned. With `object` (a reference, uuid or name) or `caller` (a session, a user or the
    originator given at login) only calls that concern it, or are made by it, match.
    """

    method: str
    kind: str
    nth: int = 1
    count: int = 1
    error: list[str] = field(default_factory=list)
    seconds: float = 0.0
    object: str = ""
    caller: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {self.kind}: one of {', '.join(KINDS)}")
        if self.nth < 1 or self.count < 1 or self.seconds < 0:
            raise ValueError("nth and count are at least 1, seconds at least 0")
        if self.kind.startswith("error") and not self.error:
            raise ValueError("an error needs a code")

    def strikes(self, occasion: Occasion) -> bool:
        """Count a matching call; return whether the fault applies to it."""
        if not fnmatch.fnmatchcase(occasion.method, self.method):
            return False
        if (self.object and self.object not in occasion.objects) or (
            self.caller and self.caller not in occasion.callers
        ):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.count

    @property
    def is_spent(self) -> bool:
        return self.seen >= self.nth + self.count - 1


class Chance:
    """Faults by chance: the same seed and the same calls give the same faults."""

    def __init__(self, seed: int, rate: float, method: str, kinds: Sequence[str], error: list[str], seconds: float):
        if not 0 <= rate <= 1:
            raise ValueError("the rate is between 0 and 1")
        self._random = random.Random(seed)
        self._rate = rate
        self._method = method
        self._faults = [Fault(method, kind, error=error, seconds=seconds) for kind in kinds]

    def draw(self, occasion: Occasion) -> list[Fault]:
        """Return the fault that this call meets, if any."""
        is_spared = any(fnmatch.fnmatchcase(occasion.method, pattern) for pattern in UNTOUCHED)
        if is_spared or not fnmatch.fnmatchcase(occasion.method, self._method):
            return []
        return [self._random.choice(self._faults)] if self._random.random() < self._rate else []


class Faults:
    """The planted faults and the calls received since the last reset. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._chance: Chance | None = None
        self._counts: Counter[str] = Counter()
        self.times_cleared = 0
        self.log = CallLog()
        self.latency = Latency()
        self.disk_bytes_per_s = 0.0  # 0: as fast as the disk
        self.foreign_bytes: dict[str, int] = {}  # what fills a repository besides its disks
        self.rejects_overlapping_plugs = False
        self.is_toolstack_down = False
        self.unreachable_hosts: set[str] = set()

    def is_silent(self, host_ref: str) -> bool:
        """Return whether nobody answers on a host: its toolstack is down, or it is cut off."""
        return self.is_toolstack_down or host_ref in self.unreachable_hosts

    def plant(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def take_chances(self, chance: Chance | None) -> None:
        """Let calls meet faults by chance from now on, or no longer."""
        with self._lock:
            self._chance = chance

    def planted(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def clear(self) -> None:
        """Forget every planted fault, chances, latency, slow disks; what fills repositories stays."""
        with self._lock:
            self.times_cleared += 1
            self._faults, self._chance = [], None
            self.disk_bytes_per_s = 0.0
            self.rejects_overlapping_plugs = False
            self.latency = Latency()

    def record(self, method: str) -> float:
        """Count a call that was received; return its start, for the log."""
        with self._lock:
            self._counts[method] += 1
        return self.log.receive(method)

    @property
    def is_armed(self) -> bool:
        """Whether any call may meet a fault; where not, nobody has to look at what the calls concern."""
        return bool(self._faults or self._chance)

    def strike(self, occasion: Occasion) -> list[Fault]:
        """Return the faults that apply to this call; spent ones are forgotten."""
        if not self.is_armed:
            return []
        with self._lock:
            struck = [fault for fault in self._faults if fault.strikes(occasion)]
            self._faults = [fault for fault in self._faults if not fault.is_spent]
            return struck + (self._chance.draw(occasion) if self._chance else [])

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)

    def reset_calls(self) -> None:
        with self._lock:
            self._counts.clear()
        self.log.clear()
