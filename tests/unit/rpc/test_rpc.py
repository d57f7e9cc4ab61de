"""Clients and servers over memory://, through the front door."""

import datetime
import itertools
import threading

import pytest

from nova_lite import concurrency, context, exception, rpc
from nova_lite import conf as configuration

_NUMBERS = itertools.count()
CTXT = context.RequestContext("alice", "project")


class Calculator:
    """An endpoint with a bit of everything."""

    version = "1.5"
    remote_methods = {"add", "fail", "describe_context", "wait_for_release", "record"}

    def __init__(self):
        self.release = threading.Event()
        self.recorded = []

    def add(self, ctxt, left, right=1):
        return left + right

    def fail(self, ctxt, instance_uuid):
        raise exception.InstanceNotFound(instance_id=instance_uuid)

    def describe_context(self, ctxt):
        return {"user": ctxt.user_id, "host": ctxt.services.host, "deadline": ctxt.deadline,
                "operation_id": ctxt.operation_id}

    def wait_for_release(self, ctxt):
        self.release.wait(10)

    def record(self, ctxt, word):
        self.recorded.append((word, ctxt.deadline))

    def hidden(self, ctxt):
        return "never"


class Once(Calculator):
    at_most_once = True


class Own:
    namespace = "nova_lite"
    version = "1.0"

    @rpc.expose
    def ping(self, ctxt):
        return "pong"

    def hidden(self, ctxt):
        return "never"


class Cell:
    """One cell's messaging on a broker of its own."""

    def __init__(self, host="h1", url=None, clock=None):
        self.url = url or f"memory://test/{next(_NUMBERS)}"
        conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                                  overrides={(None, "transport_url"): self.url, (None, "host"): host})
        self.clock = clock or concurrency.Clock()
        self.rpc = rpc.Rpc(conf, clock=self.clock)
        self.services = context.Services(conf=conf, host=host, clock=self.clock, rpc=self.rpc)
        self.servers = []

    def serve(self, *endpoints, topic="sums"):
        server = self.rpc.server(topic, endpoints, bind=self.services)
        server.start()
        self.servers.append(server)
        return server

    def close(self):
        for server in self.servers:
            server.stop()
        for server in self.servers:
            server.wait(5)
        self.rpc.close()


@pytest.fixture
def cells():
    made = []

    def make(*args, **kwargs):
        made.append(Cell(*args, **kwargs))
        return made[-1]

    yield make
    for cell in made:
        cell.close()


@pytest.fixture
def cell(cells):
    return cells()


def eventually(claim, limit_s=5):
    waited = threading.Event()
    for _ in range(int(limit_s / 0.01)):
        if claim():
            return True
        waited.wait(0.01)
    return False


def test_a_call_returns_the_result_of_the_remote_method(cell):
    cell.serve(Calculator())

    assert cell.rpc.client("sums").call(CTXT, "add", left=2, right=3) == 5


def test_a_handler_gets_a_context_that_belongs_to_its_cell(cell):
    cell.serve(Calculator())

    seen = cell.rpc.client("sums").call(CTXT, "describe_context", timeout=7)

    assert seen["user"] == "alice"
    assert seen["host"] == "h1"
    assert 0 < seen["deadline"] - cell.clock.time() <= 7
    assert seen["operation_id"]


def test_a_call_waits_no_longer_than_the_deadline_it_has_inherited(cell):
    cell.serve(Calculator())
    ctxt = context.RequestContext("alice", deadline=cell.clock.time() + 2)

    seen = cell.rpc.client("sums").call(ctxt, "describe_context", timeout=60)

    assert seen["deadline"] == ctxt.deadline


def test_a_call_after_its_deadline_is_not_sent(cell):
    server = cell.serve(Calculator())
    ctxt = context.RequestContext("alice", deadline=cell.clock.time() - 1)

    with pytest.raises(exception.RpcTimeout):
        cell.rpc.client("sums").call(ctxt, "add", left=1)

    assert server.counters["received"] == 0


def test_a_call_without_answer_ends_at_its_deadline_with_one_line(cell):
    endpoint = Calculator()
    cell.serve(endpoint)

    with pytest.raises(exception.RpcTimeout) as caught:
        cell.rpc.client("sums").call(CTXT, "wait_for_release", timeout=0.2)

    endpoint.release.set()
    assert "\n" not in str(caught.value)


def test_an_error_of_ours_comes_back_as_its_class_with_its_arguments(cell):
    cell.serve(Calculator())

    with pytest.raises(exception.InstanceNotFound) as caught:
        cell.rpc.client("sums").call(CTXT, "fail", instance_uuid="u1")

    assert caught.value.kwargs == {"instance_id": "u1", "code": 404}
    assert caught.value.format_message() == "Instance u1 could not be found."


@pytest.mark.parametrize("method", ["hidden", "__init__", "remote_methods", "_private", "nonsense"])
def test_only_declared_methods_can_be_called(cell, method):
    server = cell.serve(Calculator())

    with pytest.raises(exception.RpcMethodRefused):
        cell.rpc.client("sums").call(CTXT, method)

    assert server.counters["refused"] == 1


@pytest.mark.parametrize("arguments", [{}, {"left": 1, "wrong": 2}])
def test_arguments_that_do_not_fit_are_refused(cell, arguments):
    cell.serve(Calculator())

    with pytest.raises(exception.RpcMethodRefused):
        cell.rpc.client("sums").call(CTXT, "add", arguments=arguments)


@pytest.mark.parametrize("version, served", [("1.0", True), ("1.5", True), ("1.6", False), ("1.10", False),
                                             ("2.0", False)])
def test_a_version_is_served_up_to_the_minor_number_that_is_implemented(cell, version, served):
    cell.serve(Calculator())
    client = cell.rpc.client("sums")

    if served:
        assert client.call(CTXT, "add", version=version, left=1) == 2
    else:
        with pytest.raises(exception.UnsupportedRpcVersion):
            client.call(CTXT, "add", version=version, left=1)


def test_a_client_sends_nothing_above_its_cap(cell):
    client = cell.rpc.client("sums", version_cap="1.9")

    assert client.can_send_version("1.9")
    assert not client.can_send_version("1.10")
    with pytest.raises(exception.RpcVersionCapError):
        client.call(CTXT, "add", version="1.10", left=1)


def test_two_namespaces_live_on_one_topic(cell):
    cell.serve(Calculator(), Own())

    assert cell.rpc.client("sums", namespace="nova_lite").call(CTXT, "ping") == "pong"
    with pytest.raises(exception.RpcMethodRefused):
        cell.rpc.client("sums", namespace="nova_lite").call(CTXT, "hidden")
    with pytest.raises(exception.RpcMethodRefused):
        cell.rpc.client("sums").call(CTXT, "ping")


def test_one_of_two_servers_gets_a_cast_and_both_get_a_fanout(cells):
    first = cells(host="h1")
    second = cells(host="h2", url=first.url)
    endpoints = [Calculator(), Calculator()]
    first.serve(endpoints[0])
    second.serve(endpoints[1])
    client = first.rpc.client("sums")

    client.cast(CTXT, "record", word="one")
    client.cast(CTXT, "record", word="two")
    client.cast(CTXT, "record", word="to h2", server="h2")
    client.cast(CTXT, "record", word="all", fanout=True)

    assert eventually(lambda: sum(len(e.recorded) for e in endpoints) == 5)
    words = [{word for word, _ in e.recorded} for e in endpoints]
    assert words[0] == {"one", "all"} and words[1] == {"two", "to h2", "all"}


def test_brokers_with_different_virtual_hosts_do_not_hear_each_other(cells):
    here, there = cells(), cells()
    endpoint = Calculator()
    there.serve(endpoint)

    here.rpc.client("sums").cast(CTXT, "record", word="lost", fanout=True)
    here.rpc.client("sums", transport_url=there.url).cast(CTXT, "record", word="found")

    assert eventually(lambda: endpoint.recorded)
    assert [word for word, _ in endpoint.recorded] == ["found"]


def test_a_declared_queue_keeps_messages_while_its_server_is_away(cell):
    first, second = Calculator(), Calculator()
    server = cell.serve(first)
    server.stop()
    server.wait(5)

    cell.rpc.client("sums").cast(CTXT, "record", word="kept", server="h1")
    cell.serve(second)

    assert eventually(lambda: second.recorded)


def test_an_expired_cast_is_dropped_and_one_in_time_runs_without_a_limit(cell):
    endpoint = Calculator()
    server = cell.serve(endpoint)
    client = cell.rpc.client("sums")

    late = {**CTXT.to_dict(), "deadline": cell.clock.time() - 5}
    client.cast(late, "record", word="late")
    client.cast({**CTXT.to_dict(), "deadline": cell.clock.time() + 5}, "record", word="in time")

    assert eventually(lambda: endpoint.recorded and server.counters["expired"])
    assert endpoint.recorded == [("in time", None)]


def test_a_cast_that_arrives_twice_is_carried_out_once_where_the_endpoint_asks(cell):
    once = Once()
    server = cell.serve(once)
    client = cell.rpc.client("sums")
    message = {**CTXT.to_dict(), "operation_id": "op-1"}

    for word in ("a", "a", "b"):
        client.cast(message, "record", word=word)
    client.cast(CTXT, "record", word="a")

    assert eventually(lambda: server.counters["received"] == 4 and len(once.recorded) == 3)
    assert sorted(word for word, _ in once.recorded) == ["a", "a", "b"]
    assert server.counters["repeated"] == 1


def test_arguments_travel_as_json_and_are_not_shared(cell):
    endpoint = Calculator()
    cell.serve(endpoint)
    when = datetime.datetime(2026, 11, 21, 8, 14, 46)

    cell.rpc.client("sums").cast(CTXT, "record", word={"when": when, "pair": (1, 2)})

    assert eventually(lambda: endpoint.recorded)
    assert endpoint.recorded[0][0] == {"when": "2026-11-21T08:14:46.000000", "pair": [1, 2]}


def test_malformed_messages_are_refused(cell):
    server = cell.serve(Calculator())
    transport = cell.rpc.raw_transport()
    import oslo_messaging

    for body in ({"method": ["add"]}, {}, {"method": "add", "args": [1]}, {"method": "add", "version": "x"}):
        transport._send(oslo_messaging.Target(topic="sums"), {}, body)

    assert eventually(lambda: server.counters["refused"] == 4)


def test_stopping_a_server_waits_for_what_it_is_doing(cell):
    endpoint = Calculator()
    server = cell.serve(endpoint)
    cell.rpc.client("sums").cast(CTXT, "wait_for_release")
    assert eventually(lambda: server.counters["received"])

    server.stop()
    drained_early = server.wait(0.1)
    endpoint.release.set()

    assert drained_early is False


def test_release_names_stand_for_versions():
    assert rpc.resolve_cap("cells", "kilo") == "1.34"
    assert rpc.resolve_cap("cells", "1.20") == "1.20"
    assert rpc.resolve_cap("cells", None) is None
    with pytest.raises(exception.ConfigurationError):
        rpc.resolve_cap("cells", "zebra")


def test_a_transport_url_nobody_serves_is_an_operators_mistake(cells):
    cell = cells(url="nonsense://u:secret@h/")

    with pytest.raises(exception.ConfigurationError) as caught:
        cell.rpc.check()

    assert "secret" not in str(caught.value)


def test_a_message_nobody_has_a_queue_for_is_refused_at_once(cell):
    client = cell.rpc.client("nobody")

    with pytest.raises(exception.RpcUnavailable):
        client.call(CTXT, "add", left=1)
    with pytest.raises(exception.RpcUnavailable):
        client.cast(CTXT, "add", left=1)
    client.cast(CTXT, "add", left=1, fanout=True)
