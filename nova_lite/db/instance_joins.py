"""The parts of instances that are in tables of their own, read for many instances at once."""

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.store import RowSession, chunks

ALL_JOINS = ("metadata", "system_metadata", "info_cache", "extra", "security_groups")
_ROW_MODELS = {"info_cache": models.InstanceInfoCache, "extra": models.InstanceExtra}
_ROWS = frozenset(_ROW_MODELS)
_LISTS = frozenset(("metadata", "system_metadata", "security_groups"))


def join_parts(session: RowSession, rows: list[dict[str, Any]], names: Collection[str]) -> None:
    """Add the named parts to the rows of instances, in as few statements as there can be."""
    if not rows:
        return
    left = set(names)
    for together, join in ((_ROWS, _join_rows), (_LISTS, _join_lists)):
        if left.issuperset(together):
            join(session, rows)
            left -= together
    for name in ALL_JOINS + ("fault",):
        if name in left:
            _JOINS[name](session, rows)


@functools.cache
def _together(kind: str) -> tuple[Any, Any]:
    """Return the statement for several parts of one instance, and of many: made once, and so prepared once."""
    one: Any = sqlalchemy.bindparam("uuid")
    many: Any = sqlalchemy.bindparam("uuids", expanding=True)
    made = {"rows": _select_rows, "lists": _select_lists}[kind]
    return made(lambda column: column == one), made(lambda column: column.in_(many))


def _asked(session: RowSession, rows: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    of_one, of_many = _together(kind)
    if len(rows) == 1:
        yield from session.all(of_one, {"uuid": rows[0]["uuid"]})
        return
    for uuids in chunks(row["uuid"] for row in rows):
        yield from session.all(of_many, {"uuids": uuids})


def _select_rows(criterion: Callable[[Any], Any]) -> Any:
    """Info cache and extra of instances, beside each other; columns are named after their table."""
    instances = models.Instance.__table__
    tables = {name: model.__table__ for name, model in _ROW_MODELS.items()}
    columns = [column.label(f"{name}.{column.name}") for name, table in tables.items() for column in table.columns]
    joined: Any = instances
    for table in tables.values():
        joined = joined.outerjoin(table, table.c.instance_uuid == instances.c.uuid)
    return sqlalchemy.select(instances.c.uuid.label("uuid"), *columns).select_from(joined).where(
        criterion(instances.c.uuid))


def _join_rows(session: RowSession, rows: list[dict[str, Any]]) -> None:
    found = {row["uuid"]: row for row in _asked(session, rows, "rows")}
    for row in rows:
        whole = found.get(row["uuid"], {})
        for name, model in _ROW_MODELS.items():
            part = {column.name: whole.get(f"{name}.{column.name}") for column in model.__table__.columns}
            row[name] = part if part["id"] is not None else None


def _select_lists(criterion: Callable[[Any], Any]) -> Any:
    """Metadata, system metadata and security groups, one under the other: kind, uuid, key, value, deleted, id."""
    groups, links = models.SecurityGroup.__table__, models.SecurityGroupInstanceAssociation.__table__
    text = sqlalchemy.String(255)

    def pairs(kind: str, model: Any) -> Any:
        table = model.__table__
        return sqlalchemy.select(
            sqlalchemy.literal(kind, text).label("kind"), table.c.instance_uuid.label("uuid"), table.c.key.label("key"),
            table.c.value.label("value"), table.c.deleted.label("deleted"), table.c.id.label("id"),
        ).where(criterion(table.c.instance_uuid))

    memberships = sqlalchemy.select(
        sqlalchemy.literal("security_groups", text), links.c.instance_uuid, sqlalchemy.cast(groups.c.id, text),
        groups.c.name, links.c.deleted, links.c.id,
    ).join_from(links, groups, groups.c.id == links.c.security_group_id).where(
        criterion(links.c.instance_uuid), links.c.deleted == 0, groups.c.deleted == 0)
    whole = sqlalchemy.union_all(pairs("metadata", models.InstanceMetadata),
                                 pairs("system_metadata", models.InstanceSystemMetadata), memberships)
    return whole.order_by("id")


def _join_lists(session: RowSession, rows: list[dict[str, Any]]) -> None:
    by_uuid = {row["uuid"]: row for row in rows}
    for row in rows:
        row.update(metadata={}, system_metadata={}, security_groups=[])
    for part in _asked(session, rows, "lists"):
        row = by_uuid[part["uuid"]]
        if part["kind"] == "security_groups":
            row["security_groups"].append({"id": int(part["key"]), "name": part["value"]})
        elif not part["deleted"] or row["deleted"]:
            row[part["kind"]][part["key"]] = part["value"]


@functools.cache
def _parts(model: Any, *order: str) -> tuple[Any, Any]:
    """Return the statements for the parts of one instance, and of many: made once, and so prepared once."""
    table = model.__table__
    ordered = sqlalchemy.select(table).order_by(*(table.c[name] for name in order))
    return (ordered.where(table.c.instance_uuid == sqlalchemy.bindparam("uuid")),
            ordered.where(table.c.instance_uuid.in_(sqlalchemy.bindparam("uuids", expanding=True))))


def _of(session: RowSession, model: Any, rows: list[dict[str, Any]], *order: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table that belong to the instances."""
    of_one, of_many = _parts(model, *order)
    if len(rows) == 1:
        yield from session.all(of_one, {"uuid": rows[0]["uuid"]})
        return
    for uuids in chunks(row["uuid"] for row in rows):
        yield from session.all(of_many, {"uuids": uuids})


def _join_metadata(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_pairs(session, rows, models.InstanceMetadata, "metadata")


def _join_system_metadata(session: RowSession, rows: list[dict[str, Any]]) -> None:
    _join_pairs(session, rows, models.InstanceSystemMetadata, "system_metadata")


def _join_pairs(session: RowSession, rows: list[dict[str, Any]], model: Any, name: str) -> None:
    by_uuid: dict[str, dict] = {row["uuid"]: {} for row in rows}
    deleted_too = {row["uuid"] for row in rows if row["deleted"]}
    for pair in _of(session, model, rows, "id"):
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


@functools.cache
def _memberships() -> Any:
    groups, links = models.SecurityGroup.__table__, models.SecurityGroupInstanceAssociation.__table__
    return sqlalchemy.select(links.c.instance_uuid, groups.c.id, groups.c.name).join(
        groups, groups.c.id == links.c.security_group_id).where(
        links.c.instance_uuid.in_(sqlalchemy.bindparam("uuids", expanding=True)), links.c.deleted == 0,
        groups.c.deleted == 0).order_by(links.c.id)


def _join_security_groups(session: RowSession, rows: list[dict[str, Any]]) -> None:
    by_uuid: dict[str, list] = {row["uuid"]: [] for row in rows}
    for uuids in chunks(by_uuid):
        for link in session.all(_memberships(), {"uuids": uuids}):
            by_uuid[link["instance_uuid"]].append({"id": link["id"], "name": link["name"]})
    for row in rows:
        row["security_groups"] = by_uuid[row["uuid"]]


def _join_fault(session: RowSession, rows: list[dict[str, Any]]) -> None:
    latest: dict[str, dict] = {}
    for fault in _of(session, models.InstanceFault, rows, "created_at", "id"):
        if not fault["deleted"]:
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
