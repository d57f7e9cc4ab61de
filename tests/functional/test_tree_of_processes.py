"""Three cells, two compute hosts and two XenServers, each a process of its own, on RabbitMQ and each database."""

import concurrent.futures
import contextlib
import hashlib
import os
import signal
import time

import pytest

from nova_lite import conf as configuration
from nova_lite import exception, service
from nova_lite.objects import vm_states
from nova_lite.objects.network_model import NetworkInfo
from tests.fixtures.fleet import Fleet
from tests.fixtures.ports import free_port
from tests.fixtures.processes import Daemon, wait_until
from tests.fixtures.xen_probe import XenProbe
from tests.functional.conftest import database_factory

IMAGE = os.urandom(64 * 1024) + bytes(4 * 1024 * 1024) + os.urandom(64 * 1024)
RACK = "api!west!rack"


@contextlib.contextmanager
def simulator(directory, name):
    """A simulated XenServer in a process of its own; gives its URL."""
    port = free_port()
    daemon = Daemon(
        "nova_lite.cmd.xensim",
        log=directory / f"{name}.log",
        arguments=["--listen", f"127.0.0.1:{port}", "--hosts", "1", "--state", str(directory / name)],
    ).start()
    try:
        wait_until(lambda: "listening" in daemon.log().lower(), lambda: f"{name} is not up:\n{daemon.log()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        daemon.kill()


class Tree(Fleet):
    """api -> west -> rack, with host1 and host2 in rack."""

    project = "project"

    def build(self, simulators):
        self.add_cell("api")
        self.add_cell("west", parent="api")
        self.add_cell("rack", parent="west")
        self.probes = {}
        for number, url in enumerate(simulators, 1):
            self.add_host("rack", f"host{number}", url)
            self.probes[f"host{number}"] = XenProbe(url)
        return self

    def prepare(self, directory):
        """Give the rack a network and all cells an image, then start everything and wait for capacity at the top."""
        self.cells["rack"].client("network", "create", "net", "--cidr", "10.1.0.0/24", "--bridge", "xenbr0")
        image = directory / "image.raw"
        image.write_bytes(IMAGE)
        self.cells["api"].client("image", "create", "image", "--file", image, "--disk-format", "raw")
        self.start()
        files = [str(path) for path in self.cells["api"].config_files()]
        self.api = service.build_api(configuration.load([], prog="test", config_files=files, config_dirs=[]))
        self.wait_for_capacity()
        return self

    def wait_for_capacity(self):
        def has_room():
            ctxt = self.context()
            ctxt.deadline = time.time() + 10
            try:
                capacities = self.api.cells_api.get_capacities(ctxt, "west")
            except exception.NovaException:
                return False
            return capacities.get("ram_free", {}).get("total_mb", 0) > 0

        wait_until(has_room, lambda: "no capacity at the top\n" + self.logs(), 60)

    def context(self):
        return self.api.context(user_id="user", project_id=self.project, is_admin=True, roles=["admin"])

    def create(self, name):
        ctxt = self.context()
        flavor = ctxt.services.db.flavor_get_by_flavor_id(ctxt, "1")
        image = next(one for one in ctxt.services.image_api.detail(ctxt) if one["name"] == "image")
        instances, _ = self.api.compute_api.create(ctxt, flavor, image["id"], display_name=name)
        return instances[0].uuid

    def instance(self, uuid):
        return self.api.compute_api.get(self.context(), uuid)

    def wait_for_state(self, uuid, state, timeout_s=90):
        def arrived():
            instance = self.instance(uuid)
            return instance if (instance.vm_state, instance.task_state) == (state, None) else None

        def tell():
            instance = self.instance(uuid)
            return f"{uuid} is {instance.vm_state}/{instance.task_state} instead of {state}\n{self.logs()}"

        return wait_until(arrived, tell, timeout_s)

    def wait_until_gone(self, uuid):
        def gone():
            try:
                self.instance(uuid)
            except exception.InstanceNotFound:
                return True
            return False

        wait_until(gone, lambda: f"{uuid} is not deleted at the top\n{self.logs()}", 60)

    def logs(self):
        return "\n".join(f"--- {one.log_path.name}\n{one.log()[-3000:]}" for one in self.daemons())

    def tracebacks(self):
        return {one.log_path.name: found for one in self.daemons() if (found := one.tracebacks())}

    def stop(self):
        with contextlib.suppress(AttributeError):
            self.api.close()
        super().stop()


def network_info(instance):
    return NetworkInfo.hydrate(instance.info_cache.network_info)


# The daemons' default mode on each database, and the other mode on the embedded one.
WORLDS = [("eventlet", "sqlite"), ("eventlet", "mariadb"), ("eventlet", "postgresql"), ("threading", "sqlite")]


@pytest.fixture(scope="module", params=WORLDS, ids="-".join)
def tree(request, tmp_path_factory, rabbit_server):
    concurrency, database = request.param
    directory = tmp_path_factory.mktemp("tree")
    rabbit_server.forget_vhosts()
    with (
        simulator(directory, "xen1") as first,
        simulator(directory, "xen2") as second,
        Tree(
            directory / "fleet",
            rabbit=rabbit_server,
            new_database=database_factory(database, request, directory),
            concurrency=concurrency,
        ) as fleet,
    ):
        yield fleet.build([first, second]).prepare(directory)


@pytest.fixture(autouse=True)
def own_project(tree, request):
    """Each test has a project, and so a quota, of its own; no daemon logs a traceback meanwhile."""
    tree.project = request.node.name[:60]
    yield


def test_ten_instances_booted_at_once_are_active_at_the_top_with_their_image(tree):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        uuids = list(pool.map(tree.create, [f"server-{number}" for number in range(10)]))

    instances = [tree.wait_for_state(uuid, vm_states.ACTIVE) for uuid in uuids]

    assert {instance.cell_name for instance in instances} == {RACK}
    assert {instance.host for instance in instances} == {"host1", "host2"}
    addresses = [ip["address"] for one in instances for ip in network_info(one).fixed_ips()]
    assert len(set(addresses)) == 10
    assert all(address.startswith("10.1.0.") for address in addresses)
    wanted = hashlib.sha256(IMAGE).hexdigest()
    for instance in instances:
        probe = tree.probes[instance.host]
        assert probe.instances()[instance.uuid]["power_state"] == "Running"
        assert probe.root_disk_digest(instance.uuid, len(IMAGE)) == wanted


def test_a_machine_lives_through_its_actions_and_leaves_nothing_behind(tree):
    before = {name: probe.counts() for name, probe in tree.probes.items()}
    uuid = tree.create("server")
    host = tree.wait_for_state(uuid, vm_states.ACTIVE).host
    compute_api = tree.api.compute_api

    def act(name, state, power_state, *arguments):
        getattr(compute_api, name)(tree.context(), tree.instance(uuid), *arguments)
        tree.wait_for_state(uuid, state)
        assert tree.probes[host].instances()[uuid]["power_state"] == power_state

    act("reboot", vm_states.ACTIVE, "Running", "SOFT")
    act("reboot", vm_states.ACTIVE, "Running", "HARD")
    act("pause", vm_states.PAUSED, "Paused")
    act("unpause", vm_states.ACTIVE, "Running")
    act("stop", vm_states.STOPPED, "Halted")
    act("start", vm_states.ACTIVE, "Running")
    compute_api.delete(tree.context(), tree.instance(uuid))
    tree.wait_until_gone(uuid)

    assert {name: probe.counts() for name, probe in tree.probes.items()} == before


def test_daemons_killed_and_started_again_go_on(tree):
    first = tree.create("first")
    tree.wait_for_state(first, vm_states.ACTIVE)

    for daemon in tree.daemons():
        daemon.kill()
        daemon.start()
    tree.wait_for_capacity()
    second = tree.create("second")

    assert tree.wait_for_state(second, vm_states.ACTIVE).cell_name == RACK
    tree.api.compute_api.pause(tree.context(), tree.instance(first))
    tree.wait_for_state(first, vm_states.PAUSED)


def test_a_daemon_told_to_reload_takes_up_its_mutable_options(tree):
    west = tree.cells["west"]
    west.config.write_text(west.config.read_text() + "\n[DEFAULT]\ndebug = true\n")

    west.daemon.signal(signal.SIGHUP)

    def debugs():
        tree.api.cells_api.service_get_all(tree.context())
        return " DEBUG " in west.daemon.log()

    wait_until(debugs, lambda: "debug is not on\n" + west.daemon.log()[-2000:], 20)
    assert west.daemon.is_running()


def test_a_daemon_told_to_end_drains_and_ends_with_status_zero(tree):
    statuses = {daemon.log_path: daemon.terminate() for daemon in tree.daemons()}

    assert set(statuses.values()) == {0}
