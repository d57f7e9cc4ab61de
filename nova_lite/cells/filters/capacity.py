"""Room for all instances of a request."""

from nova_lite.cells import capacities, filters


class CapacityFilter(filters.BaseCellFilter):
    """Drops cells that report less room, in memory or disk, than the request needs.

    A cell that has reported nothing, or nothing for the flavor's size, passes: it may well have room.
    """

    def cell_passes(self, cell, filter_properties):
        spec = filter_properties.get("request_spec") or {}
        flavor, count = spec.get("instance_type") or {}, spec.get("num_instances") or 1
        wanted_mb = {"ram_free": flavor.get("memory_mb") or 0, "disk_free": capacities.disk_slot_mb(flavor)}
        return all(self._has_room(cell, kind, slot_mb, count) for kind, slot_mb in wanted_mb.items())

    def _has_room(self, cell, kind: str, slot_mb: int, count: int) -> bool:
        units = capacities.known_units(cell.capacities, kind, slot_mb)
        return slot_mb <= 0 or units is None or units >= count
