"""Messages between cells as the reference writes them: ours have the same form, theirs are understood.

The data are messages of three cells of the reference, api -> mid -> leaf, as they were on the broker.
"""

import json
import pathlib

import pytest

from nova_lite import exception, objects, rpc
from nova_lite.cells import utils
from nova_lite.cells.response import Response
from nova_lite.context import RequestContext
from tests.unit.cells.tree import Tree, eventually

DATA = pathlib.Path(__file__).parent / "data" / "wire"
TYPES = ("targeted", "broadcast", "response")


def recorded(number: int) -> dict:
    """Return a recorded file's oslo message, and where it was sent, as {'exchange', 'routing_key', …message}."""
    [path] = DATA.glob(f"{number:02}-*.json")
    envelope = json.loads(path.read_text())
    return {"exchange": envelope["exchange"], "routing_key": envelope["routing_key"],
            **json.loads(envelope["body"]["oslo.message"])}


def cell_message(number: int) -> dict:
    return json.loads(recorded(number)["args"]["message"])


class Ear:
    """A neighbour of the reference: two processes that only note what they are sent."""

    def __init__(self, cell):
        self.heard: list[tuple[str, str, dict]] = []
        self._servers = []
        for name in ("first", "second"):
            for kind in TYPES:
                server = cell.rpc.server(f"cells.intercell.{kind}", [_Process(self, name, kind)],
                                         server_name=f"{name}-process", bind=cell.services,
                                         serializer=rpc.PlainSerializer())
                server.start()
                self._servers.append(server)

    def message(self, kind: str) -> dict:
        """Return the one message of this type, heard by one process."""
        found = eventually(lambda: [text for _name, heard, text in self.heard if heard == kind])
        assert len(found) == 1
        return json.loads(found[0])

    def fanned_out(self, kind: str, method: str | None = None) -> dict:
        """Return the one message of this type (and method) that both processes heard."""
        def both():
            found = {name: text for name, heard, text in self.heard
                     if heard == kind and method in (None, json.loads(text)["method_name"])}
            return found if len(found) == 2 else None

        first, second = eventually(both).values()
        assert first == second
        return json.loads(first)

    def close(self):
        for server in self._servers:
            server.stop()
            server.wait(5)


class _Process:
    version = "1.0"
    remote_methods = frozenset(("process_message",))

    def __init__(self, ear, name, kind):
        self._ear, self._name, self._kind = ear, name, kind

    def process_message(self, ctxt, message):
        self._ear.heard.append((self._name, self._kind, message))


class Line(Tree):
    """api, mid and leaf; those in `deaf` are cells of the reference that only listen."""

    def __init__(self, deaf):
        super().__init__({"api": None, "mid": "api", "leaf": "mid"})
        self.ears = {}
        for name in deaf:
            self[name].stop()
            self.ears[name] = Ear(self[name])

    def close(self):
        for ear in self.ears.values():
            ear.close()
        super().close()


@pytest.fixture
def line():
    lines = []

    def make(*deaf):
        lines.append(Line(deaf))
        return lines[-1]

    yield make
    for one in lines:
        one.close()


def in_reference_form(message: dict) -> dict:
    """Return a message of ours without the keys that the reference does not have."""
    ours = ("msg_version", "object_versions", "deadline", "sent_at", "reply_server")
    return {key: value for key, value in message.items() if key not in ours}


def feed(cell, message: dict) -> None:
    """Send a message to a cell as a neighbour does: over its broker."""
    client = cell.rpc.client(f"cells.intercell.{message['message_type']}", version="1.0")
    client.cast(message["ctxt"], "process_message", message=json.dumps(message))


def test_a_targeted_message_is_passed_on_as_the_reference_does(line):
    cells = line("api", "leaf")

    feed(cells["mid"], cell_message(2))

    assert in_reference_form(cells.ears["leaf"].message("targeted")) == cell_message(3)


def test_a_response_on_its_way_is_passed_on_and_fans_out_on_its_last_hop(line):
    cells = line("api", "leaf")

    feed(cells["mid"], cell_message(4))

    assert in_reference_form(cells.ears["api"].fanned_out("response")) == cell_message(5)


def test_a_broadcast_is_answered_as_the_reference_does(line):
    cells = line("mid")

    feed(cells["leaf"], {**cell_message(7), "routing_path": "api!mid", "hop_count": 2})

    ours, theirs = in_reference_form(cells.ears["mid"].fanned_out("response")), cell_message(8)
    assert ours.keys() == theirs.keys()
    assert ours["ctxt"].keys() == theirs["ctxt"].keys()
    same = set(theirs) - {"uuid", "method_kwargs", "ctxt"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["method_kwargs"].keys() == theirs["method_kwargs"].keys()
    [answer] = [json.loads(text) for text in ours["method_kwargs"]["responses"]]
    assert answer == {"cell_name": "api!mid!leaf", "value": [], "failure": False}


def test_answers_to_a_broadcast_are_put_together_as_the_reference_does(line):
    cells = line("api", "leaf")

    feed(cells["mid"], cell_message(7))
    forwarded = cells.ears["leaf"].message("broadcast")
    feed(cells["mid"], cell_message(8))

    assert in_reference_form(forwarded) == {**cell_message(7), "routing_path": "api!mid", "hop_count": 2}
    ours, theirs = in_reference_form(cells.ears["api"].fanned_out("response")), cell_message(9)
    same = set(theirs) - {"uuid", "method_kwargs", "ctxt"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    answers = [json.loads(text)["cell_name"] for text in ours["method_kwargs"]["responses"]]
    assert answers == [json.loads(text)["cell_name"] for text in theirs["method_kwargs"]["responses"]]


def test_a_failure_is_written_as_the_reference_writes_it(line):
    cells = line("api")

    feed(cells["mid"], {**cell_message(2), "target_cell": "api!mid!nope", "uuid": cell_message(11)["response_uuid"]})

    ours, theirs = in_reference_form(cells.ears["api"].fanned_out("response")), cell_message(11)
    same = set(theirs) - {"uuid", "method_kwargs", "ctxt"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    [ours] = [json.loads(text) for text in ours["method_kwargs"]["responses"]]
    [theirs] = [json.loads(text) for text in theirs["method_kwargs"]["responses"]]
    assert (ours["cell_name"], ours["failure"]) == (theirs["cell_name"], theirs["failure"])
    ours, theirs = json.loads(ours["value"]), json.loads(theirs["value"])
    assert ours.keys() == theirs.keys()
    for key in ("class", "module", "message", "args", "kwargs"):
        assert ours[key] == theirs[key]


def test_a_failure_of_the_reference_is_raised_as_our_class():
    [text] = cell_message(11)["method_kwargs"]["responses"]

    response = Response.from_json(None, text)

    with pytest.raises(exception.CellRoutingInconsistency, match="Unknown child when routing to api!mid!nope"):
        response.value_or_raise()


def test_objects_in_answers_of_the_reference_are_ours():
    responses = [Response.from_json(None, text) for text in cell_message(9)["method_kwargs"]["responses"]]

    services = [service for response in responses for service in response.value_or_raise()]

    assert all(isinstance(service, objects.Service) for service in services)
    assert [service.host for service in services] == ["peer-leaf", "peer-mid"]


@pytest.mark.parametrize(("number", "method"), [(13, "update_capabilities"), (14, "update_capacities")])
def test_a_cell_tells_its_parent_of_itself_as_the_reference_does(line, number, method):
    cells = line("mid")
    leaf = cells["leaf"]
    tell = {13: leaf.runner.tell_parents_our_capabilities, 14: leaf.runner.tell_parents_our_capacities}[number]

    tell(leaf.context())

    ours, theirs = in_reference_form(cells.ears["mid"].fanned_out("targeted", method)), cell_message(number)
    assert ours.keys() == theirs.keys()
    same = set(theirs) - {"uuid", "ctxt", "method_kwargs"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["method_kwargs"].keys() == theirs["method_kwargs"].keys()
    if number == 13:
        assert ours["method_kwargs"] == theirs["method_kwargs"]


def test_what_a_child_of_the_reference_tells_of_itself_is_taken_in_and_passed_on(line):
    cells = line("api", "leaf")

    feed(cells["mid"], cell_message(13))

    passed_on = cells.ears["api"].fanned_out("targeted", "update_capabilities")
    child = cells["mid"].child("leaf")
    assert child.capabilities == {"hypervisor": {"kvm", "xenserver"}, "os": {"linux", "windows"}}
    assert child.heard
    assert not child.is_ours
    assert passed_on["method_kwargs"]["cell_name"] == "mid"


def test_an_instance_update_is_passed_on_upwards_to_the_letter(line):
    cells = line("api", "leaf")

    feed(cells["mid"], cell_message(16))

    assert in_reference_form(cells.ears["api"].message("broadcast")) == {
        **cell_message(16), "routing_path": "leaf!mid", "hop_count": 2}


def test_an_instance_of_the_reference_is_read_with_what_it_says_has_changed(line):
    cells = line()
    message = cells["api"].runner.message_from_json(
        json.dumps({**cell_message(16), "routing_path": "leaf!mid"}))

    instance = message.method_kwargs["instance"]

    assert isinstance(instance, objects.Instance)
    assert instance.obj_what_changed() == {"flavor"}
    assert (instance.vm_state, instance.flavor.flavorid) == ("active", "1")


def test_a_context_that_says_only_admin_and_an_absent_hop_limit_are_enough(line):
    cells = line("leaf")
    message = {**cell_message(2), "ctxt": {"is_admin": True}, "some_day": 1}
    del message["max_hop_count"]

    feed(cells["mid"], message)

    passed_on = cells.ears["leaf"].message("targeted")
    assert passed_on["max_hop_count"] == 10
    assert passed_on["ctxt"] == {"is_admin": True}


def test_the_context_of_a_message_of_the_reference_is_understood():
    ctxt = RequestContext.from_dict(cell_message(16)["ctxt"])

    assert (ctxt.user_id, ctxt.project_id, ctxt.is_admin) == ("u1", "p1", True)
    assert ctxt.request_id == "req-05f74ff3-1720-4f60-9695-adc6b5afea59"


def test_messages_go_to_the_exchange_and_topics_of_the_reference(line):
    conf = line()["api"].conf

    assert conf.control_exchange == recorded(2)["exchange"]
    assert f"{conf.cells.rpc_driver_queue_base}.targeted" == recorded(2)["routing_key"]
    assert f"{conf.cells.rpc_driver_queue_base}.broadcast" == recorded(7)["routing_key"]
    assert conf.cells.topic == recorded(1)["routing_key"]
    assert recorded(2)["version"] == recorded(4)["version"] == "1.0"


def test_a_broadcast_result_of_the_reference_is_restored_as_proxies():
    services = utils.ProxyObjectSerializer().deserialize_entity(None, recorded(10)["result"])

    assert [service.id for service in services] == ["api!mid!leaf@1", "api!mid@1", "api@1"]
    assert services[0].host == "api!mid!leaf@peer-leaf"
    assert services[0].binary == "nova-cells"


def test_a_broadcast_result_of_ours_is_written_as_the_reference_does():
    serializer = utils.ProxyObjectSerializer()
    [theirs, *_others] = recorded(10)["result"]

    ours = serializer.serialize_entity(None, serializer.deserialize_entity(None, [theirs]))[0]

    assert ours.keys() == theirs.keys()
    assert ours["cell_proxy.class_name"] == theirs["cell_proxy.class_name"]
    assert ours["cell_proxy.cell_path"] == theirs["cell_proxy.cell_path"]
    missing = set(theirs["nova_object.data"]) - set(ours["nova_object.data"])
    assert missing == {"uuid"}, "the floor version has all but what came later"
