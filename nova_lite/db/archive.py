"""Putting soft-deleted rows away into shadow tables, and removing them for good."""

import datetime
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.models import archive as shadows
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, naive

INSTANCES = models.Instance.__table__

# Rows moved by one transaction, which other writers of a SQLite file have to wait for.
_BATCH = 500


class Archive(Part):
    """What deletion left behind."""

    @operation
    def archive_deleted_rows(self, context: Any, max_rows: int = 1000, before: datetime.datetime | None = None,
                             keep: bool = True) -> dict[str, int]:
        """Move rows that were soft-deleted (before a time) to their shadow tables; returns {table: rows}.

        At most ``max_rows`` instances, with everything that belongs to them, and as many rows of each other table,
        and at most 500 of each at a time: nothing is left when nothing is returned. Rows that something live still
        points to stay. ``keep=False`` removes them for good instead.
        """
        moved: dict[str, int] = {}
        limit = min(max_rows, _BATCH)
        with self.store.writer(context) as session:
            before = naive(before) or session.now
            mover = _Mover(session, keep, moved)
            self._put_instances_away(session, mover, before, limit)
            for model in shadows.OTHERS:
                table = model.__table__
                mover.move(table, table.c.id.in_(_ids(session, table, limit, _dead(table, before))))
        return {name: count for name, count in moved.items() if count}

    def _put_instances_away(self, session: RowSession, mover: "_Mover", before: datetime.datetime,
                            limit: int) -> None:
        uuids = [row["uuid"] for row in session.all(sqlalchemy.select(INSTANCES.c.uuid).where(
            _dead(INSTANCES, before)).order_by(INSTANCES.c.id).limit(limit))]
        if uuids:
            _put_away(session, mover, uuids)

    @operation
    def instance_erase(self, context: Any, uuid: str) -> None:
        """Remove an instance and all that belongs to it for good, as if it had never been here."""
        with self.store.writer(context) as session:
            _put_away(session, _Mover(session, keep=False, moved={}), [uuid])

    @operation
    def purge_archived_rows(self, context: Any, before: datetime.datetime | None = None) -> dict[str, int]:
        """Remove archived rows for good: all, or those that were deleted (or last changed) before a time.

        Returns {shadow table: rows}.
        """
        removed = {}
        with self.store.writer(context) as session:
            for table in shadows.SHADOWS.values():
                last = sqlalchemy.func.coalesce(table.c.deleted_at, table.c.updated_at, table.c.created_at)
                criteria = () if before is None else (last < naive(before),)
                removed[table.name] = session.execute(sqlalchemy.delete(table).where(*criteria)).rowcount
        return {name: count for name, count in removed.items() if count}


class _Mover:
    """Takes rows out of their tables, copied to the shadow tables first when they are kept; counts in `moved`."""

    def __init__(self, session: RowSession, keep: bool, moved: dict[str, int]):
        self._session = session
        self._keep = keep
        self._moved = moved

    def move(self, table: Any, criterion: Any) -> None:
        if self._keep:
            shadow = shadows.SHADOWS[table.name]
            names = [column.name for column in table.columns]
            self._session.execute(sqlalchemy.insert(shadow).from_select(
                names, sqlalchemy.select(table).where(criterion), include_defaults=False))
        count = self._session.execute(sqlalchemy.delete(table).where(criterion)).rowcount
        self._moved[table.name] = self._moved.get(table.name, 0) + count


def _put_away(session: RowSession, mover: _Mover, uuids: list[str]) -> None:
    """Take instances away with everything that belongs to them."""
    events, actions = (model.__table__ for model in shadows.ACTIONS)
    action_ids = [row["id"] for row in session.all(sqlalchemy.select(actions.c.id).where(
        actions.c.instance_uuid.in_(uuids)))]
    mover.move(events, events.c.action_id.in_(action_ids))
    mover.move(actions, actions.c.id.in_(action_ids))
    for model in shadows.OF_INSTANCES:
        mover.move(model.__table__, model.__table__.c.instance_uuid.in_(uuids))
    mover.move(INSTANCES, INSTANCES.c.uuid.in_(uuids))


def _dead(table: Any, before: datetime.datetime) -> Any:
    return sqlalchemy.and_(table.c.deleted != 0, table.c.deleted_at <= before)


def _ids(session: RowSession, table: Any, limit: int, criterion: Any) -> list[int]:
    return [row["id"] for row in session.all(sqlalchemy.select(table.c.id).where(criterion).order_by(
        table.c.id).limit(limit))]
