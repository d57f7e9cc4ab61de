"""Finding instances by what users call them."""

from typing import Any

from oslo_utils import uuidutils

from nova_lite import exception
from nova_lite.compute import api_checks as checks
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Flavor, Instance, InstanceList

_LARGEST_ID = 2 ** 31 - 1
_COLUMNS = {"image": "image_ref", "name": "display_name", "instance_name": "name", "tenant_id": "project_id"}


class InstanceSearch:
    """Reads instances of this cell's database."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def one(self, context: RequestContext, instance_id: str | int, expected_attrs: list | None) -> Instance:
        """Return the instance of a uuid or row id. Raises InstanceNotFound."""
        if uuidutils.is_uuid_like(instance_id):
            return Instance.get_by_uuid(context, str(instance_id), expected_attrs)
        if not str(instance_id).isdigit() or int(instance_id) > _LARGEST_ID:
            raise exception.InstanceNotFound(instance_id=instance_id)
        return Instance.get_by_id(context, int(instance_id), expected_attrs)

    def several(self, context: RequestContext, search_opts: dict[str, Any] | None, sort_key: str, sort_dir: str,
                limit: int | None, marker: str | None, expected_attrs: list | None) -> list[Instance]:
        """Return the instances that match. Raises InvalidInput, Invalid, MarkerNotFound."""
        checks.check_arguments(search_opts or {})
        checks.check_count("limit", limit)
        if sort_dir not in ("asc", "desc"):
            raise exception.InvalidInput(reason=f"instances are sorted asc or desc, not {str(sort_dir)[:40]!r}")
        filters = {_COLUMNS.get(name, name): value for name, value in (search_opts or {}).items()
                   if name != "flavor" and value is not None}
        if not context.is_admin:
            filters["project_id"] = context.project_id
        if context.read_deleted == "no":
            filters.setdefault("deleted", False)
        flavorid = (search_opts or {}).get("flavor")
        if flavorid is not None:
            try:
                filters["instance_type_id"] = Flavor.get_by_flavor_id(context, flavorid, read_deleted="yes").id
            except exception.FlavorNotFound:
                return []
        return list(InstanceList.get_by_filters(context, filters, sort_key, sort_dir, limit=limit, marker=marker,
                                                expected_attrs=expected_attrs))
