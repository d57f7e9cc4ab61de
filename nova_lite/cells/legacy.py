"""Instances as dicts, which clients and cells older than RPC 1.35 send, made the objects that everybody works with."""

import json
from typing import Any

from nova_lite import objects
from nova_lite.cells import replica


def instance_of(ctxt: Any, instance: Any) -> objects.Instance:
    """Return an instance as an object, whichever form it came in."""
    return objects.Instance.from_legacy_dict(ctxt, instance) if isinstance(instance, dict) else instance


def update_of(ctxt: Any, instance: Any) -> objects.Instance:
    """As instance_of; a dict says nothing of what has changed, so all that the top takes over counts as changed."""
    if not isinstance(instance, dict):
        return instance
    made = instance_of(ctxt, _with_network_text(instance))
    replica.mark_replicated(made)
    return made


def _with_network_text(instance: dict[str, Any]) -> dict[str, Any]:
    cache = instance.get("info_cache")
    if not isinstance(cache, dict) or not isinstance(cache.get("network_info"), list):
        return instance
    return {**instance, "info_cache": {"instance_uuid": instance["uuid"],
                                       "network_info": json.dumps(cache["network_info"])}}
