"""Finding things by the name or id that a user typed."""

import re
from typing import Any

from nova_lite.client import base
from nova_lite.client.errors import CommandError


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


def volumes(command: Any) -> list[dict[str, Any]]:
    """Return the project's volumes. Raises CommandError where there is no volume service."""
    port = command.services.volume_api
    if not hasattr(port, "get_all"):
        raise CommandError("the connected cell has no volume service: see [volume] backend")
    return port.get_all(command.context)


def volume(command: Any, name_or_id: str) -> dict[str, Any]:
    """Return the volume. Raises VolumeNotFound or CommandError."""
    if base.is_uuid(name_or_id):
        return command.services.volume_api.get(command.context, name_or_id)
    return base.only([one for one in volumes(command) if one["display_name"] == name_or_id], "volume", name_or_id)


def aggregates(command: Any) -> Any:
    """Return the API of the connected cell's aggregates."""
    from nova_lite.compute.api_aggregates import AggregateAPI

    return AggregateAPI(command.services)


def aggregate(command: Any, name_or_id: str) -> dict[str, Any]:
    """Return the aggregate. Raises CommandError."""
    found = [one for one in aggregates(command).get_aggregate_list(command.context)
             if name_or_id in (str(one["id"]), one["name"])]  # fmt: skip
    return base.only(found, "aggregate", name_or_id)


def security_groups(command: Any) -> Any:
    """Return the API of the connected cell's security groups."""
    from nova_lite.compute.api_security_groups import SecurityGroupAPI

    return SecurityGroupAPI(command.services)


def security_group(command: Any, name_or_id: str) -> dict[str, Any]:
    """Return the project's security group. Raises CommandError."""
    found = [one for one in security_groups(command).list(command.context)
             if name_or_id in (str(one["id"]), one["name"])]  # fmt: skip
    return base.only(found, "security group", name_or_id)
