"""Reading instances and flavors, whether they come as objects or as mappings."""

from collections.abc import Mapping
from typing import Any

from oslo_utils import strutils

from nova_lite import exception

RESCUE = "-rescue"
ORIGINAL = "-orig"


def read(item: Any, name: str, default: Any = None) -> Any:
    """Return a field of an object or mapping; `default` when it is absent or cannot be loaded."""
    if isinstance(item, Mapping):
        return item.get(name, default)
    try:
        return getattr(item, name, default)
    except (NotImplementedError, exception.NovaException):
        return default  # a field of a versioned object that was never set


def name_of(instance: Any, template: str = "instance-%08x") -> str:
    """Return the label of the instance's VM; with a true `_rescue` flag on the object, the rescue VM's."""
    name = read(instance, "name") or _name_by_template(instance, template)
    flagged = read(instance, "_rescue") is True
    return f"{name}{RESCUE}" if flagged and not name.endswith(RESCUE) else name


def _name_by_template(instance: Any, template: str) -> str:
    try:
        return template % read(instance, "id")
    except TypeError:
        pass
    try:
        return template % _Columns(instance)
    except (KeyError, TypeError):
        return read(instance, "uuid")


class _Columns:
    """An instance as the mapping a template is filled from."""

    def __init__(self, instance: Any):
        self._instance = instance

    def __getitem__(self, name: str) -> Any:
        value = read(self._instance, name)
        if value is None:
            raise KeyError(name)
        return value


def metadata_of(instance: Any, name: str) -> dict[str, str]:
    """Return `metadata` or `system_metadata` as a dict; both its forms, dict and rows, are read."""
    value = read(instance, name) or {}
    if isinstance(value, Mapping):
        return dict(value)
    return {row["key"]: row["value"] for row in value}


def flavor_of(context: Any, instance: Any, virtapi: Any) -> Any:
    """Return the instance's flavor, from itself or from the compute service."""
    flavor = read(instance, "flavor")
    if flavor:
        return flavor
    return virtapi.instance_type_get(context, read(instance, "instance_type_id"))


def follows_disk(instance: Any) -> bool | None:
    """Return auto_disk_config, which may be text; None when the instance does not say."""
    said = read(instance, "auto_disk_config")
    return None if said is None else strutils.bool_from_string(said)


def wants_agent(instance: Any, conf: Any) -> bool:
    """Tell whether the guest agent may be used: option, else image property, else the default."""
    if conf.xenserver.disable_agent:
        return False
    said = metadata_of(instance, "system_metadata").get("image_xenapi_use_agent")
    try:
        return strutils.bool_from_string(said, strict=True)
    except ValueError:
        return conf.xenserver.use_agent_default
