"""Cells and their broker are killed at work: what was accepted is carried out, and nobody waits past his deadline.

NOVA_LITE_CHAOS_ROUNDS (default 1) says how many times the broker is killed and how many rounds of deaths there are;
more than one makes this a long test. What was seen is printed (pytest -s).
"""

import collections
import contextlib
import io
import os
import threading
import time

import pytest

from nova_lite import conf as configuration
from nova_lite import exception, service
from nova_lite.objects import vm_states
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import rabbit_node
from tests.fixtures.services import new_databases

ROUNDS = int(os.environ.get("NOVA_LITE_CHAOS_ROUNDS", "1"))

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(300 + 240 * ROUNDS)]

RACK = "api!west!rack"
HOST = f"{RACK}@r1"
CALL_TIMEOUT_S = 4
GENEROUS_S = 180
# A busy machine may be late; how late the calls were is printed.
OVERDUE_S = 30
OPTIONS = (f"rpc_response_timeout = {CALL_TIMEOUT_S}\n[cells]\ncall_timeout = {CALL_TIMEOUT_S}\n"
           "build_repeat_interval = 3\n[DEFAULT]\n")


class Tree(Fleet):
    """api -> west -> rack, with host r1 in rack."""

    def build(self):
        self.add_cell("api")
        self.add_cell("west", parent="api")
        self.add_cell("rack", parent="west")
        host = self.add_host("rack", "r1", "none")
        host.config.write_text(host.config.read_text() + "[DEFAULT]\ncompute_driver = fake.FakeDriver\n")
        self.deaths = self.directory / "deaths"
        self.deaths.mkdir()
        files = [str(path) for path in self.cells["api"].config_files()]
        self.api = service.build_api(configuration.load([], prog="test", config_files=files, config_dirs=[]))
        self.image = self.api.services.image_api.create(
            self.context(), {"name": "image", "disk_format": "raw", "container_format": "bare"}, io.BytesIO(b"x" * 512))
        for resource in ("instances", "cores", "ram"):
            self.api.services.db.quota_create(self.context(), "project", resource, -1)
        return self

    def make_mortal(self, cell, *points):
        """Have a cell's nova-cells, from its next start, die once at each point."""
        daemon = self.cells[cell].daemon
        daemon.module = "tests.functional.mortal_cells"
        daemon.environment = {"MORTAL_AT": ",".join(points), "MORTAL_DIRECTORY": str(self.deaths)}
        for point in points:
            (self.deaths / point).unlink(missing_ok=True)

    def has_died_at(self, *points):
        return all((self.deaths / point).exists() for point in points)

    def raise_the_dead(self):
        for daemon in self.daemons():
            if not daemon.is_running():
                daemon.start()

    def context(self, **values):
        return self.api.context(user_id="user", project_id="project", is_admin=True, roles=["admin"], **values)

    def create(self, name):
        ctxt = self.context()
        flavor = self.api.services.db.flavor_get_by_flavor_id(ctxt, "1")
        [instance], _ = self.api.compute_api.create(ctxt, flavor, self.image["id"], display_name=name)
        return instance.uuid

    def instances(self, uuids):
        rows = self.api.services.db.instance_get_all_by_uuids(self.context(), list(uuids))
        return {row["uuid"]: row for row in rows}

    def are_active(self, uuids):
        rows = self.instances(uuids)
        return len(rows) == len(uuids) and all(
            (row["vm_state"], row["task_state"]) == (vm_states.ACTIVE, None) for row in rows.values())

    def ask(self):
        """Ask for the service of the host, two hops away; return by how many seconds the deadline was missed."""
        deadline = time.time() + CALL_TIMEOUT_S
        answer = None
        with contextlib.suppress(exception.NovaException):
            answer = self.api.cells_api.service_get_by_compute_host(self.context(deadline=deadline), HOST)
        return answer is not None and answer.host == HOST, max(0.0, time.time() - deadline)

    def delete(self, uuids):
        """Make room for others."""
        def are_gone():
            for uuid in self.instances(uuids):
                with contextlib.suppress(exception.NovaException):
                    self.api.compute_api.delete(self.context(), self.api.compute_api.get(self.context(), uuid))
            return not self.instances(uuids)

        wait_until(are_gone, lambda: self.tell(uuids), GENEROUS_S, interval_s=1)

    def tell(self, uuids=()):
        rows = [(uuid, row["vm_state"], row["task_state"], row["cell_name"], row["host"])
                for uuid, row in self.instances(uuids).items()]
        return "\n".join([str(rows), *(f"--- {one.log_path.name}\n{one.log()[-4000:]}" for one in self.daemons())])

    def tracebacks(self):
        return {one.log_path.name: found for one in self.daemons() if (found := one.tracebacks())}

    def wait_until_up(self):
        def is_up():
            with contextlib.suppress(exception.NovaException):
                ctxt = self.context(deadline=time.time() + CALL_TIMEOUT_S)
                return bool(self.api.cells_api.get_capacities(ctxt, "west"))

        wait_until(is_up, self.tell, GENEROUS_S)
        wait_until(lambda: self.ask()[0], self.tell, GENEROUS_S)

    def stop(self):
        with contextlib.suppress(AttributeError):
            self.api.close()
        super().stop()


class Load:
    """Callers and builds without a pause between two of them, as long as the block runs.

    What is begun while the broker is away is counted apart.
    """

    def __init__(self, tree):
        self._tree = tree
        self._stopped = threading.Event()
        self._is_away = False
        self._back_at_s = 0.0
        self.accepted, self.overdue_s = [], [0.0]
        self.counts = collections.Counter()
        self.idle_s = None  # from the broker's return to the first answer
        self._threads = [threading.Thread(target=self._call), threading.Thread(target=self._build)]

    def lose(self, node):
        """Kill the broker, and have it return."""
        self._is_away = True
        node.kill()
        node.restart()
        self._is_away, self._back_at_s = False, time.monotonic()
        for what in ("calls answered", "builds accepted"):  # those before
            self.counts.pop(what, None)

    def is_of_use(self):
        return self.idle_s is not None and self.counts["calls answered"] > 20 and self.counts["builds accepted"] > 1

    def _count(self, what, begun_s):
        away = self._is_away or begun_s < self._back_at_s
        self.counts[f"{what} while the broker was away" if away else what] += 1

    def _call(self):
        while not self._stopped.wait(0.05):
            begun_s = time.monotonic()
            was_answered, overdue_s = self._tree.ask()
            self._count("calls answered" if was_answered else "calls not answered", begun_s)
            self.overdue_s.append(overdue_s)
            if was_answered and self.idle_s is None and 0 < self._back_at_s < begun_s:
                self.idle_s = time.monotonic() - self._back_at_s

    def _build(self):
        while not self._stopped.wait(0.5):
            begun_s = time.monotonic()
            try:
                self.accepted.append(self._tree.create(f"vm-{len(self.accepted)}"))
            except exception.NovaException:
                self._count("builds refused", begun_s)
            else:
                self._count("builds accepted", begun_s)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def node():
    with rabbit_node(vhosts=3) as made:
        yield made


@pytest.fixture(scope="module")
def tree(tmp_path_factory, node):
    directory = tmp_path_factory.mktemp("chaos")
    with Tree(directory / "fleet", rabbit=node, extra_options=OPTIONS,
              new_database=new_databases(directory)) as made:
        made.build().start().wait_until_up()
        yield made


def is_built_once(tree, uuid):
    """Whether the rack, and no other cell, has the instance."""
    files = [str(path) for path in tree.cells["rack"].config_files()]
    rack = service.build_api(configuration.load([], prog="test", config_files=files, config_dirs=[]))
    try:
        rows = rack.services.db.instance_get_all_by_uuids(rack.context(is_admin=True), [uuid])
        return [row["vm_state"] for row in rows] == [vm_states.ACTIVE]
    finally:
        rack.close()


def test_builds_survive_the_death_of_cells_at_every_point_of_their_way(tree):
    on_the_way, in_the_cell = ["forward:build_instances"], ["receive:build_instances", "persist:build_instances"]
    for _round in range(ROUNDS):
        for cell, points in (("west", on_the_way), ("rack", in_the_cell)):
            tree.make_mortal(cell, *points)
            tree.cells[cell].daemon.kill()
        tree.raise_the_dead()
        tree.wait_until_up()

        started = time.monotonic()
        uuids = [tree.create(f"vm-{number}") for number in range(4)]

        def are_done(uuids=uuids):
            tree.raise_the_dead()
            return tree.has_died_at(*on_the_way, *in_the_cell) and tree.are_active(uuids)

        wait_until(are_done, lambda uuids=uuids: tree.tell(uuids), GENEROUS_S)
        print(f"\n4 builds through 3 deaths: all active after {time.monotonic() - started:.1f} s")
        assert {row["cell_name"] for row in tree.instances(uuids).values()} == {RACK}
        assert all(is_built_once(tree, uuid) for uuid in uuids)
        tree.delete(uuids)


def test_a_call_whose_cell_dies_before_it_answers_ends_in_time(tree):
    points = ["receive:service_get_by_compute_host", "reply:service_get_by_compute_host"]
    overdue_s = []
    for _round in range(ROUNDS):
        for point in points:
            tree.make_mortal("rack", point)
            tree.cells["rack"].daemon.kill()
            tree.raise_the_dead()

            def is_dead(point=point):
                overdue_s.append(tree.ask()[1])
                return tree.has_died_at(point)

            wait_until(is_dead, tree.tell, GENEROUS_S)
    tree.raise_the_dead()
    wait_until(lambda: tree.ask()[0], tree.tell, GENEROUS_S)

    print(f"\n{len(overdue_s)} calls, at most {max(overdue_s):.2f} s past the deadline")
    assert max(overdue_s) < OVERDUE_S


def test_a_broker_that_is_killed_under_load_loses_nothing_that_was_accepted(tree, node):
    counts, idle_s, settled_s, overdue_s = collections.Counter(), [], [], [0.0]
    for _round in range(ROUNDS):
        with Load(tree) as load:
            wait_until(lambda load=load: load.accepted, tree.tell, GENEROUS_S)
            load.lose(node)
            wait_until(load.is_of_use, tree.tell, GENEROUS_S)
        begun_s = time.monotonic()
        wait_until(lambda load=load: tree.are_active(load.accepted), lambda load=load: tree.tell(load.accepted),
                   GENEROUS_S)
        settled_s.append(time.monotonic() - begun_s)
        idle_s.append(load.idle_s)
        overdue_s += load.overdue_s
        counts += load.counts
        tree.delete(load.accepted)

    print(f"\nbroker killed {ROUNDS} times: {dict(counts)}; first answer at most {max(idle_s):.1f} s after its return, "
          f"all active at most {max(settled_s):.1f} s after the end; calls at most {max(overdue_s):.2f} s overdue")
    assert counts["calls answered"] > 3 * ROUNDS
    assert max(overdue_s) < OVERDUE_S
    assert tree.tracebacks() == {}
