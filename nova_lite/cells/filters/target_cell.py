"""The cell that an administrator named."""

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells import filters

LOG = logging.getLogger(__name__)


class TargetCellFilter(filters.BaseCellFilter):
    """Sends the build straight to the cell of the hint `target_cell` (a full path), past all other choice.

    Leaves the path as `only_cell` in the filter properties, where policy lets the hint count.
    """

    def filter_all(self, cells, filter_properties):
        hints = filter_properties.get("scheduler_hints") or {}
        # Taken out before anything else: cells further down must not be steered by it.
        target = hints.pop("target_cell", None)
        if not target or not self.authorized(filter_properties["context"]):
            return list(cells)
        # Whatever happens there, no other cell will do.
        filter_properties["only_cell"] = target
        scheduler = filter_properties["scheduler"]
        if target == filter_properties["routing_path"]:
            return [scheduler.state_manager.get_my_state()]
        LOG.info("Building in cell %s, as asked for", target)
        try:
            scheduler.send_build(filter_properties["context"], target, filter_properties["host_sched_kwargs"])
        except exception.NovaException as error:
            # Trying other cells would not be what was asked for.
            raise exception.Invalid(f"Cannot build in cell {target}: {error}") from error
        return None
