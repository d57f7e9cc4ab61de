"""Upward updates that wait to be sent, and the memory of deleted instances.

A row's ``payload`` is JSON text of the keyword arguments of its ``method``, objects in wire form; ``revision`` is the
instance's at that change. Rows of one instance have ids in the order of its changes.
"""

import datetime
import json
import os
import threading
from collections.abc import Collection
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, chunks
from nova_lite.objects import wire

OUTBOX = models.Outbox.__table__
TOMBSTONES = models.Tombstone.__table__
_PENDING = sqlalchemy.select(OUTBOX).where(
    OUTBOX.c.id > sqlalchemy.bindparam("after_id"),
    sqlalchemy.or_(OUTBOX.c.not_before.is_(None), OUTBOX.c.not_before <= sqlalchemy.bindparam("now")),
).order_by(OUTBOX.c.id).limit(sqlalchemy.bindparam("most"))
_WAITING = sqlalchemy.select(OUTBOX.c.instance_uuid).distinct()
_TOMBSTONES_OF = sqlalchemy.select(TOMBSTONES).where(
    TOMBSTONES.c.uuid.in_(sqlalchemy.bindparam("wanted", expanding=True)))
_TOMBSTONE_OF = sqlalchemy.select(TOMBSTONES).where(TOMBSTONES.c.uuid == sqlalchemy.bindparam("wanted"))


class Replication(Part):
    """The outbox, tombstones, and whether anybody is above this cell."""

    def __init__(self, db: Any):
        super().__init__(db)
        self._guard = threading.Lock()
        self._has_parents = False
        self._asked_at_s: float | None = None

    # -- parents --

    @operation
    def has_parents(self, context: Any) -> bool:
        """Return whether this cell has a parent; the answer is believed for ``parents_cache_time`` seconds."""
        if not self.conf.cells.enable:
            return False
        now_s = self.store.clock.monotonic()
        with self._guard:
            if self._asked_at_s is not None and now_s - self._asked_at_s < self.conf.database.parents_cache_time:
                return self._has_parents
        found = self._file_has_parents() if self.conf.cells.cells_config else self._table_has_parents()
        with self._guard:
            self._has_parents, self._asked_at_s = found, now_s
        return found

    def forget_parents(self) -> None:
        """Look again at the next question; the table has changed."""
        with self._guard:
            self._asked_at_s = None

    def _table_has_parents(self) -> bool:
        cells = models.Cell.__table__
        with self.store.reader() as session:
            return session.one(sqlalchemy.select(cells.c.id).where(
                cells.c.deleted == 0, cells.c.is_parent.is_(True)).limit(1)) is not None

    def _file_has_parents(self) -> bool:
        path = self.conf.find_file(self.conf.cells.cells_config) or self.conf.cells.cells_config
        if not os.path.exists(path):
            return False
        with open(path, encoding="utf-8") as file:
            return any(cell.get("is_parent") for cell in json.load(file).values())

    # -- outbox --

    def write(self, session: RowSession, kind: str, method: str, kwargs: dict[str, Any], instance_uuid: str | None,
              revision: int | None) -> None:
        """Add a row inside the transaction that changes what it tells."""
        self._add(session, instance_uuid, kind, method, json.dumps(wire.to_wire(kwargs)), revision)

    def _add(self, session: RowSession, instance_uuid: str | None, kind: str, method: str, payload: str,
             revision: int | None) -> None:
        session.insert_row(models.Outbox, {"instance_uuid": instance_uuid, "kind": kind, "method": method,
                                           "payload": payload, "revision": revision, "attempts": 0})

    @operation
    def outbox_add(self, context: Any, instance_uuid: str | None, kind: str, method: str, payload: str,
                   revision: int | None = None) -> None:
        """Add one upward update after all that wait; ``payload`` as in the module's docstring."""
        with self.store.writer(context) as session:
            self._add(session, instance_uuid, kind, method, payload, revision)

    @operation
    def outbox_pending(self, context: Any, limit: int = 100, after_id: int = 0) -> list[dict[str, Any]]:
        """Return waiting updates in their order, those that were put off left out."""
        with self.store.reader(context) as session:
            return session.all(_PENDING, {"after_id": after_id, "now": session.now, "most": limit})

    @operation
    def outbox_instances(self, context: Any) -> set[str]:
        """Return the uuids of the instances of which updates wait."""
        with self.store.reader(context) as session:
            return {row["instance_uuid"] for row in session.all(_WAITING) if row["instance_uuid"]}

    @operation
    def outbox_put_off(self, context: Any, ids: list[int], not_before: datetime.datetime) -> None:
        """Count an attempt to send these updates and leave them until a time."""
        with self.store.writer(context) as session:
            for some in chunks(sorted(ids)):
                session.update_rows(models.Outbox, OUTBOX.c.id.in_(some), attempts=OUTBOX.c.attempts + 1,
                                    not_before=not_before)

    @operation
    def outbox_delete(self, context: Any, ids: list[int]) -> int:
        """Remove updates that have been acknowledged; returns how many were there."""
        count = 0
        with self.store.writer(context) as session:
            for some in chunks(sorted(ids)):
                count += session.execute(sqlalchemy.delete(OUTBOX).where(OUTBOX.c.id.in_(some))).rowcount
        return count

    @operation
    def outbox_count(self, context: Any) -> int:
        """Return how many updates wait."""
        with self.store.reader(context) as session:
            return session.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(OUTBOX))

    # -- tombstones --

    def bury(self, session: RowSession, instance_uuid: str, revision: int | None) -> None:
        """Remember, inside a transaction, that an instance was deleted."""
        if session.one(_TOMBSTONE_OF, {"wanted": instance_uuid}) is None:
            session.insert_row(models.Tombstone, {"uuid": instance_uuid, "deleted_at": session.now,
                                                  "revision": revision})

    @operation
    def tombstone_create(self, context: Any, instance_uuid: str, revision: int | None = None) -> None:
        """Remember that an instance was deleted, so that a late message does not build it."""
        with self.store.writer(context) as session:
            self.bury(session, instance_uuid, revision)

    @operation
    def tombstone_get(self, context: Any, instance_uuid: str) -> dict[str, Any] | None:
        """Return {uuid, deleted_at, revision} of an instance that was deleted, None if it was not."""
        with self.store.reader(context) as session:
            return session.one(_TOMBSTONE_OF, {"wanted": instance_uuid})

    @operation
    def tombstones_get(self, context: Any, instance_uuids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return {uuid: as tombstone_get} of those of some instances that were deleted."""
        found: dict[str, dict[str, Any]] = {}
        with self.store.reader(context) as session:
            for some in chunks(instance_uuids):
                found.update((row["uuid"], row) for row in session.all(_TOMBSTONES_OF, {"wanted": some}))
        return found

    @operation
    def tombstone_delete(self, context: Any, instance_uuid: str) -> int:
        """Forget that an instance was deleted."""
        with self.store.writer(context) as session:
            return session.execute(sqlalchemy.delete(TOMBSTONES).where(TOMBSTONES.c.uuid == instance_uuid)).rowcount

    @operation
    def tombstone_purge(self, context: Any, older_than_s: int | None = None) -> int:
        """Forget deletions older than ``older_than_s`` (default ``[cells] tombstone_ttl``); returns how many."""
        age_s = self.conf.cells.tombstone_ttl if older_than_s is None else older_than_s
        with self.store.writer(context) as session:
            limit = session.now - datetime.timedelta(seconds=age_s)
            return session.execute(sqlalchemy.delete(TOMBSTONES).where(TOMBSTONES.c.deleted_at < limit)).rowcount


