"""Builds ordered at the top whose order may have been lost: with a process that died, or a broker that went away."""

import datetime
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells.remote_exceptions import first_line
from nova_lite.context import RequestContext
from nova_lite.objects import base, vm_states

LOG = logging.getLogger(__name__)


class BuildOrders:
    """Gives an order again when no cell has heard of it; forgets it when all its instances are in a host's hands.

    The user-level API writes an order down before it sends it, so nothing that was accepted depends on a message.
    """

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services
        self._conf = runner.services.conf.cells

    def look_through(self, ctxt) -> None:
        """Look at the orders whose time has come. Does nothing below the top: there the cell above remembers."""
        if self._runner.state_manager.get_parent_cells():
            return
        done = [order["id"] for order in self._services.db.build_orders_due(ctxt) if self._is_done(ctxt, order)]
        if done:
            self._services.db.build_orders_delete(ctxt, done)

    def arguments_for(self, ctxt, instance_uuids: list[str]) -> dict[str, Any] | None:
        """Return the arguments of the build that these instances were ordered with, None where that is not known."""
        order = self._services.db.build_order_of(ctxt, instance_uuids[0])
        return None if order is None else self._arguments(ctxt, order)

    def _is_done(self, ctxt, order: dict[str, Any]) -> bool:
        waiting = self._waiting(ctxt, order["instance_uuids"])
        if not waiting or self._is_too_old(order):
            return True
        lost = self._lost(ctxt, waiting)
        for cell_name, uuids in lost.items():
            LOG.warning("Nobody builds instances %s, they are ordered again in %s", uuids, cell_name or "any cell")
            self._give_again(order, uuids, cell_name)
        pause_s = self._conf.build_repeat_interval * (2 + order["attempts"])
        not_before = self._services.clock.utcnow() + datetime.timedelta(seconds=pause_s)
        self._services.db.build_order_put_off(ctxt, order["id"], not_before, attempted=bool(lost))
        return False

    def _waiting(self, ctxt, instance_uuids: list[str]) -> list[str]:
        """Return the instances that no host has taken up yet."""
        rows = self._services.db.instance_get_all_by_uuids(ctxt.elevated(read_deleted="no"), instance_uuids)
        return [row["uuid"] for row in rows if row["vm_state"] == vm_states.BUILDING and not row["host"]]

    def _is_too_old(self, order: dict[str, Any]) -> bool:
        limit_s = self._conf.lost_build_timeout
        age = self._services.clock.utcnow().replace(tzinfo=None) - order["created_at"]
        return 0 < limit_s < age.total_seconds()

    def _lost(self, ctxt, uuids: list[str]) -> dict[str, list[str]]:
        """Return those that nobody is about to build, by the cell that has their rows ('' for no cell).

        None while a cell that may have them is silent.
        """
        nowhere, by_cell = set(uuids), {}
        for response in self._runner.builds_here(ctxt, uuids):
            if response.failure:
                LOG.info("Cell %s cannot be asked for the build of instances %s: %s", response.cell_name, uuids,
                         first_line(response.error))
                return {}
            nowhere.difference_update(response.value)
            by_cell[response.cell_name] = [uuid for uuid, is_in_hand in response.value.items() if not is_in_hand]
        by_cell[""] = sorted(nowhere)
        return {cell_name: lost for cell_name, lost in by_cell.items() if lost}

    def _give_again(self, order: dict[str, Any], uuids: list[str], cell_name: str) -> None:
        ctxt = RequestContext.from_dict(order["payload"]["ctxt"]).bind(self._services)
        try:
            kwargs = self._arguments(ctxt, order)
            kwargs["instances"] = [one for one in kwargs["instances"] if one["uuid"] in set(uuids)]
            if cell_name:
                self._runner.build_here(ctxt, cell_name, kwargs)
            else:
                self._runner.build_instances(ctxt, self._runner.state_manager.get_my_state(), kwargs)
        except exception.NovaException as error:
            LOG.warning("The build of instances %s cannot be ordered now: %s", uuids, first_line(error))

    def _arguments(self, ctxt, order: dict[str, Any]) -> dict[str, Any]:
        return {name: base.from_wire(ctxt, value) for name, value in order["payload"]["kwargs"].items()}
