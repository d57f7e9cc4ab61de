"""How much more a cell can hold: arithmetic on hosts, flavors and the reports of children."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class HostSums:
    """The memory and disk of one host, its nodes added up, in MB."""

    free_ram_mb: int = 0
    free_disk_mb: int = 0
    total_ram_mb: int = 0
    total_disk_mb: int = 0
    left_ram_mb: int = 0  # as free_ram_mb, but negative where more is given away than there is
    left_disk_mb: int = 0

    def add(self, node: Mapping[str, Any]) -> None:
        # Negative free memory (overcommit) must not lower what other nodes offer.
        self.free_ram_mb += max(0, node["free_ram_mb"] or 0)
        self.free_disk_mb += max(0, node["free_disk_gb"] or 0) * 1024
        self.left_ram_mb += node["free_ram_mb"] or 0
        self.left_disk_mb += (node["free_disk_gb"] or 0) * 1024
        self.total_ram_mb += node["memory_mb"] or 0
        self.total_disk_mb += (node["local_gb"] or 0) * 1024


def sum_by_host(nodes: Iterable[Mapping[str, Any]]) -> dict[str, HostSums]:
    """Return {host: HostSums} of compute node rows; several nodes may share a host."""
    hosts: dict[str, HostSums] = {}
    for node in nodes:
        hosts.setdefault(node["host"], HostSums()).add(node)
    return hosts


def capacities(nodes: Iterable[Mapping[str, Any]], flavors: Iterable[Mapping[str, Any]],
               reserve_percent: float, ram_ratio: float = 1.0, disk_ratio: float = 1.0) -> dict[str, Any]:
    """Return how many more instances of each flavor size these nodes can hold.

    {'ram_free': {'total_mb': int, 'units_by_mb': {'512': int}}, 'disk_free': …}; keys of units_by_mb are
    strings, as they travel as JSON (cells specification §6.4). {} without nodes. Where hosts may be given more than
    they have (a ratio that is not 1), 'ram_allocatable' and 'disk_allocatable' say the same with that counted in.
    """
    hosts = list(sum_by_host(nodes).values())
    if not hosts:
        return {}
    flavors = list(flavors)
    ram_slots_mb = {flavor["memory_mb"] for flavor in flavors}
    disk_slots_mb = {disk_slot_mb(flavor) for flavor in flavors}
    report = {
        "ram_free": _free([(h.free_ram_mb, h.total_ram_mb) for h in hosts], ram_slots_mb, reserve_percent),
        "disk_free": _free([(h.free_disk_mb, h.total_disk_mb) for h in hosts], disk_slots_mb, reserve_percent),
    }
    if ram_ratio != 1.0:
        sizes_mb = [_stretched(h.left_ram_mb, h.total_ram_mb, ram_ratio) for h in hosts]
        report["ram_allocatable"] = _free(sizes_mb, ram_slots_mb, reserve_percent)
    if disk_ratio != 1.0:
        sizes_mb = [_stretched(h.left_disk_mb, h.total_disk_mb, disk_ratio) for h in hosts]
        report["disk_allocatable"] = _free(sizes_mb, disk_slots_mb, reserve_percent)
    return report


def _stretched(left_mb: int, total_mb: int, ratio: float) -> tuple[int, int]:
    """Return (free, total) of a host that may be given `ratio` times what it has."""
    stretched_mb = int(total_mb * ratio)
    return max(0, left_mb + stretched_mb - total_mb), stretched_mb


def _free(sizes_mb: list[tuple[int, int]], slots_mb: set[int], reserve_percent: float) -> dict[str, Any]:
    units = {str(slot): sum(_units(free, total, slot, reserve_percent) for free, total in sizes_mb)
             for slot in slots_mb}
    return {"total_mb": sum(free for free, _total in sizes_mb), "units_by_mb": units}


def _units(free_mb: int, total_mb: int, slot_mb: int, reserve_percent: float) -> int:
    if slot_mb <= 0:
        return 0
    return int(max(0, free_mb - total_mb * reserve_percent / 100.0) / slot_mb)


def merge(into: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Add `more` to `into`, key by key: nested mappings are merged, numbers added, missing keys start at 0."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = into.get(key, 0) + value
    return into


def debit(report: Mapping[str, Any], ram_mb: int, disk_mb: int, count: int) -> dict[str, Any]:
    """Return the report after `count` instances of this size were sent there, until the next report comes.

    Every slot size loses as many units as the memory taken would hold, rounded up.
    """
    after = copy.deepcopy(dict(report))
    for kind, one_mb in (("ram_free", ram_mb), ("ram_allocatable", ram_mb),
                         ("disk_free", disk_mb), ("disk_allocatable", disk_mb)):
        free, taken_mb = after.get(kind), one_mb * count
        if not free or taken_mb <= 0:
            continue
        free["total_mb"] = max(0, free.get("total_mb", 0) - taken_mb)
        for slot, units in free.get("units_by_mb", {}).items():
            slot_mb = int(slot)
            if slot_mb > 0:
                free["units_by_mb"][slot] = max(0, units - -(-taken_mb // slot_mb))
    return after


def wanted_mb(request_spec: Mapping[str, Any]) -> tuple[int, int]:
    """Return the memory and the disk of hosts that one instance of a request takes.

    A root disk that is a volume takes none.
    """
    flavor = request_spec.get("instance_type") or {}
    if request_spec.get("root_is_volume"):
        flavor = {**flavor, "root_gb": 0}
    return flavor.get("memory_mb") or 0, disk_slot_mb(flavor)


def disk_slot_mb(flavor: Mapping[str, Any]) -> int:
    """Return the disk an instance of this flavor takes, in MB; swap is not counted."""
    return ((flavor.get("root_gb") or 0) + (flavor.get("ephemeral_gb") or 0)) * 1024


def room_for(report: Mapping[str, Any], ram_mb: int, disk_mb: int) -> int | None:
    """Return how many instances of this size the report promises room for; None where it does not tell."""
    found = [_allocatable(report, kind, size_mb) for kind, size_mb in (("ram", ram_mb), ("disk", disk_mb)) if size_mb]
    told = [units for units in found if units is not None]
    return min(told) if told else None


def _allocatable(report: Mapping[str, Any], kind: str, slot_mb: int) -> int | None:
    units = known_units(report, f"{kind}_allocatable", slot_mb)
    return known_units(report, f"{kind}_free", slot_mb) if units is None else units


def known_units(report: Mapping[str, Any], kind: str, slot_mb: int) -> int | None:
    """Return how many instances of this size the report promises; None for a size it does not know."""
    return report.get(kind, {}).get("units_by_mb", {}).get(str(slot_mb))


def units_for(report: Mapping[str, Any], kind: str, slot_mb: int) -> int:
    """Return how many instances of this size the report promises; 0 for a size it does not know."""
    return known_units(report, kind, slot_mb) or 0
