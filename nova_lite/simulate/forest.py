"""A tree of any number of cells, and as many builds as its hosts can hold, played in moved time."""

import resource
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nova_lite import conf as configuration
from nova_lite import objects
from nova_lite.db.api import Database
from nova_lite.db.engine import Engines
from nova_lite.objects import task_states, vm_states
from nova_lite.simulate.cell import SimulatedCell
from nova_lite.simulate.network import Network
from nova_lite.simulate.world import World

TOP = "top"
_FAN_OUT = 10
_HOST_MB = 16 * 1024
_BUILD_MB = 1024
_FILES_A_CELL = 16
_STEP_S = 5.0
_LIMIT_S = 3600.0
_BETWEEN_BUILDS_S = 0.005

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What came of it. `placed_per_s` counts real seconds from the first build to the last one known at the top."""

    cells: int
    hosts: int
    builds: int
    active: int
    failed: int
    placed_per_s: float
    real_s: float
    simulated_s: float
    converged: bool
    messages: int
    memory_mb: float


class UncheckedComputeApi:
    """Deletes at once; nothing else is asked of it here."""

    def __init__(self, cell: "SimulatedCell"):
        self._cell = cell

    def delete(self, ctxt: Any, instance: Any) -> None:
        self._cell.hosts.release(instance)
        instance.destroy()


class ForestCell(SimulatedCell):
    """A cell that looks around less often, as there are hundreds."""

    report_every_s = 15.0
    recount_every_s = 30
    heal_every_s = 120.0


class Forest:
    """The cells: a top, cells below it, cells below those, ten to each; so many hosts in each without children."""

    def __init__(self, cells: int, hosts: int, seed: int, directory: Path, tell: Tell = lambda line: None):
        _allow_files(cells * _FILES_A_CELL)
        self.world = World(seed)
        self.network = Network(self.world)
        self._template = _empty_database(directory)
        self._first_engines: Engines | None = None
        self.parents = family(cells)
        self.cells: dict[str, ForestCell] = {}
        for number, name in enumerate(self.parents, 1):
            self.cells[name] = ForestCell(
                self.world, self.network, name, directory, is_top=name == TOP, make_database=self._make_database,
                compute_api=UncheckedComputeApi, options={("cells", "outbox_poll_interval"): 10.0})
            tell(f"cell {number} of {cells}")
        for name, parent in self.parents.items():
            if parent is not None:
                self.cells[parent].meet(name, is_parent=False)
                self.cells[name].meet(parent, is_parent=True)
        leaves = [name for name in self.parents if name not in set(self.parents.values())]
        for name in leaves:
            self.cells[name].hosts.add([f"{name}-host{number}" for number in range(hosts)], _HOST_MB)
        self.hosts = hosts * len(leaves)

    @property
    def top(self) -> ForestCell:
        return self.cells[TOP]

    def play(self, builds: int, tell: Tell = lambda line: None) -> Result:
        """Start all cells, wait until the top knows what they can hold, have instances built, wait for the last."""
        for cell in self.cells.values():
            cell.start()
        self._until(lambda: self._known_mb() >= self.hosts * _HOST_MB, lambda: f"{self._known_mb()} MB known", tell)
        started_s = time.monotonic()
        for _ in range(builds):
            self._build()
            self.world.run(_BETWEEN_BUILDS_S)
        self._until(lambda: self._count(vm_states.BUILDING) == 0,
                    lambda: f"{self._count(vm_states.ACTIVE)} of {builds} active", tell)
        real_s, active = time.monotonic() - started_s, self._count(vm_states.ACTIVE)
        converged = self._until(self._agrees, lambda: "waiting until all agree", tell)
        return Result(
            cells=len(self.cells), hosts=self.hosts, builds=builds, active=active,
            failed=self._count(vm_states.ERROR), placed_per_s=active / real_s if real_s else 0.0, real_s=real_s,
            simulated_s=self.world.now_s, converged=converged, messages=self.network.counts["sent"],
            memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    def close(self) -> None:
        for cell in self.cells.values():
            self.world.kill(cell.name)
            self.world.kill(f"{cell.name} hosts")
            cell.db.dispose()

    def _until(self, claim: Callable[[], bool], state: Callable[[], str], tell: Tell) -> bool:
        """Let time pass until the claim holds; False when it did not within an hour of the world's time."""
        end_s = self.world.now_s + _LIMIT_S
        while not claim():
            if self.world.now_s >= end_s:
                return False
            tell(state())
            self.world.run(_STEP_S)
        return True

    def _known_mb(self) -> int:
        assert self.top.manager is not None
        known = self.top.manager.state_manager.get_our_capacities()
        return known.get("ram_free", {}).get("total_mb", 0)

    def _count(self, vm_state: str) -> int:
        ctxt = self.top.context()
        return len(self.top.db.instance_get_all_by_filters(ctxt, {"vm_state": vm_state, "deleted": False},
                                                           columns_to_join=()))

    def _agrees(self) -> bool:
        """Whether nothing waits to be told, and the top counts what the hosts have."""
        waits = any(cell.db.outbox_count(cell.context()) for cell in self.cells.values())
        return not waits and self._known_mb() == sum(cell.hosts.free_mb() for cell in self.cells.values())

    def _build(self) -> None:
        ctxt = self.top.context()
        flavor = objects.Flavor(id=2, name="small", memory_mb=_BUILD_MB, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
                                flavorid="2", rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True,
                                extra_specs={})
        instance = objects.Instance(
            ctxt, uuid=str(uuid.UUID(int=self.world.random.getrandbits(128), version=4)), user_id="u", project_id="p",
            display_name="vm", hostname="vm", vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING,
            memory_mb=_BUILD_MB, vcpus=1, root_gb=1, ephemeral_gb=0, flavor=flavor, image_ref="image",
            system_metadata={}, metadata={})
        instance.create()
        kwargs = {"instances": [instance], "image": {}, "filter_properties": {"instance_type": flavor},
                  "admin_password": None, "injected_files": [], "requested_networks": None, "security_groups": [],
                  "block_device_mapping": objects.BlockDeviceMappingList(objects=[])}
        assert self.top.manager is not None
        self.world.spawn(TOP, self.top.manager.build_instances, ctxt, kwargs)

    def _make_database(self, conf: Any, clock: Any) -> Database:
        database = Database(conf, clock)
        engines = database.store.engines
        shutil.copyfile(self._template, engines.url.database)
        self._first_engines = self._first_engines or engines
        engines.share_statements(self._first_engines)
        return database


def family(cells: int) -> dict[str, str | None]:
    """Return {name: parent} of a tree of so many cells, ten children to each, parents first."""
    names = [TOP, *(f"cell{number}" for number in range(1, cells))]
    return {name: None if index == 0 else names[(index - 1) // _FAN_OUT] for index, name in enumerate(names)}


def _empty_database(directory: Path) -> Path:
    """Return a migrated database to copy: migrating takes longer than all else of a cell."""
    path = directory / "template.sqlite"
    conf = configuration.load(prog="simulate", config_files=[], config_dirs=[], overrides={
        ("database", "connection"): f"sqlite:///{path}"})
    database = Database(conf)
    database.sync()
    database.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _allow_files(count: int) -> None:
    """Let this process open so many files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
