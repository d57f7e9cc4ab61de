"""What the operator prefers."""

from nova_lite.cells import weights


class WeightOffsetWeigher(weights.BaseCellWeigher):
    """Prefers cells by the `weight_offset` of their rows."""

    @property
    def multiplier(self) -> float:
        return self.conf.cells.offset_weight_multiplier

    def raw_weight(self, cell, weight_properties) -> float:
        return cell.db_info.get("weight_offset") or 0
