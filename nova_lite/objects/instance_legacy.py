"""Instances as the plain dicts of compute RPC 2.27 (seams §4.1, §4.3)."""

import datetime
import json
from typing import Any

from nova_lite.objects import base, wire

FLAVOR_PROPERTIES = {"id": int, "name": str, "memory_mb": int, "vcpus": int, "root_gb": int, "ephemeral_gb": int,
                     "flavorid": str, "swap": int, "rxtx_factor": float, "vcpu_weight": int}
FLAVOR_PREFIXES = {"flavor": "instance_type_", "new_flavor": "new_instance_type_", "old_flavor": "old_instance_type_"}

_HANDLED = frozenset(("metadata", "system_metadata", "info_cache", "security_groups", "fault", "deleted",
                      *FLAVOR_PREFIXES))


def to_dict(instance: Any) -> dict[str, Any]:
    """Return the dict of the fields that are set."""
    values = {name: _plain(value) for name, value in instance.items() if name not in _HANDLED}
    values["deleted"] = _deleted(instance)
    if "id" in instance:
        values["name"] = instance.name
    if "metadata" in instance:
        values["metadata"] = rows_of(instance.metadata)
    if "system_metadata" in instance:
        values["system_metadata"] = rows_of({**instance.system_metadata, **flavor_keys(instance)})
    if instance.get("info_cache") is not None:
        values["info_cache"] = {"instance_uuid": instance.uuid, "network_info": instance.info_cache.network_info_text()}
    if "security_groups" in instance:
        values["security_groups"] = [dict(group) for group in instance.security_groups or ()]
    for name in FLAVOR_PREFIXES:
        if name in instance:
            flavor = getattr(instance, name)
            values[name] = _plain_items(base.plain(flavor)) if flavor is not None else None
    if instance.get("fault") is not None:
        values["fault"] = _plain_items(base.plain(instance.fault))
    return values


def _deleted(instance: Any) -> int:
    """The row's own notation: 0, or its id."""
    return (instance.get("id") or 1) if instance.get("deleted") else 0


def rows_of(pairs: dict[str, str | None]) -> list[dict[str, str | None]]:
    """Return a dict as {'key', 'value'} rows."""
    return [{"key": key, "value": value} for key, value in pairs.items()]


def pairs_of(rows: Any) -> dict[str, Any]:
    """Return rows, or a dict, as a dict."""
    return dict(rows) if isinstance(rows, dict) else {row["key"]: row["value"] for row in rows or ()}


def flavor_keys(instance: Any) -> dict[str, str | None]:
    """Return the flavors spelled as prefixed keys of system_metadata."""
    keys = {}
    for name, prefix in FLAVOR_PREFIXES.items():
        flavor = instance.get(name)
        if flavor is not None:
            for prop in FLAVOR_PROPERTIES:
                value = flavor.get(prop)
                keys[prefix + prop] = None if value is None else str(value)
    return keys


def without_flavor_keys(system_metadata: dict[str, Any]) -> dict[str, Any]:
    """Return system_metadata without the keys that spell flavors; those are never stored."""
    spelled = {prefix + prop for prefix in FLAVOR_PREFIXES.values() for prop in FLAVOR_PROPERTIES}
    return {key: value for key, value in system_metadata.items() if key not in spelled}


def from_dict(cls: Any, context: Any, values: dict[str, Any]) -> Any:
    """Return the clean object of a dict."""
    instance = cls(context)
    for name, field in cls.fields.items():
        if name in _HANDLED or name not in values or (values[name] is None and not field.nullable):
            continue
        setattr(instance, name, field.from_primitive(instance, name, values[name])
                if _needs_reading(values[name]) else values[name])
    if "deleted" in values:
        instance.deleted = bool(values["deleted"])
    if "metadata" in values:
        instance.metadata = pairs_of(values["metadata"])
    if values.get("security_groups") is not None:
        instance.security_groups = values["security_groups"]
    _read_nested(instance, values)
    _read_flavors(instance, values)
    instance.obj_reset_changes()
    return instance


def _needs_reading(value: Any) -> bool:
    return isinstance(value, dict) and wire.NAME in value


def _read_nested(instance: Any, values: dict[str, Any]) -> None:
    from nova_lite.objects.instance_fault import InstanceFault
    from nova_lite.objects.instance_info_cache import InstanceInfoCache

    for name, cls in (("info_cache", InstanceInfoCache), ("fault", InstanceFault)):
        value = values.get(name)
        if isinstance(value, dict) and wire.NAME in value:
            value = wire.from_wire(instance._context, value)
        elif isinstance(value, dict):
            value = cls._from_row(instance._context, {"instance_uuid": values.get("uuid"), **value})
        if value is not None:
            setattr(instance, name, value)


def _read_flavors(instance: Any, values: dict[str, Any]) -> None:
    """Take the flavors of the dict; those it does not have, of the prefixed keys in its system_metadata."""
    from nova_lite.objects.flavor import Flavor

    spelled = pairs_of(values.get("system_metadata"))
    for name, prefix in FLAVOR_PREFIXES.items():
        if name in values:
            setattr(instance, name, Flavor.of(instance._context, values[name]))
        elif prefix + "flavorid" in spelled:
            setattr(instance, name, Flavor.of(instance._context, _spelled_flavor(spelled, prefix)))
    if "system_metadata" in values:
        instance.system_metadata = without_flavor_keys(spelled)


def _spelled_flavor(spelled: dict[str, Any], prefix: str) -> dict[str, Any]:
    flavor: dict[str, Any] = {"extra_specs": {}}
    for prop, kind in FLAVOR_PROPERTIES.items():
        value = spelled.get(prefix + prop)
        if value not in (None, "", "None"):
            flavor[prop] = kind(value)
        elif prefix + prop in spelled and prop in ("rxtx_factor", "vcpu_weight", "name"):
            flavor[prop] = None
    return flavor


def _plain_items(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return wire.iso_text(value)
    if isinstance(value, wire.OpaqueObject):
        return json.loads(json.dumps(value.primitive))
    return value
