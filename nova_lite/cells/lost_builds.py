"""Builds of which nothing is heard any more: the message that ordered them, or handed them back, was lost."""

import datetime
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells.remote_exceptions import first_line
from nova_lite.objects import vm_states

LOG = logging.getLogger(__name__)


class LostBuilds:
    """Ends builds that no cell has, at the top, and those that no host has, in their cell: nobody waits for ever.

    If one of them turns up after all, its cell's updates are applied as any other's.
    """

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services

    def end(self, ctxt) -> None:
        """Look through the builds of which nothing was heard for `[cells] lost_build_timeout` seconds."""
        timeout_s = self._services.conf.cells.lost_build_timeout
        if timeout_s <= 0:
            return
        silent_since = self._services.clock.utcnow() - datetime.timedelta(seconds=timeout_s)
        rows = self._silent(ctxt, silent_since.replace(tzinfo=None))
        reason = f"nothing was heard of the build for {timeout_s} s"
        for row in rows:
            if self._is_here(row) and not row["host"]:
                LOG.warning("No host of this cell has taken up instance %s for %d s", row["uuid"], timeout_s)
                self._runner.scheduler.local_build_failed(ctxt, [row["uuid"]], reason)
        if not self._runner.state_manager.get_parent_cells():
            self._end_elsewhere(ctxt, [row for row in rows if not self._is_here(row)], reason)

    def _end_elsewhere(self, ctxt, rows: list[dict[str, Any]], reason: str) -> None:
        by_cell: dict[str, list[str]] = {}
        for row in rows:
            by_cell.setdefault(row["cell_name"] or "", []).append(row["uuid"])
        for cell_name, uuids in sorted(by_cell.items()):
            lost = self.not_there(ctxt, cell_name, uuids) if cell_name else uuids
            if lost:
                LOG.warning("Instances %s have failed: %s", lost, reason)
                self._runner.scheduler.give_up_lost(ctxt, lost, reason)

    def _is_here(self, row: dict[str, Any]) -> bool:
        """Whether a row is of an instance of this cell, not the top's copy of another's."""
        return bool(self._runner.state_manager.get_parent_cells()) or row["cell_name"] == self._runner.our_name

    def _silent(self, ctxt, since: datetime.datetime) -> list[dict[str, Any]]:
        rows = self._services.db.instance_get_all_by_filters(
            ctxt, {"vm_state": vm_states.BUILDING, "deleted": False}, columns_to_join=())
        return [row for row in rows if (row["updated_at"] or row["created_at"]) < since]

    def not_there(self, ctxt, cell_name: str, uuids: list[str]) -> list[str]:
        """Return those a cell does not have; none when it cannot be asked, as then nothing is known of them."""
        try:
            there = self._runner.instances_here(ctxt, cell_name, uuids).value_or_raise()
        except exception.NovaException as error:
            LOG.warning("Cell %s cannot be asked for the builds of instances %s: %s", cell_name, uuids,
                        first_line(error))
            return []
        return [uuid for uuid in uuids if uuid not in there]
