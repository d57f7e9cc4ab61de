"""What cells know of how their neighbours do."""

import threading

import pytest

from nova_lite import exception, objects
from nova_lite.cells.cell_state import CellState
from tests.fixtures.clock import FakeClock
from tests.unit.cells.tree import eventually

LINE = {"api": None, "west": "api", "rack1": "west"}


@pytest.fixture(scope="module")
def lasting_tree(make_lasting_tree):
    return make_lasting_tree(LINE, clock=FakeClock())


@pytest.fixture
def tree(lasting_tree):
    """Three cells that know what kind they are, and have not heard each other's beats."""
    lasting_tree.know_each_other()
    for cell in lasting_tree:
        cell.runner.outbox.kick()
    lasting_tree.settle()
    for cell in lasting_tree:
        for neighbour in cell.state.get_neighbours():
            neighbour.peer_version, neighbour.load, neighbour.round_trip_s = 1, None, None
            neighbour.last_seen = CellState("never").last_seen
    return lasting_tree


def beat(tree, *cells):
    for cell in cells:
        tree[cell].manager._tell_parents_we_are_there(tree[cell].context())


def seen(tree, cell, neighbour):
    return {one["name"]: one for one in tree[cell].runner.health.neighbours()}[neighbour]


def test_D28_a_heartbeat_tells_the_parent_what_waits_and_comes_back(tree):
    west = tree["west"]
    request = type("Request", (), {"uuid": "waiting"})
    west.runner._setup_response_queue(request, ["rack1"])
    try:
        beat(tree, "west")
        eventually(lambda: seen(tree, "west", "api")["round_trip_s"] is not None)
        beat(tree, "west")

        told = eventually(lambda: (one := seen(tree, "api", "west"))["round_trip_s"] is not None and one)
        assert told["load"] == {"outbox_rows": 0, "outbox_oldest_s": 0.0, "waiting": 1, "round_trip_s": 0.0}
        assert seen(tree, "west", "rack1")["waiting"] == 1
    finally:
        west.runner._cleanup_response_queue(request)


def test_D28_how_far_a_cells_updates_lag_behind_is_told(tree, monkeypatch):
    rack1 = tree["rack1"]

    def away(*_args, **_kwargs):
        raise exception.RpcUnavailable(method="process_message", topic="cells", reason="away")

    with monkeypatch.context() as patch:
        patch.setattr(rack1.parent("west").driver, "send_message_to_cell", away)
        patch.setattr(rack1.parent("west").driver, "takes_at_once", lambda _cell: False, raising=False)
        rack1.create()
        tree.clock.advance(42)
        load = rack1.runner.heartbeats.load()

    assert load["outbox_rows"] >= 1
    assert load["outbox_oldest_s"] == 42.0
    assert rack1.runner.health.info("rack1")["outbox_oldest_s"] >= 42.0


def test_D28_a_heartbeat_is_a_sign_of_life_by_itself(tree):
    interval_s = tree["api"].conf.cells.mute_child_interval
    tree.clock.advance(interval_s + 1)
    assert seen(tree, "api", "west")["is_mute"]

    beat(tree, "west")

    eventually(lambda: not seen(tree, "api", "west")["is_mute"])


def test_a_parent_that_does_not_answer_beats_any_more_is_mute_and_not_asked(tree):
    west = tree["west"]
    assert seen(tree, "west", "api")["is_mute"] is None, "nothing was heard of it yet"
    beat(tree, "west")
    eventually(lambda: seen(tree, "west", "api")["is_mute"] is False)

    tree.clock.advance(west.conf.cells.mute_child_interval + 1)

    assert seen(tree, "west", "api")["is_mute"]
    [mute] = west.runner.get_keypair_at_top(west.context(), "u1", "key")
    assert isinstance(mute.error, exception.CellTimeout)
    assert "mute" in str(mute.error)


def test_a_parent_that_never_answered_a_beat_is_asked_all_the_same(tree):
    west, api = tree["west"], tree["api"]
    objects.KeyPair(api.context(), user_id="u1", name="key", fingerprint="f", public_key="p").create()
    tree.clock.advance(west.conf.cells.mute_child_interval + 1)

    assert west.manager.get_keypair_at_top(west.context(), "u1", "key").name == "key"


def test_beats_go_to_no_reference_parent(tree, monkeypatch):
    sent = threading.Event()
    tree["west"].parent("api").peer_version = None
    monkeypatch.setattr(tree["west"].parent("api").driver, "send_message_to_cell", lambda *_args, **_kwargs: sent.set())

    beat(tree, "west")

    assert not sent.is_set()


def test_a_beat_of_a_stranger_is_ignored(tree):
    message = type("Message", (), {"direction": "up", "came_from": "stranger"})

    tree["api"].runner.heartbeats.heard(message, {"waiting": 1}, 0.0)

    assert {one["name"] for one in tree["api"].runner.health.neighbours()} == {"west"}
