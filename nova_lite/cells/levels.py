"""Versions of objects: what a neighbour has said it can read, and objects made to fit it.

Every neighbour reads the floor version of an object. Cells of our kind tell each other which later version they read;
the fields that came with it are sent to those alone. Each hop fits what it passes on to its next neighbour.
"""

from collections.abc import Mapping
from typing import Any

from oslo_versionedobjects import base as ovo_base

from nova_lite.objects import wire

# Object: (version in which the reference has all of these fields, our fields beyond the floor that may travel).
_ADDED: dict[str, tuple[str, frozenset[str]]] = {
    "BlockDeviceMapping": ("1.20", frozenset(("uuid",))),
    "ComputeNode": ("1.18", frozenset(("uuid", "disk_allocation_ratio"))),
    "Migration": ("1.5", frozenset(("uuid", "memory_total", "memory_processed", "memory_remaining", "disk_total",
                                    "disk_processed", "disk_remaining"))),
    "NetworkRequest": ("1.2", frozenset(("tag",))),
    "Service": ("1.22", frozenset(("uuid",))),
}

OUR_VERSIONS: dict[str, str] = {name: version for name, (version, _fields) in _ADDED.items()}


def are_ours(versions: Mapping[str, str]) -> bool:
    """Whether a cell that reads these versions of objects understands all that we may send."""
    return versions == OUR_VERSIONS or all(
        _number(versions.get(name)) >= _number(version) for name, version in OUR_VERSIONS.items())


def fitted(value: Any, versions: Mapping[str, str]) -> Any:
    """Return a value in wire form as a cell that reads these versions of objects understands it.

    An object of the value may have all its fields beyond the floor; those that no reference version has never travel.
    """
    if isinstance(value, list):
        return [fitted(item, versions) for item in value]
    if not isinstance(value, dict):
        return value
    fields = value.get(wire.DATA)
    if isinstance(value.get(wire.NAME), str) and isinstance(fields, dict):
        return _fitted_object(value, _fitted_items(fields, versions), versions)
    return _fitted_items(value, versions)


def _fitted_items(items: dict[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """Return a dict with its values fitted; most are texts and numbers, which always fit."""
    return {key: fitted(item, versions) if isinstance(item, (dict, list)) else item for key, item in items.items()}


def _fitted_object(primitive: dict[str, Any], fields: dict[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    name = primitive[wire.NAME]
    classes = ovo_base.VersionedObjectRegistry.obj_classes().get(name)
    beyond: frozenset[str] = getattr(classes[0], "beyond_floor", frozenset()) if classes else frozenset()
    if not beyond:
        return {**primitive, wire.DATA: fields}
    version, added = _ADDED.get(name, ("", frozenset()))
    kept = added if version and _number(versions.get(name)) >= _number(version) else frozenset()
    fit = {**primitive, wire.DATA: {key: field for key, field in fields.items() if key not in beyond or key in kept}}
    if kept & fields.keys():
        fit[wire.VERSION] = version
    elif fit.get(wire.VERSION) == version:
        fit[wire.VERSION] = classes[0].VERSION
    changes = [key for key in primitive.get(wire.CHANGES) or () if key in fit[wire.DATA]]
    fit.pop(wire.CHANGES, None)
    return {**fit, wire.CHANGES: changes} if changes else fit


def _number(version: Any) -> tuple[int, ...]:
    """Return a version to compare by; what is none is the lowest."""
    parts = str(version).split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
