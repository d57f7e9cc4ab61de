"""Who has been silent."""

from oslo_log import log as logging

from nova_lite.cells import weights

LOG = logging.getLogger(__name__)


class MuteChildWeigher(weights.BaseCellWeigher):
    """Marks cells that have told nothing of themselves for too long."""

    @property
    def multiplier(self) -> float:
        return self.conf.cells.mute_weight_multiplier

    def raw_weight(self, cell, weight_properties) -> float:
        if cell.is_me or not cell.is_mute(self.conf.cells.mute_child_interval):
            return 0.0
        LOG.warning("Cell %s has been silent since %s and is avoided", cell.name, cell.last_seen)
        return 1.0
