"""Texts that go straight from process to process, on greenthreads and on native threads."""

import contextlib

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import NARROW_USER, rabbit_node
from tests.functional.test_rpc_rabbit import Caller, assert_ends_in_time

pytestmark = pytest.mark.rabbitmq


@pytest.fixture(scope="module", params=["eventlet", "threading"])
def pair(request, rabbit_server):
    """Returns a function that starts a process that sends and one that receives, on a broker, and ends them."""
    @contextlib.contextmanager
    def start(url):
        with contextlib.closing(Caller(request.param, url)) as sender, contextlib.closing(
                Caller(request.param, url)) as receiver:
            yield sender, receiver
    return start


@pytest.fixture(scope="module")
def fragile_node():
    with rabbit_node() as node:
        yield node


def send(sender, queue, text, ttl_s=60):
    return sender.ask("send", queue, text, ttl_s)


def wait_for(receiver, *texts):
    wait_until(lambda: receiver.ask("taken")["result"] == list(texts), lambda: receiver.ask("taken")["result"])


def test_texts_arrive_in_their_order_also_long_ones(pair, rabbit):
    with pair(rabbit.vhost("texts")) as (sender, receiver):
        receiver.ask("receive")
        long = "ü" * 300_000
        for queue, text in (("texts", "a"), ("texts", long), ("texts", "b")):
            assert send(sender, queue, text)["outcome"] == "ok"
        wait_for(receiver, "a", long, "b")


def test_a_text_that_no_queue_is_there_for_comes_back(pair, rabbit):
    with pair(rabbit.vhost("nobody")) as (sender, _receiver):
        assert send(sender, "texts.gone", "x")["outcome"] == "ok"

        wait_until(lambda: sender.ask("returned")["result"] == [["texts.gone", "x"]], "it did not come back")


def test_a_user_who_may_not_write_to_queues_is_told_before_any_text_is_lost(pair, rabbit):
    url = rabbit.vhost("narrow")
    with pair(url) as (_other, receiver), pair(url.replace("//nova:", f"//{NARROW_USER}:")) as (sender, _nobody):
        receiver.ask("receive")

        answers = [send(sender, "texts", "x") for _ in range(3)]

        assert [(answer["outcome"], answer["result"]) for answer in answers] == [("ok", False)] * 3
        assert receiver.ask("taken")["result"] == []


def test_a_broker_that_is_not_there_is_told_at_once_and_without_its_password(pair, rabbit):
    with pair(f"rabbit://u:secret@127.0.0.1:{free_port()}/v") as (sender, _receiver):
        answer = send(sender, "texts", "x")

    assert_ends_in_time(answer, 3, "RpcUnavailable")
    assert "secret" not in answer["text"]


def test_texts_flow_again_when_a_killed_broker_is_back(pair, fragile_node):
    with pair(fragile_node.vhost("killed")) as (sender, receiver):
        receiver.ask("receive")
        send(sender, "texts", "before")
        wait_for(receiver, "before")

        fragile_node.kill()
        wait_until(lambda: send(sender, "texts", "lost")["outcome"] == "RpcUnavailable", "the broker is not missed")
        fragile_node.restart()

        wait_until(lambda: send(sender, "texts.h1", "after")["outcome"] == "ok"
                   and "after" in receiver.ask("taken")["result"], "no text arrives")


def test_a_frozen_broker_is_taken_for_dead_and_found_again(pair, fragile_node):
    with pair(fragile_node.vhost("frozen")) as (sender, receiver):
        receiver.ask("receive")
        send(sender, "texts", "before")
        wait_for(receiver, "before")

        fragile_node.freeze()
        try:
            wait_until(lambda: send(sender, "texts", "lost")["outcome"] == "RpcUnavailable", "the broker is not missed")
        finally:
            fragile_node.thaw()

        wait_until(lambda: send(sender, "texts", "after")["outcome"] == "ok"
                   and "after" in receiver.ask("taken")["result"], "no text arrives")


def test_a_receiver_stops_at_once_also_when_it_has_nothing_to_read(pair, rabbit):
    with pair(rabbit.vhost("idle")) as (_sender, receiver):
        receiver.ask("receive")

        assert_ends_in_time(receiver.ask("stop"), 2, "ok")
