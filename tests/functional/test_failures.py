"""What goes wrong in a tree of processes on RabbitMQ: who is told, in how many lines, and what goes on."""

import contextlib
import io
import json
import os
import time
import types

import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, rpc, service
from nova_lite.objects import vm_states
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import rabbit_node
from tests.fixtures.services import new_databases
from tests.fixtures.xensim import simulator_process

pytestmark = pytest.mark.rabbitmq

BODY = "nobody-may-see-this"
IMAGE = os.urandom(64 * 1024)
CALL_TIMEOUT_S = 8
HOP_LIMIT = 2
OPTIONS = (f"rpc_response_timeout = {CALL_TIMEOUT_S}\n"
           f"[cells]\ncall_timeout = {CALL_TIMEOUT_S}\nscheduler_retries = 1\nscheduler_retry_delay = 1\n[DEFAULT]\n")


class Tree(Fleet):
    """api -> west with host w1 -> rack, which west knows and which is not there."""

    def build(self, simulator_url):
        api = self.add_cell("api")
        api.config.write_text(api.config.read_text() + f"[cells]\nmax_hop_count = {HOP_LIMIT}\n")
        west = self.add_cell("west", parent="api")
        west.introduce(types.SimpleNamespace(name="rack", transport_url=self.rabbit.vhost("rack")), "child")
        self.add_host("west", "w1", simulator_url)
        west.client("network", "create", "net", "--cidr", "10.1.0.0/24", "--bridge", "xenbr0")
        files = [str(path) for path in api.config_files()]
        self.api = service.build_api(configuration.load([], prog="test", config_files=files, config_dirs=[]))
        self.brokers = {}
        return self

    def context(self, **values):
        return self.api.context(user_id="user", project_id="project", is_admin=True, roles=["admin"], **values)

    def client(self, cell, topic, **options):
        """A client of a topic on a cell's broker, as anybody may write one."""
        if cell not in self.brokers:
            url = self.cells[cell].transport_url
            self.brokers[cell] = rpc.Rpc(configuration.load(
                prog="test", config_files=[], config_dirs=[],
                overrides={(None, "transport_url"): url, (None, "host"): "tester"}))
        return self.brokers[cell].client(topic, serializer=rpc.PlainSerializer(), **options)

    def answers(self, cell, topic, server=None):
        try:
            client = self.client(cell, topic, namespace="baseapi", server=server)
            return client.call(context.RequestContext(is_admin=True), "ping", timeout=2, arg="x")["arg"] == "x"
        except exception.RpcError:
            return False

    def hosts_seen_from_the_top(self):
        try:
            return {one.host for one in self.api.cells_api.service_get_all(self.context())}
        except exception.NovaException:
            return set()

    def routes_to(self, host):
        """Whether a routed call reaches the cell of the host; its queue may come back after that of the broadcasts."""
        try:
            return self.api.cells_api.service_get_by_compute_host(self.context(), host).host == host
        except exception.NovaException:
            return False

    def wait_until_up(self):
        everybody = {"api@cells-api", "api!west@cells-west", "api!west@w1"}
        wait_until(lambda: everybody <= self.hosts_seen_from_the_top(), self.logs)
        wait_until(lambda: self.routes_to("api!west@w1"), self.logs)
        wait_until(lambda: self.answers("west", "compute", "w1"), self.logs)

    def logs(self):
        return "\n".join(f"--- {one.log_path.name}\n{one.log()[-3000:]}" for one in self.daemons())

    def stop(self):
        with contextlib.suppress(AttributeError):
            for broker in self.brokers.values():
                broker.close()
            self.api.close()
        super().stop()


class LogPart:
    """What a daemon has written since this was made."""

    def __init__(self, daemon):
        self._daemon = daemon
        self._start = len(daemon.log())

    @property
    def text(self):
        return self._daemon.log()[self._start:]

    def lines(self, words):
        return [line for line in self.text.splitlines() if words in line]


@pytest.fixture(scope="module")
def node():
    with rabbit_node() as made:
        yield made


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    with simulator_process(tmp_path_factory.mktemp("xensim")) as made:
        yield made


@pytest.fixture(scope="module")
def running_tree(tmp_path_factory, node, simulator):
    directory = tmp_path_factory.mktemp("failures")
    with Tree(directory / "fleet", rabbit=node, extra_options=OPTIONS,
              new_database=new_databases(directory)) as made:
        made.build(simulator.url).start().wait_until_up()
        yield made


@pytest.fixture
def tree(running_tree):
    """The running tree; whatever a test does to it, no daemon logs a traceback."""
    parts = [LogPart(daemon) for daemon in running_tree.daemons()]
    yield running_tree
    for part in parts:
        assert "Traceback" not in part.text
        assert BODY not in part.text


# --- Routes that lead nowhere ---

def test_an_unknown_cell_is_told_to_the_caller(tree):
    with pytest.raises(exception.CellRoutingInconsistency, match="nowhere"):
        tree.api.cells_api.service_get_by_compute_host(tree.context(), "api!nowhere@w1")
    with pytest.raises(exception.CellRoutingInconsistency, match="nowhere"):
        tree.api.cells_api.service_get_by_compute_host(tree.context(), "api!west!nowhere@w1")


def test_a_message_that_would_go_too_far_is_told_to_the_caller(tree):
    with pytest.raises(exception.CellMaxHopCountReached, match=str(HOP_LIMIT)):
        tree.api.cells_api.service_get_by_compute_host(tree.context(), "api!west!rack@w1")


def test_a_host_without_the_path_of_its_cell_is_told_to_the_caller(tree):
    with pytest.raises(exception.CellRoutingInconsistency):
        tree.api.cells_api.service_get_by_compute_host(tree.context(), "w1")


def test_an_instance_that_no_cell_has_room_for_fails_at_the_top_with_a_fault(tree):
    ctxt = tree.context()
    db = ctxt.services.db
    flavor = db.flavor_create(ctxt, {"name": "huge", "flavorid": "huge", "memory_mb": 10 ** 8, "vcpus": 1,
                                     "root_gb": 1})
    image = ctxt.services.image_api.create(
        ctxt, {"name": "image", "disk_format": "raw", "container_format": "bare"}, io.BytesIO(IMAGE))
    db.quota_create(ctxt, "project", "ram", -1)

    instances, _ = tree.api.compute_api.create(ctxt, flavor, image["id"], display_name="too-big")

    def failed():
        instance = tree.api.compute_api.get(tree.context(), instances[0].uuid)
        return instance if instance.vm_state == vm_states.ERROR else None

    wait_until(failed, tree.logs)
    uuid = instances[0].uuid
    faults = wait_until(lambda: db.instance_fault_get_by_instance_uuids(ctxt, [uuid])[uuid], tree.logs)
    assert faults[0]["message"].startswith(("No valid host", "No cell"))


# --- Messages that are none ---

MALFORMED = {
    "no JSON": "{" + BODY,
    "no object": f'["{BODY}"]',
    "no text": {"message_type": BODY},
    "no type": f'{{"method_name": "{BODY}"}}',
    "unknown type": f'{{"message_type": "gossip", "method_name": "{BODY}"}}',
    "wrong types": f'{{"message_type": "targeted", "ctxt": "{BODY}", "method_name": 7, "method_kwargs": [], '
                   '"direction": {}, "target_cell": 1, "routing_path": [], "hop_count": "x"}',
    "deep": "[" * 2_500_000 + f'"{BODY}"' + "]" * 2_500_000,
    "deep object": '{"message_type": ' * 300_000 + f'"{BODY}"' + "}" * 300_000,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_message_that_is_none_is_refused_in_one_line_without_its_body(tree, kind):
    written = LogPart(tree.cells["west"].daemon)

    tree.client("west", "cells.intercell.targeted").cast({}, "process_message", message=MALFORMED[kind])

    wait_until(lambda: written.lines("Refused"), lambda: written.text)
    assert len(written.lines("WARNING")) == 1
    assert "api!west@w1" in tree.hosts_seen_from_the_top()


@pytest.mark.parametrize("method", ["nonsense", "_private", "__class__", "process_message", "message_from_json"])
def test_a_method_that_is_no_operation_is_refused_in_one_line(tree, method):
    written = LogPart(tree.cells["west"].daemon)
    message = {"message_type": "targeted", "ctxt": context.RequestContext(is_admin=True).to_dict(),
               "method_name": method, "method_kwargs": {"text": BODY}, "direction": "down", "need_response": False,
               "fanout": False, "uuid": f"uuid-{method}", "routing_path": "api", "hop_count": 1, "max_hop_count": 10,
               "target_cell": "api!west"}

    tree.client("west", "cells.intercell.targeted").cast(
        {}, "process_message", message=json.dumps(message))

    wait_until(lambda: written.lines("WARNING"), lambda: written.text)
    assert len(written.lines("WARNING")) == 1
    assert "api!west@w1" in tree.hosts_seen_from_the_top()


@pytest.mark.parametrize("topic, server", [("cells", None), ("compute", "w1"), ("scheduler", None)])
def test_a_method_or_version_that_is_not_served_is_an_error_for_the_caller_and_one_line(tree, topic, server):
    daemon = tree.hosts["w1"].daemon if topic == "compute" else tree.cells["west"].daemon
    version = {"cells": "1.0", "compute": "2.0", "scheduler": "2.0"}[topic]
    ctxt = context.RequestContext(is_admin=True)

    for method, wanted, error in (("nonsense", version, exception.RpcMethodRefused),
                                  ("init_host", version, exception.RpcMethodRefused),
                                  ("get_backdoor_port", "99.0", exception.UnsupportedRpcVersion)):
        written = LogPart(daemon)
        with pytest.raises(error) as caught:
            tree.client("west", topic, version=wanted, server=server).call(ctxt, method, timeout=30)
        assert "\n" not in str(caught.value)
        wait_until(lambda written=written: written.lines("refused"), lambda written=written: written.text)
        assert len(written.lines("WARNING")) == 1

    assert tree.answers("west", topic, server)


# --- What is not there ---

def test_a_wrong_password_is_one_line_without_it_and_a_corrected_one_is_taken(tree, simulator):
    host = tree.add_host("west", "w2", simulator.url)
    right = host.config.read_text()
    host.config.write_text(right.replace("connection_password = xensim", f"connection_password = {BODY}"))
    try:
        host.daemon.start()
        assert host.daemon.process.wait(40) != 0
        assert len([line for line in host.daemon.log().splitlines() if " refused to log in " in line]) == 1
        assert not host.daemon.tracebacks()
        assert BODY not in host.daemon.log()

        host.config.write_text(right)
        host.daemon.start()
        wait_until(lambda: tree.answers("west", "compute", "w2"), host.daemon.log)
    finally:
        host.daemon.kill()


def test_a_cell_that_was_killed_holds_nobody_up(tree):
    west = tree.cells["west"].daemon
    west.kill()
    try:
        seen = tree.hosts_seen_from_the_top()

        with pytest.raises((exception.CellTimeout, exception.RpcTimeout)):
            tree.api.cells_api.service_get_by_compute_host(tree.context(deadline=time.time() + 2), "api!west@w1")
    finally:
        west.start()

    assert seen == {"api@cells-api"}
    tree.wait_until_up()


def test_a_broker_that_was_killed_is_waited_for_and_everything_goes_on_when_it_is_back(tree, node):
    compute = tree.hosts["w1"].daemon
    assert compute.terminate(30) == 0
    node.kill()
    try:
        written = LogPart(compute)
        compute.start()
        wait_until(lambda: written.lines("waiting for the message broker"), lambda: written.text)
    finally:
        node.restart()

    tree.wait_until_up()
    assert len(written.lines("waiting for the message broker")) == 1
    assert tree.api.cells_api.service_get_by_compute_host(tree.context(), "api!west@w1").host == "api!west@w1"
