"""Builds in this very cell: handed to the scheduler of its hosts, or taken back."""

import datetime
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import vm_states

LOG = logging.getLogger(__name__)


class LocalBuilds:
    """The rows of instances that are being built in this cell."""

    def __init__(self, runner, in_hand):
        self._runner = runner
        self._services = runner.services
        self._conf = runner.services.conf
        self._clock = runner.services.clock
        self._state = runner.state_manager
        self._in_hand = in_hand

    def build(self, ctxt, kwargs: dict[str, Any]) -> None:
        """Have hosts of this cell build instances. Raises what keeps them from it; then there is no trace of them."""
        wanted = [one for one in kwargs["instances"]
                  if self._services.db.tombstone_get(ctxt, one["uuid"]) is None]
        if not wanted:
            LOG.info("All instances of a build have been deleted meanwhile")
            return
        existing = self._existing(ctxt, [one["uuid"] for one in wanted])
        try:
            self._services.host_scheduler.build_instances(ctxt, **{**kwargs, "instances": wanted})
        except Exception:  # edge: another cell is about to build them, no trace may stay here
            self.remove_rows(ctxt, [one["uuid"] for one in wanted if one["uuid"] not in existing])
            raise
        self._claim_at_top(ctxt, [one["uuid"] for one in wanted])

    def builds_here(self, ctxt, instance_uuids: list[str]) -> dict[str, bool]:
        """Return {uuid: whether anybody is at work} of those that this cell has, or looks for a cell for."""
        is_top = not self._state.get_parent_cells()
        rows = self._services.db.instance_get_all_by_uuids(ctxt.elevated(read_deleted="no"), instance_uuids)
        # The top has a row of every instance, wherever that is.
        here = {row["uuid"]: self._is_at_work(row) for row in rows
                if not is_top or row["cell_name"] == self._runner.our_name}
        return {**here, **{uuid: True for uuid in instance_uuids if uuid in self._in_hand}}

    def remove_rows(self, ctxt, uuids: list[str]) -> None:
        """Leave no trace of instances that another cell is about to build."""
        for uuid in uuids:
            try:
                self._services.db.instance_destroy(ctxt.elevated(), uuid, replicate=False)
            except exception.InstanceNotFound:
                continue
            # They were not deleted by anyone: this cell may be asked to build them again.
            self._services.db.tombstone_delete(ctxt, uuid)

    def ever_ran(self, ctxt, uuid: str) -> bool:
        """Whether an instance of this cell was once built."""
        try:
            row = self._services.db.instance_get_by_uuid(ctxt.elevated(), uuid)
        except exception.InstanceNotFound:
            return False
        return row["vm_state"] == vm_states.ACTIVE or row["launched_at"] is not None

    def _is_at_work(self, row: dict[str, Any]) -> bool:
        """Whether a host has an instance, or one may just be getting it."""
        if row["host"] or row["vm_state"] != vm_states.BUILDING:
            return True
        lately = self._clock.utcnow() - datetime.timedelta(seconds=self._conf.cells.build_repeat_interval)
        return (row["updated_at"] or row["created_at"]) >= lately.replace(tzinfo=None)

    def _claim_at_top(self, ctxt, uuids: list[str]) -> None:
        """Note that instances are in this cell, where the user-level API looks for that and nobody above does it."""
        if self._conf.cells.cell_type == "api" and not self._state.get_parent_cells():
            for uuid in uuids:
                self._services.db.instance_update(ctxt, uuid, {"cell_name": self._runner.our_name}, replicate=False)

    def _existing(self, ctxt, uuids: list[str]) -> set[str]:
        """Return those of some instances that are here. What is left of earlier attempts, given back, is removed."""
        rows = self._services.db.instance_get_all_by_uuids(ctxt.elevated(read_deleted="yes"), uuids, columns_to_join=())
        for row in rows:
            if row["deleted"]:
                self._services.db.instance_erase(ctxt, row["uuid"])
        return {row["uuid"] for row in rows if not row["deleted"]}
