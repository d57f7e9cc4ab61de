"""A tree of cells with simulated XenServer hosts, in this process.

Nothing is shared between the cells but the image store: each has its configuration, database and broker, as if it ran
on machines of its own; each compute service reaches its XenServer over that simulator's HTTP socket.
"""

import contextlib
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_config import cfg

from nova_lite import concurrency
from nova_lite import conf as configuration

# Cell path -> compute hosts in it. Parents stand before their children.
DEMO_LAYOUT: Mapping[str, Sequence[str]] = {"api": (), "api!west": ("west-1", "west-2"), "api!east": ("east-1",)}
SEPARATOR = "!"
NETWORKS = "10.{number}.0.0/24"
BRIDGE = "xenbr0"


class TreeError(Exception):
    """The tree could not be built or did not come up; the text says what was waited for."""


class Host:
    """A compute service and the simulated XenServer that it drives."""

    def __init__(self, cell: "Cell", name: str):
        from nova_lite import xensim

        self.cell = cell
        self.name = name
        self.simulator = xensim.Simulator(hosts=1, state_dir=str(cell.directory / f"xenserver-{name}"), name=name)
        self.url = self.simulator.start()
        self.conf = cell.load_conf(
            "nova-compute",
            {
                (None, "host"): name,
                (None, "compute_driver"): "xenapi.XenAPIDriver",
                ("xenserver", "connection_url"): self.url,
                ("xenserver", "connection_username"): self.simulator.username,
                ("xenserver", "connection_password"): self.simulator.password,
            },
        )
        self.service: Any = None

    def build_service(self) -> Any:
        from nova_lite import service

        return service.build_compute_service(self.conf)


class Cell:
    """One cell: configuration, database, broker and the nova-cells service."""

    def __init__(self, tree: "Tree", path: str):
        self.tree = tree
        self.path = path
        self.name = path.rpartition(SEPARATOR)[2]
        self.parent = tree.cells.get(path.rpartition(SEPARATOR)[0])
        self.depth = path.count(SEPARATOR)
        self.directory = tree.directory / path.replace(SEPARATOR, "-")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.transport_url = f"memory://{tree.broker}/{self.directory.name}"
        self.conf = self.load_conf("nova-cells", {(None, "host"): f"cells-{self.directory.name}"})
        self.hosts: list[Host] = []
        self.service: Any = None
        self._prepare_database()

    def load_conf(self, program: str, own: Mapping[tuple[str | None, str], Any]) -> cfg.ConfigOpts:
        """Return the configuration of one of the cell's services."""
        overrides = {
            (None, "transport_url"): self.transport_url,
            (None, "state_path"): str(self.directory),
            (None, "concurrency"): "threading",
            (None, "report_interval"): 1,
            (None, "periodic_fuzzy_delay"): 0,
            ("database", "connection"): self.tree.database_url(self.directory),
            ("image", "store_path"): str(self.tree.images),
            ("cells", "enable"): True,
            ("cells", "name"): self.name,
            ("cells", "cell_type"): "compute" if self.parent else "api",
            ("cells", "db_check_interval"): 1,
            **self.tree.overrides,
            **own,
        }
        return configuration.load(prog=program, config_files=[], config_dirs=[], overrides=overrides)

    def _prepare_database(self) -> None:
        from nova_lite.context import Services, get_admin_context
        from nova_lite.db.api import Database

        self.db: Any = Database(self.conf)
        self.db.sync()
        self.context = get_admin_context().bind(Services(conf=self.conf, host=self.conf.host, db=self.db))

    def introduce(self, neighbour: "Cell", *, is_parent: bool) -> None:
        """Make this cell know a neighbour."""
        known = {row["name"] for row in self.db.cell_get_all(self.context)}
        if neighbour.name not in known:
            values = {"name": neighbour.name, "transport_url": neighbour.transport_url, "is_parent": is_parent}
            self.db.cell_create(self.context, {**values, "weight_offset": 0.0, "weight_scale": 1.0})

    def add_network(self, number: int) -> None:
        """Give the cell's instances a network, once."""
        if not self.db.network_get_all(self.context):
            values = {"label": self.name, "cidr": NETWORKS.format(number=number), "bridge": BRIDGE}
            self.db.network_create(self.context, values)

    def build_service(self) -> Any:
        from nova_lite import service

        return service.build_cells_service(self.conf)


class Tree:
    """The whole tree; `start` returns when a server could be booted through the top cell.

    `directory` is kept between runs if the caller keeps it. `overrides` go to every service's configuration.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        layout: Mapping[str, Sequence[str]] = DEMO_LAYOUT,
        overrides: Mapping[tuple[str | None, str], Any] | None = None,
    ):
        self.directory = pathlib.Path(directory).resolve()
        self.images = self.directory / "images"
        self.images.mkdir(parents=True, exist_ok=True)
        self.layout = layout
        self.overrides = dict(overrides or {})
        self.broker = f"tree-{uuid.uuid4().hex[:8]}"
        self.cells: dict[str, Cell] = {}
        self.api: Any = None
        self._closing = contextlib.ExitStack()

    @property
    def top(self) -> Cell:
        return next(iter(self.cells.values()))

    @property
    def hosts(self) -> Iterator[Host]:
        return (host for cell in self.cells.values() for host in cell.hosts)

    def database_url(self, directory: pathlib.Path) -> str:
        """Return the URL of the database of the cell whose directory it is, the same each time."""
        return f"sqlite:///{directory}/nova_lite.sqlite"

    def start(self, tell: Callable[[str], None] = lambda line: None, timeout_s: float = 60) -> "Tree":
        """Build and start everything, telling each step. Raises TreeError, with all stopped again."""
        from nova_lite import service

        try:
            self._build(tell)
            # Hosts before cells, and children before parents: whoever reports upwards has something to report.
            self._start_together({f"nova-compute {host.name}": host for host in self.hosts}, tell, timeout_s)
            cells = {f"nova-cells {cell.path}": cell for cell in self.cells.values()}
            for depth in sorted({cell.depth for cell in cells.values()}, reverse=True):
                level = {name: cell for name, cell in cells.items() if cell.depth == depth}
                self._start_together(level, tell, timeout_s)
            self.api = service.build_api(self.top.conf)
            self._closing.callback(self.api.close)
            self._wait_for_capacity(timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def _build(self, tell: Callable[[str], None]) -> None:
        for number, (path, host_names) in enumerate(self.layout.items()):
            cell = self.cells[path] = Cell(self, path)
            if cell.parent:
                cell.introduce(cell.parent, is_parent=True)
                cell.parent.introduce(cell, is_parent=False)
            if host_names:
                cell.add_network(number)
            for name in host_names:
                cell.hosts.append(Host(cell, name))
                self._closing.callback(cell.hosts[-1].simulator.stop)
            tell(f"cell {path} has its database and its broker {cell.transport_url}")
            for host in cell.hosts:
                tell(f"{host.name} has its XenServer at {host.url}")

    def _start_together(self, daemons: Mapping[str, Any], tell: Callable[[str], None], timeout_s: float) -> None:
        """Start these services side by side. Raises TreeError when one is not up in time."""
        starting = {}
        for name, daemon in daemons.items():
            daemon.service = daemon.build_service()
            self._closing.callback(daemon.service.stop)
            starting[name] = concurrency.spawn(daemon.service.start)
        deadline = time.monotonic() + timeout_s
        for name, task in starting.items():
            try:
                task.wait(max(deadline - time.monotonic(), 0))
            except concurrency.TimeLimitExceeded as error:
                raise TreeError(f"{name} was not up within {timeout_s:g} s") from error
            tell(f"{name} is up")

    def _wait_for_capacity(self, timeout_s: float) -> None:
        """Return when the top cell knows of room in every branch that has hosts."""
        branches = {cell.path.split(SEPARATOR)[1] for cell in self.cells.values() if cell.hosts and cell.parent}
        deadline = time.monotonic() + timeout_s
        while missing := sorted(branch for branch in branches if not self._has_room(branch)):
            if time.monotonic() > deadline:
                raise TreeError(f"no capacity was reported by {', '.join(missing)} within {timeout_s:g} s")
            time.sleep(0.05)

    def _has_room(self, cell_name: str) -> bool:
        from nova_lite import exception

        try:
            capacities = self.api.cells_api.get_capacities(self.context(), cell_name=cell_name)
        except exception.CellNotFound:
            return False
        return (capacities.get("ram_free") or {}).get("total_mb", 0) > 0

    def context(self, **values: Any) -> Any:
        """Return an administrator's context in the top cell."""
        return self.api.context(**{"user_id": "admin", "project_id": "admin", "is_admin": True, **values})

    def stop(self) -> None:
        """Stop everything that was started, last first."""
        self._closing.close()

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
