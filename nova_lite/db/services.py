"""Daemons, and the hosts they run."""

import json
import uuid as uuid_module
from collections.abc import Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, visible

SERVICES = models.Service.__table__
NODES = models.ComputeNode.__table__

_SUMMED = ("vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb",
           "free_disk_gb", "current_workload", "running_vms", "disk_available_least")
_COMPUTE_BINARY = "nova-compute"
_JSON_COLUMNS = ("stats", "supported_instances")


class Services(Part):
    """Rows of services, with ``availability_zone`` computed from the aggregates of their host."""

    # -- services --

    @operation
    def service_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a service and return it. Disabled unless ``enable_new_services``. Raises ServiceBinaryExists."""
        values = {"disabled": not self.conf.enable_new_services, "uuid": str(uuid_module.uuid4()), **values}
        with self.store.writer(context) as session:
            try:
                row = session.insert_row(models.Service, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.ServiceBinaryExists(host=values.get("host"), binary=values.get("binary")) from exc
            return self._with_zones(session, [row])[0]

    @operation
    def service_get(self, context: Any, service_id: int) -> dict[str, Any]:
        """Return a service. Raises ServiceNotFound."""
        return self._one(context, exception.ServiceNotFound(service_id=service_id), SERVICES.c.id == service_id)

    @operation
    def service_get_by_args(self, context: Any, host: str, binary: str) -> dict[str, Any]:
        """Return the service of a host and program. Raises HostBinaryNotFound."""
        return self._one(context, exception.HostBinaryNotFound(host=host, binary=binary),
                         SERVICES.c.host == host, SERVICES.c.binary == binary)

    @operation
    def service_get_by_host_and_topic(self, context: Any, host: str, topic: str) -> dict[str, Any] | None:
        """Return the enabled service of a host and topic, None without one."""
        rows = self._all(context, SERVICES.c.host == host, SERVICES.c.topic == topic, SERVICES.c.disabled.is_(False))
        return rows[0] if rows else None

    @operation
    def service_get_by_compute_host(self, context: Any, host: str) -> dict[str, Any]:
        """Return the service of the compute topic on a host, its nodes under ``compute_node``.

        Raises ComputeHostNotFound.
        """
        with self.store.reader(context) as session:
            row = self._one(context, exception.ComputeHostNotFound(host=host), SERVICES.c.host == host,
                            SERVICES.c.topic == self.conf.compute_topic)
            row["compute_node"] = [_parsed(node) for node in session.all(
                sqlalchemy.select(NODES).where(NODES.c.deleted == 0, NODES.c.host == host).order_by(NODES.c.id))]
        return row

    @operation
    def service_get_all(self, context: Any, disabled: bool | None = None) -> list[dict[str, Any]]:
        """Return the services; with ``disabled`` only those that are, or are not."""
        return self._all(context, *([] if disabled is None else [SERVICES.c.disabled.is_(disabled)]))

    @operation
    def service_get_all_by_topic(self, context: Any, topic: str) -> list[dict[str, Any]]:
        """Return the enabled services of a topic."""
        return self._all(context, SERVICES.c.topic == topic, SERVICES.c.disabled.is_(False))

    @operation
    def service_get_all_by_binary(self, context: Any, binary: str,
                                  include_disabled: bool = False) -> list[dict[str, Any]]:
        """Return the services of a program, enabled ones unless asked for all."""
        criteria = [] if include_disabled else [SERVICES.c.disabled.is_(False)]
        return self._all(context, SERVICES.c.binary == binary, *criteria)

    @operation
    def service_get_all_by_host(self, context: Any, host: str) -> list[dict[str, Any]]:
        """Return the services of a host."""
        return self._all(context, SERVICES.c.host == host)

    @operation
    def service_update(self, context: Any, service_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change a service and return it. A ``report_count`` is a sign of life. Raises ServiceNotFound."""
        changes = {name: value for name, value in values.items() if name in SERVICES.c and name != "id"}
        with self.store.writer(context) as session:
            if "report_count" in changes:
                changes.setdefault("last_seen_up", session.now)
            if not session.update_rows(models.Service, SERVICES.c.id == service_id, SERVICES.c.deleted == 0,
                                       **changes):
                raise exception.ServiceNotFound(service_id=service_id)
            return self.service_get(context, service_id)

    @operation
    def service_heartbeat(self, context: Any, service_id: int) -> None:
        """Count a sign of life of a service. Raises ServiceNotFound."""
        with self.store.writer(context) as session:
            if not session.update_rows(models.Service, SERVICES.c.id == service_id, SERVICES.c.deleted == 0,
                                       report_count=SERVICES.c.report_count + 1, last_seen_up=session.now):
                raise exception.ServiceNotFound(service_id=service_id)

    @operation
    def service_destroy(self, context: Any, service_id: int) -> None:
        """Soft-delete a service and its compute nodes. Raises ServiceNotFound."""
        with self.store.writer(context) as session:
            service = self.service_get(context, service_id)
            session.soft_delete(models.Service, SERVICES.c.id == service_id)
            owned = NODES.c.service_id == service_id
            if service["binary"] == _COMPUTE_BINARY:
                owned = sqlalchemy.or_(owned, NODES.c.host == service["host"])
            session.soft_delete(models.ComputeNode, owned)

    def _one(self, context: Any, missing: Exception, *criteria: Any) -> dict[str, Any]:
        rows = self._all(context, *criteria)
        if not rows:
            raise missing
        return rows[0]

    def _all(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(SERVICES).where(
                *criteria, *visible(models.Service, context)).order_by(SERVICES.c.id))
            return self._with_zones(session, rows)

    def _with_zones(self, session: RowSession, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        zones = self.db.part_of("aggregate_get").zones_by_host(session) if rows else {}
        for row in rows:
            if row["topic"] == self.conf.compute_topic:
                row["availability_zone"] = zones.get(row["host"], self.conf.default_availability_zone)
            else:
                row["availability_zone"] = self.conf.internal_service_availability_zone
        return rows

    # -- compute nodes --

    @operation
    def compute_node_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a node and return it; ``stats`` and ``supported_instances`` are given and returned parsed.

        A node that is there already, of the same host and name, is changed instead.
        """
        values = {"uuid": str(uuid_module.uuid4()), **_texts(values)}
        with self.store.writer(context) as session:
            existing = session.one(sqlalchemy.select(NODES.c.id).where(
                NODES.c.deleted == 0, NODES.c.host == values["host"],
                NODES.c.hypervisor_hostname == values.get("hypervisor_hostname")).with_for_update())
            if existing is not None:
                del values["uuid"]
                session.update_rows(models.ComputeNode, NODES.c.id == existing["id"], **values)
                return self.compute_node_get(context, existing["id"])
            return _parsed(session.insert_row(models.ComputeNode, values))

    @operation
    def compute_node_get(self, context: Any, compute_id: int | str) -> dict[str, Any]:
        """Return a node by id or uuid. Raises ComputeHostNotFound."""
        by_uuid = isinstance(compute_id, str) and not compute_id.isdigit()
        criterion = NODES.c.uuid == compute_id if by_uuid else NODES.c.id == int(compute_id)
        nodes = self._nodes(context, criterion)
        if not nodes:
            raise exception.ComputeHostNotFound(host=compute_id)
        return nodes[0]

    @operation
    def compute_node_get_all(self, context: Any) -> list[dict[str, Any]]:
        """Return every node."""
        return self._nodes(context)

    @operation
    def compute_node_get_all_by_host(self, context: Any, host: str) -> list[dict[str, Any]]:
        """Return the nodes of a host."""
        return self._nodes(context, NODES.c.host == host)

    @operation
    def compute_node_get_by_host_and_nodename(self, context: Any, host: str, nodename: str) -> dict[str, Any]:
        """Return a node of a host. Raises ComputeHostNotFound."""
        nodes = self._nodes(context, NODES.c.host == host, NODES.c.hypervisor_hostname == nodename)
        if not nodes:
            raise exception.ComputeHostNotFound(host=host)
        return nodes[0]

    @operation
    def compute_node_search_by_hypervisor(self, context: Any, hypervisor_match: str) -> list[dict[str, Any]]:
        """Return the nodes whose hypervisor host name contains a text."""
        return self._nodes(context, NODES.c.hypervisor_hostname.contains(hypervisor_match, autoescape=True))

    @operation
    def compute_node_update(self, context: Any, compute_id: int, values: Mapping[str, Any],
                            prune_stats: bool = False) -> dict[str, Any]:
        """Change a node and return it; ``updated_at`` is refreshed even without changes.

        ``stats`` replaces values by key; with ``prune_stats`` keys that are not given go. Raises ComputeHostNotFound.
        """
        with self.store.writer(context) as session:
            row = session.one(sqlalchemy.select(NODES).where(NODES.c.id == compute_id,
                                                             NODES.c.deleted == 0).with_for_update())
            if row is None:
                raise exception.ComputeHostNotFound(host=compute_id)
            changes = {name: value for name, value in values.items() if name in NODES.c and name != "id"}
            if changes.get("stats") is not None and not prune_stats:
                changes["stats"] = {**(_parsed(row)["stats"] or {}), **_loads(changes["stats"])}
            changes = _texts(changes)
            session.update_rows(models.ComputeNode, NODES.c.id == compute_id, **changes)
            return _parsed({**row, **changes, "updated_at": session.now})

    @operation
    def compute_node_report(self, context: Any, compute_id: int, values: Mapping[str, Any]) -> bool:
        """Write all that a host says of its node, unread; return whether there is such a node."""
        changes = {name: value for name, value in values.items() if name in NODES.c and name != "id"}
        with self.store.writer(context) as session:
            return bool(session.update_rows(models.ComputeNode, NODES.c.id == compute_id, NODES.c.deleted == 0,
                                            **_texts(changes)))

    @operation
    def compute_node_delete(self, context: Any, compute_id: int) -> None:
        """Soft-delete a node. Raises ComputeHostNotFound."""
        with self.store.writer(context) as session:
            if not session.soft_delete(models.ComputeNode, NODES.c.id == compute_id):
                raise exception.ComputeHostNotFound(host=compute_id)

    @operation
    def compute_node_statistics(self, context: Any) -> dict[str, int]:
        """Return sums over the nodes of hosts whose nova-compute is not disabled, and their ``count``."""
        sums = [sqlalchemy.func.sum(NODES.c[name]).label(name) for name in _SUMMED]
        enabled = sqlalchemy.exists().where(
            SERVICES.c.host == NODES.c.host, SERVICES.c.binary == _COMPUTE_BINARY, SERVICES.c.deleted == 0,
            SERVICES.c.disabled.is_(False))
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(sqlalchemy.func.count(NODES.c.id).label("count"), *sums).where(
                NODES.c.deleted == 0, enabled))
        return {name: int(value or 0) for name, value in row.items()}

    def _nodes(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            return [_parsed(row) for row in session.all(sqlalchemy.select(NODES).where(
                *criteria, *visible(models.ComputeNode, context)).order_by(NODES.c.id))]


def _loads(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    for name in _JSON_COLUMNS:
        row[name] = _loads(row[name]) if row[name] else row[name]
    return row


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if value is None or isinstance(value, str) or name not in _JSON_COLUMNS else json.dumps(value)
            for name, value in values.items()}
