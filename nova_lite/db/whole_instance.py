"""One instance with all of its parts in one statement; lists come as JSON text, which every database can make."""

import functools
import json
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.store import RowSession

INSTANCES = models.Instance.__table__
_COLUMNS = tuple(column.name for column in INSTANCES.columns)
_ROWS = {"info_cache": models.InstanceInfoCache.__table__, "extra": models.InstanceExtra.__table__}
_PAIRS = {"metadata": models.InstanceMetadata.__table__, "system_metadata": models.InstanceSystemMetadata.__table__}

# {kind of database: (what makes an array of rows, what makes one of columns)}
_ARRAYS = {
    "sqlite": (sqlalchemy.func.json_group_array, sqlalchemy.func.json_array),
    "postgresql": (sqlalchemy.func.json_agg, sqlalchemy.func.json_build_array),
    "mysql": (sqlalchemy.func.json_arrayagg, sqlalchemy.func.json_array),
}


def read(session: RowSession, uuid: str) -> dict[str, Any] | None:
    """Return an instance, joined with every part but the fault, deleted or not; None without it."""
    found = session.one(_statement(session.get_bind().dialect.name), {"wanted": uuid})
    if found is None:
        return None
    row = {name: found[name] for name in _COLUMNS}
    for name, table in _ROWS.items():
        part = {column.name: found[f"{name}.{column.name}"] for column in table.columns}
        row[name] = part if part["id"] is not None else None
    for name in _PAIRS:
        row[name] = {key: value for _, key, value, deleted in _sorted(found[name]) if not deleted or row["deleted"]}
    row["security_groups"] = [{"id": group_id, "name": name} for _, group_id, name in _sorted(found["security_groups"])]
    return row


def _sorted(text: str | None) -> list[list[Any]]:
    return sorted(json.loads(text or "[]"), key=lambda values: values[0])


@functools.cache
def _statement(kind: str) -> sqlalchemy.Select:
    array_of_rows, array = _ARRAYS[kind]

    def as_json(columns: list[Any], source: Any, *criteria: Any) -> Any:
        whole = sqlalchemy.cast(array_of_rows(array(*columns)), sqlalchemy.Text)
        return sqlalchemy.select(whole).select_from(source).where(*criteria).scalar_subquery()

    lists = [as_json([table.c.id, table.c.key, table.c.value, table.c.deleted], table,
                     table.c.instance_uuid == INSTANCES.c.uuid).label(name) for name, table in _PAIRS.items()]
    groups, links = models.SecurityGroup.__table__, models.SecurityGroupInstanceAssociation.__table__
    lists.append(as_json([links.c.id, groups.c.id, groups.c.name],
                         links.join(groups, groups.c.id == links.c.security_group_id),
                         links.c.instance_uuid == INSTANCES.c.uuid, links.c.deleted == 0, groups.c.deleted == 0,
                         ).label("security_groups"))
    joined: Any = INSTANCES
    for table in _ROWS.values():
        joined = joined.outerjoin(table, table.c.instance_uuid == INSTANCES.c.uuid)
    columns = [column.label(f"{name}.{column.name}") for name, table in _ROWS.items() for column in table.columns]
    return sqlalchemy.select(INSTANCES, *columns, *lists).select_from(joined).where(
        INSTANCES.c.uuid == sqlalchemy.bindparam("wanted"))
