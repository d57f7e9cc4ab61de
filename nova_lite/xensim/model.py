"""The data model: classes, fields, calls and types, read once from the texts in `schema`.

A class is `class NAME flags`; flags are `notable` (no table), `events` (its rows appear in events), `volatile` (not
kept over a restart), `constructed` (create and destroy exist), `unlisted` (no get_all). Its fields follow, one a line:
`name qualifier type [internal] [volatile] [= default]`; the qualifier is `ro`, `rw` or `st` (set by the constructor
only). Then its own calls: `name(parameter: type = default, ...) [-> result] [sync] [nosession] [internal] [removed]`;
a longer call goes on with deeper indentation. In types `@C` is a reference to class C, `%e` a member of enumeration e.
The generic calls (get_record, get_F, set_F, add_to_F, ...) follow from the fields; a declared call of such a name does
the same unless it has behaviour of its own.
"""

import dataclasses
import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from nova_lite.xensim.schema import devices, networking, pool, roles, session, storage, types, vm
from nova_lite.xensim.schema import errors as error_texts

NULL = "OpaqueRef:NULL"
EPOCH = "19700101T00:00:00Z"
API_VERSION = (2, 21)
NO_ASYNC_CLASSES = frozenset({"session", "event", "task", "data_source", "blob"})
# Field prefixes that are namespaces in the database: a column is NAMESPACE__rest.
NAMESPACES = ("name", "memory", "VCPUs", "actions", "PV", "HVM", "qos", "io", "API_version")
REQUIRED = object()
# Calls that only change a field: prefix of the name, kind of the field ("": any), rule.
FIELD_RULES = (
    ("set_", "", "set_field"),
    ("add_to_", "map", "add_to_map"),
    ("remove_from_", "map", "remove_from_map"),
    ("add_", "set", "add_to_set"),
    ("remove_", "set", "remove_from_set"),
)

FIELD_LINE = re.compile(r"(\w+) (ro|rw|st) (record of class|[^\s=]+)((?: internal| volatile)*)(?: = (.*))?$")
CALL_LINE = re.compile(r"(\w+)\((.*?)\)(?: -> (.+?))?((?: (?:sync|nosession|internal|removed))*)$")


@dataclass(frozen=True)
class Type:
    """A type. Kinds: string, secret, int, float, bool, datetime, enum, ref, set, map, record, void, event_batch."""

    kind: str
    name: str = ""
    inner: tuple["Type", ...] = ()

    def zero(self) -> Any:
        """Return the value of a field that nobody has set."""
        if self.kind in ("set", "map"):
            return [] if self.kind == "set" else {}
        return {"int": 0, "float": 0.0, "bool": False, "ref": NULL, "datetime": EPOCH}.get(self.kind, "")


@dataclass(frozen=True)
class Field:
    name: str
    qualifier: str
    type: Type
    default: Any = REQUIRED
    is_internal: bool = False
    is_persistent: bool = True

    @property
    def column(self) -> str:
        """The name that filter expressions use."""
        for namespace in NAMESPACES:
            if self.name.startswith(namespace + "_"):
                return f"{namespace}__{self.name[len(namespace) + 1 :]}"
        return self.name

    def initial(self) -> Any:
        if self.default is REQUIRED or (self.type.kind == "ref" and not self.default):
            return self.type.zero()
        return self.default.copy() if isinstance(self.default, list | dict) else self.default


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Type
    default: Any = REQUIRED


@dataclass(frozen=True)
class Call:
    """One call. `generic` is empty for a call with behaviour of its own, else the rule and the field it concerns."""

    class_name: str
    name: str
    parameters: tuple[Parameter, ...]
    result: Type
    is_async: bool = True
    needs_session: bool = True
    is_removed: bool = False
    is_pool_internal: bool = False
    generic: tuple[str, str] = ("", "")
    required_count: int = 0

    @property
    def full_name(self) -> str:
        return f"{self.class_name}.{self.name}"


@dataclass
class Class:
    name: str
    has_table: bool
    has_events: bool
    is_persistent: bool
    is_constructed: bool
    is_listed: bool
    fields: dict[str, Field] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


VOID = Type("void")
STRING = Type("string")


def parse_type(text: str) -> Type:
    """Return the type written in the text, such as `map(string,@VDI)`."""
    text = text.strip()
    if text[0] in "@%":
        return Type("ref" if text[0] == "@" else "enum", text[1:])
    if text.startswith("record "):
        return Type("record", text[7:])
    if text.startswith("set("):
        return Type("set", inner=(parse_type(text[4:-1]),))
    if text.startswith("map("):
        key, value = text[4:-1].split(",", 1)
        return Type("map", inner=(parse_type(key), parse_type(value)))
    return Type(text)


def split_parameters(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]] if text.strip() else []


def parse_parameter(text: str) -> Parameter:
    name, rest = text.split(":", 1)
    type_text, has_default, default = rest.partition(" = ")
    return Parameter(name.strip(), parse_type(type_text), json.loads(default) if has_default else REQUIRED)


class Schema:
    """Every class, call, enumeration, relation and error the simulator knows. Read-only after construction."""

    def __init__(self) -> None:
        self.enums = dict(self._entries(types.ENUMS, self._members))
        self.errors = dict(self._entries(error_texts.TEXT, str.split))
        self.relations = self._read_relations(types.RELATIONS)
        self.classes: dict[str, Class] = {}
        for topic in (session, pool, vm, storage, networking, devices):
            self._read_classes(topic.TEXT)
        for described in self.classes.values():
            self._add_generic_calls(described)
        self.calls = {call.full_name: call for known in self.classes.values() for call in known.calls.values()}
        self.roles = self._read_roles()
        self.lower_names = {name.lower(): name for name in self.classes}

    @staticmethod
    def _entries(text, convert):
        for line in re.sub(r"\n +", " ", text).strip().splitlines():
            name, _, rest = line.partition(":")
            yield name, convert(rest)

    @staticmethod
    def _members(text: str) -> dict[str, str]:
        """Return {lower-case spelling: spelling}: members are accepted in any letter case."""
        return {member.lower(): member for member in text.split()}

    @staticmethod
    def _read_relations(text: str) -> dict[tuple[str, str], tuple[str, str]]:
        pairs = (line.split(" -> ") for line in text.strip().splitlines())
        return {tuple(source.split(".")): tuple(target.split(".")) for source, target in pairs}

    def _read_roles(self) -> dict[str, str]:
        """Return {call: the lowest role that may make it}."""
        by_class = {name: role for role, names in roles.CLASS_ROLES.items() for name in names.split()}
        found = {}
        for name, described in self.calls.items():
            is_reading = described.name.startswith("get_")
            found[name] = "read-only" if is_reading else by_class.get(described.class_name, roles.DEFAULT_ROLE)
        for heading, names in self._entries(roles.EXCEPTIONS, str.split):
            role, class_name = heading.split()
            found.update({f"{class_name}.{name}": role for name in names})
        return found

    def _read_classes(self, text: str) -> None:
        described = None
        for line in re.sub(r"\n {6,}", " ", text).strip().splitlines():
            if line.startswith("class "):
                described = self._read_heading(line.split())
            elif line.strip():
                self._read_line(described, line.strip())

    def _read_heading(self, words: list[str]) -> Class:
        flags = set(words[2:])
        self.classes[words[1]] = Class(
            words[1],
            has_table="notable" not in flags,
            has_events="events" in flags,
            is_persistent="volatile" not in flags,
            is_constructed="constructed" in flags,
            is_listed="unlisted" not in flags,
        )
        return self.classes[words[1]]

    @staticmethod
    def _read_line(described: Class, line: str) -> None:
        match = FIELD_LINE.match(line)
        if match:
            name, qualifier, type_text, flags, default = match.groups()
            described.fields[name] = Field(
                name,
                qualifier,
                parse_type(type_text),
                json.loads(default) if default is not None else REQUIRED,
                "internal" in flags,
                described.is_persistent and "volatile" not in flags,
            )
            return
        match = CALL_LINE.match(line)
        if not match:
            raise ValueError(f"{described.name}: cannot read {line!r}")
        name, parameters, result, flags = match.groups()
        described.calls[name] = _call(
            described.name,
            name,
            [parse_parameter(text) for text in split_parameters(parameters)],
            parse_type(result) if result else VOID,
            flags=flags.split(),
        )

    @staticmethod
    def _rule(described: Class, own: Call) -> tuple[str, str]:
        """Return the rule of a declared call that only changes a field, such as VM.set_order; else none."""
        for prefix, kind, rule in FIELD_RULES:
            known = described.fields.get(own.name.removeprefix(prefix)) if own.name.startswith(prefix) else None
            if known is None or (kind and known.type.kind != kind):
                continue
            values = [parameter.type for parameter in own.parameters[1:]]
            if values == _changed_types(known.type, rule) and own.parameters[0].type.kind == "ref":
                return rule, known.name
        return "", ""

    def _add_generic_calls(self, described: Class) -> None:
        if not described.has_table:
            return
        for name, own in list(described.calls.items()):
            if own.parameters and own.result == VOID and not own.is_removed:
                described.calls[name] = dataclasses.replace(own, generic=self._rule(described, own))
        for name, parameters, result, rule in _generic_calls(described):
            if name not in described.calls:
                flags = [] if name in ("create", "destroy") else ["sync"]
                described.calls[name] = _call(described.name, name, parameters, result, flags=flags, generic=rule)


def _changed_types(changed: Type, rule: str) -> list[Type]:
    """Return the types of the values that a call of this rule takes for a field of this type."""
    return {
        "set_field": [changed],
        "add_to_map": list(changed.inner),
        "remove_from_map": list(changed.inner[:1]),
        "add_to_set": list(changed.inner),
        "remove_from_set": list(changed.inner),
    }[rule]


@functools.cache
def load_schema() -> Schema:
    """Return the data model; it is read once in a process."""
    return Schema()


def _call(class_name, name, parameters, result, flags=(), generic=("", "")) -> Call:
    return Call(
        class_name,
        name,
        tuple(parameters),
        result,
        is_async="sync" not in flags and class_name not in NO_ASYNC_CLASSES,
        needs_session="nosession" not in flags,
        is_removed="removed" in flags,
        is_pool_internal="internal" in flags,
        generic=generic,
        required_count=sum(parameter.default is REQUIRED for parameter in parameters),
    )


def _generic_calls(described: Class):
    """Yield (name, parameters, result, rule) for the calls that follow from the class and its fields."""
    reference, record = Type("ref", described.name), Type("record", described.name)
    this = Parameter("self", reference)
    records = Type("map", inner=(reference, record))
    yield "get_record", [this], record, ("get_record", "")
    yield "get_by_uuid", [Parameter("uuid", STRING)], reference, ("get_by_uuid", "")
    if described.is_listed:
        yield "get_all", [], Type("set", inner=(reference,)), ("get_all", "")
        yield "get_all_records", [], records, ("get_all_records", "")
        yield "get_all_records_where", [Parameter("expr", STRING)], records, ("get_all_records_where", "")
    if "name_label" in described.fields and described.name != "pool":
        references = Type("set", inner=(reference,))
        yield "get_by_name_label", [Parameter("label", STRING)], references, ("get_by_name_label", "")
    if described.is_constructed:
        yield "create", [Parameter("args", record)], reference, ("create", "")
        yield "destroy", [this], VOID, ("destroy", "")
    for known in described.fields.values():
        if not known.is_internal:
            yield from _field_calls(this, known)


def _field_calls(this: Parameter, known: Field):
    yield f"get_{known.name}", [this], known.type, ("get_field", known.name)
    if known.qualifier != "rw":
        return
    yield f"set_{known.name}", [this, Parameter("value", known.type)], VOID, ("set_field", known.name)
    if known.type.kind == "map":
        key, value = known.type.inner
        pair = [Parameter("key", key), Parameter("value", value)]
        yield f"add_to_{known.name}", [this, *pair], VOID, ("add_to_map", known.name)
        yield f"remove_from_{known.name}", [this, pair[0]], VOID, ("remove_from_map", known.name)
    elif known.type.kind == "set":
        member = [this, Parameter("value", known.type.inner[0])]
        yield f"add_{known.name}", member, VOID, ("add_to_set", known.name)
        yield f"remove_{known.name}", member, VOID, ("remove_from_set", known.name)
