"""Room for all instances of a request."""

from nova_lite.cells import capacities, filters


class CapacityFilter(filters.BaseCellFilter):
    """Drops cells that report less room, in memory or disk, than the request needs.

    A cell that has reported nothing, or nothing for the flavor's size, passes: it may well have room.
    """

    def cell_passes(self, cell, filter_properties):
        spec = filter_properties.get("request_spec") or {}
        room = capacities.room_for(cell.capacities, *capacities.wanted_mb(spec))
        return room is None or room >= (spec.get("num_instances") or 1)
