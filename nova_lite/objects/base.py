"""What every object of ours is."""

import copy
import datetime
import functools
from collections.abc import Collection, Iterator
from typing import Any

import oslo_messaging
from oslo_versionedobjects import base as ovo_base

from nova_lite import exception
from nova_lite.objects import fields, wire
from nova_lite.objects.wire import OpaqueObject, from_wire, to_wire

__all__ = ["NovaObject", "NovaObjectSerializer", "ObjectList", "OpaqueObject", "Persistent", "from_wire", "register",
           "to_wire"]


class NovaObject(ovo_base.VersionedObject):
    """A versioned object in the reference's namespace that is read by attribute and by item.

    ``VERSION`` is the floor that every neighbour understands; the fields named in ``beyond_floor`` are not part of it
    and stay on this side unless asked for (see wire.to_wire).
    """

    OBJ_SERIAL_NAMESPACE = wire.SERIAL_NAMESPACE
    OBJ_PROJECT_NAMESPACE = wire.PROJECT_NAMESPACE
    beyond_floor: frozenset[str] = frozenset()

    # -- wire --

    def obj_to_primitive(self, target_version: str | None = None, version_manifest: dict | None = None) -> dict:
        """Return the wire form at the floor version."""
        return wire.object_to_wire(self)

    @classmethod
    def obj_from_primitive(cls, primitive: dict, context: Any = None) -> Any:
        """Return the object of a wire form, read tolerantly."""
        return wire.object_from_wire(context, primitive)

    def obj_what_changed(self) -> set[str]:
        """Return the names of changed fields; a nested object that has changed counts."""
        changes = set(self._changed_fields)
        stored = self.__dict__
        for name, attribute in _holders_of(type(self)):  # type: ignore[arg-type]
            value = stored.get(attribute)
            if isinstance(value, ovo_base.VersionedObject) and value.obj_what_changed():
                changes.add(name)
        return changes

    # -- items --

    def __getitem__(self, name: str) -> Any:
        stored = self.__dict__.get(f"_obj_{name}")
        if stored is not None:
            return stored
        if name not in self.fields and not hasattr(type(self), name):
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.fields:
            raise KeyError(name)
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return "_obj_" + str(name) in self.__dict__

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, ``default`` when it is unset or unknown. Never asks the database."""
        if name in self:
            return self.__dict__[f"_obj_{name}"]
        if name not in self.fields and hasattr(type(self), name):
            return getattr(self, name)
        return default

    def keys(self) -> list[str]:
        """Return the names of the fields that are set."""
        return [name for name in self.fields if name in self]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of the fields that are set."""
        return ((name, getattr(self, name)) for name in self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def update(self, values: dict[str, Any]) -> None:
        """Set several fields."""
        for name, value in values.items():
            setattr(self, name, value)

    # -- database --

    @property
    def _db(self) -> Any:
        if self._context is None:
            raise exception.OrphanedObjectError(method="database access", objtype=self.obj_name())
        return self._context.services.db

    @classmethod
    def _from_row(cls, context: Any, row: dict[str, Any]) -> Any:
        """Return the clean object of a database row."""
        obj = cls(context)
        obj._fill(row)
        return obj

    def _fill(self, row: dict[str, Any]) -> None:
        self._fill_columns(row)
        if "deleted" in self.fields and "deleted" in row:
            self.deleted = bool(row["deleted"])
        self.obj_reset_changes()

    def _fill_columns(self, row: dict[str, Any], but: Collection[str] = ()) -> None:
        """Set the fields that the row has, those named in ``but`` excepted, without taking note of a change.

        Most values of a row need no conversion, and asking each field for one takes longer than reading the row.
        """
        for name, field, plain_type in _columns_of(type(self)):  # type: ignore[arg-type]
            if name not in row or name in but:
                continue
            value = row[name]
            if type(value) is plain_type or (value is None and field.nullable):
                self.__dict__["_obj_" + name] = value
            elif type(value) is datetime.datetime and type(field) is fields.DateTime and value.tzinfo is None:
                self.__dict__["_obj_" + name] = value.replace(tzinfo=datetime.UTC)  # as rows have it: in UTC
            elif value is not None:
                setattr(self, name, value)

    def _changed_columns(self) -> dict[str, Any]:
        """Return {column: value as the database takes it} of the changed fields."""
        return {name: _column_value(getattr(self, name)) for name in self.obj_what_changed()}

    def obj_load_attr(self, attrname: str) -> None:
        """Refuse: fields that were not loaded are a mistake of the caller, unless a class knows how to load them."""
        raise exception.ObjectActionError(
            action="obj_load_attr", reason=f"{self.obj_name()}.{attrname} was not given and cannot be loaded")

    def _refuse_if_created(self) -> None:
        if "id" in self:
            raise exception.ObjectActionError(action="create", reason="already created")


@functools.cache
def _holders_of(cls: Any) -> tuple[tuple[str, str], ...]:
    """Return (name, attribute) of the fields whose values may be objects."""
    return tuple((name, "_obj_" + name) for name, field in cls.fields.items() if type(field) not in fields.SCALARS)


@functools.cache
def _columns_of(cls: Any) -> tuple[tuple[str, Any, type | None], ...]:
    """Return (name, field, type of values that are taken as they are) of each field."""
    return tuple((name, field, fields.PLAIN_TYPES.get(type(field))) for name, field in cls.fields.items())


def _column_value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
    return value


class Persistent:
    """The fields that every row has."""

    fields = {
        "created_at": fields.DateTime(nullable=True),
        "updated_at": fields.DateTime(nullable=True),
        "deleted_at": fields.DateTime(nullable=True),
        "deleted": fields.Boolean(default=False),
    }


class ObjectList(ovo_base.ObjectListBase):
    """A list of objects; ``child`` is their class."""

    child: type[NovaObject] = NovaObject

    @classmethod
    def _from_rows(cls, context: Any, rows: list[dict[str, Any]], **kwargs: Any) -> Any:
        result = cls(context, objects=[cls.child._from_row(context, row, **kwargs) for row in rows])
        result.obj_reset_changes()
        return result

    def keys(self) -> list[str]:
        """Lists have items, not keys."""
        return ["objects"]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.objects)

    def __contains__(self, value: object) -> bool:
        # Asked with a name by the machinery of objects, with an object by everybody else.
        return "_obj_" + value in self.__dict__ if isinstance(value, str) else value in self.objects

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self)(self._context, objects=self.objects[index])
            part.obj_reset_changes()
            return part
        return self.objects[index]


def register(cls: type) -> type:
    """Make a class known under its name, so that it can be read from the wire."""
    return ovo_base.VersionedObjectRegistry.register(cls)


def plain(obj: NovaObject) -> dict[str, Any]:
    """Return the set fields of an object as a plain dict; nested objects too. Nothing is shared with the object."""
    return {name: _plain_value(value) for name, value in obj.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, NovaObject):
        return plain(value)
    if isinstance(value, OpaqueObject):
        return value.primitive
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return copy.copy(value)


class NovaObjectSerializer(oslo_messaging.NoOpSerializer):
    """Makes objects in RPC arguments and results travel."""

    def serialize_entity(self, context: Any, entity: Any) -> Any:
        """Return an argument or result as JSON has it."""
        return to_wire(entity)

    def deserialize_entity(self, context: Any, entity: Any) -> Any:
        """Return an argument or result that has travelled."""
        return from_wire(context, entity)
