"""Every class and every message of the data model, over XML-RPC by the XenAPI package and over JSON-RPC.

Names come from the data model where NOVA_LITE_XENAPI_MODEL names its file, else from the simulator's own copy of it.
"""

import http.client
import json
import os
import pathlib
import re
import xmlrpc.client

import pytest
import XenAPI

from nova_lite.xensim.model import load_schema
from tests.fixtures.xen_client import Client

MODEL = os.environ.get("NOVA_LITE_XENAPI_MODEL")
SCHEMA = load_schema()
DEAD = "OpaqueRef:00000000-0000-0000-0000-000000000000"
OBJECTS_READ = 2  # of each class; they are alike
MOVING = {"last_updated", "last_active", "memory_actual", "progress", "io_read_kbs", "io_write_kbs", "utilisation"}
DATETIME = re.compile(r"\d{8}T\d\d:\d\d:\d\dZ?$")
# What would end the walk: the session, the host, or a wait without a limit.
LEFT_OUT = {
    "session.logout", "session.local_logout", "session.logout_subject_identifier", "session.change_password",
    "host.shutdown_agent", "host.reboot", "host.shutdown", "pool.emergency_transition_to_master", "event.next",
    "pool.emergency_reset_master", "pool.rotate_secret", "host.emergency_reset_server_certificate",
}  # fmt: skip
REFUSALS = {"MESSAGE_METHOD_UNKNOWN", "MESSAGE_PARAMETER_COUNT_MISMATCH", "NOT_IMPLEMENTED", "SESSION_INVALID"}


class XmlRpc:
    """Calls through the XenAPI package: integers travel as text."""

    def __init__(self, session):
        self._session = session

    def call(self, name, arguments, needs_session):
        arguments = [xmlrpc.client.DateTime(each) if DATETIME.match(str(each)) else each for each in arguments]
        if needs_session:
            return self._session.xenapi_request(name, tuple(arguments))
        return XenAPI.XenAPI._parse_result(getattr(xmlrpc.client.ServerProxy(self.url), name)(*arguments))

    @property
    def url(self):
        return f"http://{self._session._ServerProxy__host}"

    def is_of(self, kind, value):
        if kind == "int":
            return isinstance(value, str) and bool(re.fullmatch(r"-?\d+", value))
        if kind == "datetime":
            return isinstance(value, xmlrpc.client.DateTime)
        return isinstance(value, {"bool": bool, "float": float}.get(kind, str))


class JsonRpc:
    """Calls as JSON-RPC 2.0 on one connection: integers are numbers, times are text."""

    def __init__(self, session):
        self._session_ref = session._session
        self._connection = http.client.HTTPConnection(session._ServerProxy__host, timeout=60)

    def call(self, name, arguments, needs_session):
        own = [self._session_ref, *arguments] if needs_session else arguments
        self._connection.request(
            "POST", "/jsonrpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": own})
        )
        reply = json.loads(self._connection.getresponse().read())
        if "error" in reply:
            raise XenAPI.Failure([reply["error"]["message"], *reply["error"]["data"]])
        return reply["result"]

    def is_of(self, kind, value):
        if kind == "int":
            return isinstance(value, int) and not isinstance(value, bool)
        if kind == "datetime":
            return isinstance(value, str) and bool(DATETIME.match(value))
        return isinstance(value, {"bool": bool, "float": (float, int)}.get(kind, str))


@pytest.fixture(scope="module")
def furnished(pool):
    """Put at least one object of the everyday classes into the pool."""
    session = XenAPI.Session(pool.url)
    session.login_with_password("root", "xensim")
    client = Client(session)
    vm = client.vm("walked")
    client.vbd(vm, client.vdi())
    client.vif(vm)
    client.api.VM.start(vm, False, False)
    client.api.VM.snapshot(vm, "snapshot")
    client.api.task.create("task", "")
    client.api.secret.create({"value": "x", "other_config": {}})
    client.api.message.create("NAME", "1", "VM", client.api.VM.get_uuid(vm), "body")
    yield session
    client.api.VM.hard_shutdown(vm)


@pytest.fixture(params=[XmlRpc, JsonRpc], ids=["xml", "json"])
def protocol(request, furnished):
    return request.param(furnished)


def names_of_the_model():
    """Return (class, message) for everything that has to answer."""
    if not MODEL:
        return [(call.class_name, call.name) for call in SCHEMA.calls.values()]
    classes = json.loads(pathlib.Path(MODEL).read_text())["classes"]
    return [
        (name, message)
        for name, described in classes.items()
        for message in [*described["implicit"], *described["messages"]]
        if f"{name}.{message}" in SCHEMA.calls or not described["messages"].get(message, {}).get("hidden")
    ]


def has_type(protocol, type_, value):
    """Return whether a value that arrived is what its declared type looks like on this wire."""
    if type_.kind == "void":
        return value == ""
    if type_.kind == "set":
        return isinstance(value, list) and all(has_type(protocol, type_.inner[0], each) for each in value)
    if type_.kind == "map":
        return isinstance(value, dict) and all(has_type(protocol, type_.inner[1], each) for each in value.values())
    if type_.kind == "enum":
        return value in SCHEMA.enums[type_.name].values()
    if type_.kind == "record" and type_.name in SCHEMA.classes:
        return isinstance(value, dict) and set(value) == set(public_fields(type_.name))
    if type_.kind in ("record", "event_batch", "option"):
        return True
    return protocol.is_of(type_.kind, value)


def public_fields(class_name):
    return [name for name, field in SCHEMA.classes[class_name].fields.items() if not field.is_internal]


def sample(type_):
    """Return a harmless argument of a type; references name nothing."""
    if type_.kind == "enum":
        return next(iter(SCHEMA.enums[type_.name].values()))
    plain = {"int": "0", "float": 0.0, "bool": False, "ref": DEAD, "set": [], "map": {}}
    plain["datetime"] = "20260101T00:00:00Z"
    return plain.get(type_.kind, {} if type_.kind == "record" else "nothing")


def test_every_object_is_read_as_a_whole_and_field_by_field(protocol):
    for name, described in SCHEMA.classes.items():
        if not described.has_table or not described.is_listed:
            continue
        records = protocol.call(f"{name}.get_all_records", [], True)
        if name not in ("task", "VM_metrics"):
            assert set(protocol.call(f"{name}.get_all_records_where", ["true"], True)) == set(records), name
        assert set(records) <= set(protocol.call(f"{name}.get_all", [], True)), name
        for ref in list(records)[:OBJECTS_READ]:
            read_object(protocol, name, ref)


def read_object(protocol, name, ref):
    record = protocol.call(f"{name}.get_record", [ref], True)
    assert set(record) == set(public_fields(name)), name
    for field_name in public_fields(name):
        type_ = SCHEMA.classes[name].fields[field_name].type
        assert has_type(protocol, type_, record[field_name]), f"{name}.{field_name}: {record[field_name]!r}"
        value = protocol.call(f"{name}.get_{field_name}", [ref], True)
        assert value == record[field_name] or field_name in MOVING, f"{name}.get_{field_name}: {value!r}"
    assert protocol.call(f"{name}.get_by_uuid", [record["uuid"]], True) == ref
    if f"{name}.get_by_name_label" in SCHEMA.calls:
        assert ref in protocol.call(f"{name}.get_by_name_label", [record["name_label"]], True)


def test_every_message_answers_with_its_type_or_a_declared_error(protocol):
    complaints = []
    for class_name, message in names_of_the_model():
        name = f"{class_name}.{message}"
        if name not in LEFT_OUT and (complaint := walk(protocol, name)):
            complaints.append(complaint)

    assert not complaints, "\n".join(complaints)


def walk(protocol, name):
    """Make one call on things that do not exist; return what is wrong with the answer, if anything."""
    call = SCHEMA.calls.get(name)
    if call is None:
        return f"{name} is unknown"
    arguments = [sample(parameter.type) for parameter in call.parameters[: call.required_count]]
    try:
        result = protocol.call(name, arguments, call.needs_session)
    except XenAPI.Failure as failure:
        return complaint_about(call, failure.details)
    return None if has_type(protocol, call.result, result) else f"{name} returned {result!r}"


def complaint_about(call, details):
    code = details[0]
    if code in REFUSALS or (code not in SCHEMA.errors and not code.startswith("SR_BACKEND_FAILURE")):
        return f"{call.full_name} answered {details}"
    follows_from_a_field = call.generic[0] and call.parameters[0].type.kind == "ref" and not call.is_removed
    may_refuse_value = call.generic[0] == "set_field" and code == "INVALID_VALUE"
    if follows_from_a_field and details != ["HANDLE_INVALID", call.class_name, DEAD] and not may_refuse_value:
        return f"{call.full_name} of nothing answered {details}"
    return None if code != "HANDLE_INVALID" or len(details) == 3 else f"{call.full_name} answered {details}"
