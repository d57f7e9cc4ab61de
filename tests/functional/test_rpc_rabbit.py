"""Calls end at their deadline whatever state the broker is in, on greenthreads and on native threads."""

import contextlib
import json
import subprocess
import sys
import threading

import oslo_messaging
import pytest

from nova_lite import concurrency, context, exception, rpc
from nova_lite import conf as configuration
from tests.fixtures.ports import free_port
from tests.fixtures.processes import REPOSITORY, wait_until
from tests.fixtures.rabbit import rabbit_node

pytestmark = pytest.mark.rabbitmq
# Tells a call that ends by its own deadline from one that waits for the library's, on however busy a machine.
SLACK_S = 30


class Caller:
    """A process that calls; see rpc_caller."""

    def __init__(self, mode, url, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.rpc_caller", mode, url, *arguments], cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert json.loads(self.process.stdout.readline())["outcome"] == "ready"

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(params=["eventlet", "threading"])
def caller(request):
    made = []

    def make(url, *arguments):
        made.append(Caller(request.param, url, *arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def fragile_node():
    """A node of this module's own, for tests that break it."""
    with rabbit_node() as node:
        yield node


def assert_ends_in_time(answer, limit_s, *outcomes):
    assert answer["outcome"] in outcomes, answer
    assert answer["seconds"] <= limit_s + SLACK_S, answer
    assert "\n" not in answer["text"]


def test_calls_to_a_broker_that_never_was_end_at_their_deadline(caller):
    nobody = caller(f"rabbit://u:secret@127.0.0.1:{free_port()}/v")

    for _ in range(3):
        answer = nobody.ask("call", 1)
        assert_ends_in_time(answer, 1, "RpcTimeout", "RpcUnavailable")
        assert "secret" not in answer["text"]
    assert_ends_in_time(nobody.ask("cast"), 0.5, "RpcUnavailable")
    assert_ends_in_time(nobody.ask("check", 1), 1, "RpcUnavailable")


def test_calls_to_a_killed_broker_end_at_their_deadline_and_work_again_when_it_is_back(caller, fragile_node):
    server = caller(fragile_node.vhost("killed"))
    client = caller(fragile_node.vhost("killed"))
    server.ask("serve")
    assert client.ask("call", 30)["outcome"] == "ok"

    fragile_node.kill()
    assert_ends_in_time(client.ask("call", 1), 1, "RpcTimeout", "RpcUnavailable")
    assert_ends_in_time(client.ask("cast"), 1, "RpcUnavailable")
    fragile_node.restart()

    wait_until(lambda: client.ask("call", 3)["outcome"] == "ok", "no call works again")


def test_a_fan_out_whose_listeners_have_gone_is_no_error(fragile_node):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                              overrides={(None, "transport_url"): fragile_node.vhost("gone"), (None, "host"): "h1"})
    messaging, sender = rpc.Rpc(conf), rpc.Rpc(conf)
    server = messaging.server("news", [Slow()], bind=context.Services(conf=conf, host="h1"))
    server.start()
    news = sender.client("news")
    news.cast(context.RequestContext("u"), "told", fanout=True)
    server.stop()
    server.wait()
    messaging.close()

    for _ in range(3):
        news.cast(context.RequestContext("u"), "told", fanout=True)

    sender.close()


class Slow:
    """An endpoint that works until it is released."""

    remote_methods = {"work"}

    def __init__(self):
        self.working, self.release, self.worked = threading.Event(), threading.Event(), threading.Event()

    def work(self, ctxt):
        self.working.set()
        self.release.wait(60)
        self.worked.set()


def test_a_server_has_stopped_when_its_work_is_done_though_no_broker_takes_the_reply(fragile_node):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                              overrides={(None, "transport_url"): fragile_node.vhost("slow"), (None, "host"): "h1"})
    messaging, caller = rpc.Rpc(conf), rpc.Rpc(conf)
    endpoint = Slow()
    server = messaging.server("slow", [endpoint], bind=context.Services(conf=conf, host="h1"))
    server.start()
    call = concurrency.spawn(caller.client("slow").call, context.RequestContext("u"), "work", timeout=5)
    assert endpoint.working.wait(60)

    fragile_node.kill()
    try:
        server.stop()
        endpoint.release.set()
        # The library sends the reply again and again, as long as there is no broker.
        assert concurrency.spawn(server.wait, 3600).wait(60) is True
        assert endpoint.worked.is_set()
        with pytest.raises(exception.RpcError):
            call.wait(60)
    finally:
        fragile_node.restart()
    messaging.close()
    caller.close()


def test_calls_to_a_frozen_broker_end_at_their_deadline(caller, fragile_node):
    server = caller(fragile_node.vhost("frozen"))
    client = caller(fragile_node.vhost("frozen"))
    server.ask("serve")
    assert client.ask("call", 30)["outcome"] == "ok"

    fragile_node.freeze()
    try:
        for _ in range(3):
            assert_ends_in_time(client.ask("call", 1), 1, "RpcTimeout", "RpcUnavailable")
    finally:
        fragile_node.thaw()

    assert client.ask("call", 30)["outcome"] == "ok"


def test_a_connection_that_broke_off_in_a_message_is_made_anew(rabbit):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                              overrides={(None, "transport_url"): rabbit.vhost("half"), (None, "host"): "h1"})

    def break_off():
        raise TimeoutError

    with contextlib.closing(rpc.Rpc(conf)) as messaging:
        with messaging.raw_transport()._driver._get_connection() as lent:
            connection = lent.connection  # as it lies in the pool
        socket = connection.channel.connection.sock
        usual_s = socket.gettimeout()

        with pytest.raises(TimeoutError), connection._transport_socket_timeout(0.01):
            break_off()
        assert socket.gettimeout() == usual_s

        with pytest.raises(oslo_messaging.MessageDeliveryFailure):
            connection.ensure(break_off, retry=0)
        assert not connection.connection.connected

        messaging.client("news").cast(context.RequestContext("u"), "told", fanout=True)
        with messaging.notifier("compute.h1").transport._driver._get_connection() as lent:
            assert type(lent.connection) is type(connection)


def test_a_wrong_password_is_told_in_one_line_that_does_not_show_it(caller, rabbit):
    url = rabbit.vhost("refused").replace("rabbit-secret", "wrong-secret")

    answer = caller(url).ask("check", 3)

    assert answer["outcome"] in ("RpcUnavailable", "RpcTimeout")
    assert "wrong-secret" not in answer["text"]


def test_a_call_between_processes_is_answered(caller, rabbit):
    url = rabbit.vhost("plain")
    caller(url).ask("serve")

    assert caller(url).ask("call", 30)["outcome"] == "ok"


def test_a_message_nobody_has_a_queue_for_is_refused_at_once(caller, rabbit):
    alone = caller(rabbit.vhost("nobody"))
    assert alone.ask("check", 30)["outcome"] == "ok"

    for words in (("call", 60), ("cast",)):
        answer = alone.ask(*words)
        assert answer["outcome"] == "RpcUnavailable"


def test_sixty_four_callers_at_once_are_all_answered_by_a_slow_service(caller, rabbit):
    url = rabbit.vhost("crowd")
    caller(url).ask("serve")

    answer = caller(url, "20").ask("crowd", 64, 60, 0.3)

    assert answer["result"] == {"ok": 64}


def test_callers_whose_turn_does_not_come_in_time_end_at_their_deadline_and_are_never_sent(rabbit):
    url = rabbit.vhost("crowd")
    with contextlib.closing(Caller("threading", url)) as server, contextlib.closing(
            Caller("threading", url, "2")) as client:
        server.ask("serve")

        for _ in range(4):
            answer = client.ask("crowd", 64, 0.5, 0.3)

            # A message that is sent in the last milliseconds may be told as one that the broker did not take.
            assert set(answer["result"]) <= {"ok", "RpcTimeout", "RpcUnavailable"}
            assert answer["seconds"] <= 0.5 + SLACK_S
            # Nor does it leave a connection that cannot send.
            assert client.ask("call", 60)["outcome"] == "ok"
        assert server.ask("served")["result"] < 4 * 16
