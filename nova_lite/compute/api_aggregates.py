"""Groups of hosts of a cell: availability zones, and XenServer pools (compute specification §10.4)."""

from typing import Any

from nova_lite import exception
from nova_lite.compute import api_checks as checks
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Service

Aggregate = dict[str, Any]


class AggregateAPI:
    """Aggregates are dicts: `id, name, hosts [name], metadetails {key: value}, availability_zone`.

    The database is written first, then the host is told, whose driver may have to join or leave a pool.
    """

    def __init__(self, services: Services) -> None:
        self._db = services.db
        self._compute = ComputeAPI(services)

    def create_aggregate(self, context: RequestContext, aggregate_name: str,
                         availability_zone: str | None) -> Aggregate:
        """Make an aggregate without hosts. Raises Invalid, AggregateNameExists."""
        _check({"name": aggregate_name, "availability_zone": availability_zone})
        metadata = {"availability_zone": availability_zone} if availability_zone else {}
        return self._db.aggregate_create(context, {"name": aggregate_name}, metadata)

    def get_aggregate(self, context: RequestContext, aggregate_id: int) -> Aggregate:
        """Return an aggregate. Raises AggregateNotFound."""
        return self._db.aggregate_get(context, aggregate_id)

    def get_aggregate_list(self, context: RequestContext) -> list[Aggregate]:
        """Return all aggregates."""
        return self._db.aggregate_get_all(context)

    def update_aggregate(self, context: RequestContext, aggregate_id: int, values: dict[str, Any]) -> Aggregate:
        """Change `name` or `availability_zone`. Raises Invalid, AggregateNotFound, AggregateNameExists."""
        _check(values)
        if any(other["name"] == values.get("name") and other["id"] != aggregate_id
               for other in self._db.aggregate_get_all(context)):
            raise exception.AggregateNameExists(aggregate_name=values["name"])
        return self._db.aggregate_update(context, aggregate_id, values)

    def update_aggregate_metadata(self, context: RequestContext, aggregate_id: int,
                                  metadata: dict[str, str | None]) -> Aggregate:
        """Set keys of the metadata; those whose value is None are removed. Raises Invalid, AggregateNotFound."""
        for key, value in metadata.items():
            checks.check_name("a key of an aggregate's metadata", key)
            if value is not None:
                checks.check_text("a value of an aggregate's metadata", value)
        for key in [key for key, value in metadata.items() if value is None]:
            try:
                self._db.aggregate_metadata_delete(context, aggregate_id, key)
            except exception.AggregateMetadataNotFound:
                continue
        self._db.aggregate_metadata_add(context, aggregate_id,
                                        {key: value for key, value in metadata.items() if value is not None})
        return self._db.aggregate_get(context, aggregate_id)

    def delete_aggregate(self, context: RequestContext, aggregate_id: int) -> None:
        """Delete an aggregate that has no hosts. Raises InvalidAggregateAction, AggregateNotFound."""
        if self._db.aggregate_host_get_all(context, aggregate_id):
            raise exception.InvalidAggregateAction(action="delete", aggregate_id=aggregate_id, reason="not empty")
        self._db.aggregate_delete(context, aggregate_id)

    def add_host_to_aggregate(self, context: RequestContext, aggregate_id: int, host_name: str) -> Aggregate:
        """Add a host and tell it. Raises ComputeHostNotFound, AggregateNotFound, AggregateHostExists."""
        Service.get_by_compute_host(context, host_name)
        self._db.aggregate_host_add(context, aggregate_id, host_name)
        aggregate = self._db.aggregate_get(context, aggregate_id)
        self._compute.add_aggregate_host(context, aggregate, host_name, host_name)
        return aggregate

    def remove_host_from_aggregate(self, context: RequestContext, aggregate_id: int, host_name: str) -> Aggregate:
        """Take a host out and tell it. Raises ComputeHostNotFound, AggregateNotFound, AggregateHostNotFound."""
        Service.get_by_compute_host(context, host_name)
        self._db.aggregate_host_delete(context, aggregate_id, host_name)
        aggregate = self._db.aggregate_get(context, aggregate_id)
        self._compute.remove_aggregate_host(context, aggregate, host_name, host_name)
        return aggregate


def _check(values: dict[str, Any]) -> None:
    if "name" in values:
        checks.check_name("the name of an aggregate", values["name"])
    if values.get("availability_zone") is not None:
        checks.check_name("availability_zone", values["availability_zone"])
