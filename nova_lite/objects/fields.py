"""Types of object fields that oslo.versionedobjects lacks, and the short names the objects are declared with."""

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from oslo_versionedobjects import fields as ovo

from nova_lite.objects import network_model, wire

Integer = ovo.IntegerField
Text = ovo.StringField
Boolean = ovo.BooleanField
Float = ovo.FloatField
DateTime = ovo.DateTimeField
Nested = ovo.ObjectField
ListOfNested = ovo.ListOfObjectsField


class _Uuid(ovo.String):
    """A uuid is text here; neighbours have been seen to send others, so its form is not checked."""


class _Secret(ovo.String):
    """Text that is never printed."""

    def stringify(self, value: str) -> str:
        return "'***'"


class _JsonText(ovo.String):
    """JSON text; what is no text is written as JSON."""

    def coerce(self, obj: Any, attr: str, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)


class _Address(ovo.FieldType):
    """An IP address, kept as text. Raises ValueError for what is none."""

    def coerce(self, obj: Any, attr: str, value: Any) -> str | None:
        return str(ipaddress.ip_address(str(value))) if value != "" else None


class _TextDict(ovo.FieldType):
    """{text: text or None}, kept as a plain dict; a list of {'key', 'value'} rows is understood."""

    def coerce(self, obj: Any, attr: str, value: Any) -> dict[str, str | None]:
        if isinstance(value, list | tuple):
            value = {row["key"]: row["value"] for row in value}
        if not isinstance(value, Mapping):
            raise ValueError(f"A dict is required in field {attr}, not a {type(value).__name__}")
        return {str(key): None if item is None else str(item) for key, item in value.items()}


class _TextList(ovo.FieldType):
    def coerce(self, obj: Any, attr: str, value: Any) -> list[str]:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ValueError(f"A list is required in field {attr}, not a {type(value).__name__}")
        return [str(item) for item in value]


class _Opaque(ovo.FieldType):
    """An object of a class we do not have, kept and returned unchanged."""

    def coerce(self, obj: Any, attr: str, value: Any) -> wire.OpaqueObject:
        if isinstance(value, wire.OpaqueObject):
            return value
        if isinstance(value, dict) and wire.NAME in value:
            return wire.OpaqueObject(value)
        raise ValueError(f"An object in wire form is required in field {attr}, not a {type(value).__name__}")

    def from_primitive(self, obj: Any, attr: str, value: Any) -> wire.OpaqueObject:
        return self.coerce(obj, attr, value)

    def to_primitive(self, obj: Any, attr: str, value: wire.OpaqueObject) -> dict:
        return value.primitive


class _OpaqueList(_Opaque):
    def coerce(self, obj: Any, attr: str, value: Any) -> list[wire.OpaqueObject]:
        return [super(_OpaqueList, self).coerce(obj, attr, item) for item in value]

    def to_primitive(self, obj: Any, attr: str, value: list[wire.OpaqueObject]) -> list[dict]:
        return [item.primitive for item in value]


class _NetworkInfo(ovo.FieldType):
    """The network model; JSON text on the wire and in the database."""

    def coerce(self, obj: Any, attr: str, value: Any) -> network_model.NetworkInfo:
        return network_model.NetworkInfo.hydrate(value)

    def to_primitive(self, obj: Any, attr: str, value: network_model.NetworkInfo) -> str:
        return value.json()

    def from_primitive(self, obj: Any, attr: str, value: Any) -> network_model.NetworkInfo:
        return network_model.NetworkInfo.hydrate(value)


class _GroupNames(ovo.FieldType):
    """Security groups as [{'name': …}]; read from names, rows, or the reference's list object."""

    def coerce(self, obj: Any, attr: str, value: Any) -> list[dict[str, str]]:
        if isinstance(value, wire.OpaqueObject):
            value = value.primitive
        if isinstance(value, dict):
            value = [item[wire.DATA] for item in value.get(wire.DATA, {}).get("objects", [])]
        return [{"name": item if isinstance(item, str) else item["name"]} for item in value]

    def from_primitive(self, obj: Any, attr: str, value: Any) -> list[dict[str, str]]:
        return self.coerce(obj, attr, value)


class _Field(ovo.AutoTypedField):
    takes_opaque = False


class Uuid(_Field):
    AUTO_TYPE = _Uuid()


class Secret(_Field):
    AUTO_TYPE = _Secret()


class JsonText(_Field):
    AUTO_TYPE = _JsonText()


class Address(_Field):
    AUTO_TYPE = _Address()


class TextDict(_Field):
    AUTO_TYPE = _TextDict()


class TextList(_Field):
    AUTO_TYPE = _TextList()


class Opaque(_Field):
    AUTO_TYPE = _Opaque()
    takes_opaque = True


class OpaqueList(_Field):
    AUTO_TYPE = _OpaqueList()
    takes_opaque = True


class NetworkInfo(_Field):
    AUTO_TYPE = _NetworkInfo()


class GroupNames(_Field):
    AUTO_TYPE = _GroupNames()
    takes_opaque = True


# Values of these types are what the field would make of them.
PLAIN_TYPES = {Integer: int, Text: str, Boolean: bool, Uuid: str, Secret: str}
# Fields whose values are never objects, nor hold any.
SCALARS = frozenset((*PLAIN_TYPES, Float, DateTime))
