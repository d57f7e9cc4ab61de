"""One simulated cell: its database, its `nova-cells` with the real manager, and hosts that only keep count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nova_lite import conf as configuration
from nova_lite import context, servicegroup
from nova_lite.cells.manager import CellsManager
from nova_lite.context import NullCellsNotifier, Services
from nova_lite.db.api import Database
from nova_lite.simulate.hosts import LightHosts
from nova_lite.simulate.network import Network
from nova_lite.simulate.world import World, WorldClock, WorldTimers


class Notifier(NullCellsNotifier):
    """Tells the `nova-cells` of its cell, if it runs."""

    def __init__(self, cell: "SimulatedCell"):
        self._cell = cell

    def outbox_ready(self, context: Any) -> None:
        if self._cell.manager is not None:
            self._cell.manager.msg_runner.outbox.kick()


class SimulatedCell:
    """A cell by its name. It keeps its database when it crashes."""

    hosts_class = LightHosts
    report_every_s = 5.0
    recount_every_s = 5
    heal_every_s = 20.0

    def __init__(self, world: World, network: Network, name: str, directory: Path, *, is_top: bool,
                 make_database: Callable[[Any, Any], Database], compute_api: Callable[["SimulatedCell"], Any],
                 options: dict | None = None):
        self.world, self.network, self.name = world, network, name
        self.clock = WorldClock(world)
        self.conf = configuration.load(prog="simulate", config_files=[], config_dirs=[], overrides={
            (None, "host"): f"{name}-cells", (None, "state_path"): str(directory),
            (None, "concurrency"): "threading", ("cells", "enable"): True, ("cells", "name"): name,
            ("cells", "cell_type"): "api" if is_top else "compute",
            ("cells", "driver"): "nova_lite.simulate.network.CellsSimulatedDriver",
            ("cells", "db_check_interval"): self.recount_every_s,
            ("database", "connection"): f"sqlite:///{directory}/{name}.sqlite", **(options or {})})
        self.db: Any = make_database(self.conf, self.clock)
        self.manager: CellsManager | None = None
        services = Services(conf=self.conf, host=self.conf.host, clock=self.clock, db=self.db, rpc=network,
                            cells_notifier=Notifier(self))
        self.services = services
        self.hosts = self.hosts_class(self)
        self.services = services.with_(host_scheduler=self.hosts, compute_api=compute_api(self))
        self.servicegroup = servicegroup.API(self.services)

    @property
    def is_up(self) -> bool:
        return self.manager is not None

    @property
    def runner(self):
        assert self.manager is not None
        return self.manager.msg_runner

    def context(self, **values: Any):
        """Return an administrator's context, bound to the cell."""
        return context.RequestContext(**{"user_id": "u", "project_id": "p", "is_admin": True, **values}).bind(
            self.services)

    def meet(self, neighbour: str, *, is_parent: bool) -> None:
        self.db.cell_create(self.context(), {
            "name": neighbour, "is_parent": is_parent, "transport_url": f"memory://simulated/{neighbour}",
            "weight_offset": 0.0, "weight_scale": 1.0})

    def start(self) -> None:
        """Do as `nova-cells` does when it starts, in tasks of this world."""
        self.manager = CellsManager(services=self.services)
        self.runner.scheduler.retries = WorldTimers(self.world, self.name)
        self.manager.driver.start_servers(self.runner)
        self.world.spawn(self.name, self.runner.outbox._run)
        self.world.spawn(self.name, self._greet)
        for task, spacing_s in self.periodic_tasks(self.manager):
            self.world.spawn(self.name, self._repeat, task, spacing_s, delay_s=self.world.random.uniform(0, spacing_s))

    def periodic_tasks(self, manager: CellsManager) -> list[tuple[Callable, float]]:
        """Return what is done again and again, and every how many seconds."""
        return [(manager._update_our_parents, self.report_every_s * 4), (manager._report_changes, self.report_every_s),
                (manager._heal_instances, self.heal_every_s), (manager._end_lost_builds, self.heal_every_s),
                (manager._settle_disputes, self.heal_every_s)]

    def crash(self) -> None:
        """Forget everything but the database. Only for what the world calls itself."""
        self.network.detach(self.name)
        self.manager = None
        self.world.kill(self.name)

    def _greet(self) -> None:
        ctxt = self.runner.admin_context()
        self.runner.ask_children_for_capabilities(ctxt)
        self.runner.ask_children_for_capacities(ctxt)
        self.manager._update_our_parents(ctxt)

    def _repeat(self, task: Callable, spacing_s: float) -> None:
        while True:
            task(self.runner.admin_context())
            self.world.sleep(spacing_s)
