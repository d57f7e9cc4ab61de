"""How results leave: XML-RPC with its Status struct, JSON-RPC 1.0 and 2.0."""

import json
from typing import Any, Protocol

from nova_lite.xensim import xmlrpc
from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import MalformedRequest
from nova_lite.xensim.model import Schema, Type

RESULT_OF_LISTING = Type("set", inner=(Type("string"),))


class Wire(Protocol):
    content_type: str

    def result(self, type_: Type, value: Any) -> bytes: ...

    def failure(self, description: list[str]) -> bytes: ...


class XmlWire:
    """Encodes for XML-RPC. Rows stand for records."""

    content_type = "text/xml"

    def __init__(self, schema: Schema):
        self._schema = schema

    def result(self, type_: Type, value: Any) -> bytes:
        return (xmlrpc.SUCCESS % self.value(type_, value)).encode()

    def bare(self, type_: Type, value: Any) -> bytes:
        """Encode without the Status struct, as system.listMethods answers."""
        return (xmlrpc.BARE % self.value(type_, value)).encode()

    def failure(self, description: list[str]) -> bytes:
        return xmlrpc.failure(description).encode()

    def value(self, type_: Type, value: Any) -> str:
        if isinstance(value, Row):
            return value.record_xml()
        if type_.kind == "void":
            return "<value></value>"
        if type_.kind == "map" and type_.inner[1].kind == "record":
            return xmlrpc.struct([xmlrpc.member(ref, row.record_xml()) for ref, row in value.items()])
        if type_.kind == "set" and type_.inner[0].kind == "record":
            return xmlrpc.array([self._record(type_.inner[0], each) for each in value])
        if type_.kind == "record":
            return self._record(type_, value)
        if type_.kind == "event_batch":
            return self._batch(value)
        return xmlrpc.encode(type_, value)

    def _record(self, type_: Type, value: Any) -> str:
        if isinstance(value, Row):
            return value.record_xml()
        described = self._schema.classes.get(type_.name)
        if type_.name == "event" or described is None:
            return self._loose_record(value)
        return xmlrpc.struct(
            [xmlrpc.member(name, xmlrpc.encode(described.fields[name].type, each)) for name, each in value.items()]
        )

    def _loose_record(self, value: dict[str, Any]) -> str:
        members = (
            (name, each.record_xml() if isinstance(each, Row) else xmlrpc.encode_untyped(each))
            for name, each in value.items()
        )
        return xmlrpc.struct([xmlrpc.member(name, encoded) for name, encoded in members])

    def _batch(self, batch: dict[str, Any]) -> str:
        counts = batch["valid_ref_counts"].items()
        return xmlrpc.struct(
            [
                xmlrpc.member("events", xmlrpc.array([self._loose_record(event) for event in batch["events"]])),
                # The one place where XenServer writes a real integer.
                xmlrpc.member(
                    "valid_ref_counts",
                    xmlrpc.struct([xmlrpc.member(name, f"<value><i4>{count}</i4></value>") for name, count in counts]),
                ),
                xmlrpc.member("token", xmlrpc.text_value(batch["token"])),
            ]
        )


class RecordEncoder(json.JSONEncoder):
    def default(self, o):
        return o.record() if isinstance(o, Row) else super().default(o)


def json_text(value: Any) -> str:
    if isinstance(value, Row):
        return value.record_json()
    if isinstance(value, dict) and value and all(isinstance(each, Row) for each in value.values()):
        return "{" + ", ".join(f"{json.dumps(ref)}: {row.record_json()}" for ref, row in value.items()) + "}"
    return RECORDS.encode("" if value is None else value)


RECORDS = RecordEncoder()


class JsonWire:
    """Encodes for one JSON-RPC request: its version and id."""

    content_type = "application/json"

    def __init__(self, version: str, request_id: int | str):
        self._version = version
        self._id = json.dumps(request_id)

    def result(self, type_: Type, value: Any) -> bytes:
        if self._version == "2.0":
            return f'{{"jsonrpc": "2.0", "result": {json_text(value)}, "id": {self._id}}}'.encode()
        return f'{{"result": {json_text(value)}, "error": null, "id": {self._id}}}'.encode()

    bare = result

    def failure(self, description: list[str]) -> bytes:
        if self._version == "2.0":
            error = {"code": 1, "message": description[0], "data": description[1:]}
            return f'{{"jsonrpc": "2.0", "error": {json.dumps(error)}, "id": {self._id}}}'.encode()
        return f'{{"result": null, "error": {json.dumps(description)}, "id": {self._id}}}'.encode()


def parse_json_request(body: bytes) -> tuple[JsonWire, str, list[Any]]:
    """Return (wire for the reply, method, parameters). Raises MalformedRequest."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"not JSON: {error}") from None
    if not isinstance(request, dict):
        raise MalformedRequest("not a JSON-RPC request: an object is expected")
    version, request_id, method = request.get("jsonrpc", "1.0"), request.get("id"), request.get("method")
    if ("jsonrpc" in request and version != "2.0") or not isinstance(method, str):
        raise MalformedRequest("not a JSON-RPC request: jsonrpc must be absent or 2.0, method a string")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        raise MalformedRequest("not a JSON-RPC request: id must be a number or a string")
    return JsonWire(version, request_id), method, _parameters(version, request.get("params"))


def _parameters(version: str, parameters: Any) -> list[Any]:
    if version == "2.0" and not isinstance(parameters, list):
        return [] if parameters is None else [parameters]
    if not isinstance(parameters, list):
        raise MalformedRequest("not a JSON-RPC request: params must be an array")
    return parameters
