"""Saving an instance that nobody has changed since it was read: one statement, since its row is known."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy

from nova_lite.db import models
from nova_lite.db.instances import INSTANCES, REPLICATED, clean_columns
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import naive, own_project, visible
from nova_lite.objects import task_states

# A change of the host name may have to be unique, and where an instance is in deletion is instance_destroy's.
_READ_FIRST = frozenset(("id", "uuid", "hostname", "deleted", "deleted_at", "revision", "created_at"))
_PLAIN = frozenset(INSTANCES.c.keys()) - _READ_FIRST


class InstanceSaves(Part):
    """Changes of rows whose revision is the one that the caller has read."""

    @operation
    def instance_save(self, context: Any, uuid: str, revision: int, values: Mapping[str, Any],
                      expected_task_state: Iterable[str | None] | None = None,
                      expected_vm_state: Iterable[str | None] | None = None,
                      replicate: bool = True) -> dict[str, Any] | None:
        """Change columns of an instance that is at a revision and in the expected states (None: any); return them
        with ``revision`` and ``updated_at``.

        Returns None, with nothing changed, when the row is not as it is expected to be, or when more than plain
        columns is to be written: instance_update does it then, or says why not.
        """
        if not values or not _PLAIN.issuperset(values):
            return None
        columns = {**clean_columns(dict(values)), "revision": revision + 1}
        with self.store.writer(context) as session:
            columns.setdefault("updated_at", session.now)
            statement = _update(context.read_deleted, _as_set(expected_task_state), _as_set(expected_vm_state))
            if own := own_project(models.Instance, context):
                statement = statement.where(*own)
            written = {name: naive(value) for name, value in columns.items()}
            if not session.execute(statement, {**written, "uuid_read": uuid, "revision_read": revision}).rowcount:
                return None
            told = REPLICATED.intersection(columns)
            if replicate and told and self.db.has_parents(context):
                self.db.part_of("instance_update").tell(session, {"uuid": uuid, "deleted": 0, **columns}, told)
        return columns


def _as_set(states: Iterable[str | None] | None) -> frozenset[str | None] | None:
    return None if states is None else frozenset(states)


# There are as many as sets of states that actions expect. Putting one together takes longer than running it.
@functools.lru_cache(maxsize=256)
def _update(read_deleted: str, expected_task_states: frozenset[str | None] | None,
            expected_vm_states: frozenset[str | None] | None) -> sqlalchemy.Update:
    """Return the statement; what it sets, ``uuid_read`` and ``revision_read`` are its parameters."""
    return sqlalchemy.update(INSTANCES).where(
        INSTANCES.c.uuid == sqlalchemy.bindparam("uuid_read"),
        INSTANCES.c.revision == sqlalchemy.bindparam("revision_read"),
        *visible(models.Instance, None, read_deleted),
        *_is_one_of(INSTANCES.c.task_state, expected_task_states),
        *_is_one_of(INSTANCES.c.vm_state, expected_vm_states))


def _is_one_of(column: Any, states: frozenset[str | None] | None) -> tuple[Any, ...]:
    if states is None:
        return ()
    allowed = set(states)
    if task_states.IMAGE_SNAPSHOT in allowed:
        allowed.add(task_states.IMAGE_SNAPSHOT_PENDING)
    named = sorted(state for state in allowed if state is not None)
    criteria = ([column.in_(named)] if named else []) + ([column.is_(None)] if None in allowed else [])
    return (sqlalchemy.or_(*criteria),)
