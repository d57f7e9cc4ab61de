"""The database refuses everything, or is killed, in the middle of actions: they end in order, or in ERROR."""

import contextlib
import sqlite3
import threading

import pytest
from oslo_db import exception as db_exception

from nova_lite import concurrency
from nova_lite.compute import rpcapi
from nova_lite.objects import task_states, vm_states
from tests.fixtures.mariadb import mariadb_server
from tests.fixtures.postgres import postgres_server
from tests.functional.deaths import (
    ACTIONS,
    MOVES,
    TIMEOUT_S,
    Death,
    calls_of,
    complaints,
    complaints_of_a_move,
    found_in,
    is_nobodys,
    points,
    prepared,
)
from tests.unit.compute.world import World

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.fixture
def database_goes_away(deaths):
    """From the call that is told on, the database refuses everything until the action has ended."""
    deaths.killer.error = db_exception.DBConnectionError("refused")
    yield
    deaths.killer.error = Death


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_the_database_leaves_alone_ends_in_order_once_it_is_back(deaths, action, database_goes_away):
    wrong = []
    for point in points(calls_of(deaths, action)):
        instance, act = prepared(deaths, action)
        deaths.killer.run(act, point)
        left_at = f"refused from call {point}, {deaths.killer.calls[-1]}"

        deaths.settle(rounds=2)  # a comparison of power states puts what is stuck off

        if not is_nobodys(deaths.found(instance)):
            allowed = ACTIONS[action][2] | {vm_states.ERROR}
            wrong += [f"{left_at}: {complaint}" for complaint in complaints(deaths, instance, allowed)]
        deaths.clear(instance)

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("ask", MOVES, ids=lambda ask: ask.__name__)
def test_a_move_that_the_database_leaves_alone_ends_in_order_once_it_is_back(deaths, ask, database_goes_away):
    ask(deaths)
    _, count = deaths.deliver()
    allowed = MOVES[ask] | {(vm_states.ERROR, "here"), (vm_states.ERROR, "there")}
    wrong = []
    for point in points(count):
        instance = ask(deaths)
        _, left_at = deaths.deliver(die_at=point)
        deaths.settle()
        wrong += [f"{left_at}: {complaint}" for complaint in complaints_of_a_move(deaths, instance, allowed)]
        now = deaths.found(instance)
        deaths.hosts[now.host].terminate_instance(deaths.world.context, instance=now)

    assert not wrong, "\n".join(wrong)


def live_migration_asked(deaths):
    """An instance that `there` has agreed to take, and `here` is told to send."""
    instance = deaths.world.busy(deaths.world.boot(), task_states.MIGRATING)
    deaths.mail.waiting.append(("here", "live_migration", {
        "dest": "there", "instance": rpcapi.primitive(instance), "block_migration": True, "migrate_data": {}}))
    return instance


def evacuation_asked(deaths):
    """An instance whose host has died, and that is to be built again where its disks can be seen."""
    instance = deaths.world.busy(deaths.world.boot(), task_states.REBUILDING)
    deaths.mail.waiting.append(("there", "rebuild_instance", {
        "instance": rpcapi.primitive(instance), "orig_image_ref": None, "image_ref": None, "injected_files": None,
        "new_pass": None, "recreate": True}))
    return instance


# Where the machine may be in the end.
RELOCATIONS = {
    live_migration_asked: {(vm_states.ACTIVE, "there"), (vm_states.ACTIVE, "here"), (vm_states.ERROR, "here"),
                           (vm_states.ERROR, "there")},
    evacuation_asked: {(vm_states.ACTIVE, "there"), (vm_states.ERROR, "here"), (vm_states.ERROR, "there")},
}


@pytest.mark.parametrize("ask", RELOCATIONS, ids=lambda ask: ask.__name__)
def test_a_machine_whose_hosts_the_database_leaves_alone_on_its_way_is_in_one_place_once_it_is_back(
        deaths, ask, database_goes_away):
    deaths.mail.answers = True
    ask(deaths)
    _, count = deaths.deliver()
    wrong = []
    for point in points(count):
        instance = ask(deaths)
        _, left_at = deaths.deliver(die_at=point)
        if ask is evacuation_asked:
            deaths.restart()  # the host that had died comes back
        deaths.settle()
        found = complaints_of_a_move(deaths, instance, RELOCATIONS[ask], may_be_nowhere=ask is evacuation_asked)
        wrong += [f"{left_at}: {complaint}" for complaint in found]
        now = deaths.found(instance)
        deaths.hosts[now.host].terminate_instance(deaths.world.context, instance=now)
    deaths.mail.answers = False

    assert not wrong, "\n".join(wrong)


# --- A database server that is killed ---

SERVERS = {"mariadb": mariadb_server, "postgresql": postgres_server}


@pytest.fixture(params=SERVERS)
def world_and_server(request, tmp_path):
    with SERVERS[request.param](durable=True) as server:
        made = World(tmp_path, grouped={("database", "connection"): server.database("killed")})
        yield made, server
        made.close()


class Barrier:
    """Holds calls of the driver until they are let go."""

    def __init__(self, driver, names):
        self._driver, self._names = driver, names
        self._arrived, self._released = threading.Semaphore(0), threading.Event()

    def __enter__(self):
        for name in self._names:
            setattr(self._driver, name, self._holding(getattr(self._driver, name)))
        return self

    def __exit__(self, *_):
        for name in self._names:
            delattr(self._driver, name)

    def _holding(self, act):
        def hold(*args, **kwargs):
            self._arrived.release()
            assert self._released.wait(60)
            return act(*args, **kwargs)

        return hold

    def wait_for(self, count):
        for _ in range(count):
            assert self._arrived.acquire(timeout=60)

    def release(self):
        self._released.set()


def attempt(action, *args, **kwargs):
    """Carry a message out as a server does, which logs what it ends in."""
    with contextlib.suppress(Exception):
        action(*args, **kwargs)


# The message, the task it comes with, what the driver is asked, and the states it may end in.
UNDER_WAY = {
    "run_instance": (task_states.SCHEDULING, {}, {vm_states.ERROR}),
    "terminate_instance": (task_states.DELETING, {}, {None}),
    "stop_instance": (task_states.POWERING_OFF, {}, {vm_states.STOPPED}),
    "pause_instance": (task_states.PAUSING, {}, {vm_states.ACTIVE, vm_states.PAUSED}),
    "reboot_instance": (task_states.REBOOTING, {}, {vm_states.ACTIVE}),
    "rescue_instance": (task_states.RESCUING, {}, {vm_states.RESCUED, vm_states.ACTIVE, vm_states.ERROR}),
    "snapshot_instance": (task_states.IMAGE_SNAPSHOT, {"image_id": "x"}, {vm_states.ACTIVE}),
}


DRIVEN = ("spawn", "destroy", "power_off", "pause", "reboot", "snapshot")


@contextlib.contextmanager
def all_under_way(world):
    """Give {method: instance} of actions that are at the driver, and wait for them after the block."""
    instances = {method: world.create() if method == "run_instance" else world.busy(world.boot(), task)
                 for method, (task, _, _) in UNDER_WAY.items()}
    with Barrier(world.compute.driver, DRIVEN) as barrier:
        workers = [concurrency.spawn(attempt, getattr(world.compute, method), world.context, instance=instance,
                                     **UNDER_WAY[method][1]) for method, instance in instances.items()]
        barrier.wait_for(len(instances))
        try:
            yield instances, barrier
        finally:
            barrier.release()
            for worker in workers:
                worker.wait(120)


def test_actions_end_in_order_although_the_database_server_was_killed_in_their_middle(world_and_server):
    world, server = world_and_server

    with all_under_way(world) as (instances, _):
        server.kill()
    server.restart()
    for _ in range(2):
        world.clock.advance(3700)
        world.compute.periodic_tasks(world.context)

    for method, (_, _, outcomes) in UNDER_WAY.items():
        found = found_in(world, instances[method])
        assert (found.vm_state if found else None) in outcomes, method
        assert found is None or found.task_state is None, method


# --- A SQLite file that another process holds ---

@pytest.fixture
def world_in_a_file(tmp_path):
    path = tmp_path / "cell.sqlite"
    made = World(tmp_path, grouped={("database", "connection"): f"sqlite:///{path}",
                                    ("database", "sqlite_busy_timeout"): 1})
    yield made, path
    made.close()


def test_actions_wait_for_a_locked_file_longer_than_one_writer_does_and_then_succeed(world_in_a_file):
    world, path = world_in_a_file
    outcomes = {"run_instance": vm_states.ACTIVE, "terminate_instance": None, "stop_instance": vm_states.STOPPED,
                "pause_instance": vm_states.PAUSED, "reboot_instance": vm_states.ACTIVE,
                "rescue_instance": vm_states.RESCUED, "snapshot_instance": vm_states.ACTIVE}
    other = sqlite3.connect(path, isolation_level=None)

    with all_under_way(world) as (instances, barrier):
        other.execute("BEGIN IMMEDIATE")
        barrier.release()
        with pytest.raises(db_exception.DBDeadlock), world.db.writer(None):
            pass  # it gives up after sqlite_busy_timeout, as those under way did once or are about to
        other.close()

    found = {method: found_in(world, instance) for method, instance in instances.items()}
    assert {method: one.vm_state if one else None for method, one in found.items()} == outcomes
    assert {one.task_state for one in found.values() if one} == {None}
