"""Objects and plain values in the form in which they travel as JSON, and back (seams §4.2).

Objects are written at the floor version that every neighbour understands. Reading is tolerant: newer minor versions
are accepted, fields we do not know are ignored, absent ones stay unset, and objects we do not know are kept as they
are and returned unchanged.
"""

import datetime
import functools
from collections.abc import Mapping
from typing import Any

from oslo_versionedobjects import base as ovo_base

from nova_lite import exception

PROJECT_NAMESPACE = "nova"
SERIAL_NAMESPACE = "nova_object"

NAME = f"{SERIAL_NAMESPACE}.name"
NAMESPACE = f"{SERIAL_NAMESPACE}.namespace"
VERSION = f"{SERIAL_NAMESPACE}.version"
DATA = f"{SERIAL_NAMESPACE}.data"
CHANGES = f"{SERIAL_NAMESPACE}.changes"

_SCALARS = frozenset((str, int, float, bool, type(None)))


class OpaqueObject:
    """An object of a class that we do not have. Never interpreted; ``primitive`` is what came and what is sent."""

    __slots__ = ("primitive",)

    def __init__(self, primitive: dict[str, Any]):
        self.primitive = primitive

    @property
    def name(self) -> str:
        """The name of its class."""
        return self.primitive[NAME]

    @property
    def version(self) -> str:
        """The version of its class."""
        return self.primitive[VERSION]

    @property
    def values(self) -> dict[str, Any]:
        """Its fields, in wire form."""
        return self.primitive[DATA]

    def obj_name(self) -> str:
        """The name of its class, under the name that objects have it."""
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueObject) and self.primitive == other.primitive

    __hash__ = None

    def __repr__(self) -> str:
        return f"<OpaqueObject {self.name} {self.version}>"


def to_wire(value: Any, *, beyond_floor: bool = False) -> Any:
    """Return ``value`` as what JSON has: objects in wire form, times as ISO text, sets and tuples as lists.

    beyond_floor: also write the fields that only some neighbours know. For those who announced them.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, ovo_base.VersionedObject):
        return object_to_wire(value, beyond_floor)
    if isinstance(value, OpaqueObject):
        return value.primitive
    if isinstance(value, Mapping):
        return {str(key): to_wire(item, beyond_floor=beyond_floor) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_wire(item, beyond_floor=beyond_floor) for item in value]
    if isinstance(value, datetime.datetime):
        return iso_text(value)
    from oslo_serialization import jsonutils

    return jsonutils.to_primitive(value, convert_instances=True)


def from_wire(context: Any, value: Any) -> Any:
    """Return what ``to_wire`` was given, as far as JSON keeps it; objects get ``context``.

    Raises UnsupportedObjectError, IncompatibleObjectVersion or ValueError for an object that makes no sense.
    """
    if isinstance(value, dict):
        if NAME in value:
            return object_from_wire(context, value)
        return {key: from_wire(context, item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_wire(context, item) for item in value]
    return value


def iso_text(moment: datetime.datetime) -> str:
    """Return a time as ISO text in UTC without zone, with microseconds."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds")


def object_to_wire(obj: ovo_base.VersionedObject, beyond_floor: bool = False) -> dict[str, Any]:
    """Return one object in wire form; ``changes`` is there only when something is dirty."""
    hidden: frozenset[str] = frozenset() if beyond_floor else getattr(obj, "beyond_floor", frozenset())
    stored = obj.__dict__
    written = {}
    for name, field in obj.fields.items():
        attribute = "_obj_" + name
        if attribute in stored and name not in hidden:
            value = stored[attribute]
            if type(value) not in _SCALARS:
                value = _field_to_wire(obj, name, field, value, beyond_floor)
            written[name] = value
    primitive = {NAME: obj.obj_name(), NAMESPACE: PROJECT_NAMESPACE, VERSION: obj.VERSION, DATA: written}
    changes = sorted(name for name in obj.obj_what_changed() if name in written)
    if changes:
        primitive[CHANGES] = changes
    return primitive


def _field_to_wire(obj: Any, name: str, field: Any, value: Any, beyond_floor: bool) -> Any:
    if isinstance(value, ovo_base.VersionedObject):
        return object_to_wire(value, beyond_floor)
    if isinstance(value, OpaqueObject):
        return value.primitive
    if isinstance(value, list) and value and isinstance(value[0], ovo_base.VersionedObject):
        return [object_to_wire(item, beyond_floor) for item in value]
    return field.to_primitive(obj, name, value)


def object_from_wire(context: Any, primitive: dict[str, Any]) -> Any:
    """Return the object of a wire form: one of ours, or an OpaqueObject when we have no such class."""
    name, version, values = _checked_parts(primitive)
    classes = ovo_base.VersionedObjectRegistry.obj_classes()
    if name not in classes:
        return OpaqueObject(primitive)
    cls = classes[name][0]
    if version.split(".")[0] != cls.VERSION.split(".")[0]:
        raise exception.IncompatibleObjectVersion(objname=name, objver=version)
    obj = cls(context)
    for field_name, value in values.items():
        field = cls.fields.get(field_name)
        if field is not None:
            _read_field(obj, field_name, field, value)
    _mark_changes(obj, primitive.get(CHANGES) or ())
    return obj


def _checked_parts(primitive: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    name, version, values = primitive.get(NAME), primitive.get(VERSION), primitive.get(DATA)
    if primitive.get(NAMESPACE) != PROJECT_NAMESPACE:
        raise exception.UnsupportedObjectError(objtype=f"{primitive.get(NAMESPACE)}.{name}")
    if not isinstance(name, str) or not isinstance(version, str) or not isinstance(values, dict):
        raise exception.UnsupportedObjectError(objtype=repr(name))
    return name, version, values


def _read_field(obj: Any, name: str, field: Any, value: Any) -> None:
    if type(value) is _plain_types().get(type(field)) or (value is None and field.nullable):
        obj.__dict__["_obj_" + name] = value  # as the field would leave it
        return
    if value is None:
        return  # null where we know no null: as good as absent
    if isinstance(value, dict) and NAME in value and _is_unknown(value) and not getattr(field, "takes_opaque", False):
        return
    setattr(obj, name, field.from_primitive(obj, name, value))


@functools.cache
def _plain_types() -> dict[type, type]:
    from nova_lite.objects import fields

    return fields.PLAIN_TYPES


def _is_unknown(primitive: dict[str, Any]) -> bool:
    return primitive[NAME] not in ovo_base.VersionedObjectRegistry.obj_classes()


def _mark_changes(obj: Any, changes: Any) -> None:
    """Take over what the sender had changed, as far as it is here; nested objects have done so themselves."""
    stored = obj.__dict__
    obj.obj_reset_changes([name for name in obj.fields if "_obj_" + name in stored
                           and not isinstance(stored["_obj_" + name], ovo_base.VersionedObject)])
    obj._changed_fields = {name for name in changes if name in obj.fields and "_obj_" + name in stored}
