"""The version rule of remote interfaces: same major, minor not above what is implemented."""

import functools

from nova_lite import exception

RELEASES = {
    "cells": {"grizzly": "1.6", "havana": "1.24", "icehouse": "1.27", "juno": "1.29", "kilo": "1.34",
              "liberty": "1.37", "mitaka": "1.37", "newton": "1.37", "ocata": "1.37"},
    "intercell": {"grizzly": "1.0"},
    "compute": {"grizzly": "2.27"},
    "scheduler": {"grizzly": "2.6"},
}


@functools.lru_cache(maxsize=256)
def parse(version: str) -> tuple[int, int]:
    """'1.37' as (1, 37); a third part is ignored. Raises ValueError."""
    major, minor = str(version).split(".")[:2]
    return int(major), int(minor)


@functools.lru_cache(maxsize=1024)
def is_compatible(implemented: str, requested: str) -> bool:
    """Whether an interface of version ``implemented`` serves a request of version ``requested`` (2.9 < 2.27)."""
    have, want = parse(implemented), parse(requested)
    return have[0] == want[0] and want[1] <= have[1]


def resolve_cap(interface: str, cap: str | None) -> str | None:
    """The number behind an [upgrade_levels] value: a version, or the name of a release. Raises ConfigurationError."""
    if cap is None:
        return None
    number = RELEASES.get(interface, {}).get(cap, cap)
    try:
        parse(number)
    except ValueError:
        known = ", ".join(RELEASES.get(interface, ())) or "none"
        raise exception.ConfigurationError(
            reason=f"[upgrade_levels] {interface} = {cap} is neither a version nor a release known here ({known})"
        ) from None
    return number
