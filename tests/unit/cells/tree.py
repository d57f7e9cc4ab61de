"""Trees of cells in one process: real runners, drivers and servers on the memory transport."""

import contextlib
import itertools
import time

from nova_lite import concurrency, context, rpc
from nova_lite.cells.messaging import MessageRunner
from nova_lite.cells.operations import Route, operation
from nova_lite.cells.rpc_driver import CellsRPCDriver
from nova_lite.cells.state import CellStateManager
from tests.fixtures.services import load_conf

_numbers = itertools.count(1)

# The reference tree of eight cells.
REFERENCE = {
    "api-cell": None, "child-cell1": "api-cell", "child-cell2": "api-cell", "child-cell3": "api-cell",
    "child-cell4": "api-cell", "grandchild-cell1": "child-cell2", "grandchild-cell2": "child-cell3",
    "grandchild-cell3": "child-cell3",
}


@operation(Route.NEIGHBOUR, also="broadcast")
def probe(cell, message, **_nothing):
    """Tell the test that a message was processed, and return what it wants returned."""
    return cell.services.db.probed(cell, message)


@operation(Route.NEIGHBOUR, also="broadcast")
def probe_with(cell, message, value=None):
    """As probe, with an argument."""
    return cell.services.db.probed(cell, message, value)


class Neighbours:
    """As much of a database as messages need: neighbours, and a note of what was processed."""

    def __init__(self):
        self.cells: list[dict] = []
        self.probes: list[tuple[str, object]] = []
        self.returns = lambda cell, message, value: message.routing_path

    def probed(self, cell, message, value=None):
        self.probes.append((message.routing_path, value))
        return self.returns(cell, message, value)

    def reader(self, ctxt):
        return contextlib.nullcontext()

    def cell_get_all(self, ctxt):
        return [dict(row) for row in self.cells]

    def service_get_all(self, ctxt, *filters):
        return []

    compute_node_get_all = flavor_get_all = service_get_all


class Cell:
    """One cell of a tree."""

    def __init__(self, tree: "Tree", name: str, clock, overrides: dict):
        self.name = name
        self.url = f"memory://{tree.id}/{name}"
        settings = {(None, "host"): f"host-of-{name}", (None, "transport_url"): self.url, ("cells", "name"): name,
                    ("cells", "enable"): True, **overrides}
        self.conf = load_conf(settings)
        self.db = tree.make_db(self)
        self.rpc = rpc.Rpc(self.conf, clock=clock)
        self.services = context.Services(conf=self.conf, host=self.conf.host, db=self.db, clock=clock, rpc=self.rpc)

    def row(self, is_parent: bool) -> dict:
        """Return how a neighbour describes this cell."""
        return {"name": self.name, "is_parent": is_parent, "transport_url": self.url, "weight_offset": 0.0,
                "weight_scale": 1.0, "api_url": None, "enabled": True, "draining": False, "shared_key": None}

    def build(self):
        self.state = CellStateManager(services=self.services)
        self.runner = MessageRunner(self.state)

    def start(self):
        self.driver = CellsRPCDriver(self.services)
        self.driver.start_servers(self.runner)

    def stop(self):
        self.driver.stop_servers()

    def context(self, **kwargs):
        return context.RequestContext(**{"user_id": "u1", "project_id": "p1", "is_admin": True, **kwargs}).bind(
            self.services)

    def child(self, name):
        return self.state.get_child_cell(name)

    def parent(self, name):
        return self.state.get_parent_cell(name)


class Tree:
    """Cells by name; `parents` is {name: parent's name or None}."""

    cell_class = Cell

    def __init__(self, parents: dict[str, str | None], *, clock=None, overrides=None):
        self.id = f"tree{next(_numbers)}"
        self.clock = clock or concurrency.Clock()
        overrides = overrides or {}
        self.cells = {
            name: self.cell_class(self, name, self.clock, {
                **self.settings(name), **overrides.get("*", {}), **overrides.get(name, {})})
            for name in parents}
        for name, parent in parents.items():
            if parent is not None:
                self.join(parent, name)
        for cell in self.cells.values():
            cell.build()
            cell.start()

    def settings(self, name):
        return {}

    def make_db(self, cell):
        return Neighbours()

    def join(self, parent: str, child: str) -> None:
        self[parent].db.cells.append(self[child].row(is_parent=False))
        self[child].db.cells.append(self[parent].row(is_parent=True))

    def __getitem__(self, name: str) -> Cell:
        return self.cells[name]

    def __iter__(self):
        return iter(self.cells.values())

    @property
    def probes(self) -> list[str]:
        """The routing path of every probe that was processed, sorted."""
        return sorted(path for cell in self for path, _value in cell.db.probes)

    def know_each_other(self) -> None:
        """Let all neighbours know that they are nova_lite cells, as messages between them would."""
        for cell in self:
            for neighbour in cell.state.get_neighbours():
                neighbour.peer_version, neighbour.heard = 1, True

    def forget(self) -> None:
        for cell in self:
            cell.db.probes.clear()
            cell.db.returns = lambda cell, message, value: message.routing_path

    def close(self) -> None:
        for cell in self:
            cell.stop()
        for cell in self:
            cell.rpc.close()


def eventually(condition, timeout_s: float = 60.0):
    """Wait until the condition holds; return its value."""
    limit = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < limit, "it did not come about in time"
        time.sleep(0.002)
