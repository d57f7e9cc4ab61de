"""What a cell knows of itself and its neighbours: names, brokers, capabilities, capacities."""

import copy
import datetime
import json
import os
import threading
from typing import Any

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log as logging

from nova_lite import context, exception, servicegroup
from nova_lite.cells import capacities, passwords, routing, utils
from nova_lite.cells.cell_state import CellState
from nova_lite.objects import vm_states

__all__ = ["CellState", "CellStateManager", "CellStateManagerDB", "CellStateManagerFile"]

LOG = logging.getLogger(__name__)

_FIRST_LOAD_RETRY_S = 30
_FIRST_LOAD_ATTEMPTS = 121
_RECOUNT_INTERVAL_S = 3.0
_ON_ITS_WAY_S = 300


class CellStateManager:
    """The cell and its neighbours, kept up to date. Constructing it yields the variant the configuration asks for."""

    def __new__(cls, cell_state_cls=None, *, services=None):
        if cls is CellStateManager:
            cls = CellStateManagerFile if services.conf.cells.cells_config else CellStateManagerDB
        return super().__new__(cls)

    def __init__(self, cell_state_cls=None, *, services=None):
        self.services = services
        self.our_name = services.conf.cells.name
        self.parents: dict[str, CellState] = {}
        self.children: dict[str, CellState] = {}
        self._conf = services.conf
        self._clock = services.clock
        self._state_cls = cell_state_cls or CellState
        self._servicegroup = servicegroup.API(services)
        self._lock = threading.RLock()
        self._next_check_s = 0.0
        self._is_stale, self._counted_at_s = False, 0.0
        self._driver_cls = utils.load_class(self._conf.cells.driver)
        self.my_cell_state = self._new_state(self.our_name, is_me=True)
        self._first_load()
        self.my_cell_state.update_capabilities(self._configured_capabilities())

    # -- reading

    def get_my_state(self) -> CellState:
        self._sync()
        return self.my_cell_state

    def get_child_cells(self) -> list[CellState]:
        self._sync()
        return [cell for cell in list(self.children.values()) if cell.is_enabled]

    def get_parent_cells(self) -> list[CellState]:
        self._sync()
        return [cell for cell in list(self.parents.values()) if cell.is_enabled]

    def get_child_cell(self, cell_name) -> CellState | None:
        self._sync()
        cell = self.children.get(cell_name)
        return cell if cell and cell.is_enabled else None

    def get_parent_cell(self, cell_name) -> CellState | None:
        self._sync()
        cell = self.parents.get(cell_name)
        return cell if cell and cell.is_enabled else None

    def get_neighbours(self) -> list[CellState]:
        """Return all neighbours as last read, children first; cheap."""
        return [*list(self.children.values()), *list(self.parents.values())]

    def shared_key_of(self, cell_name: str) -> str | None:
        """Return the key that messages of a neighbour are signed with, as last read; None for none."""
        cell = self.children.get(cell_name) or self.parents.get(cell_name)
        return cell.shared_key if cell is not None else None

    @property
    def is_current(self) -> bool:
        """Whether the next look at a neighbour needs no look into the database."""
        return not self._is_due()

    def is_neighbour(self, cell_name: str) -> bool:
        """Return whether a cell was a neighbour when the table was read last; cheap."""
        return cell_name in self.children or cell_name in self.parents

    def get_cell_info_for_neighbors(self) -> list[dict[str, Any]]:
        self._sync()
        return [cell.get_cell_info() for cell in self.get_neighbours()]

    def get_our_capabilities(self, include_children=True) -> dict[str, set[str]]:
        """Return {name: values}, those of children that are not mute included."""
        self._sync()
        ours = copy.deepcopy(self.my_cell_state.capabilities)
        for child in self._speaking_children() if include_children else ():
            for name, values in child.capabilities.items():
                ours.setdefault(name, set()).update(values)
        return ours

    def get_our_capacities(self, include_children=True) -> dict[str, Any]:
        """Return what this cell can hold, with children that are not mute and take builds."""
        self._sync()
        ours = copy.deepcopy(self.my_cell_state.capacities)
        for child in self._speaking_children() if include_children else ():
            if child.takes_builds:
                capacities.merge(ours, child.capacities)
        return ours

    def get_capacities(self, cell_name=None) -> dict[str, Any]:
        """Return the capacities of this cell with its children, or of one child. Raises CellNotFound."""
        if not cell_name or cell_name == self.our_name:
            return self.get_our_capacities()
        self._sync()
        if cell_name not in self.children:
            raise exception.CellNotFound(cell_name=cell_name)
        return self.children[cell_name].capacities

    def cell_get(self, ctxt, cell_name) -> CellState:
        """Return a neighbour's state. Raises CellNotFound."""
        self._sync()
        cell = self.parents.get(cell_name) or self.children.get(cell_name)
        if cell is None:
            raise exception.CellNotFound(cell_name=cell_name)
        return cell

    # -- writing

    def update_cell_capabilities(self, cell_name, capabilities):
        self._sync()
        cell = self._known(cell_name, "capabilities")
        if cell is not None:
            cell.update_capabilities({name: set(values) for name, values in capabilities.items()})

    def update_cell_capacities(self, cell_name, capacities):
        self._sync()
        cell = self._known(cell_name, "capacities")
        if cell is not None:
            cell.update_capacities(capacities)

    def heard_from(self, cell_name: str, direction: str, peer_version: int | None,
                   object_versions: dict[str, str] | None = None) -> None:
        """Note which kind of cell the neighbour is that a message came from, and what it reads if it says so."""
        cell = (self.parents if direction == routing.DOWN else self.children).get(cell_name)
        if cell is not None:
            cell.peer_version = peer_version
            cell.heard = True
            cell.breaker.look_again()
            if peer_version is None or object_versions is not None:
                cell.object_versions = object_versions or {}

    def cell_create(self, ctxt, values):
        raise exception.CellsUpdateUnsupported()

    def cell_update(self, ctxt, cell_name, values):
        raise exception.CellsUpdateUnsupported()

    def cell_delete(self, ctxt, cell_name):
        raise exception.CellsUpdateUnsupported()

    # -- keeping up to date

    def refresh(self) -> None:
        """Read neighbours and capacities now. Raises DBError."""
        self._sync(force=True)

    def recount_soon(self) -> None:
        """What the hosts here can hold has changed."""
        self._is_stale = True

    def recount_if_stale(self) -> None:
        """Count capacities again if they have changed, not more often than every few seconds."""
        if self._is_stale and self._clock.monotonic() >= self._counted_at_s + _RECOUNT_INTERVAL_S:
            self._next_check_s = 0.0
            self._sync()

    def _sync(self, force: bool = False) -> None:
        if not force and not self._is_due():
            return
        with self._lock:
            if not force and not self._is_due():
                return
            # Looked up here rather than at every message: reading an option is not cheap.
            self._next_check_s = self._clock.monotonic() + self._conf.cells.db_check_interval
            try:
                self._load()
            except db_exc.DBError as error:
                if force:
                    raise
                LOG.error("Cannot read neighbours and capacities, keeping what is known: %s", type(error).__name__)

    def _is_due(self) -> bool:
        return self._clock.monotonic() >= self._next_check_s

    def _load(self) -> None:
        raise NotImplementedError

    def _first_load(self) -> None:
        for attempt in range(1, _FIRST_LOAD_ATTEMPTS + 1):
            try:
                self._sync(force=True)
                return
            except db_exc.DBError as error:
                if attempt == _FIRST_LOAD_ATTEMPTS:
                    raise
                LOG.error("Cannot read the cells of the database (%s), trying again in %d s", type(error).__name__,
                          _FIRST_LOAD_RETRY_S)
                self._clock.sleep(_FIRST_LOAD_RETRY_S)

    def _refresh_neighbours(self, rows: list[dict[str, Any]]) -> None:
        """Take over rows {name, is_parent, …}: known neighbours keep their state, others come and go."""
        wanted = {row["name"]: row for row in rows}
        for known, is_parent in ((self.parents, True), (self.children, False)):
            ours = {name: row for name, row in wanted.items() if bool(row["is_parent"]) is is_parent}
            for name in [name for name in known if name not in ours]:
                del known[name]
            for name, row in ours.items():
                if name not in known:
                    known[name] = self._new_state(name)
                known[name].update_db_info(row)

    def _new_state(self, name: str, is_me: bool = False) -> CellState:
        return self._state_cls(name, is_me=is_me, services=self.services, driver=self._driver_cls(self.services))

    def _recount_capacities(self) -> None:
        self._is_stale, self._counted_at_s = False, self._clock.monotonic()
        db, ctxt = self.services.db, self._admin_context()
        up = {service["host"] for service in db.service_get_all(ctxt)
              if service["binary"] == "nova-compute" and not service["disabled"]
              and self._servicegroup.service_is_up(service)}
        nodes = [node for node in db.compute_node_get_all(ctxt) if node["host"] in up]
        report = capacities.capacities(nodes, db.flavor_get_all(ctxt), self._conf.cells.reserve_percent,
                                       self._conf.ram_allocation_ratio, self._conf.disk_allocation_ratio)
        for row in self._without_host(ctxt) if report else ():
            report = capacities.debit(report, row["memory_mb"] or 0, capacities.disk_slot_mb(row), 1)
        self.my_cell_state.update_capacities(report)

    def _without_host(self, ctxt) -> list[dict[str, Any]]:
        """Return the instances that were sent here lately and have no host yet: no host counts them, and without them
        each report would offer again what was given away since the last one."""
        since = (self._clock.utcnow() - datetime.timedelta(seconds=_ON_ITS_WAY_S)).replace(tzinfo=None)
        rows = self.services.db.instance_get_all_by_filters(
            ctxt, {"vm_state": vm_states.BUILDING, "deleted": False}, columns_to_join=())
        return [row for row in rows if row["host"] is None and row["created_at"] >= since
                and (self.parents or row["cell_name"] == self.our_name)]

    def _admin_context(self):
        return context.get_admin_context().bind(self.services)

    def _configured_capabilities(self) -> dict[str, set[str]]:
        pairs = (item.partition("=") for item in self._conf.cells.capabilities)
        return {name.strip(): set(values.split(";")) for name, _mark, values in pairs}

    def _speaking_children(self) -> list[CellState]:
        interval_s = self._conf.cells.mute_child_interval
        return [cell for cell in list(self.children.values()) if cell.is_enabled and not cell.is_mute(interval_s)]

    def _known(self, cell_name: str, what: str) -> CellState | None:
        cell = self.children.get(cell_name) or self.parents.get(cell_name)
        if cell is None:
            LOG.error("Cell %s, which is no neighbour, told its %s: ignored", cell_name, what)
        return cell


class CellStateManagerDB(CellStateManager):
    """Neighbours are rows of the table `cells`."""

    def _load(self) -> None:
        with self.services.db.reader(self._admin_context()):
            self._refresh_neighbours(self.services.db.cell_get_all(self._admin_context()))
            self._recount_capacities()

    def cell_create(self, ctxt, values):
        """Insert a neighbour; returns the row. Raises CellExists, Invalid."""
        routing.validate_name(values.get("name"))
        row = self.services.db.cell_create(ctxt, values)
        self._sync(force=True)
        return passwords.without_password(row)

    def cell_update(self, ctxt, cell_name, values):
        """Change a neighbour; returns the row. A masked password means the one that is stored. Raises CellNotFound."""
        values = dict(values)
        if values.get("name"):
            routing.validate_name(values["name"])
        if passwords.MASK in (values.get("transport_url") or ""):
            stored = self.services.db.cell_get(ctxt, cell_name)["transport_url"]
            values["transport_url"] = passwords.with_stored_password(values["transport_url"], stored)
        row = self.services.db.cell_update(ctxt, cell_name, values)
        self._sync(force=True)
        return passwords.without_password(row)

    def cell_delete(self, ctxt, cell_name):
        """Delete a neighbour; returns the number of rows deleted."""
        count = self.services.db.cell_delete(ctxt, cell_name)
        self._sync(force=True)
        return count


class CellStateManagerFile(CellStateManager):
    """Neighbours are entries of a JSON file: {short name: columns}. They cannot be changed from here."""

    def __init__(self, cell_state_cls=None, *, services=None):
        wanted = services.conf.cells.cells_config
        self._path = services.conf.find_file(wanted)
        if not self._path or not os.path.exists(self._path):
            raise cfg.ConfigFilesNotFoundError([wanted])
        self._mtime_s = 0.0
        super().__init__(cell_state_cls, services=services)

    def _load(self) -> None:
        mtime_s = os.path.getmtime(self._path)
        if mtime_s > self._mtime_s:
            with open(self._path, encoding="utf-8") as stream:
                entries = json.load(stream)
            self._mtime_s = mtime_s
            self._refresh_neighbours([{**entry, "name": name} for name, entry in entries.items()])
        self._recount_capacities()
