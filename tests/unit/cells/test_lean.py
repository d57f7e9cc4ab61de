"""Lean messages between cells of our kind, and trees in which not all cells read them."""

import json

import pytest

from nova_lite import exception, objects
from nova_lite.cells import lean, levels
from nova_lite.cells.messages import TargetedMessage
from tests.fixtures.clock import FakeClock

LINE = {"api": None, "west": "api", "rack1": "west"}
TO_RACK1 = "api!west!rack1"
OLD = {("cells", "lean_messages"): False}


class Wire:
    """What the cells of a tree send each other, as text."""

    def __init__(self, tree):
        self.texts: list[tuple[str, str, str]] = []
        for cell in tree:
            for neighbour in cell.state.get_neighbours():
                api = neighbour.driver._api
                api._cast = self._noting(cell.name, neighbour.name, api._cast)

    def _noting(self, sender, receiver, cast):
        def noting(cell_state, message_type, text, trace, server, fanout=False):
            self.texts.append((sender, receiver, text))
            cast(cell_state, message_type, text, trace, server, fanout=fanout)
        return noting

    def between(self, sender, receiver):
        return [text for one, other, text in self.texts if (one, other) == (sender, receiver)]

    @property
    def forms(self):
        """{(sender, receiver): whether all texts were lean}, for those who said anything."""
        return {(one, other): all(lean.is_lean(text) for text in self.between(one, other))
                for one, other, _text in self.texts}


@pytest.fixture
def acquainted(make_tree):
    """Returns a function that builds a tree whose cells have heard of each other, and the wire between them."""
    def build(parents, **kwargs):
        tree = make_tree(parents, **kwargs)
        for cell in tree:
            for neighbour in cell.state.get_neighbours():
                speaks_lean = tree[neighbour.name].conf.cells.lean_messages
                neighbour.peer_version, neighbour.heard = lean.VERSION if speaks_lean else 1, True
                neighbour.object_versions = levels.OUR_VERSIONS
        return tree, Wire(tree)
    return build


def ask(tree, target=TO_RACK1, kwargs=None, **fields):
    api = tree["api"]
    return api.runner.send_targeted(api.context(), "probe_with", kwargs or {}, "down", target, need_response=True,
                                    **fields)


def ask_all(tree):
    api = tree["api"]
    return api.runner.send_broadcast(api.context(), "probe", {}, "down", need_response=True)


def text_to_west(tree, **fields):
    api = tree["api"]
    message = TargetedMessage(api.runner, api.context(), "probe", {}, "down", "api!west", need_response=True, **fields)
    return message.to_lean(levels.OUR_VERSIONS)


# -- cells that read it

def test_what_somebody_waits_for_is_passed_on_unread(acquainted):
    tree, wire = acquainted(LINE)

    assert ask(tree, kwargs={"value": {"a": [1, None, "ü\n"]}}).value_or_raise() == TO_RACK1

    assert wire.forms == dict.fromkeys([("api", "west"), ("west", "rack1"), ("rack1", "west"), ("west", "api")], True)
    for there, further in ((("api", "west"), ("west", "rack1")), (("rack1", "west"), ("west", "api"))):
        [first], [second] = wire.between(*there), wire.between(*further)
        assert lean.read(first)["body"] == lean.read(second)["body"]
    assert tree["rack1"].db.probes == [(TO_RACK1, {"a": [1, None, "ü\n"]})]


def test_objects_arrive_as_objects_and_come_back_as_such(acquainted):
    tree, _wire = acquainted(LINE)
    tree["rack1"].db.returns = lambda cell, message, value: [value, value]

    answer = ask(tree, kwargs={"value": objects.Instance(uuid="u1", cell_name=TO_RACK1)}).value_or_raise()

    assert [(type(one), one.uuid) for one in answer] == [(objects.Instance, "u1")] * 2
    assert isinstance(tree["rack1"].db.probes[0][1], objects.Instance)


def test_the_requests_context_arrives(acquainted):
    tree, _wire = acquainted(LINE)
    tree["rack1"].db.returns = lambda cell, message, value: message.ctxt.to_dict()
    api = tree["api"]
    ctxt = api.context(project_id="p7", roles=["member"])

    arrived = api.runner.send_targeted(ctxt, "probe", {}, "down", TO_RACK1, need_response=True).value_or_raise()

    assert arrived == json.loads(json.dumps(ctxt.to_dict()))


def test_a_failure_comes_back_as_the_exception_it_was(acquainted):
    tree, _wire = acquainted(LINE)

    def fail(cell, message, value):
        raise exception.InstanceNotFound(instance_id="u1")

    tree["rack1"].db.returns = fail

    with pytest.raises(exception.InstanceNotFound, match="u1"):
        ask(tree).value_or_raise()


def test_a_broadcast_brings_the_answers_of_all_the_farthest_first(acquainted):
    tree, wire = acquainted({**LINE, "rack2": "west", "east": "api"})

    answers = [answer.value_or_raise() for answer in ask_all(tree)]

    assert sorted(answers) == ["api", "api!east", "api!west", "api!west!rack1", "api!west!rack2"]
    assert answers[-1] == "api"
    assert answers.index("api!west!rack1") < answers.index("api!west")
    assert all(wire.forms.values())


def test_what_nobody_waits_for_goes_the_way_of_the_reference(acquainted):
    tree, wire = acquainted(LINE)
    api = tree["api"]

    api.runner.send_targeted(api.context(), "probe", {}, "down", "api!west")

    [text] = wire.between("api", "west")
    assert json.loads(text)["method_name"] == "probe"


def test_an_object_is_fitted_to_each_neighbour_that_reads_less(acquainted):
    tree, wire = acquainted(LINE)
    tree["west"].child("rack1").object_versions = {}
    service = objects.Service(uuid="5f0b8d1c-25ad-4f0b-8e9e-3e6b3b7d8c11", host="h1")

    ask(tree, kwargs={"value": service}).value_or_raise()

    def fields(text):
        return lean.read_request(lean.read(text)["body"])[1]["value"]["nova_object.data"]

    assert fields(*wire.between("api", "west")).keys() == {"uuid", "host"}
    assert fields(*wire.between("west", "rack1")).keys() == {"host"}


def test_a_lean_message_that_came_before_is_refused(acquainted):
    tree, _wire = acquainted(LINE)
    text = text_to_west(tree)

    tree["west"].runner.receive(text)
    tree["west"].runner.receive(text)

    assert tree.probes == ["api!west"]
    assert tree["west"].runner.counts["duplicate"] == 1


def test_a_lean_message_whose_deadline_has_passed_is_refused(acquainted):
    tree, _wire = acquainted(LINE)

    tree["west"].runner.receive(text_to_west(tree, deadline=tree.clock.time() - 1))

    assert tree.probes == []
    assert tree["west"].runner.counts["expired"] == 1


def test_a_lean_message_makes_no_more_hops_than_it_may(acquainted):
    tree, _wire = acquainted(LINE)

    with pytest.raises(exception.CellMaxHopCountReached):
        ask(tree, max_hop_count=2).value_or_raise()


@pytest.mark.parametrize("text", [
    "lean", "lean\n", "lean\n{}\n", "lean\n[]\n{}", "lean\nnull\n{}", 'lean\n{"routing_path": 7}\n{}',
    'lean\n{"routing_path": "api", "message_type": "gossip"}\n{}',
    'lean\n{"routing_path": "api", "message_type": "targeted"}\n{}', "lean " + "x" * 100, "leaner\n{}\n{}",
    'lean\n{"routing_path": "api", "message_type": "targeted", "msg_runner": 1}\n{}', "lean\n" + "[" * 100_000 + "\n"])
def test_what_is_no_lean_message_is_refused_counted_and_not_shown(tree, text, caplog):
    runner = tree["child-cell1"].runner
    before = runner.counts["malformed"]

    runner.receive(text)

    assert runner.counts["malformed"] == before + 1
    assert "gossip" not in caplog.text


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"ctxt": [], "method_kwargs": {}}', '{"ctxt": {}', "[" * 100_000])
def test_a_request_that_cannot_be_read_is_refused_where_it_would_be_carried_out(acquainted, body):
    tree, _wire = acquainted(LINE)
    header = text_to_west(tree).split("\n")[1]

    tree["west"].runner.receive(f"lean\n{header}\n{body}")

    assert tree.probes == []
    assert tree["west"].runner.counts["malformed"] == 1


def test_answers_that_cannot_be_read_are_not_handed_in(acquainted):
    tree, _wire = acquainted(LINE)
    runner = tree["api"].runner
    wait = runner.response_queues.open("u1", ["west"])
    header = {"message_type": "response", "method_name": "parse_responses", "direction": "up", "uuid": "u2",
              "routing_path": "west", "hop_count": 1, "target_cell": "west!api", "response_uuid": "u1",
              "msg_version": lean.VERSION}

    runner.receive(lean.write(header, '[{"cell_name": "x"'))

    assert wait.missing == {"west"}
    assert runner.counts["malformed"] == 1


# -- signatures

def share_key(tree, *pairs):
    for cell, neighbour, key in pairs:
        (tree[cell].child(neighbour) or tree[cell].parent(neighbour)).db_info["shared_key"] = key


def test_D19b_lean_messages_are_signed_between_cells_that_share_a_key(acquainted):
    tree, wire = acquainted(LINE)
    share_key(tree, ("api", "west", "k1"), ("west", "api", "k1"))

    assert ask(tree).value_or_raise() == TO_RACK1

    signatures = {pair: lean.signature_of(text)[1] for *pair, text in map(list, wire.texts) for pair in [tuple(pair)]}
    assert signatures == {("api", "west"): "api", ("west", "rack1"): "", ("rack1", "west"): "", ("west", "api"): "west"}


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda text: text.replace("probe", "probe_with"), "does not fit"),
    (lambda text: "lean\n" + text.partition("\n")[2], "unsigned"),
    (lambda text: text.replace(" api\n", " east\n"), "another way"),
    (lambda text: text.replace('"routing_path": "api"', '"routing_path": "east"'), "another way"),
])
def test_D19b_a_lean_message_that_was_changed_on_its_way_is_refused(acquainted, spoil, reason, caplog):
    tree, _wire = acquainted(LINE)
    share_key(tree, ("api", "west", "k1"), ("west", "api", "k1"))
    sealed = tree["api"].runner.seal(tree["api"].child("west"), text_to_west(tree))

    tree["west"].runner.receive(spoil(sealed))

    assert tree.probes == []
    assert tree["west"].runner.counts["unsigned"] == 1
    assert reason in caplog.text


def test_a_signed_lean_message_from_a_cell_that_shares_no_key_is_refused(acquainted):
    tree, _wire = acquainted(LINE)

    tree["west"].runner.receive(lean.signed(text_to_west(tree), "00", "api"))

    assert tree["west"].runner.counts["unsigned"] == 1


# -- trees with cells that do not read it

@pytest.mark.parametrize("old", ["api", "west", "rack1"])
def test_an_old_cell_anywhere_on_the_way_is_spoken_to_as_before(acquainted, old):
    tree, wire = acquainted({**LINE, "rack2": "west"}, overrides={old: OLD})

    assert ask(tree).value_or_raise() == TO_RACK1
    names = sorted(answer.value_or_raise() for answer in ask_all(tree))

    assert names == ["api", "api!west", TO_RACK1, "api!west!rack2"]
    assert wire.forms == {pair: old not in pair for pair in wire.forms}
    for one, other, text in wire.texts:
        if old in (one, other):
            assert {"ctxt", "method_kwargs", "fanout"} <= json.loads(text).keys()


def test_the_answers_an_old_parent_gets_are_texts_of_single_responses(acquainted):
    tree, wire = acquainted(LINE, overrides={"api": OLD})

    ask_all(tree)

    [text] = wire.between("west", "api")
    answer = json.loads(text)
    responses = [json.loads(one) for one in answer["method_kwargs"]["responses"]]
    assert [one["cell_name"] for one in responses] == [TO_RACK1, "api!west"]
    assert answer["method_kwargs"]["orig_message"] == ""
    assert set(tree["api"].context().to_dict()) == set(answer["ctxt"])


def test_cells_learn_from_the_first_message_that_a_neighbour_reads_the_lean_form(make_tree):
    tree = make_tree(LINE)
    wire = Wire(tree)

    ask(tree)
    assert not wire.forms["api", "west"]
    del wire.texts[:]
    ask(tree)

    assert all(wire.forms.values())


def test_a_cell_that_was_set_back_to_an_older_release_is_noticed(acquainted):
    tree, wire = acquainted(LINE)
    tree["api"].child("west").peer_version = 1

    assert ask(tree).value_or_raise() == TO_RACK1

    assert not wire.forms["api", "west"]


def test_a_text_whose_queue_is_gone_goes_to_the_neighbour_as_the_reference_would_send_it(acquainted):
    tree, wire = acquainted(LINE)
    api = tree["api"]
    west = api.child("west")

    west.driver._api._returned(west, api.runner.seal, "cells.intercell.lean", text_to_west(tree))

    [text] = wire.between("api", "west")
    fields = json.loads(text)
    assert set(fields["ctxt"]) == set(api.context().to_dict())
    assert (fields["method_name"], fields["target_cell"]) == ("probe", "api!west")


class Refusing:
    """A sender whose user may not write to queues of the neighbour's broker."""

    takes_at_once = False

    def send(self, queue, text, ttl_s):
        return False


def test_where_the_broker_refuses_texts_lean_messages_go_by_rpc(acquainted):
    tree, wire = acquainted(LINE)
    west = tree["api"].child("west")
    west.driver._api._senders[west.db_info["transport_url"]] = Refusing()

    assert ask(tree).value_or_raise() == TO_RACK1

    assert wire.forms["api", "west"]


# -- deadlines

@pytest.mark.parametrize(("asked_s", "limit_s"), [(None, 5), (600, 5), (2, 1.8)])
def test_a_wait_ends_by_the_callers_deadline_or_call_timeout_whichever_is_first(make_tree, asked_s, limit_s):
    clock = FakeClock()
    tree = make_tree({"api": None}, clock=clock, overrides={"api": {("cells", "call_timeout"): 5}})
    ctxt = tree["api"].context()
    ctxt.deadline = None if asked_s is None else clock.time() + asked_s

    assert tree["api"].runner.deadline_for(ctxt) - clock.time() == pytest.approx(limit_s)
