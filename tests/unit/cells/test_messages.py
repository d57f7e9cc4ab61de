"""Messages between the cells of a tree, over the real driver."""

import json
import uuid

import hypothesis
import pytest
from hypothesis import strategies as st

from nova_lite import exception, objects
from nova_lite.cells.messages import BroadcastMessage, TargetedMessage
from nova_lite.cells.response import Response
from tests.unit.cells.tree import eventually

API, CHILD2, GRANDCHILD1 = "api-cell", "child-cell2", "grandchild-cell1"
TO_GRANDCHILD1 = "api-cell!child-cell2!grandchild-cell1"


def ask(cell, target, method="probe", kwargs=None, direction="down", **fields):
    return cell.runner.send_targeted(cell.context(), method, kwargs or {}, direction, target, need_response=True,
                                     **fields)


def ask_all(cell, direction="down", method="probe", kwargs=None, **fields):
    return cell.runner.send_broadcast(cell.context(), method, kwargs or {}, direction, need_response=True, **fields)


def test_a_new_message_begins_its_path_and_counts_its_first_hop(tree):
    api = tree[API]

    message = TargetedMessage(api.runner, api.context(), "probe", {}, "down", TO_GRANDCHILD1)

    assert (message.routing_path, message.hop_count, message.max_hop_count) == (API, 1, 10)
    assert not message.fanout
    assert not message.need_response
    assert message.source_is_us()


def test_the_next_hop_is_the_child_on_the_way(tree):
    api = tree[API]

    message = TargetedMessage(api.runner, api.context(), "probe", {}, "down", TO_GRANDCHILD1)

    assert message.next_hop().name == CHILD2


def test_a_targeted_message_is_processed_where_it_is_meant_to_be(tree):
    response = ask(tree[API], TO_GRANDCHILD1)

    assert response.value_or_raise() == TO_GRANDCHILD1
    assert response.cell_name == TO_GRANDCHILD1
    assert tree.probes == [TO_GRANDCHILD1]


def test_a_message_travels_up_and_its_answer_comes_down(tree):
    response = ask(tree[GRANDCHILD1], "grandchild-cell1!child-cell2!api-cell", direction="up")

    assert response.value_or_raise() == "grandchild-cell1!child-cell2!api-cell"


@pytest.mark.parametrize(("state", "path"), [(lambda api: api.state.get_my_state(), API),
                                             (lambda api: api.child(CHILD2), "api-cell!child-cell2")])
def test_a_cell_state_can_be_the_target(tree, state, path):
    api = tree[API]

    assert ask(api, state(api)).value_or_raise() == path


def test_the_cell_itself_answers_without_any_message(tree):
    marker = object()
    tree[API].db.returns = lambda cell, message, value: marker

    assert ask(tree[API], API).value_or_raise() is marker


@pytest.mark.parametrize("target", [
    "api-cell!child-cell2!nobody", "api-cell!nobody", "elsewhere!child-cell2",
    "api-cell!child-cell2!grandchild-cell1!x"])
def test_a_target_that_does_not_exist_fails_with_a_routing_inconsistency(tree, target):
    response = ask(tree[API], target)

    assert response.failure
    with pytest.raises(exception.CellRoutingInconsistency):
        response.value_or_raise()


def test_a_missing_target_is_refused_at_once(tree):
    with pytest.raises(exception.CellRoutingInconsistency):
        ask(tree[API], None)


def test_a_cast_to_nowhere_is_logged_and_dropped(tree):
    api = tree[API]

    assert api.runner.send_targeted(api.context(), "probe", {}, "down", "api-cell!nobody") is None


def test_the_hop_limit_stops_a_targeted_message_with_a_failure(tree):
    response = ask(tree[API], TO_GRANDCHILD1, max_hop_count=2)

    with pytest.raises(exception.CellMaxHopCountReached) as caught:
        response.value_or_raise()
    assert caught.value.kwargs["hop_count"] == 2
    assert response.cell_name == "api-cell!child-cell2"


def test_the_hop_limit_ends_a_broadcast(tree):
    responses = ask_all(tree[API], max_hop_count=2)

    assert sum(not response.failure for response in responses) == 5


def test_a_broadcast_reaches_every_cell_below_and_its_own(tree):
    responses = ask_all(tree[API])

    assert len(responses) == len(tree.probes) == 8
    assert all(response.cell_name == response.value for response in responses)
    assert responses[-1].cell_name == API


def test_a_broadcast_can_leave_its_own_cell_out(tree):
    assert len(ask_all(tree[API], run_locally=False)) == 7
    assert API not in tree.probes


def test_along_a_chain_the_farthest_answers_stand_first(make_tree):
    chain = make_tree({"api": None, "c2": "api", "gc1": "c2"})

    assert [response.cell_name for response in ask_all(chain["api"])] == ["api!c2!gc1", "api!c2", "api"]


def test_a_broadcast_up_reaches_every_ancestor(tree):
    responses = ask_all(tree["grandchild-cell3"], "up")

    assert {response.cell_name for response in responses} == {
        "grandchild-cell3", "grandchild-cell3!child-cell3", "grandchild-cell3!child-cell3!api-cell"}


def test_a_broadcast_nobody_waits_for_acts_everywhere(tree):
    api = tree[API]

    assert api.runner.send_broadcast(api.context(), "probe", {}, "down") is None
    eventually(lambda: len(tree.probes) == 8)


def test_failures_of_some_cells_stand_among_the_answers_of_others(tree):
    def fail(cell, message, value):
        raise exception.CellNotFound(cell_name="x")

    tree["child-cell1"].db.returns = tree[GRANDCHILD1].db.returns = fail

    responses = ask_all(tree[API])

    failed = [response for response in responses if response.failure]
    assert {response.cell_name for response in failed} == {"api-cell!child-cell1", TO_GRANDCHILD1}
    assert all(isinstance(response.error, exception.CellNotFound) for response in failed)
    assert len(responses) == 8


def test_a_failure_at_the_target_is_raised_at_the_origin(tree):
    def fail(cell, message, value):
        raise exception.InstanceNotFound(instance_id="u7")

    tree[GRANDCHILD1].db.returns = fail

    with pytest.raises(exception.InstanceNotFound) as caught:
        ask(tree[API], TO_GRANDCHILD1).value_or_raise()
    assert caught.value.kwargs["instance_id"] == "u7"


def test_objects_arrive_equal_but_distinct_and_come_back(tree):
    flavor = objects.Flavor(id=3, name="m1.small", memory_mb=2048, vcpus=1, flavorid="2")
    tree[GRANDCHILD1].db.returns = lambda cell, message, value: [value]

    [returned] = ask(tree[API], TO_GRANDCHILD1, "probe_with", {"value": flavor}).value_or_raise()

    [(_path, arrived)] = tree[GRANDCHILD1].db.probes
    assert arrived is not flavor
    assert dict(returned.items()) == dict(flavor.items()) == dict(arrived.items())


def test_the_context_arrives_bound_to_the_cell_it_is_in(tree):
    seen = []
    tree[GRANDCHILD1].db.returns = lambda cell, message, value: seen.append(message.ctxt)
    api = tree[API]
    ctxt = api.context(user_name="joe")

    api.runner.send_targeted(ctxt, "probe", {}, "down", TO_GRANDCHILD1, need_response=True)

    [arrived] = seen
    assert arrived.services is tree[GRANDCHILD1].services
    assert (arrived.request_id, arrived.user_id, arrived.user_name) == (ctxt.request_id, "u1", "joe")


def test_D14_writing_a_message_leaves_its_arguments_alone(tree):
    api = tree[API]
    flavor = objects.Flavor(name="m1.small", flavorid="2")
    kwargs = {"value": flavor}
    message = BroadcastMessage(api.runner, api.context(), "probe_with", kwargs, "down")

    message.to_json()

    assert message.method_kwargs["value"] is flavor
    assert kwargs["value"] is flavor


def test_D14_a_broadcast_acts_in_its_own_cell_with_objects(tree):
    flavor = objects.Flavor(name="m1.small", flavorid="2")

    ask_all(tree[API], method="probe_with", kwargs={"value": flavor})

    assert tree[API].db.probes == [(API, flavor)]


@pytest.mark.parametrize("name", ["nonsense", "_private", "__init__", "process"])
def test_D19_only_declared_methods_can_be_run(tree, name):
    response = ask(tree[API], TO_GRANDCHILD1, name)

    with pytest.raises(AttributeError):
        response.value_or_raise()


def test_D19_a_method_of_another_message_type_cannot_be_run(tree):
    response = ask(tree[API], TO_GRANDCHILD1, "parse_responses", {"orig_message": "", "responses": []})

    assert isinstance(response.error, AttributeError)


def test_arguments_that_a_method_does_not_know_are_ignored(tree):
    assert ask(tree[API], TO_GRANDCHILD1, kwargs={"from_the_future": 1}).value_or_raise() == TO_GRANDCHILD1


def test_D15c_answers_do_not_carry_the_request_nor_credentials(tree):
    sent = []
    child = tree[CHILD2]
    original = child.parent(API).driver.send_message_to_cell
    child.parent(API).driver.send_message_to_cell = lambda cell, message, server=None: (
        sent.append(message.to_wire()), original(cell, message, server=server))
    try:
        api = tree[API]
        api.runner.send_targeted(api.context(auth_token="sesame"), "probe", {}, "down", "api-cell!child-cell2",
                                 need_response=True)
    finally:
        del child.parent(API).driver.send_message_to_cell

    [reply] = sent
    assert reply["method_kwargs"]["orig_message"] == ""
    assert "sesame" not in json.dumps(reply)


def heard_contexts(tree, cell, monkeypatch):
    """Return a list that takes up the context of each message that a cell processes."""
    contexts, process = [], tree[cell].runner._process_message_locally
    monkeypatch.setattr(tree[cell].runner, "_process_message_locally",
                        lambda message: contexts.append(message.ctxt) or process(message))
    return contexts


@pytest.mark.parametrize(("forwards", "token"), [(False, None), (True, "sesame")])
def test_D19d_cells_of_our_kind_are_told_tokens_only_if_wanted(make_tree, monkeypatch, forwards, token):
    tree = make_tree({"api": None, "west": "api", "rack1": "west"}, overrides={
        "*": {("cells", "forward_auth_tokens"): forwards}})
    tree.know_each_other()
    heard = heard_contexts(tree, "rack1", monkeypatch)
    ctxt = tree["api"].context(auth_token="sesame", user_name="anna", service_catalog=[{"type": "volume"}])

    for need_response in (True, False):
        tree["api"].runner.send_targeted(ctxt, "probe", {}, "down", "api!west!rack1", need_response=need_response)

    eventually(lambda: len(heard) == 2)
    assert {one.auth_token for one in heard} == {token}
    assert {one.user_name for one in heard} == {"anna"}
    assert ctxt.auth_token == "sesame", "the request's own context stays as it is"


def test_D19d_a_neighbour_of_the_reference_is_told_the_token_that_it_needs(make_tree, monkeypatch):
    tree = make_tree({"api": None, "west": "api"})
    heard = heard_contexts(tree, "west", monkeypatch)

    tree["api"].runner.send_targeted(tree["api"].context(auth_token="sesame"), "probe", {}, "down", "api!west",
                                     need_response=True)

    assert [one.auth_token for one in heard] == ["sesame"]


@pytest.mark.parametrize("sends", [True, False])
def test_D19d_tracebacks_leave_a_cell_only_if_wanted(make_tree, sends):
    tree = make_tree({"api": None, "west": "api"}, overrides={"west": {("cells", "send_tracebacks"): sends}})

    def fail(cell, message, value):
        raise exception.Invalid("of no use")

    tree["west"].db.returns = fail

    response = tree["api"].runner.send_targeted(tree["api"].context(), "probe", {}, "down", "api!west",
                                                need_response=True)

    assert isinstance(response.error, exception.Invalid)
    assert "of no use" in str(response.error)
    assert ("Traceback" in str(response.error)) is sends


def test_D15d_answers_go_to_the_process_that_waits(tree):
    fanned_out = []
    for name in (CHILD2, GRANDCHILD1):
        for parent in tree[name].state.get_parent_cells():
            original = parent.driver.send_message_to_cell
            parent.driver.send_message_to_cell = lambda cell, message, server=None, original=original: (
                fanned_out.append((message.fanout, server)), original(cell, message, server=server))
    try:
        ask(tree[API], TO_GRANDCHILD1)
    finally:
        for name in (CHILD2, GRANDCHILD1):
            for parent in tree[name].state.get_parent_cells():
                del parent.driver.send_message_to_cell

    assert fanned_out == [(False, None), (False, "host-of-api-cell")]


def test_an_answer_fans_out_when_nobody_named_the_process_that_waits(tree):
    api = tree[API]
    message = TargetedMessage(api.runner, api.context(), "probe", {}, "down", "api-cell!child-cell2",
                              need_response=True)
    wait = api.runner._setup_response_queue(message, [CHILD2])
    fields = message.to_wire()
    for ours in ("reply_server", "msg_version", "deadline"):
        fields.pop(ours, None)

    tree[CHILD2].runner.receive(json.dumps(fields))

    assert Response.from_json(None, wait.until(tree.clock.time() + 5)[0]).value == "api-cell!child-cell2"


def test_a_late_answer_is_counted_and_forgotten(tree):
    before = tree[API].runner.counts["late_response"]

    tree[API].runner._put_response("no such uuid", ["{}"])

    assert tree[API].runner.counts["late_response"] == before + 1


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"message_type": "gossip"}', '{"message_type": "targeted"}',
    '{"message_type": "broadcast", "msg_runner": 1}', 7])
def test_D19d_what_is_no_message_is_refused_counted_and_not_shown(tree, text, caplog):
    before = tree[API].runner.counts["malformed"]

    tree[API].runner.receive(text)

    assert tree[API].runner.counts["malformed"] == before + 1
    assert "gossip" not in caplog.text


FIELDS = ["message_type", "ctxt", "method_name", "method_kwargs", "direction", "need_response", "fanout", "uuid",
          "routing_path", "hop_count", "max_hop_count", "target_cell", "response_uuid", "deadline", "reply_server",
          "msg_version", "object_versions", "run_locally", "msg_runner", "received", "strict"]
JUNK = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2) | \
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)


@hypothesis.settings(max_examples=300, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(kind=st.sampled_from(["targeted", "broadcast", "response"]),
                  junk=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3),
                  missing=st.sets(st.sampled_from(FIELDS), max_size=1))
def test_whatever_arrives_is_refused_or_processed_but_never_raises(tree, kind, junk, missing):
    fields = {"message_type": kind, "ctxt": {}, "method_name": "probe", "method_kwargs": {}, "direction": "down",
              "need_response": False, "fanout": False, "uuid": str(uuid.uuid4()), "routing_path": "api-cell",
              "hop_count": 1, "max_hop_count": 10, "target_cell": "api-cell!child-cell1", "response_uuid": "u", **junk}

    tree["child-cell1"].runner.receive(json.dumps({name: fields[name] for name in fields if name not in missing}))


def test_an_unknown_message_type_is_a_key_error(tree):
    with pytest.raises(KeyError):
        tree[API].runner.message_from_json('{"message_type": "gossip"}')


def test_D24_a_message_that_is_too_long_is_refused(tree):
    limit = tree[API].conf.cells.max_message_bytes
    before = tree[API].runner.counts["malformed"]

    tree[API].runner.receive("x" * (limit + 1))

    assert tree[API].runner.counts["malformed"] == before + 1


def wire_of(tree, **changes):
    api = tree[API]
    message = BroadcastMessage(api.runner, api.context(), "probe", {}, "down")
    return json.dumps({**message.to_wire(), **changes})


def test_D15_a_message_that_arrives_twice_acts_once(tree):
    text = wire_of(tree)
    child = tree["child-cell1"]
    before = child.runner.counts["duplicate"]

    child.runner.receive(text)
    child.runner.receive(text)

    assert tree.probes == ["api-cell!child-cell1"]
    assert child.runner.counts["duplicate"] == before + 1


def test_D15_two_ways_to_one_cell_make_one_answer(make_tree):
    diamond = make_tree({"top": None, "left": "top", "right": "top", "bottom": "left"})
    right, bottom = diamond["right"], diamond["bottom"]
    diamond.join("right", "bottom")
    for cell in (right, bottom):
        cell.state._sync(force=True)

    responses = ask_all(diamond["top"])

    assert sorted(response.cell_name.rsplit("!", 1)[-1] for response in responses) == [
        "bottom", "left", "right", "top"]
    assert not any(response.failure for response in responses)


def test_D23_what_has_expired_is_dropped(tree):
    child = tree["child-cell1"]
    before = child.runner.counts["expired"]

    child.runner.receive(wire_of(tree, deadline=tree.clock.time() - 1))

    assert tree.probes == []
    assert child.runner.counts["expired"] == before + 1


def test_a_received_broadcast_always_acts_where_it_arrives(tree):
    tree["child-cell1"].runner.receive(wire_of(tree, run_locally=False, surprise=1))

    assert tree.probes == ["api-cell!child-cell1"]


def test_own_operations_are_never_sent_to_a_reference_cell(tree):
    neighbour = tree[API].child("child-cell4")
    neighbour.peer_version = None

    response = tree[API].runner.ping(tree[API].context(), "api-cell!child-cell4")

    assert isinstance(response.error, exception.CellsOperationUnsupported)


def test_a_ping_goes_there_and_back(tree):
    tree.know_each_other()

    answer = tree[API].runner.ping(tree[API].context(), TO_GRANDCHILD1).value_or_raise()

    assert answer["cell"] == TO_GRANDCHILD1
    assert answer["host"] == "host-of-grandchild-cell1"
