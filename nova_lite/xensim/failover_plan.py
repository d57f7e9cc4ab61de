"""Which hosts' failures the protected VMs of a pool would survive: packing VMs into the memory of the others."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Above this many combinations of failing hosts only the worst one, the largest hosts failing together, is looked at.
COMBINATIONS_LIMIT = 2000


@dataclass(frozen=True)
class Guest:
    """A protected VM: the bytes it needs, the host it runs on ("" when it is down), the hosts that could run it."""

    ref: str
    size: int
    host: str
    possible: frozenset[str]


def place(guests: Iterable[Guest], free: dict[str, int]) -> dict[str, str]:
    """Return {VM: host} for as many guests as fit, the largest first, each where most is free."""
    left, placed = dict(free), {}
    for guest in sorted(guests, key=lambda each: (-each.size, each.ref)):
        fitting = [host for host in left if host in guest.possible and left[host] >= guest.size]
        if fitting:
            host = max(fitting, key=lambda name: left[name])
            left[host] -= guest.size
            placed[guest.ref] = host
    return placed


def survives(guests: list[Guest], free: dict[str, int], failed: frozenset[str]) -> bool:
    """Return whether all guests of the failed hosts, and those that are down, fit on the others."""
    homeless = [guest for guest in guests if guest.host in failed or not guest.host]
    rest = {host: left for host, left in free.items() if host not in failed}
    return len(place(homeless, rest)) == len(homeless)


def tolerated_failures(guests: list[Guest], free: dict[str, int], limit: int | None = None) -> int:
    """Return how many hosts, whichever they are, may fail at once; at most `limit`."""
    most = len(free) - 1 if limit is None else min(limit, len(free) - 1)
    for count in range(1, most + 1):
        if not all(survives(guests, free, failed) for failed in _failures(guests, free, count)):
            return count - 1
    return max(most, 0)


def _failures(guests: list[Guest], free: dict[str, int], count: int) -> Iterable[frozenset[str]]:
    if math.comb(len(free), count) <= COMBINATIONS_LIMIT:
        return map(frozenset, itertools.combinations(sorted(free), count))
    used = {host: sum(guest.size for guest in guests if guest.host == host) for host in free}
    largest: Callable[[str], int] = lambda host: free[host] + used[host]  # noqa: E731
    return [frozenset(sorted(free, key=largest, reverse=True)[:count])]
