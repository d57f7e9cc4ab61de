"""Room for instances of the requested size."""

from nova_lite.cells import capacities, weights


class RamByInstanceTypeWeigher(weights.BaseCellWeigher):
    """Prefers cells that can hold more instances with the flavor's memory."""

    @property
    def multiplier(self) -> float:
        return self.conf.cells.ram_weight_multiplier

    def raw_weight(self, cell, weight_properties) -> float:
        flavor = weight_properties["request_spec"]["instance_type"]
        return capacities.units_for(cell.capacities, "ram_free", flavor["memory_mb"])
