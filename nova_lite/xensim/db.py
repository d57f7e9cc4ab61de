"""The tables: rows of every class, their generations, back references, and the trace of changes that events read.

All methods expect the caller to hold `lock`. Back references (`VM.VBDs` of `VBD.VM`) are kept by the tables
themselves, and a change to one counts as a change of the row that shows it, as clients of events see it.
"""

import json
import threading
import uuid as uuid_module
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from nova_lite.xensim import xmlrpc
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL, Class, Schema, Type

DELETIONS_KEPT = 50_000


class Row:
    """One object. `values` holds every field; the encoded forms of the public record are kept until a change.

    Lists and dicts inside `values` are replaced, never changed in place, so they may be handed out.
    """

    __slots__ = ("described", "ref", "values", "created", "modified", "xml", "json")

    def __init__(self, described: Class, ref: str, values: dict[str, Any], generation: int):
        self.described = described
        self.ref = ref
        self.values = values
        self.created = self.modified = generation
        self.xml: bytes | None = None
        self.json: bytes | None = None

    def __getitem__(self, field: str) -> Any:
        return self.values[field]

    def record(self) -> dict[str, Any]:
        """Return the public record."""
        fields = self.described.fields.values()
        return {field.name: self.values[field.name] for field in fields if not field.is_internal}

    def record_json(self) -> bytes:
        """Return the public record as JSON."""
        if self.json is None:
            self.json = json.dumps(self.record()).encode()
        return self.json

    def frozen(self) -> "Row":
        """Return a copy that later changes do not touch."""
        copy = Row(self.described, self.ref, self.values.copy(), self.modified)
        copy.xml, copy.json = self.xml, self.json
        return copy

    def record_xml(self) -> bytes:
        """Return the public record as an XML-RPC value."""
        if self.xml is None:
            fields = self.described.fields.values()
            members = [
                xmlrpc.member(field.name, xmlrpc.encode(field.type, self.values[field.name]))
                for field in fields
                if not field.is_internal
            ]
            self.xml = xmlrpc.struct(members).encode()
        return self.xml

    def columns(self) -> dict[str, str]:
        """Return {column: database text} as filter expressions compare them."""
        fields = self.described.fields.values()
        return {"_ref": self.ref} | {
            field.column: database_text(field.type, self.values[field.name]) for field in fields
        }


def database_text(type_: Type, value: Any) -> str:
    """Return a value as the database keeps it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "(" + " ".join(f"'{database_text(type_.inner[0], each)}'" for each in value) + ")"
    if isinstance(value, dict):
        pairs = ((database_text(type_.inner[0], key), database_text(type_.inner[1], value[key])) for key in value)
        return "(" + " ".join(f"('{key}' '{each}')" for key, each in pairs) + ")"
    return str(value)


class Database:
    """Tables of one pool. Each observer is told add, mod or del and the row, in order."""

    def __init__(self, schema: Schema, lock: threading.Lock):
        self.schema = schema
        self.lock = lock
        self.changed = threading.Condition(lock)
        self.generation = 1
        self.tables: dict[str, dict[str, Row]] = {name: {} for name, known in schema.classes.items() if known.has_table}
        self.uuids: dict[str, dict[str, str]] = {name: {} for name in self.tables}
        # References by the time of their last change, the latest last.
        self._recent: dict[str, dict[str, None]] = {name: {} for name in self.tables}
        # (generation of the deletion, generation of the creation, class, ref)
        self.deletions: deque[tuple[int, int, str, str]] = deque(maxlen=DELETIONS_KEPT)
        self.forgotten_generation = 0
        self.observers: list[Callable[[str, Row], None]] = []
        self.flush: Callable[[], None] = lambda: None  # writes what changed to where it lasts

    # reading

    def row(self, class_name: str, ref: str) -> Row:
        """Return the row. Raises HANDLE_INVALID."""
        try:
            return self.tables[class_name][ref]
        except KeyError:
            raise ApiError("HANDLE_INVALID", class_name, ref) from None

    def find(self, class_name: str, ref: str) -> Row | None:
        return self.tables[class_name].get(ref)

    def get(self, class_name: str, ref: str, field: str) -> Any:
        return self.row(class_name, ref).values[field]

    def rows(self, class_name: str) -> list[Row]:
        return list(self.tables[class_name].values())

    def select(self, class_name: str, **wanted: Any) -> Iterator[Row]:
        """Yield the rows whose fields have these values."""
        for row in self.rows(class_name):
            if all(row.values[field] == value for field, value in wanted.items()):
                yield row

    def by_uuid(self, class_name: str, uuid: str) -> str:
        """Return the reference. Raises UUID_INVALID."""
        try:
            return self.uuids[class_name][uuid]
        except KeyError:
            raise ApiError("UUID_INVALID", class_name, uuid) from None

    def changed_since(self, class_name: str, generation: int) -> list[Row]:
        """Return the rows made or changed after a generation, the earliest change first."""
        table, found = self.tables[class_name], []
        for ref in reversed(self._recent[class_name]):
            row = table[ref]
            if row.modified <= generation:
                break
            found.append(row)
        return found[::-1]

    # writing

    def create(self, class_name: str, **values: Any) -> str:
        """Add a row; fields not given have their default or zero value. Return its reference."""
        described = self.schema.classes[class_name]
        own = {name: values[name] if name in values else field.initial() for name, field in described.fields.items()}
        if "uuid" in own and not own["uuid"]:
            own["uuid"] = str(uuid_module.uuid4())
        ref = values.get("ref") or f"OpaqueRef:{uuid_module.uuid4()}"
        return self.insert(class_name, ref, own)

    def insert(self, class_name: str, ref: str, values: dict[str, Any]) -> str:
        self.generation += 1
        row = Row(self.schema.classes[class_name], ref, values, self.generation)
        self.tables[class_name][ref] = row
        self.uuids[class_name][values["uuid"]] = ref
        self._recent[class_name][ref] = None
        self._tell("add", row)
        for (_, field), target in self._relations_of(class_name):
            self._link(field, target, row)
        return ref

    def set(self, class_name: str, ref: str, **values: Any) -> None:
        """Change fields of a row; nothing happens where the value is the same. Raises HANDLE_INVALID."""
        row = self.row(class_name, ref)
        changes = {name: value for name, value in values.items() if row.values[name] != value}
        if not changes:
            return
        for name, value in changes.items():
            target = self.schema.relations.get((class_name, name))
            if target:
                self._unlink(target, row, row.values[name])
            row.values[name] = value
            if target:
                self._link(name, target, row)
        self.touch(row)

    def touch(self, row: Row) -> None:
        """Count the row as changed."""
        self.generation += 1
        row.modified = self.generation
        recent = self._recent[row.described.name]
        recent.pop(row.ref, None)
        recent[row.ref] = None
        row.xml = row.json = None
        self._tell("mod", row)

    def destroy(self, class_name: str, ref: str) -> None:
        """Remove a row and its traces in sets of references. Raises HANDLE_INVALID."""
        row = self.row(class_name, ref)
        for (_, field), target in self._relations_of(class_name):
            self._unlink(target, row, row.values[field])
        del self.tables[class_name][ref]
        self._recent[class_name].pop(ref, None)
        self.uuids[class_name].pop(row.values["uuid"], None)
        self.generation += 1
        self.record_deletion(class_name, ref, row.created)
        self._tell("del", row)

    def record_deletion(self, class_name: str, ref: str, created: int) -> None:
        """Remember for events that an object is gone."""
        if len(self.deletions) == self.deletions.maxlen:
            self.forgotten_generation = self.deletions[0][0]
        self.deletions.append((self.generation, created, class_name, ref))

    def _tell(self, kind: str, row: Row) -> None:
        for observer in self.observers:
            observer(kind, row)
        self.changed.notify_all()

    # back references

    def _relations_of(self, class_name: str):
        return [pair for pair in self.schema.relations.items() if pair[0][0] == class_name]

    def _targets(self, value: Any) -> list[str]:
        refs = value if isinstance(value, list) else [value]
        return [ref for ref in refs if ref != NULL]

    def _link(self, field: str, target: tuple[str, str], row: Row) -> None:
        for ref in self._targets(row.values[field]):
            other = self.tables[target[0]].get(ref) if target[0] in self.tables else None
            if other and row.ref not in other.values[target[1]]:
                other.values[target[1]] = [*other.values[target[1]], row.ref]
                self.touch(other)

    def _unlink(self, target: tuple[str, str], row: Row, value: Any) -> None:
        for ref in self._targets(value):
            other = self.tables[target[0]].get(ref) if target[0] in self.tables else None
            if other and row.ref in other.values[target[1]]:
                other.values[target[1]] = [each for each in other.values[target[1]] if each != row.ref]
                self.touch(other)
