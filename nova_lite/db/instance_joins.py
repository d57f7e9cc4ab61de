"""The parts of instances that are in tables of their own, read for many instances at once."""

from collections.abc import Collection
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.store import RowSession, chunks

ALL_JOINS = ("metadata", "system_metadata", "info_cache", "extra", "security_groups")


def join_parts(session: RowSession, rows: list[dict[str, Any]], names: Collection[str]) -> None:
    """Add the named parts to the rows of instances."""
    for name in names:
        join = _JOINS.get(name)
        if join is not None and rows:
            join(session, rows)


def _of(session: RowSession, model: Any, rows: list[dict[str, Any]], *criteria: Any, order: Any = None) -> Any:
    """Yield the rows of a table that belong to the instances."""
    table = model.__table__
    for uuids in chunks(row["uuid"] for row in rows):
        statement = sqlalchemy.select(table).where(table.c.instance_uuid.in_(uuids), *criteria)
        yield from session.all(statement.order_by(*order) if order is not None else statement)


def _join_metadata(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_pairs(session, rows, models.InstanceMetadata, "metadata")


def _join_system_metadata(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_pairs(session, rows, models.InstanceSystemMetadata, "system_metadata")


def _join_pairs(session: RowSession, rows: list[dict[str, Any]], model: Any, name: str) -> None:
    by_uuid: dict[str, dict] = {row["uuid"]: {} for row in rows}
    table = model.__table__
    deleted_too = {row["uuid"] for row in rows if row["deleted"]}
    for pair in _of(session, model, rows, order=(table.c.id,)):
        if not pair["deleted"] or pair["instance_uuid"] in deleted_too:
            by_uuid[pair["instance_uuid"]][pair["key"]] = pair["value"]
    for row in rows:
        row[name] = by_uuid[row["uuid"]]


def _join_info_cache(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_one(session, rows, models.InstanceInfoCache, "info_cache")


def _join_extra(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_one(session, rows, models.InstanceExtra, "extra")


def _join_one(session: RowSession, rows: list[dict[str, Any]], model: Any, name: str) -> None:
    by_uuid = {part["instance_uuid"]: part for part in _of(session, model, rows)}
    for row in rows:
        row[name] = by_uuid.get(row["uuid"])


def _join_security_groups(session: RowSession, rows: list[dict[str, Any]]) -> None:
    groups, links = models.SecurityGroup.__table__, models.SecurityGroupInstanceAssociation.__table__
    by_uuid: dict[str, list] = {row["uuid"]: [] for row in rows}
    for uuids in chunks(by_uuid):
        statement = sqlalchemy.select(links.c.instance_uuid, groups.c.id, groups.c.name).join(
            groups, groups.c.id == links.c.security_group_id).where(
            links.c.instance_uuid.in_(uuids), links.c.deleted == 0, groups.c.deleted == 0).order_by(links.c.id)
        for link in session.all(statement):
            by_uuid[link["instance_uuid"]].append({"id": link["id"], "name": link["name"]})
    for row in rows:
        row["security_groups"] = by_uuid[row["uuid"]]


def _join_fault(session: RowSession, rows: list[dict[str, Any]]) -> None:
    table = models.InstanceFault.__table__
    latest: dict[str, dict] = {}
    for fault in _of(session, models.InstanceFault, rows, table.c.deleted == 0,
                     order=(table.c.created_at, table.c.id)):
        latest[fault["instance_uuid"]] = fault
    for row in rows:
        row["fault"] = latest.get(row["uuid"])


_JOINS = {
    "metadata": _join_metadata,
    "system_metadata": _join_system_metadata,
    "info_cache": _join_info_cache,
    "extra": _join_extra,
    "security_groups": _join_security_groups,
    "fault": _join_fault,
}
