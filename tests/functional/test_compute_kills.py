"""nova-compute, a process on RabbitMQ, dies by kill -9 in the middle of an action and is started again.

Then the instance is as the table of recovery says, its guest is as the instance, no guest is there twice, and the
instance takes orders again. Every day others of the places are tried; NOVA_LITE_COMPUTE_KILLS=7 tries those of day 7,
NOVA_LITE_COMPUTE_KILLS=all every one (about ten minutes).
"""

import contextlib
import dataclasses
import datetime
import io
import os
import random
import time
from collections.abc import Callable, Sequence

import pytest

from nova_lite import conf as configuration
from nova_lite import exception, service
from nova_lite.objects import vm_states
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.services import new_databases
from tests.fixtures.xen_probe import XenProbe
from tests.fixtures.xensim import simulator_process

PLACES_A_DAY = 3
GENEROUS_S = 180
CALL_TIMEOUT_S = 15
WHICH = os.environ.get("NOVA_LITE_COMPUTE_KILLS") or str(datetime.date.today().toordinal())

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(3600 if WHICH == "all" else 600)]

ACTIVE, STOPPED, ERROR, GONE = vm_states.ACTIVE, vm_states.STOPPED, vm_states.ERROR, "gone"
# What a guest may be like, by the state of its instance; an instance in ERROR may be without one.
GUESTS = {ACTIVE: {"Running"}, STOPPED: {"Halted"}, vm_states.PAUSED: {"Paused"}, vm_states.SUSPENDED: {"Suspended"},
          vm_states.SOFT_DELETED: {"Halted"}, vm_states.RESIZED: {"Running"}, vm_states.RESCUED: {"Running", "Halted"},
          ERROR: {"Running", "Halted", None}, GONE: {None}}


@dataclasses.dataclass
class Action:
    """An order at the top: what goes before it, and the states that a death in it may end in."""

    calls: Sequence[str]
    outcomes: set[str]
    first: Sequence[tuple[str, str]] = ()
    arguments: tuple = ()
    order: Callable | None = None


def _snapshot(tree, uuid):
    tree.api.compute_api.snapshot(tree.context(), tree.instance(uuid), "picture")


def _attach(tree, uuid):
    volume = tree.api.services.volume_api.create(tree.context(), 1, "data", "")
    tree.api.compute_api.attach_volume(tree.context(), tree.instance(uuid), volume["id"])


def _build(tree, uuid):
    """The build is the order: it was given already."""


ACTIONS = {
    "build": Action(["spawn"], {ERROR, ACTIVE}, order=_build),
    "stop": Action(["power_off"], {STOPPED}),
    "start": Action(["power_on"], {ACTIVE}, [("stop", STOPPED)]),
    "reboot": Action(["reboot"], {ACTIVE}, arguments=("SOFT",)),
    "pause": Action(["pause"], {vm_states.PAUSED, ACTIVE}),
    "unpause": Action(["unpause"], {ACTIVE}, [("pause", vm_states.PAUSED)]),
    "suspend": Action(["suspend"], {vm_states.SUSPENDED, ACTIVE}),
    "resume": Action(["resume"], {vm_states.SUSPENDED, ACTIVE}, [("suspend", vm_states.SUSPENDED)]),
    "soft_delete": Action(["soft_delete"], {vm_states.SOFT_DELETED}),
    "restore": Action(["restore"], {ACTIVE}, [("soft_delete", vm_states.SOFT_DELETED)]),
    "rescue": Action(["rescue"], {vm_states.RESCUED, ACTIVE, ERROR}, arguments=("secret",)),
    "unrescue": Action(["unrescue"], {ACTIVE, vm_states.RESCUED}, [("rescue", vm_states.RESCUED)]),
    "rebuild": Action(["destroy", "spawn"], {ERROR}, arguments=("image", "secret")),
    "delete": Action(["destroy"], {GONE}),
    "snapshot": Action(["snapshot"], {ACTIVE}, order=_snapshot),
    "attach_volume": Action(["attach_volume"], {ACTIVE}, order=_attach),
    "resize": Action(["migrate_disk_and_power_off", "finish_migration"], {ACTIVE, vm_states.RESIZED}),
    "confirm_resize": Action(["confirm_migration"], {ACTIVE}, [("resize", vm_states.RESIZED)]),
    "revert_resize": Action(["destroy", "finish_revert_migration"], {ACTIVE}, [("resize", vm_states.RESIZED)]),
    "live_migrate": Action(["pre_live_migration", "live_migration"], {ACTIVE}, arguments=(True, False, None)),
}
PLACES = [(name, f"{when}:{call}") for name, action in ACTIONS.items() for call in action.calls
          for when in ("before", "after")]
TODAY = PLACES if WHICH == "all" else random.Random(WHICH).sample(PLACES, PLACES_A_DAY)


class Tree(Fleet):
    """A cell with two hosts whose nova-compute are mortal."""

    def build(self, simulators):
        cell = self.add_cell("api")
        cell.config.write_text(cell.config.read_text().replace("cell_type = api", "cell_type = compute"))
        self.fate = self.directory / "fate"
        self.probes = []
        for number, url in enumerate(simulators, 1):
            host = self.add_host("api", f"h{number}", url)
            host.daemon.module = "tests.functional.mortal_compute"
            host.daemon.environment = {"MORTAL_DIRECTORY": str(self.directory)}
            self.probes.append(XenProbe(url))
        cell.client("network", "create", "net", "--cidr", "10.1.0.0/24", "--bridge", "xenbr0")
        files = [str(path) for path in cell.config_files()]
        self.api = service.build_api(configuration.load([], prog="test", config_files=files, config_dirs=[]))
        self.image = self.api.services.image_api.create(
            self.context(), {"name": "image", "disk_format": "raw", "container_format": "bare"},
            io.BytesIO(b"disk" * 1024))["id"]
        for resource in ("instances", "cores", "ram"):
            self.api.services.db.quota_create(self.context(), "project", resource, -1)
        self.start()
        wait_until(self.hosts_are_up, self.logs, GENEROUS_S)
        return self

    def hosts_are_up(self):
        with contextlib.suppress(exception.NovaException):
            capacities = self.api.cells_api.get_capacities(self.context(deadline=time.time() + 10), "api")
            nodes = self.api.services.db.compute_node_get_all(self.context())
            return len(nodes) == 2 and capacities.get("ram_free", {}).get("total_mb", 0) > 0
        return False

    def context(self, **values):
        return self.api.context(user_id="user", project_id="project", is_admin=True, roles=["admin"], **values)

    def create(self, name):
        ctxt = self.context()
        flavor = ctxt.services.db.flavor_get_by_flavor_id(ctxt, "1")
        [instance], _ = self.api.compute_api.create(ctxt, flavor, self.image, display_name=name)
        return instance.uuid

    def instance(self, uuid):
        return self.api.compute_api.get(self.context(), uuid)

    def order(self, name, uuid):
        action = ACTIONS[name]
        if action.order is not None:
            action.order(self, uuid)
            return
        arguments = [self.image if each == "image" else each for each in action.arguments]
        getattr(self.api.compute_api, name)(self.context(), self.instance(uuid), *arguments)

    def state(self, uuid):
        """The vm_state of an idle instance, 'gone' without one, None of one that is worked on."""
        try:
            instance = self.instance(uuid)
        except exception.InstanceNotFound:
            return GONE
        return instance.vm_state if instance.task_state is None and instance.vm_state != vm_states.BUILDING else None

    def guests(self, uuid):
        """The power states of the instance's guests, those that a resize has kept for its revert left out."""
        found = [probe.instances().get(uuid) for probe in self.probes]
        return [guest["power_state"] for guest in found if guest and not guest["name_label"].endswith("-orig")]

    def reach(self, uuid, state):
        wait_until(lambda: self.state(uuid) == state, lambda: self.tell(uuid), GENEROUS_S)

    def is_in_order(self, uuid, outcomes):
        state, guests = self.state(uuid), self.guests(uuid)
        return state in outcomes and len(guests) <= 1 and (guests or [None])[0] in GUESTS[state]

    def has_died(self):
        return (self.directory / "died").exists() and not all(daemon.is_running() for daemon in self.daemons())

    def raise_the_dead(self):
        (self.directory / "died").unlink()
        for daemon in self.daemons():
            if not daemon.is_running():
                daemon.start()

    def tell(self, uuid):
        rows = self.api.services.db.instance_get_all_by_uuids(self.context(read_deleted="yes"), [uuid])
        moves = self.api.services.db.migration_get_all_by_filters(self.context(), {"instance_uuid": uuid})
        return "\n".join([
            str([(row["vm_state"], row["task_state"], row["host"], row["deleted"]) for row in rows]),
            str([(move["status"], move["source_compute"], move["dest_compute"]) for move in moves]),
            str(self.guests(uuid)), self.logs()])

    def logs(self):
        return "\n".join(f"--- {one.log_path.name}\n{one.log()[-3000:]}" for one in self.daemons())

    def stop(self):
        with contextlib.suppress(AttributeError):
            self.api.close()
        super().stop()


@pytest.fixture(scope="module")
def tree(tmp_path_factory, rabbit_server):
    directory = tmp_path_factory.mktemp("kills")
    rabbit_server.forget_vhosts()
    options = (f"rpc_response_timeout = {CALL_TIMEOUT_S}\n"
               f"[volume]\nbackend = local\nstore_path = {directory}/volumes\n[DEFAULT]\n")
    with (
        simulator_process(directory, name="xen1") as first,
        simulator_process(directory, name="xen2") as second,
        Tree(directory / "fleet", rabbit=rabbit_server, extra_options=options,
             new_database=new_databases(directory)) as fleet,
    ):
        yield fleet.build([first.url, second.url])


@pytest.mark.parametrize(("name", "point"), TODAY, ids=lambda value: value)
def test_an_instance_is_in_order_after_a_death_in_the_middle_of_an_action(tree, name, point):
    print(f"NOVA_LITE_COMPUTE_KILLS={WHICH}")
    if name == "build":
        tree.fate.write_text(point)
    uuid = tree.create(f"{name}-{point.replace(':', '-')}")
    if name != "build":
        tree.reach(uuid, ACTIVE)
        for earlier, state in ACTIONS[name].first:
            tree.order(earlier, uuid)
            tree.reach(uuid, state)
        tree.fate.write_text(point)

    tree.order(name, uuid)
    wait_until(tree.has_died, lambda: tree.tell(uuid), GENEROUS_S)
    tree.raise_the_dead()

    wait_until(lambda: tree.is_in_order(uuid, ACTIONS[name].outcomes), lambda: tree.tell(uuid), GENEROUS_S)
    if tree.state(uuid) != GONE:
        tree.api.compute_api.force_delete(tree.context(), tree.instance(uuid))
        tree.reach(uuid, GONE)
    wait_until(lambda: not tree.guests(uuid), lambda: tree.tell(uuid), GENEROUS_S)
