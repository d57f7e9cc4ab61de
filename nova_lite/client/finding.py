"""Finding things by the name or id that a user typed."""

import re
from typing import Any

from nova_lite.client import base


def servers(command: Any, filters: dict[str, Any], *, name: str | None = None, limit: int | None = None,
            marker: str | None = None) -> list[Any]:  # fmt: skip
    """Return the instances that match; `name` has to be the whole name."""
    if name is not None:
        filters = {**filters, "name": f"^{re.escape(name)}$"}
    return list(command.api.compute_api.get_all(command.context, search_opts=filters, limit=limit, marker=marker))


def server(command: Any, name_or_id: str) -> Any:
    """Return the instance. Raises InstanceNotFound, or CommandError when a name means none or several."""
    if base.is_uuid(name_or_id):
        return command.api.compute_api.get(command.context, name_or_id)
    found = servers(command, {"project_id": command.context.project_id}, name=name_or_id, limit=2)
    return base.only(found, "server", name_or_id)


def flavor(command: Any, name_or_id: str) -> Any:
    """Return the flavor with this flavorid, or else this name. Raises CommandError."""
    from nova_lite import objects

    flavors = list(objects.FlavorList.get_all(command.context))
    found = [one for one in flavors if one.flavorid == name_or_id] or [one for one in flavors if one.name == name_or_id]
    return base.only(found, "flavor", name_or_id)


def image(command: Any, name_or_id: str) -> dict[str, Any]:
    """Return the image's metadata. Raises ImageNotFound or CommandError."""
    port = command.services.image_api
    if base.is_uuid(name_or_id):
        return port.show(command.context, name_or_id)
    found = [one for one in port.detail(command.context) if one["name"] == name_or_id]
    return base.only(found, "image", name_or_id)


def network(command: Any, label_or_id: str) -> dict[str, Any]:
    """Return the row of the connected cell's network. Raises CommandError."""
    rows = command.services.db.network_get_all(command.context)
    found = [row for row in rows if label_or_id in (row["uuid"], row["label"])]
    return base.only(found, "network", label_or_id)
