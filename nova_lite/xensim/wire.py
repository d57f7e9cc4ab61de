"""How results leave: XML-RPC with its Status struct, JSON-RPC 1.0 and 2.0."""

import json
from collections.abc import Iterable
from typing import Any, Protocol

from nova_lite.xensim import xmlrpc
from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import MalformedRequest
from nova_lite.xensim.model import Schema, Type

SUCCESS_HEAD, SUCCESS_TAIL = xmlrpc.SUCCESS.encode().split(b"%s")


class Wire(Protocol):
    content_type: str

    def result(self, type_: Type, value: Any) -> bytes: ...

    def failure(self, description: list[str]) -> bytes: ...


class XmlWire:
    """Encodes for XML-RPC. Rows stand for records; their encoded forms are put together as they are."""

    content_type = "text/xml"

    def __init__(self, schema: Schema):
        self._schema = schema

    def result(self, type_: Type, value: Any) -> bytes:
        return b"".join([SUCCESS_HEAD, *self._pieces(type_, value), SUCCESS_TAIL])

    def bare(self, type_: Type, value: Any) -> bytes:
        """Encode without the Status struct, as system.listMethods answers."""
        return (xmlrpc.BARE % self.value(type_, value)).encode()

    def failure(self, description: list[str]) -> bytes:
        return xmlrpc.failure(description).encode()

    def value(self, type_: Type, value: Any) -> str:
        """Return the <value> alone, as tasks keep their results."""
        return b"".join(self._pieces(type_, value)).decode()

    def _pieces(self, type_: Type, value: Any) -> list[bytes]:
        if isinstance(value, Row):
            return [value.record_xml()]
        if type_.kind == "void":
            return [b"<value></value>"]
        if type_.kind == "map" and type_.inner[1].kind == "record":
            return _struct((ref, [row.record_xml()]) for ref, row in value.items())
        if type_.kind == "set" and type_.inner[0].kind == "record":
            return _array(self._record(type_.inner[0], each) for each in value)
        if type_.kind == "record":
            return self._record(type_, value)
        if type_.kind == "event_batch":
            return self._batch(value)
        return [xmlrpc.encode(type_, value).encode()]

    def _record(self, type_: Type, value: Any) -> list[bytes]:
        if isinstance(value, Row):
            return [value.record_xml()]
        described = self._schema.classes.get(type_.name)
        if type_.name == "event" or described is None:
            return self._loose_record(value)
        fields = described.fields
        return _struct((name, [xmlrpc.encode(fields[name].type, each).encode()]) for name, each in value.items())

    @staticmethod
    def _loose_record(value: dict[str, Any]) -> list[bytes]:
        return _struct(
            (name, [each.record_xml() if isinstance(each, Row) else xmlrpc.encode_untyped(each).encode()])
            for name, each in value.items()
        )

    def _batch(self, batch: dict[str, Any]) -> list[bytes]:
        counts = batch["valid_ref_counts"].items()
        # The one place where XenServer writes a real integer.
        members = [xmlrpc.member(name, f"<value><i4>{count}</i4></value>") for name, count in counts]
        return _struct(
            [
                ("events", _array(self._loose_record(event) for event in batch["events"])),
                ("valid_ref_counts", [xmlrpc.struct(members).encode()]),
                ("token", [xmlrpc.text_value(batch["token"]).encode()]),
            ]
        )


def _struct(members: Iterable[tuple[str, list[bytes]]]) -> list[bytes]:
    """Return the pieces of a struct whose names need no escapes: references and names of fields."""
    pieces = [b"<value><struct>"]
    for name, encoded in members:
        pieces.append(f"<member><name>{name}</name>".encode())
        pieces += encoded
        pieces.append(b"</member>")
    return [*pieces, b"</struct></value>"]


def _array(values: Iterable[list[bytes]]) -> list[bytes]:
    pieces = [b"<value><array><data>"]
    for encoded in values:
        pieces += encoded
    return [*pieces, b"</data></array></value>"]


class RecordEncoder(json.JSONEncoder):
    def default(self, o):
        return o.record() if isinstance(o, Row) else super().default(o)


def _json_pieces(value: Any) -> list[bytes]:
    """Return a result as JSON; rows stand for their records."""
    if isinstance(value, Row):
        return [value.record_json()]
    if isinstance(value, dict) and value and all(isinstance(each, Row) for each in value.values()):
        return _json_object((ref, [row.record_json()]) for ref, row in value.items())
    if isinstance(value, dict) and "events" in value and "token" in value:
        return _json_object(
            (name, _json_events(each) if name == "events" else [_plain(each)]) for name, each in value.items()
        )
    return [_plain("" if value is None else value)]


def _json_events(events: list[dict[str, Any]]) -> list[bytes]:
    pieces = [b"["]
    for event in events:
        pieces += _json_object((name, _json_pieces(each)) for name, each in event.items())
        pieces.append(b", ")
    return [*(pieces[:-1] if events else pieces), b"]"]


def _json_object(members: Iterable[tuple[str, list[bytes]]]) -> list[bytes]:
    """Return the pieces of an object whose names need no escapes."""
    pieces = [b"{"]
    for name, encoded in members:
        pieces.append(f'"{name}": '.encode())
        pieces += encoded
        pieces.append(b", ")
    return [*pieces[:-1], b"}"]


def _plain(value: Any) -> bytes:
    return RECORDS.encode(value).encode()


RECORDS = RecordEncoder()


class JsonWire:
    """Encodes for one JSON-RPC request: its version and id."""

    content_type = "application/json"

    def __init__(self, version: str, request_id: int | str):
        self._version = version
        self._id = json.dumps(request_id)

    def result(self, type_: Type, value: Any) -> bytes:
        if self._version == "2.0":
            head, tail = '{"jsonrpc": "2.0", "result": ', f', "id": {self._id}}}'
        else:
            head, tail = '{"result": ', f', "error": null, "id": {self._id}}}'
        return b"".join([head.encode(), *_json_pieces(value), tail.encode()])

    bare = result

    def failure(self, description: list[str]) -> bytes:
        if self._version == "2.0":
            error = {"code": 1, "message": description[0], "data": description[1:]}
            return f'{{"jsonrpc": "2.0", "error": {json.dumps(error)}, "id": {self._id}}}'.encode()
        return f'{{"result": null, "error": {json.dumps(description)}, "id": {self._id}}}'.encode()


class NotedMembers:
    """Makes objects of pairs, and remembers a name that came twice."""

    def __init__(self) -> None:
        self.duplicate: str | None = None

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            left = dict.fromkeys(members)
            self.duplicate = next(name for name, _ in pairs if left.pop(name, name) is not None)
        return members


def parse_json_request(body: bytes) -> tuple[JsonWire, str, list[Any], str | None]:
    """Return (wire for the reply, method, parameters, a member's name that came twice). Raises MalformedRequest."""
    noted = NotedMembers()
    try:
        request = json.loads(body, object_pairs_hook=noted)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest(f"not JSON: {error}") from None
    if not isinstance(request, dict):
        raise MalformedRequest("not a JSON-RPC request: an object is expected")
    version, request_id, method = request.get("jsonrpc", "1.0"), request.get("id"), request.get("method")
    if ("jsonrpc" in request and version != "2.0") or not isinstance(method, str):
        raise MalformedRequest("not a JSON-RPC request: jsonrpc must be absent or 2.0, method a string")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        raise MalformedRequest("not a JSON-RPC request: id must be a number or a string")
    parameters = _parameters(version, request.get("params"))
    return JsonWire(version, request_id), method, parameters, noted.duplicate


def _parameters(version: str, parameters: Any) -> list[Any]:
    if version == "2.0" and not isinstance(parameters, list):
        return [] if parameters is None else [parameters]
    if not isinstance(parameters, list):
        raise MalformedRequest("not a JSON-RPC request: params must be an array")
    return parameters
