"""Finding instances."""

import datetime
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy
from oslo_utils import timeutils

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.store import RowSession, naive, visible
from nova_lite.objects import vm_states

INSTANCES = models.Instance.__table__

EXACT = frozenset(("project_id", "user_id", "image_ref", "vm_state", "instance_type_id", "uuid", "host", "node",
                   "task_state", "cell_name", "reservation_id", "key_name", "availability_zone", "power_state",
                   "locked", "launch_index", "cleaned"))
_PAIRS = {"metadata": models.InstanceMetadata, "system_metadata": models.InstanceSystemMetadata}
_COLLECTIONS = (list, tuple, set, frozenset)
_IGNORED = frozenset(("tenant_id", "all_tenants"))
# Without NULL in fact, so that an index gives their order on every database.
_NEVER_EMPTY = frozenset(("id", "uuid", "created_at", "deleted"))


def query(session: RowSession, context: Any, filters: Mapping[str, Any], sort_key: str, sort_dir: str,
          limit: int | None, marker: str | None) -> list[dict[str, Any]]:
    """Return the rows; see Instances.instance_get_all_by_filters."""
    filters = dict(filters)
    in_steps = marker is not None and filters.get("deleted") is False and session.get_bind().dialect.name == "mysql"
    criteria = [*_deleted(filters, in_steps), *_changes_since(filters)]
    if not context.is_admin and context.project_id:
        criteria.append(INSTANCES.c.project_id == context.project_id)
    patterns = {}
    for name, value in filters.items():
        if name in _PAIRS:
            criteria += _pairs(name, value)
        elif name in _IGNORED:
            continue
        elif name not in INSTANCES.c and name != "name":
            raise exception.InvalidInput(reason=f"instances cannot be filtered by {name!r}")
        elif name in EXACT or not isinstance(value, str):
            criteria.append(_exact(name, value))
        else:
            patterns[name] = _compiled(name, value)
    order, start = _order(session, sort_key, sort_dir, marker, ("deleted",) if in_steps else ())
    statement = sqlalchemy.select(INSTANCES).where(*criteria, *start).order_by(*order)
    if not patterns:
        return session.all(statement.limit(limit) if limit is not None else statement)
    # Regular expressions differ from database to database, so Python's decide, on what the rest has left.
    rows = [row for row in session.all(statement)
            if all(pattern.search(str(row.get(name) or "")) for name, pattern in patterns.items())]
    return rows[:limit] if limit is not None else rows


def _deleted(filters: dict[str, Any], as_range: bool) -> list[Any]:
    """Deleted rows are left in unless the filter says otherwise; True also finds soft-deleted instances.

    MariaDB goes from the first of the live rows to the marker, unless that they live is a range: then it goes through
    the index from the marker on, in the order of all of its columns.
    """
    if "deleted" not in filters:
        return []
    is_soft_deleted = INSTANCES.c.vm_state == vm_states.SOFT_DELETED
    if filters.pop("deleted"):
        return [sqlalchemy.or_(INSTANCES.c.deleted != 0, is_soft_deleted)]
    criteria = [INSTANCES.c.deleted <= 0, INSTANCES.c.deleted >= 0] if as_range else [*visible(models.Instance, None)]
    if not filters.pop("soft_deleted", False):
        criteria.append(sqlalchemy.or_(INSTANCES.c.vm_state.is_(None), ~is_soft_deleted))
    return criteria


def _changes_since(filters: dict[str, Any]) -> list[Any]:
    since = filters.pop("changes-since", filters.pop("changes_since", None))
    if since is None:
        return []
    since = naive(since if isinstance(since, datetime.datetime) else _time_of(since))
    # Two index ranges of their own: no database finds them in an OR that is sorted by something else.
    changed = sqlalchemy.union_all(
        sqlalchemy.select(INSTANCES.c.id).where(INSTANCES.c.updated_at >= since),
        sqlalchemy.select(INSTANCES.c.id).where(INSTANCES.c.updated_at.is_(None), INSTANCES.c.created_at >= since),
    ).subquery("changed")
    return [INSTANCES.c.id.in_(sqlalchemy.select(changed.c.id))]


def _time_of(text: Any) -> datetime.datetime:
    try:
        return timeutils.parse_isotime(text) if "T" in text else timeutils.parse_strtime(text, "%Y-%m-%d %H:%M:%S")
    except (ValueError, TypeError):
        raise exception.InvalidInput(reason=f"changes-since: {text!r} is no time") from None


def _exact(name: str, value: Any) -> Any:
    if name not in INSTANCES.c:
        raise exception.InvalidInput(reason=f"instances cannot be filtered by {name!r}")
    column = INSTANCES.c[name]
    if not isinstance(value, _COLLECTIONS):
        return column.is_(None) if value is None else column == value
    known = [item for item in value if item is not None]
    criterion = column.in_(known)
    return sqlalchemy.or_(criterion, column.is_(None)) if len(known) < len(value) else criterion


def _pairs(name: str, wanted: Any) -> list[Any]:
    """Return criteria for {key: value}, or for a list of such dicts, all of which have to be there."""
    table = _PAIRS[name].__table__
    criteria = []
    for pairs in wanted if isinstance(wanted, _COLLECTIONS) else [wanted]:
        for key, value in pairs.items():
            criteria.append(sqlalchemy.exists().where(
                table.c.instance_uuid == INSTANCES.c.uuid, table.c.deleted == 0, table.c.key == key,
                table.c.value == value))
    return criteria


def _compiled(name: str, pattern: str) -> re.Pattern:
    if name not in INSTANCES.c:
        raise exception.InvalidInput(reason=f"instances cannot be filtered by {name!r}")
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise exception.InvalidInput(reason=f"{pattern!r} is no regular expression: {exc}") from exc


def _order(session: RowSession, sort_key: str, sort_dir: str, marker: str | None,
           alike: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """Return (what to order by, criteria for what comes after the marker); all rows are alike in some columns."""
    if sort_key not in INSTANCES.c:
        raise exception.InvalidInput(reason=f"instances cannot be sorted by {sort_key!r}")
    names = list(dict.fromkeys((sort_key, "created_at", "id")))
    falling = sort_dir == "desc"
    order = [key.desc() if falling else key.asc() for name in dict.fromkeys((*alike, *names)) for key in _keys(name)]
    if marker is None:
        return order, []
    row = session.one(sqlalchemy.select(INSTANCES).where(INSTANCES.c.uuid == marker))
    if row is None:
        raise exception.MarkerNotFound(marker=marker)
    return order, [_after(session, names, row, falling)]


def _keys(name: str) -> tuple[Any, ...]:
    """Return what to sort by for a column: NULL comes first going up, on every database."""
    column = INSTANCES.c[name]
    return (column,) if name in _NEVER_EMPTY else (column.is_not(None), column)


def _after(session: RowSession, names: list[str], row: dict[str, Any], falling: bool) -> Any:
    """Return the criterion that leaves what is sorted behind a row."""
    if _NEVER_EMPTY.issuperset(names) and session.get_bind().dialect.name != "mysql":
        # One index range; MariaDB finds it in the alternatives below, and not here.
        here = sqlalchemy.tuple_(*(INSTANCES.c[name] for name in names))
        there = sqlalchemy.tuple_(*(sqlalchemy.literal(row[name], INSTANCES.c[name].type) for name in names))
        return here < there if falling else here > there
    alternatives = []
    equal: list[Any] = []
    for name in names:
        column, value = INSTANCES.c[name], row[name]
        behind = _behind(column, value, falling)
        if behind is not None:
            alternatives.append(sqlalchemy.and_(*equal, behind))
        equal.append(column.is_(None) if value is None else column == value)
    behind_all = sqlalchemy.or_(*alternatives)
    if names[0] not in _NEVER_EMPTY:
        return behind_all
    # Follows from the alternatives, but only so is it one range of an index.
    column, value = INSTANCES.c[names[0]], row[names[0]]
    return sqlalchemy.and_(column <= value if falling else column >= value, behind_all)


def _behind(column: Any, value: Any, falling: bool) -> Any:
    if value is None:
        return None if falling else column.is_not(None)
    if falling:
        return sqlalchemy.or_(column < value, column.is_(None))
    return column > value
