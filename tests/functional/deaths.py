"""Two hosts that die, or whose database goes away, in the middle of what they do; and what has to be in order then.

A death is an exception that nothing but Python's own clean-up sees, raised before one call of the database or the
driver; the guests of the fake hypervisor outlive it. The database refuses everything from one of its calls on.

NOVA_LITE_CRASH_POINTS=all tries every point; by default every action is tried at a few points spread over it.
"""

import functools
import json
import os

from nova_lite import exception, objects
from nova_lite.compute import rpcapi
from nova_lite.compute.manager import ComputeManager
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.objects.network_model import NetworkInfo
from tests.unit.compute.world import World

POINTS = os.environ.get("NOVA_LITE_CRASH_POINTS", "3")
TIMEOUT_S = 3600 if POINTS == "all" else 300

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
    """The broker between the hosts: messages wait until they are delivered, one after the other.

    Calls are answered while `answers` is set.
    """

    def __init__(self, hosts):
        self.waiting = []
        self.answers = False
        self._hosts = hosts

    def cast(self, ctxt, method, *, server, version=None, **arguments):
        self.waiting.append((server, method, json.loads(json.dumps(arguments))))

    def call(self, ctxt, method, *, server, version=None, **arguments):
        if not self.answers:
            raise exception.RpcTimeout(reason="nobody answers")
        return getattr(self._hosts[server], method)(ctxt, **json.loads(json.dumps(arguments)))


class Deaths:
    """Two hosts that die in the middle of what they do, and come back to the guests they had."""

    def __init__(self, directory):
        self.world = World(directory)
        self.hosts = {"here": self.world.compute, "there": self.world.add_host("there")}
        self.mail = Mail(self.hosts)
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


# What the API has set, the arguments, and the states that may follow a death in it. MESSAGES names those messages that
# are not called as their actions.
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
    "backup": (task_states.IMAGE_BACKUP, {"image_id": "snapshot", "image_type": "backup", "backup_type": "daily",
                                          "rotation": 1}, {vm_states.ACTIVE}),
    "attach_interface": (None, {"network_id": "net", "port_id": None}, {vm_states.ACTIVE}),
    "detach_interface": (None, {"port_id": "port"}, {vm_states.ACTIVE}),
    "remove_fixed_ip_from_instance": (None, {"address": "address"}, {vm_states.ACTIVE}),
    "get_vnc_console": (None, {"console_type": "novnc"}, {vm_states.ACTIVE}),
    "get_console_output": (None, {}, {vm_states.ACTIVE}),
    "change_instance_metadata": (None, {"diff": {"role": ["+", "web"]}}, {vm_states.ACTIVE}),
}
MESSAGES = {"backup": "snapshot_instance"}
BEFORE = {
    "start_instance": (vm_states.STOPPED, DOWN), "unpause_instance": (vm_states.PAUSED, power_state.PAUSED),
    "resume_instance": (vm_states.SUSPENDED, power_state.SUSPENDED), "unrescue_instance": (vm_states.RESCUED, RUNNING),
    "restore_instance": (vm_states.SOFT_DELETED, DOWN),
}
GUESTS = {vm_states.ACTIVE: {RUNNING}, vm_states.STOPPED: {DOWN}, vm_states.PAUSED: {power_state.PAUSED},
          vm_states.SUSPENDED: {power_state.SUSPENDED}, vm_states.SOFT_DELETED: {DOWN}, None: {None},
          vm_states.RESCUED: {RUNNING}, vm_states.ERROR: {None, RUNNING, DOWN}}


def prepared(deaths, action):
    """An instance for the action, and what carries its message out."""
    world = deaths.world
    if action == "run_instance":
        instance, arguments = world.create(), {}
    else:
        instance = world.boot()
        vm_state, guest = BEFORE.get(action, (vm_states.ACTIVE, RUNNING))
        world.guest(instance).state = guest
        arguments = arguments_of(world, action, instance)
        instance = world.busy(instance, ACTIONS[action][0], vm_state=vm_state, power_state=guest)
    method = getattr(world.compute, MESSAGES.get(action, action))
    return instance, functools.partial(method, world.context, instance=instance, **arguments)


def arguments_of(world, action, instance):
    """The arguments of the message; what they name is made."""
    arguments = dict(ACTIONS[action][1])
    if "network_id" in arguments:
        arguments["network_id"] = world.network["uuid"]
    if "image_id" in arguments:
        arguments["image_id"] = world.services.image_api.create(world.context, {"name": "snapshot"})["id"]
    if "volume_id" in arguments:
        arguments["volume_id"] = world.shelf.add("attaching")
    if action == "detach_volume":
        world.compute.attach_volume(world.context, arguments["volume_id"], "/dev/xvdc", instance)
        world.shelf.begin_detaching(world.context, arguments["volume_id"])
    if action == "detach_interface":
        _, mapping = world.compute.attach_interface(world.context, instance, world.network["uuid"], None)
        arguments["port_id"] = mapping["vif_uuid"]
    if action == "remove_fixed_ip_from_instance":
        world.compute.add_fixed_ip_to_instance(world.context, world.network["uuid"], instance)
        arguments["address"] = sorted(addresses_of(world, instance))[-1]
    return arguments


def addresses_of(world, instance):
    """The addresses that the database says are the instance's."""
    return {row["address"] for row in world.db.fixed_ip_get_by_instance(world.context, instance.uuid)}


def points(count):
    """The calls at which to die: all of them, or a few spread over them."""
    if POINTS == "all" or count <= int(POINTS):
        return range(1, count + 1)
    wanted = int(POINTS)
    return sorted({1 + round(step * (count - 1) / (wanted - 1)) for step in range(wanted)})


def calls_of(deaths, action):
    """How many calls an undisturbed run of the action makes."""
    instance, act = prepared(deaths, action)
    deaths.killer.run(act, 10 ** 9)
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
    known = {ip["address"] for ip in NetworkInfo.hydrate(now.info_cache.network_info).fixed_ips()} if now else set()
    if known != addresses_of(deaths.world, instance):
        yield f"its addresses are {addresses_of(deaths.world, instance)}, it has {known}"


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
SETTLED = {"finished", "confirmed", "reverted", "completed", "failed", "done", "error"}


def complaints_of_a_move(deaths, instance, allowed, may_be_nowhere=False):
    """What is not in order after a move; whether the guest of one in ERROR `may_be_nowhere` is told."""
    now = deaths.found(instance)
    if (now.vm_state, now.host) not in allowed:
        yield f"it is {now.vm_state} on {now.host}"
    if now.task_state is not None:
        yield f"its task is {now.task_state}"
    running = [host for host, compute in deaths.hosts.items() if deaths.guest_state(instance, compute) == RUNNING]
    if running != [now.host] and not (may_be_nowhere and now.vm_state == vm_states.ERROR and not running):
        yield f"it is on {now.host} and runs on {running}"
    statuses = {move.status for move in objects.MigrationList.get_by_filters(
        deaths.world.context, {"instance_uuid": instance.uuid})}
    if not statuses <= SETTLED:
        yield f"its migrations are {statuses}"


