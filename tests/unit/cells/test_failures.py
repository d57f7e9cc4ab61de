"""Neighbours that are slow, silent, or cannot be reached."""

import threading

import pytest

from nova_lite import concurrency, exception
from nova_lite.cells import messages
from nova_lite.cells.waiting import Waits
from tests.fixtures.clock import FakeClock
from tests.unit.cells.tree import eventually

CHAIN = {"api": None, "west": "api", "rack1": "west", "rack2": "west", "east": "api"}


@pytest.fixture
def tree(make_tree):
    return make_tree(CHAIN, clock=FakeClock())


def deaf(tree, name):
    """Let a cell hear nothing any more."""
    tree[name].stop()


def unreachable(tree, cell, neighbour):
    """Let a cell find no broker where its neighbour's was."""
    def refuse(state, message, server=None):
        raise exception.RpcUnavailable(method="process_message", topic="cells.intercell", reason="connection refused")

    tree[cell].child(neighbour).driver.send_message_to_cell = refuse


def while_waiting(tree, ask, seconds, **missing):
    """Run a request, moving the clock once these cells wait for nobody but these neighbours; return its result."""
    task = concurrency.spawn(ask)
    for cell, neighbour in missing.items():
        waits = tree[cell].runner.response_queues._by_uuid
        eventually(lambda waits=waits, neighbour=neighbour: [
            wait for wait in list(waits.values()) if wait.missing == {neighbour}])
    tree.clock.advance(seconds)
    return task.wait(5)


def ask_all(tree, cell="api"):
    runner, ctxt = tree[cell].runner, tree[cell].context()
    return lambda: runner.send_broadcast(ctxt, "probe", {}, "down", need_response=True)


def ask(tree, target):
    api = tree["api"]
    return lambda: api.runner.send_targeted(api.context(), "probe", {}, "down", target, need_response=True)


def failed(responses):
    return {response.cell_name: response.error for response in responses if response.failure}


def test_D4b_a_targeted_request_without_an_answer_is_a_failure_of_the_response(tree):
    deaf(tree, "rack1")

    response = while_waiting(tree, ask(tree, "api!west!rack1"), 61, api="west")

    with pytest.raises(exception.CellTimeout):
        response.value_or_raise()
    assert len(tree["api"].runner.response_queues) == 0


def test_D2b_one_silent_child_costs_its_own_answer_only(tree):
    deaf(tree, "east")

    responses = while_waiting(tree, ask_all(tree), 61, api="east")

    assert {response.cell_name for response in responses if not response.failure} == {
        "api", "api!west", "api!west!rack1", "api!west!rack2"}
    assert list(failed(responses)) == ["api!east"]
    assert isinstance(failed(responses)["api!east"], exception.CellTimeout)


def test_D2_a_cell_on_the_way_reports_its_silent_child_in_time(tree):
    deaf(tree, "rack1")

    # Moved past the deadline of west, which is earlier than that of the origin.
    responses = while_waiting(tree, ask_all(tree), 59.5, west="rack1", api="west")

    assert list(failed(responses)) == ["api!west!rack1"]
    assert {response.cell_name for response in responses} == {
        "api", "api!west", "api!west!rack1", "api!west!rack2", "api!east"}


def test_D1_a_broadcast_that_cannot_be_sent_still_returns_a_list(tree):
    for child in ("west", "east"):
        unreachable(tree, "api", child)

    responses = ask_all(tree)()

    assert set(failed(responses)) == {"api!west", "api!east"}
    assert [response.value for response in responses if not response.failure] == ["api"]


def test_D2_a_cell_on_the_way_reports_a_child_it_cannot_reach(tree):
    unreachable(tree, "west", "rack2")

    responses = ask_all(tree)()

    assert list(failed(responses)) == ["api!west!rack2"]
    assert len(responses) == 5


def test_D15b_a_dead_neighbour_does_not_keep_others_from_hearing(tree):
    unreachable(tree, "api", "west")
    api = tree["api"]

    with pytest.raises(exception.RpcUnavailable):
        api.runner.send_broadcast(api.context(), "probe", {}, "down")

    eventually(lambda: tree.probes == ["api", "api!east"])


def test_a_target_behind_a_dead_broker_fails_at_once(tree):
    unreachable(tree, "west", "rack1")

    response = ask(tree, "api!west!rack1")()

    assert response.failure
    assert response.cell_name == "api!west"


def test_a_cast_to_a_dead_broker_is_logged_and_dropped(tree):
    unreachable(tree, "api", "west")
    api = tree["api"]

    assert api.runner.send_targeted(api.context(), "probe", {}, "down", "api!west") is None


def test_D5_every_hop_waits_less_than_the_one_before(tree):
    seen = {}
    for cell in tree:
        cell.db.returns = lambda cell, message, value: seen.setdefault(message.routing_path, message.deadline)

    ask_all(tree)()

    now = tree.clock.time()
    assert seen["api!west"] == seen["api!east"] == pytest.approx(now + 59)
    assert seen["api!west!rack1"] == pytest.approx(now + 58)


def test_D5_a_caller_that_waits_less_makes_all_others_wait_less(tree):
    api = tree["api"]
    ctxt = api.context()
    ctxt.deadline = tree.clock.time() + 5
    deadlines = []
    tree["rack1"].db.returns = lambda cell, message, value: deadlines.append(message.deadline)

    api.runner.send_targeted(ctxt, "probe", {}, "down", "api!west!rack1", need_response=True)

    assert deadlines == [pytest.approx(tree.clock.time() + 4.5)]


def test_the_margin_is_a_tenth_and_a_second_at_most():
    assert messages.with_margin(110.0, 100.0) == pytest.approx(109.0)
    assert messages.with_margin(101.0, 100.0) == pytest.approx(100.9)
    assert messages.with_margin(90.0, 100.0) == 90.0


def test_D26_there_is_a_limit_to_how_much_can_be_waited_for():
    waits = Waits(FakeClock(), limit=1)
    waits.open("u1", ["a"])

    with pytest.raises(exception.CellTimeout):
        waits.open("u2", ["a"])
    waits.close("u1")
    waits.open("u3", ["a"])


def test_a_neighbour_is_heard_once():
    wait = Waits(FakeClock()).open("u1", ["a", "b"])

    wait.put("a", ["1"])
    wait.put("a", ["again"])
    wait.put("stranger", ["x"])
    wait.put("b", ["2", "3"])

    assert wait.until(0) == ["1", "2", "3"]
    assert wait.missing == set()


def test_a_result_that_cannot_travel_is_a_failure_not_silence(tree):
    tree["west"].db.returns = lambda cell, message, value: object()

    response = ask(tree, "api!west")()

    assert response.failure or response.value is not None


def test_D27_a_child_that_has_been_mute_for_long_is_reported_without_being_asked(tree):
    deaf(tree, "east")
    tree.clock.advance(301)
    for child in ("rack1", "rack2"):
        tree["west"].child(child).update_capabilities({})
    tree["api"].child("west").update_capabilities({})

    responses = ask_all(tree)()

    assert isinstance(failed(responses)["api!east"], exception.CellTimeout)
    assert len(responses) == 5


def test_D23_a_neighbour_that_takes_no_messages_is_told_at_once_and_shown(tree):
    unreachable(tree, "api", "west")
    for _number in range(4):
        assert isinstance(failed(ask_all(tree)())["api!west"], exception.RpcUnavailable)

    shown = {one["name"]: one["sending"]["state"] for one in tree["api"].runner.health.neighbours()}
    assert shown == {"west": "open", "east": "closed"}


def test_D23_one_process_that_is_gone_does_not_close_its_cell(tree):
    west = tree["api"].child("west")
    for _number in range(4):
        with pytest.raises(exception.RpcUnavailable):
            west.send_message(messages.TargetedMessage(
                tree["api"].runner, tree["api"].context(), "probe", {}, "down", "api!west"), server="no-such-host")

    assert west.breaker.state == "closed"


def test_D4_a_cell_that_keeps_silent_is_no_resource_that_is_gone(tree):
    deaf(tree, "west")

    response = while_waiting(tree, ask(tree, "api!west"), 61, api="west")

    assert isinstance(response.error, exception.NotFound), "as clients of the reference expect"
    assert response.error.code == response.error.kwargs["code"] == 504


def test_D29_stopping_lets_what_is_in_work_end_and_then_hears_nothing(make_tree):
    tree = make_tree({"api": None, "west": "api"})
    west = tree["west"]
    begun, go_on = threading.Event(), threading.Event()
    west.db.returns = lambda *_arguments: begun.set() or go_on.wait(5)
    request = concurrency.spawn(ask(tree, "api!west"))
    assert begun.wait(5)

    stopping = concurrency.spawn(west.driver.stop_servers)
    eventually(lambda: not west.driver._servers)
    assert not stopping.done
    go_on.set()

    assert request.wait(5).value_or_raise() is True
    stopping.wait(5)
    tree["api"].runner.send_targeted(tree["api"].context(), "probe", {}, "down", "api!west")
    assert len(tree.probes) == 1


def test_D27_a_new_child_is_given_time_to_speak(tree):
    assert failed(ask_all(tree)()) == {}


def test_D15e_cells_behind_the_hop_limit_are_told_as_failures(tree):
    api = tree["api"]

    responses = api.runner.send_broadcast(api.context(), "probe", {}, "down", need_response=True, max_hop_count=2)

    assert set(failed(responses)) == {"api!west!rack1", "api!west!rack2"}
    assert all(isinstance(error, exception.CellMaxHopCountReached) for error in failed(responses).values())
    assert [response.value for response in responses if not response.failure][-1] == "api"


def test_cells_that_are_disabled_are_left_alone(tree):
    tree["api"].child("east").db_info["enabled"] = False

    assert "api!east" not in {response.cell_name for response in ask_all(tree)()}
    assert isinstance(ask(tree, "api!east")().error, exception.CellRoutingInconsistency)


def test_nothing_is_sent_after_the_deadline(tree):
    api = tree["api"]

    response = api.runner.send_targeted(api.context(), "probe", {}, "down", "api!west", need_response=True,
                                        deadline=tree.clock.time() - 1)

    assert isinstance(response.error, exception.CellTimeout)
    assert tree.probes == []


def test_neighbours_that_were_out_of_reach_are_tried_last(tree):
    tried = []
    for name in ("west", "east"):
        driver = tree["api"].child(name).driver
        original = driver.send_message_to_cell
        driver.send_message_to_cell = lambda cell, message, server=None, original=original: (
            tried.append(cell.name), original(cell, message, server=server))
    tree["api"].child("west").is_reachable = False

    ask_all(tree)()

    assert tried == ["east", "west"]
