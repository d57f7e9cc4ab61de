"""XML-RPC as XenServer speaks it: integers and strings untyped, results in a Status struct."""

import re
from collections.abc import Callable
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from nova_lite.xensim.errors import DuplicateMember, MalformedRequest
from nova_lite.xensim.model import Type
from nova_lite.xensim.values import DateTimeText

DEPTH_LIMIT = 64
SPECIAL = re.compile(r"[&<>\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
SCALARS = {
    "string": str,
    "int": int,
    "i4": int,
    "i8": int,
    "double": float,
    "boolean": lambda text: {"0": False, "1": True}[text.strip()],
    "dateTime.iso8601": lambda text: DateTimeText(text.strip()),
    "nil": lambda _text: None,
    "ex:nil": lambda _text: None,
}
SUCCESS = (
    "<?xml version='1.0'?><methodResponse><params><param><value><struct>"
    "<member><name>Status</name><value>Success</value></member>"
    "<member><name>Value</name>%s</member></struct></value></param></params></methodResponse>"
)
FAILURE = (
    "<?xml version='1.0'?><methodResponse><params><param><value><struct>"
    "<member><name>Status</name><value>Failure</value></member>"
    "<member><name>ErrorDescription</name>%s</member></struct></value></param></params></methodResponse>"
)
BARE = "<?xml version='1.0'?><methodResponse><params><param>%s</param></params></methodResponse>"


class RequestParser:
    """Reads one methodCall. Document types, deep nesting and everything that is not XML-RPC are refused."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._text: list[str] = []
        self._stack: list[list] = []  # open containers: [tag, value, pending member name]
        self._tags: list[str] = []
        self._typed = False
        self._value: Any = None
        self.method = ""
        self.parameters: list[Any] = []

    def parse(self, body: bytes) -> tuple[str, list[Any]]:
        """Return (method name, parameters). Raises MalformedRequest, DuplicateMember."""
        try:
            self._parser.Parse(body, True)
        except (expat.ExpatError, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise MalformedRequest(f"not an XML-RPC request: {error}") from None
        if not self.method:
            raise MalformedRequest("not an XML-RPC request: no method name")
        return self.method, self.parameters

    def _refuse_doctype(self, *_arguments):
        raise MalformedRequest("document types are not accepted")

    def _start(self, tag, _attributes):
        self._tags.append(tag)
        if len(self._tags) == 1 and tag != "methodCall":
            raise MalformedRequest(f"not an XML-RPC request: <{tag[:40]}>")
        if len(self._tags) > DEPTH_LIMIT:
            raise MalformedRequest("nested too deeply")
        self._text.clear()
        if tag == "value":
            self._typed = False
        elif tag == "struct":
            self._stack.append(["struct", {}, None])
        elif tag == "array":
            self._stack.append(["array", [], None])

    def _characters(self, text):
        self._text.append(text)

    def _end(self, tag):
        self._tags.pop()
        text = "".join(self._text)
        self._text.clear()
        if tag == "value":
            self._close_value(text)
        elif tag in SCALARS:
            self._value, self._typed = SCALARS[tag](text), True
        elif tag in ("struct", "array"):
            self._value, self._typed = self._stack.pop()[1], True
        elif tag == "name":
            self._stack[-1][2] = text
        elif tag == "methodName":
            self.method = text.strip()
        elif tag not in ("methodCall", "params", "param", "member", "data"):
            raise MalformedRequest(f"not an XML-RPC request: <{tag[:40]}>")

    def _close_value(self, text):
        value = self._value if self._typed else text
        self._typed = True
        if not self._stack:
            self.parameters.append(value)
        elif self._stack[-1][0] == "array":
            self._stack[-1][1].append(value)
        else:
            _, members, name = self._stack[-1]
            if name in members:
                raise DuplicateMember(name)
            members[name] = value


def parse_request(body: bytes) -> tuple[str, list[Any]]:
    """Return (method name, parameters) of a methodCall. Raises MalformedRequest, DuplicateMember."""
    return RequestParser().parse(body)


def text_value(text: str) -> str:
    """Return the <value> of a string; control characters are dropped."""
    if SPECIAL.search(text):
        text = escape(CONTROL.sub("", text))
    return f"<value>{text}</value>"


def _text_or_int(value) -> str:
    return text_value(value) if isinstance(value, str) else f"<value>{value}</value>"


def _float(value) -> str:
    return f"<value><double>{value:.16g}</double></value>"


def _bool(value) -> str:
    return f"<value><boolean>{value:d}</boolean></value>"


def _datetime(value) -> str:
    return f"<value><dateTime.iso8601>{value}</dateTime.iso8601></value>"


def member(name: str, encoded: str) -> str:
    """Return one member of a struct."""
    name = escape(CONTROL.sub("", name)) if SPECIAL.search(name) else name
    return f"<member><name>{name}</name>{encoded}</member>"


def struct(members: list[str]) -> str:
    return f"<value><struct>{''.join(members)}</struct></value>"


def array(encoded: list[str]) -> str:
    return f"<value><array><data>{''.join(encoded)}</data></array></value>"


_ENCODERS: dict[str, Callable[[Any], str]] = {"float": _float, "bool": _bool, "datetime": _datetime}


def encode(type_: Type, value: Any) -> str:
    """Return the <value> of a value of a type (records are encoded by whoever knows their class)."""
    if type_.kind == "set":
        return array([encode(type_.inner[0], each) for each in value])
    if type_.kind == "map":
        value_type = type_.inner[1]
        return struct([member(str(key), encode(value_type, each)) for key, each in value.items()])
    return _ENCODERS.get(type_.kind, _text_or_int)(value)


def encode_untyped(value: Any) -> str:
    """Return the <value> of nested plain data, used where no declared type exists."""
    if isinstance(value, dict):
        return struct([member(str(key), encode_untyped(each)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return array([encode_untyped(each) for each in value])
    if isinstance(value, bool):
        return _bool(value)
    return _float(value) if isinstance(value, float) else _text_or_int("" if value is None else value)


def failure(description: list[str]) -> str:
    return FAILURE % array([text_value(text) for text in description])
