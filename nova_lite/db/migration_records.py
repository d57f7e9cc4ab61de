"""Records of instances that move between hosts or are resized."""

import datetime
import uuid as uuid_module
from collections.abc import Mapping
from typing import Any

import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import visible

MIGRATIONS = models.Migration.__table__

# A resize holds resources until it is confirmed or reverted; the other kinds claim for themselves (seams §4.6).
FINISHED = ("confirmed", "reverted", "error", "failed", "accepted", "preparing", "running", "completed", "done",
            "cancelled")
_COLLECTIONS = (list, tuple, set, frozenset)


class MigrationRecords(Part):
    """Rows of migrations."""

    @operation
    def migration_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a record and return it; ``migration_type`` is 'resize' when the flavors differ, else 'migration'."""
        values = {"uuid": str(uuid_module.uuid4()), **values}
        if not values.get("migration_type"):
            same = values.get("old_instance_type_id") == values.get("new_instance_type_id")
            values["migration_type"] = "migration" if same else "resize"
        with self.store.writer(context) as session:
            return session.insert_row(models.Migration, values)

    @operation
    def migration_update(self, context: Any, migration_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change a record and return it. Raises MigrationNotFound."""
        with self.store.writer(context) as session:
            if not session.update_rows(models.Migration, MIGRATIONS.c.id == migration_id, **values):
                raise exception.MigrationNotFound(migration_id=migration_id)
            return self._all(context, MIGRATIONS.c.id == migration_id, read_deleted="yes")[0]

    @operation
    def migration_get(self, context: Any, migration_id: int) -> dict[str, Any]:
        """Return a record, deleted or not. Raises MigrationNotFound."""
        rows = self._all(context, MIGRATIONS.c.id == migration_id, read_deleted="yes")
        if not rows:
            raise exception.MigrationNotFound(migration_id=migration_id)
        return rows[0]

    @operation
    def migration_get_by_instance_and_status(self, context: Any, instance_uuid: str, status: str) -> dict[str, Any]:
        """Return the latest record of an instance in a status. Raises MigrationNotFoundByStatus."""
        rows = self._all(context, MIGRATIONS.c.instance_uuid == instance_uuid, MIGRATIONS.c.status == status,
                         read_deleted="yes")
        if not rows:
            raise exception.MigrationNotFoundByStatus(instance_id=instance_uuid, status=status)
        return rows[-1]

    @operation
    def migration_get_unconfirmed_by_dest_compute(self, context: Any, confirm_window: int,
                                                  dest_compute: str) -> list[dict[str, Any]]:
        """Return the records that were finished at a host ``confirm_window`` seconds ago or longer."""
        limit = self.store.now() - datetime.timedelta(seconds=confirm_window)
        return self._all(context, MIGRATIONS.c.updated_at <= limit, MIGRATIONS.c.status == "finished",
                         MIGRATIONS.c.dest_compute == dest_compute, read_deleted="yes")

    @operation
    def migration_get_in_progress_by_host_and_node(self, context: Any, host: str, node: str) -> list[dict[str, Any]]:
        """Return the records from or to a node that still hold resources, of instances that still exist."""
        columns = MIGRATIONS.c
        here = sqlalchemy.or_(
            sqlalchemy.and_(columns.source_compute == host, columns.source_node == node),
            sqlalchemy.and_(columns.dest_compute == host, columns.dest_node == node))
        instances = models.Instance.__table__
        exists = sqlalchemy.exists().where(instances.c.uuid == columns.instance_uuid, instances.c.deleted == 0)
        return self._all(context, here, columns.status.not_in(FINISHED), exists)

    @operation
    def migration_get_in_progress_by_instance(self, context: Any, instance_uuid: str,
                                              migration_type: str | None = None) -> list[dict[str, Any]]:
        """Return the records of an instance whose move is under way."""
        criteria = [MIGRATIONS.c.instance_uuid == instance_uuid,
                    MIGRATIONS.c.status.in_(("queued", "preparing", "running", "accepted", "pre-migrating",
                                             "migrating", "post-migrating", "finished"))]
        if migration_type is not None:
            criteria.append(MIGRATIONS.c.migration_type == migration_type)
        return self._all(context, *criteria)

    @operation
    def migration_get_all_by_filters(self, context: Any, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the records that match ``status, host, source_compute, dest_compute, source_node, instance_uuid,
        migration_type, hidden``; a list is alternatives, ``host`` is either end.
        """
        criteria = []
        for name, value in filters.items():
            if name == "host":
                criteria.append(sqlalchemy.or_(_is(MIGRATIONS.c.source_compute, value),
                                               _is(MIGRATIONS.c.dest_compute, value)))
            elif name in MIGRATIONS.c:
                criteria.append(_is(MIGRATIONS.c[name], value))
            else:
                raise exception.InvalidInput(reason=f"migrations cannot be filtered by {name!r}")
        return self._all(context, *criteria)

    def _all(self, context: Any, *criteria: Any, read_deleted: str | None = None) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(MIGRATIONS).where(
                *criteria, *visible(models.Migration, context, read_deleted)).order_by(MIGRATIONS.c.id))


def _is(column: Any, value: Any) -> Any:
    return column.in_(list(value)) if isinstance(value, _COLLECTIONS) else column == value
