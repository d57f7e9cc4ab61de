"""Orders for instances that their cells do not have: no cell would compare those with the top."""

import datetime
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells.lost_builds import LostBuilds
from nova_lite.cells.replica import ORDERED_TASKS
from nova_lite.objects import task_states

LOG = logging.getLogger(__name__)

_PATIENCE_S = 120


class LostOrders:
    """Ends them, at the top: what was to be deleted is, and what else was ordered has failed."""

    def __init__(self, runner, builds: LostBuilds):
        self._runner = runner
        self._db = runner.services.db
        self._clock = runner.services.clock
        self._builds = builds

    def end(self, ctxt) -> None:
        """Look through the instances that show for some minutes what was ordered. Does nothing below the top."""
        if self._runner.state_manager.get_parent_cells():
            return
        by_cell: dict[str, list[dict[str, Any]]] = {}
        for row in self._waiting(ctxt):
            by_cell.setdefault(row["cell_name"], []).append(row)
        for cell_name, rows in sorted(by_cell.items()):
            lost = set(self._builds.not_there(ctxt, cell_name, [row["uuid"] for row in rows]))
            for row in rows:
                if row["uuid"] in lost:
                    self._end(ctxt, row)

    def _waiting(self, ctxt) -> list[dict[str, Any]]:
        since = (self._clock.utcnow() - datetime.timedelta(seconds=_PATIENCE_S)).replace(tzinfo=None)
        rows = self._db.instance_get_all_by_filters(
            ctxt, {"task_state": sorted(ORDERED_TASKS | {task_states.DELETING}), "deleted": False}, columns_to_join=())
        return [row for row in rows if row["cell_name"] not in (None, "", self._runner.our_name)
                and (row["updated_at"] or row["created_at"]) < since]

    def _end(self, ctxt, row: dict[str, Any]) -> None:
        LOG.warning("Cell %s has no instance %s, the order that made it %s comes to nothing", row["cell_name"],
                    row["uuid"], row["task_state"])
        try:
            if row["task_state"] == task_states.DELETING:
                self._runner.replica.destroy_unowned(ctxt, row)
            else:
                self._db.instance_update(ctxt, row["uuid"], {"task_state": None},
                                         expected_task_state=[row["task_state"]], replicate=False)
                self._runner.replica.tell_of_lost_order(ctxt, row)
        except (exception.InstanceNotFound, exception.UnexpectedTaskStateError, exception.ConstraintNotMet):
            LOG.debug("Instance %s has changed meanwhile", row["uuid"])
