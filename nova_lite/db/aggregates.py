"""Groups of hosts, and builds of the guest agent."""

from collections.abc import Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, visible

AGGREGATES = models.Aggregate.__table__
HOSTS = models.AggregateHost.__table__
METADATA = models.AggregateMetadata.__table__
AGENT_BUILDS = models.AgentBuild.__table__

_ZONE = "availability_zone"
_ZONES = sqlalchemy.select(HOSTS.c.host, METADATA.c.value).join(
    METADATA, METADATA.c.aggregate_id == HOSTS.c.aggregate_id).where(
    METADATA.c.key == _ZONE, METADATA.c.deleted == 0, HOSTS.c.deleted == 0).order_by(METADATA.c.value)


class Aggregates(Part):
    """Rows of aggregates with ``hosts`` (list), ``metadetails`` (dict) and ``availability_zone``."""

    @operation
    def aggregate_create(self, context: Any, values: Mapping[str, Any],
                         metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Insert an aggregate and return it. Raises AggregateNameExists."""
        with self.store.writer(context) as session:
            if session.one(sqlalchemy.select(AGGREGATES.c.id).where(AGGREGATES.c.name == values["name"],
                                                                    AGGREGATES.c.deleted == 0)):
                raise exception.AggregateNameExists(aggregate_name=values["name"])
            row = session.insert_row(models.Aggregate, values)
            self._set_metadata(session, row["id"], metadata or {})
            return self._joined(session, [row])[0]

    @operation
    def aggregate_get(self, context: Any, aggregate_id: int) -> dict[str, Any]:
        """Return an aggregate. Raises AggregateNotFound."""
        rows = self._all(context, AGGREGATES.c.id == aggregate_id)
        if not rows:
            raise exception.AggregateNotFound(aggregate_id=aggregate_id)
        return rows[0]

    @operation
    def aggregate_get_all(self, context: Any) -> list[dict[str, Any]]:
        """Return every aggregate."""
        return self._all(context)

    @operation
    def aggregate_get_by_host(self, context: Any, host: str, key: str | None = None) -> list[dict[str, Any]]:
        """Return the aggregates of a host; with ``key`` those that have such metadata."""
        member = sqlalchemy.exists().where(HOSTS.c.aggregate_id == AGGREGATES.c.id, HOSTS.c.host == host,
                                           HOSTS.c.deleted == 0)
        rows = self._all(context, member)
        return [row for row in rows if key is None or key in row["metadetails"]]

    @operation
    def aggregate_metadata_get_by_host(self, context: Any, host: str, key: str | None = None) -> dict[str, set[str]]:
        """Return {key: values} over the aggregates of a host."""
        found: dict[str, set[str]] = {}
        for row in self.aggregate_get_by_host(context, host, key):
            for name, value in row["metadetails"].items():
                found.setdefault(name, set()).add(value)
        return found

    @operation
    def aggregate_update(self, context: Any, aggregate_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change an aggregate's ``name`` or ``metadata`` and return it. Raises AggregateNotFound."""
        values = dict(values)
        metadata = values.pop("metadata", None)
        zone = values.pop(_ZONE, None)
        with self.store.writer(context) as session:
            if not session.update_rows(models.Aggregate, AGGREGATES.c.id == aggregate_id, AGGREGATES.c.deleted == 0,
                                       **values):
                raise exception.AggregateNotFound(aggregate_id=aggregate_id)
            self._set_metadata(session, aggregate_id, {**(metadata or {}), **({_ZONE: zone} if zone else {})})
            return self.aggregate_get(context, aggregate_id)

    @operation
    def aggregate_delete(self, context: Any, aggregate_id: int) -> None:
        """Soft-delete an aggregate, its hosts and metadata. Raises AggregateNotFound."""
        with self.store.writer(context) as session:
            if not session.soft_delete(models.Aggregate, AGGREGATES.c.id == aggregate_id):
                raise exception.AggregateNotFound(aggregate_id=aggregate_id)
            session.soft_delete(models.AggregateHost, HOSTS.c.aggregate_id == aggregate_id)
            session.soft_delete(models.AggregateMetadata, METADATA.c.aggregate_id == aggregate_id)

    # -- metadata --

    @operation
    def aggregate_metadata_get(self, context: Any, aggregate_id: int) -> dict[str, str]:
        """Return the metadata of an aggregate. Raises AggregateNotFound."""
        return self.aggregate_get(context, aggregate_id)["metadetails"]

    @operation
    def aggregate_metadata_add(self, context: Any, aggregate_id: int, metadata: Mapping[str, str],
                               set_delete: bool = False) -> dict[str, str]:
        """Set keys of the metadata, with ``set_delete`` instead of all there is; returns what was given.

        Raises AggregateNotFound.
        """
        with self.store.writer(context) as session:
            before = self.aggregate_get(context, aggregate_id)["metadetails"]
            if set_delete:
                gone = sorted(set(before) - set(metadata))
                session.soft_delete(models.AggregateMetadata, METADATA.c.aggregate_id == aggregate_id,
                                    METADATA.c.key.in_(gone))
            self._set_metadata(session, aggregate_id, metadata)
        return dict(metadata)

    @operation
    def aggregate_metadata_delete(self, context: Any, aggregate_id: int, key: str) -> None:
        """Remove a key of the metadata. Raises AggregateNotFound, AggregateMetadataNotFound."""
        with self.store.writer(context) as session:
            self.aggregate_get(context, aggregate_id)
            if not session.soft_delete(models.AggregateMetadata, METADATA.c.aggregate_id == aggregate_id,
                                       METADATA.c.key == key):
                raise exception.AggregateMetadataNotFound(aggregate_id=aggregate_id, metadata_key=key)

    def _set_metadata(self, session: RowSession, aggregate_id: int, metadata: Mapping[str, str]) -> None:
        for key in sorted(metadata):
            if not session.update_rows(models.AggregateMetadata, METADATA.c.aggregate_id == aggregate_id,
                                       METADATA.c.key == key, METADATA.c.deleted == 0, value=metadata[key]):
                session.insert_row(models.AggregateMetadata, {"aggregate_id": aggregate_id, "key": key,
                                                              "value": metadata[key]})

    # -- hosts --

    @operation
    def aggregate_host_get_all(self, context: Any, aggregate_id: int) -> list[str]:
        """Return the hosts of an aggregate. Raises AggregateNotFound."""
        return self.aggregate_get(context, aggregate_id)["hosts"]

    @operation
    def aggregate_host_add(self, context: Any, aggregate_id: int, host: str) -> dict[str, Any]:
        """Add a host and return its row. Raises AggregateNotFound, AggregateHostExists."""
        with self.store.writer(context) as session:
            self.aggregate_get(context, aggregate_id)
            try:
                return session.insert_row(models.AggregateHost, {"host": host, "aggregate_id": aggregate_id})
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.AggregateHostExists(host=host, aggregate_id=aggregate_id) from exc

    @operation
    def aggregate_host_delete(self, context: Any, aggregate_id: int, host: str) -> None:
        """Remove a host. Raises AggregateNotFound, AggregateHostNotFound."""
        with self.store.writer(context) as session:
            self.aggregate_get(context, aggregate_id)
            if not session.soft_delete(models.AggregateHost, HOSTS.c.aggregate_id == aggregate_id,
                                       HOSTS.c.host == host):
                raise exception.AggregateHostNotFound(aggregate_id=aggregate_id, host=host)

    def zones_by_host(self, session: RowSession) -> dict[str, str]:
        """Return {host: zone} of the hosts whose aggregates name one; several are joined by commas."""
        zones: dict[str, list[str]] = {}
        for row in session.all(_ZONES):
            zones.setdefault(row["host"], []).append(row["value"])
        return {host: ",".join(dict.fromkeys(names)) for host, names in zones.items()}

    def _all(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(AGGREGATES).where(
                *criteria, *visible(models.Aggregate, context)).order_by(AGGREGATES.c.id))
            return self._joined(session, rows)

    def _joined(self, session: RowSession, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        by_id = {row["id"]: row for row in rows}
        for row in rows:
            row["hosts"], row["metadetails"] = [], {}
        if not rows:
            return rows
        for host in session.all(sqlalchemy.select(HOSTS).where(
                HOSTS.c.aggregate_id.in_(list(by_id)), HOSTS.c.deleted == 0).order_by(HOSTS.c.id)):
            by_id[host["aggregate_id"]]["hosts"].append(host["host"])
        for pair in session.all(sqlalchemy.select(METADATA).where(
                METADATA.c.aggregate_id.in_(list(by_id)), METADATA.c.deleted == 0).order_by(METADATA.c.id)):
            by_id[pair["aggregate_id"]]["metadetails"][pair["key"]] = pair["value"]
        for row in rows:
            row[_ZONE] = row["metadetails"].get(_ZONE)
        return rows


class AgentBuilds(Part):
    """Where guests find newer agents."""

    @operation
    def agent_build_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert an agent build. Raises AgentBuildExists."""
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.AgentBuild, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.AgentBuildExists(**{name: values.get(name) for name in
                                                    ("hypervisor", "os", "architecture")}) from exc

    @operation
    def agent_build_get_by_triple(self, context: Any, hypervisor: str, os: str,
                                  architecture: str) -> dict[str, Any] | None:
        """Return the agent build for such guests, None without one."""
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(AGENT_BUILDS).where(
                AGENT_BUILDS.c.hypervisor == hypervisor, AGENT_BUILDS.c.os == os,
                AGENT_BUILDS.c.architecture == architecture, AGENT_BUILDS.c.deleted == 0))

    @operation
    def agent_build_get_all(self, context: Any, hypervisor: str | None = None) -> list[dict[str, Any]]:
        """Return the agent builds, of one hypervisor or of all."""
        criteria = [] if hypervisor is None else [AGENT_BUILDS.c.hypervisor == hypervisor]
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(AGENT_BUILDS).where(
                *criteria, AGENT_BUILDS.c.deleted == 0).order_by(AGENT_BUILDS.c.id))

    @operation
    def agent_build_destroy(self, context: Any, agent_build_id: int) -> None:
        """Soft-delete an agent build. Raises AgentBuildNotFound."""
        with self.store.writer(context) as session:
            if not session.soft_delete(models.AgentBuild, AGENT_BUILDS.c.id == agent_build_id):
                raise exception.AgentBuildNotFound(id=agent_build_id)

    @operation
    def agent_build_update(self, context: Any, agent_build_id: int, values: Mapping[str, Any]) -> None:
        """Change an agent build. Raises AgentBuildNotFound."""
        with self.store.writer(context) as session:
            if not session.update_rows(models.AgentBuild, AGENT_BUILDS.c.id == agent_build_id,
                                       AGENT_BUILDS.c.deleted == 0, **values):
                raise exception.AgentBuildNotFound(id=agent_build_id)
