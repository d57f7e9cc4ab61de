"""What the classes with behaviour share: how a method is tied to a call, and the caller it works for."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.filters import FilterParser
from nova_lite.xensim.model import NULL, Call

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack


@dataclass
class Caller:
    """For whom a call runs: session, the host that received it, the task it is part of."""

    session_ref: str = NULL
    host_ref: str = NULL
    task_ref: str = NULL
    is_trusted: bool = False
    is_pool_internal: bool = False
    is_superuser: bool = True


@dataclass(frozen=True)
class Implementation:
    """A method that does the work of a call. `operation` is recorded on the object, the first argument, meanwhile."""

    function: Callable
    operation: str = ""


def call(name: str, operation: str = "") -> Callable:
    """Tie a method to the call of this name; it is given the caller, then the call's arguments.

    With an operation the object's state is checked first, and the operation is shown in current_operations while
    the method runs.
    """

    def tie(function: Any) -> Any:
        function.xenapi_calls = [*getattr(function, "xenapi_calls", []), (name, operation)]
        return function

    return tie


class Noun:
    """Base of the classes with behaviour: they share the toolstack and its tables."""

    def __init__(self, toolstack: "Toolstack"):
        self.toolstack = toolstack
        self.db = toolstack.db

    def implementations(self) -> dict[str, Implementation]:
        """Return {call name: implementation} for the methods tied to calls."""
        return {
            call_name: Implementation(getattr(self, name), operation)
            for name, call_name, operation in tied_methods(type(self))
        }


@functools.cache
def tied_methods(noun: type[Noun]) -> list[tuple[str, str, str]]:
    """Return (method, call, operation) for every call that the class's methods are tied to."""
    return [
        (name, call_name, operation)
        for name in dir(noun)
        for call_name, operation in getattr(getattr(noun, name), "xenapi_calls", [])
    ]


class GenericCalls:
    """The calls that follow from classes and fields alone."""

    def __init__(self, toolstack: "Toolstack"):
        self.db = toolstack.db

    def run(self, described: Call, arguments: list[Any]) -> Any:
        rule, field = described.generic
        return getattr(self, rule)(described.class_name, field, *arguments)

    def get_record(self, class_name, _field, ref):
        return self.db.row(class_name, ref)

    def get_by_uuid(self, class_name, _field, uuid):
        return self.db.by_uuid(class_name, uuid)

    def get_by_name_label(self, class_name, _field, label):
        return [row.ref for row in self.db.select(class_name, name_label=label)]

    def get_all(self, class_name, _field):
        return list(self.db.tables[class_name])

    def get_all_records(self, class_name, _field):
        return dict(self.db.tables[class_name])

    def get_all_records_where(self, class_name, _field, expression):
        parser = FilterParser(expression, self.db.schema.classes[class_name])
        matches = parser.parse()
        if self.db.tables[class_name]:
            parser.check_columns()
        return {row.ref: row for row in self.db.rows(class_name) if matches(row.columns())}

    def get_field(self, class_name, field, ref):
        return self.db.get(class_name, ref, field)

    def set_field(self, class_name, field, ref, value):
        self.db.set(class_name, ref, **{field: value})

    def add_to_map(self, class_name, field, ref, key, value):
        entries = self.db.get(class_name, ref, field)
        if key in entries:
            raise ApiError("MAP_DUPLICATE_KEY", class_name, field, ref, key)
        self.db.set(class_name, ref, **{field: {**entries, key: value}})

    def remove_from_map(self, class_name, field, ref, key):
        entries = self.db.get(class_name, ref, field)
        self.db.set(class_name, ref, **{field: {name: entries[name] for name in entries if name != key}})

    def add_to_set(self, class_name, field, ref, value):
        members = self.db.get(class_name, ref, field)
        if value not in members:
            self.db.set(class_name, ref, **{field: [*members, value]})

    def remove_from_set(self, class_name, field, ref, value):
        members = self.db.get(class_name, ref, field)
        self.db.set(class_name, ref, **{field: [member for member in members if member != value]})
