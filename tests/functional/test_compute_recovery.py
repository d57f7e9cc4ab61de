"""nova-compute dies at any point of any action: on its next start every instance is in order.

In the test's process a death is an exception that nothing but Python's own clean-up sees, raised before one call of the
database or the driver; the guests of the fake hypervisor outlive it. In other runs the database refuses everything from
one of its calls on.

NOVA_LITE_CRASH_POINTS=all tries every point; by default every action is tried at a few points spread over it.
"""

import contextlib
import json
import os
import threading

import pytest
from oslo_db import exception as db_exception

from nova_lite import concurrency, exception, objects
from nova_lite.compute import rpcapi
from nova_lite.compute.manager import ComputeManager
from nova_lite.objects import power_state, task_states, vm_states
from tests.fixtures.mariadb import mariadb_server
from tests.unit.compute.world import World

POINTS = os.environ.get("NOVA_LITE_CRASH_POINTS", "3")
pytestmark = pytest.mark.timeout(3600 if POINTS == "all" else 300)

RUNNING, DOWN = power_state.RUNNING, power_state.SHUTDOWN
IDLE = {vm_states.ACTIVE, vm_states.STOPPED, vm_states.PAUSED, vm_states.SUSPENDED, vm_states.RESCUED,
        vm_states.SOFT_DELETED, vm_states.ERROR, vm_states.RESIZED}


class Death(BaseException):
    """The end of a process: no handler of `Exception` sees it."""


class Killer:
    """Counts the calls of the database and the driver, and dies before the one it is told."""

    def __init__(self, world):
        self._world = world
        self.calls = []
        self.error = Death
        self._die_at = None
        self._dead = False
        self._originals = []
        database = world.db
        for name in dir(type(database)):
            if not name.startswith("_") and hasattr(getattr(type(database), name), "is_operation"):
                self._watch(database, name)

    def watch_driver(self, driver):
        for name in dir(driver):
            if not name.startswith("_") and name not in ("instances", "capabilities") and callable(
                    getattr(driver, name)):
                self._watch(driver, name)

    def _watch(self, owner, name):
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            if self.error is Death or owner is self._world.db:
                self._count(name)
            return original(*args, **kwargs)

        setattr(owner, name, watched)
        self._originals.append((owner, name))

    def _count(self, name):
        if self._dead:
            raise self.error
        if self._die_at is not None:
            self.calls.append(name)
            if len(self.calls) == self._die_at:
                self._dead = True
                raise self.error

    def run(self, action, die_at):
        """Run the action; tell whether it died."""
        self.calls, self._die_at, self._dead = [], die_at, False
        try:
            action()
        except Death:
            return True
        except Exception:
            return self._dead
        finally:
            self._die_at = None
            died, self._dead = self._dead, False
        return died

    def let_go(self):
        for owner, name in self._originals:
            if name in vars(owner):
                delattr(owner, name)


def found_in(world, instance):
    try:
        return world.reload(instance)
    except exception.InstanceNotFound:
        return None


class Mail:
    """The broker between the hosts: messages wait until they are delivered, one after the other."""

    def __init__(self):
        self.waiting = []

    def cast(self, ctxt, method, *, server, version=None, **arguments):
        self.waiting.append((server, method, json.loads(json.dumps(arguments))))

    def call(self, ctxt, method, **arguments):
        raise exception.RpcTimeout(reason="nobody answers")


class Deaths:
    """Two hosts that die in the middle of what they do, and come back to the guests they had."""

    def __init__(self, directory):
        self.world = World(directory)
        self.hosts = {"here": self.world.compute, "there": self.world.add_host("there")}
        self.mail = Mail()
        self.killer = Killer(self.world)
        for compute in self.hosts.values():
            self.killer.watch_driver(compute.driver)
            compute.compute_rpcapi._client = self.mail

    def close(self):
        self.killer.let_go()
        self.world.close()

    def restart(self, host="here"):
        """A new process on the same host."""
        old = self.hosts[host]
        old.driver.register_event_listener(None)
        new = self.hosts[host] = ComputeManager(old.driver, services=old.services)
        new.compute_rpcapi._client = self.mail
        if host == "here":
            self.world.compute = new
        new.init_host()
        new.pre_start_hook()
        new.periodic_tasks(self.world.context)

    def deliver(self, die_at=None):
        """Deliver all messages, dying before the call `die_at` of what they do; tell who died and where."""
        made = 0
        while self.mail.waiting:
            server, method, arguments = self.mail.waiting.pop(0)
            act = getattr(self.hosts[server], method)
            died = self.killer.run(lambda act=act, a=arguments: act(self.world.context, **a),
                                   10 ** 9 if die_at is None else die_at - made)
            made += len(self.killer.calls)
            if died:
                return server, f"{server} died in {method} at {self.killer.calls[-1]}"
        return None, made

    def settle(self, rounds=4):
        """Let the hosts notice, in their time, what nobody works on, until nothing is left to deliver."""
        for _ in range(rounds):
            self.deliver()
            self.world.clock.advance(3700)
            for compute in self.hosts.values():
                compute.periodic_tasks(self.world.context)

    def found(self, instance):
        return found_in(self.world, instance)

    def clear(self, instance):
        """Make room for the next one."""
        if self.found(instance) is not None:
            self.world.compute.terminate_instance(self.world.context, instance=instance)
        self.world.shelf.volumes.clear()
        self.world.shelf.connections.clear()

    def guest_state(self, instance, compute=None):
        guest = self.world.guest(instance, compute)
        return guest.state if guest else None


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    made = Deaths(tmp_path_factory.mktemp("deaths"))
    yield made
    made.close()


# What the API has set, the message, and the states that may follow a death in it.
ACTIONS = {
    "run_instance": (None, {}, {vm_states.ERROR, vm_states.ACTIVE}),
    "terminate_instance": (task_states.DELETING, {}, {None}),
    "soft_delete_instance": (task_states.SOFT_DELETING, {}, {vm_states.SOFT_DELETED, vm_states.ACTIVE}),
    "stop_instance": (task_states.POWERING_OFF, {}, {vm_states.STOPPED}),
    "start_instance": (task_states.POWERING_ON, {}, {vm_states.ACTIVE}),
    "pause_instance": (task_states.PAUSING, {}, {vm_states.PAUSED, vm_states.ACTIVE}),
    "unpause_instance": (task_states.UNPAUSING, {}, {vm_states.ACTIVE}),
    "suspend_instance": (task_states.SUSPENDING, {}, {vm_states.SUSPENDED, vm_states.ACTIVE}),
    "resume_instance": (task_states.RESUMING, {}, {vm_states.SUSPENDED, vm_states.ACTIVE}),
    "restore_instance": (task_states.RESTORING, {}, {vm_states.ACTIVE}),
    "reboot_instance": (task_states.REBOOTING, {"reboot_type": "SOFT"}, {vm_states.ACTIVE}),
    "rebuild_instance": (task_states.REBUILDING, {"orig_image_ref": None, "image_ref": None, "injected_files": None,
                                                  "new_pass": None}, {vm_states.ERROR, vm_states.ACTIVE}),
    "rescue_instance": (task_states.RESCUING, {}, {vm_states.RESCUED, vm_states.ACTIVE, vm_states.ERROR}),
    "unrescue_instance": (task_states.UNRESCUING, {}, {vm_states.ACTIVE}),
    "snapshot_instance": (task_states.IMAGE_SNAPSHOT, {"image_id": "snapshot"}, {vm_states.ACTIVE}),
    "set_admin_password": (task_states.UPDATING_PASSWORD, {"new_pass": "secret"}, {vm_states.ACTIVE}),
    "add_fixed_ip_to_instance": (None, {"network_id": "net"}, {vm_states.ACTIVE}),
    "attach_volume": (None, {"volume_id": "volume", "mountpoint": "/dev/xvdc"}, {vm_states.ACTIVE}),
    "detach_volume": (None, {"volume_id": "volume"}, {vm_states.ACTIVE}),
}
BEFORE = {
    "start_instance": (vm_states.STOPPED, DOWN), "unpause_instance": (vm_states.PAUSED, power_state.PAUSED),
    "resume_instance": (vm_states.SUSPENDED, power_state.SUSPENDED), "unrescue_instance": (vm_states.RESCUED, RUNNING),
    "restore_instance": (vm_states.SOFT_DELETED, DOWN),
}
GUESTS = {vm_states.ACTIVE: {RUNNING}, vm_states.STOPPED: {DOWN}, vm_states.PAUSED: {power_state.PAUSED},
          vm_states.SUSPENDED: {power_state.SUSPENDED}, vm_states.SOFT_DELETED: {DOWN}, None: {None},
          vm_states.RESCUED: {RUNNING}, vm_states.ERROR: {None, RUNNING, DOWN}}


def prepared(deaths, method):
    """An instance for the action, and its arguments."""
    world = deaths.world
    task_state, arguments, _ = ACTIONS[method]
    if method == "run_instance":
        return world.create(), arguments
    instance = world.boot()
    vm_state, guest = BEFORE.get(method, (vm_states.ACTIVE, RUNNING))
    world.guest(instance).state = guest
    arguments = {name: world.network["uuid"] if value == "net" else value for name, value in arguments.items()}
    if "volume_id" in arguments:
        arguments["volume_id"] = world.shelf.add("attaching")
    if method == "detach_volume":
        world.compute.attach_volume(world.context, arguments["volume_id"], "/dev/xvdc", instance)
        world.shelf.begin_detaching(world.context, arguments["volume_id"])
    if method == "snapshot_instance":
        arguments["image_id"] = world.services.image_api.create(world.context, {"name": "snapshot"})["id"]
    return world.busy(instance, task_state, vm_state=vm_state, power_state=guest), arguments


def points(count):
    """The calls at which to die: all of them, or a few spread over them."""
    if POINTS == "all" or count <= int(POINTS):
        return range(1, count + 1)
    wanted = int(POINTS)
    return sorted({1 + round(step * (count - 1) / (wanted - 1)) for step in range(wanted)})


def calls_of(deaths, method):
    """How many calls an undisturbed run of the action makes."""
    instance, arguments = prepared(deaths, method)
    act = getattr(deaths.world.compute, method)
    deaths.killer.run(lambda: act(deaths.world.context, instance=instance, **arguments), 10 ** 9)
    made = len(deaths.killer.calls)
    deaths.clear(instance)
    assert made > 0
    return made


def is_nobodys(instance):
    """Whether no host has the build: then its cell gives it up in time (LostBuilds)."""
    return instance is not None and instance.vm_state == vm_states.BUILDING and instance.host is None


def complaints(deaths, instance, allowed):
    """What is not as the recovery table says."""
    now = deaths.found(instance)
    vm_state = now.vm_state if now else None
    guest = deaths.guest_state(instance)
    if vm_state not in allowed:
        yield f"it is {vm_state}"
    if now is not None and now.task_state is not None:
        yield f"its task is {now.task_state}"
    if guest not in GUESTS.get(vm_state, ()):
        yield f"it is {vm_state} and its guest {guest}"
    yield from complaints_about_volumes(deaths, instance)


def complaints_about_volumes(deaths, instance):
    """What is between two states although nobody is at it. An attachment that was not begun may still be."""
    rows = deaths.world.db.block_device_mapping_get_all_by_instance(deaths.world.context, instance.uuid)
    attached = {row["volume_id"] for row in rows if row["connection_info"]}
    for volume_id, volume in deaths.world.shelf.volumes.items():
        begun = any(connected == volume_id for connected, _ in deaths.world.shelf.connections)
        if volume["status"] == "detaching" or (volume["status"] == "attaching" and begun):
            yield f"its volume is {volume['status']}"
        if (volume_id in attached) is not (volume["status"] == "in-use"):
            yield f"its volume is {volume['status']} and {'' if volume_id in attached else 'not '}recorded as its own"


@pytest.mark.parametrize("method", ACTIONS)
def test_a_host_that_dies_in_an_action_puts_its_instance_in_order_when_it_comes_back(deaths, method):
    world, wrong = deaths.world, []
    for point in points(calls_of(deaths, method)):
        instance, arguments = prepared(deaths, method)
        act = getattr(world.compute, method)
        deaths.killer.run(lambda act=act, i=instance, a=arguments: act(world.context, instance=i, **a), point)
        left_at = f"died at call {point}, {deaths.killer.calls[-1]}"

        deaths.restart()

        if not is_nobodys(deaths.found(instance)):
            wrong += [f"{left_at}: {complaint}" for complaint in complaints(deaths, instance, ACTIONS[method][2])]
        deaths.clear(instance)

    assert not wrong, "\n".join(wrong)


@pytest.fixture
def database_goes_away(deaths):
    """From the call that is told on, the database refuses everything until the action has ended."""
    deaths.killer.error = db_exception.DBConnectionError("refused")
    yield
    deaths.killer.error = Death


@pytest.mark.parametrize("method", ACTIONS)
def test_an_action_that_the_database_leaves_alone_ends_in_order_once_it_is_back(deaths, method, database_goes_away):
    world, wrong = deaths.world, []
    for point in points(calls_of(deaths, method)):
        instance, arguments = prepared(deaths, method)
        act = getattr(world.compute, method)
        deaths.killer.run(lambda act=act, i=instance, a=arguments: act(world.context, instance=i, **a), point)
        left_at = f"refused from call {point}, {deaths.killer.calls[-1]}"

        deaths.settle(rounds=2)  # a comparison of power states puts what is stuck off

        if not is_nobodys(deaths.found(instance)):
            allowed = ACTIONS[method][2] | {vm_states.ERROR}
            wrong += [f"{left_at}: {complaint}" for complaint in complaints(deaths, instance, allowed)]
        deaths.clear(instance)

    assert not wrong, "\n".join(wrong)


# --- Moves between two hosts ---

def resize_asked(deaths):
    """An instance whose resize from here to there was just sent off."""
    world = deaths.world
    instance = world.busy(world.boot(), task_states.RESIZE_PREP)
    flavor = objects.Flavor.get_by_flavor_id(world.context, "2")
    deaths.mail.waiting.append(("there", "prep_resize", {
        "image": {}, "instance": rpcapi.primitive(instance), "instance_type": rpcapi.primitive(flavor),
        "request_spec": {}, "filter_properties": {}, "node": "there-node"}))
    return instance


def resized(deaths):
    instance = resize_asked(deaths)
    deaths.deliver()
    instance = deaths.world.reload(instance)
    assert (instance.vm_state, instance.host) == (vm_states.RESIZED, "there")
    return instance, objects.MigrationList.get_by_filters(
        deaths.world.context, {"instance_uuid": instance.uuid, "status": "finished"})[0]


def confirm_asked(deaths):
    instance, migration = resized(deaths)
    migration.status = "confirming"
    migration.save()
    deaths.mail.waiting.append(("here", "confirm_resize", {"instance": rpcapi.primitive(instance),
                                                           "migration": rpcapi.primitive(migration)}))
    return instance


def revert_asked(deaths):
    instance, migration = resized(deaths)
    migration.status = "reverting"
    migration.save()
    instance = deaths.world.busy(instance, task_states.RESIZE_REVERTING)
    deaths.mail.waiting.append(("there", "revert_resize", {"instance": rpcapi.primitive(instance),
                                                           "migration": rpcapi.primitive(migration)}))
    return instance


MOVES = {
    resize_asked: {(vm_states.RESIZED, "there"), (vm_states.ACTIVE, "here")},
    confirm_asked: {(vm_states.ACTIVE, "there")},
    revert_asked: {(vm_states.ACTIVE, "here")},
}
SETTLED = {"finished", "confirmed", "reverted", "error"}


def complaints_of_a_move(deaths, instance, allowed):
    now = deaths.found(instance)
    if (now.vm_state, now.host) not in allowed:
        yield f"it is {now.vm_state} on {now.host}"
    if now.task_state is not None:
        yield f"its task is {now.task_state}"
    running = [host for host, compute in deaths.hosts.items() if deaths.guest_state(instance, compute) == RUNNING]
    if running != [now.host]:
        yield f"it is on {now.host} and runs on {running}"
    statuses = {move.status for move in objects.MigrationList.get_by_filters(
        deaths.world.context, {"instance_uuid": instance.uuid})}
    if not statuses <= SETTLED:
        yield f"its migrations are {statuses}"


@pytest.mark.parametrize("ask", MOVES, ids=lambda ask: ask.__name__)
def test_a_move_in_which_either_host_dies_ends_finished_or_reverted(deaths, ask):
    ask(deaths)
    _, count = deaths.deliver()
    wrong = []
    for point in points(count):
        instance = ask(deaths)
        host, left_at = deaths.deliver(die_at=point)
        deaths.restart(host)
        deaths.settle()
        wrong += [f"{left_at}: {complaint}" for complaint in complaints_of_a_move(deaths, instance, MOVES[ask])]
        now = deaths.found(instance)
        deaths.hosts[now.host].terminate_instance(deaths.world.context, instance=now)

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


# --- A database server that is killed ---

@pytest.fixture
def world_on_mariadb(tmp_path):
    with mariadb_server(durable=True) as server:
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


@pytest.mark.timeout(300)
def test_actions_end_in_order_although_the_database_server_was_killed_in_their_middle(world_on_mariadb):
    world, server = world_on_mariadb
    instances = {method: world.create() if method == "run_instance" else world.busy(world.boot(), task)
                 for method, (task, _, _) in UNDER_WAY.items()}

    with Barrier(world.compute.driver, ("spawn", "destroy", "power_off", "pause", "reboot", "snapshot")) as barrier:
        workers = [concurrency.spawn(attempt, getattr(world.compute, method), world.context, instance=instance,
                                     **UNDER_WAY[method][1]) for method, instance in instances.items()]
        barrier.wait_for(len(instances))
        server.kill()
        barrier.release()
        for worker in workers:
            worker.wait(120)
    server.restart()
    for _ in range(2):
        world.clock.advance(3700)
        world.compute.periodic_tasks(world.context)

    for method, (_, _, outcomes) in UNDER_WAY.items():
        found = found_in(world, instances[method])
        assert (found.vm_state if found else None) in outcomes, method
        assert found is None or found.task_state is None, method
