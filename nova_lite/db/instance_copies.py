"""Many copies of other cells' instances, brought up to date in one transaction."""

import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy

from nova_lite.db.instances import INSTANCES, clean_columns
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import chunks

_ROW = "id_of_row"
_NEW = "new_"


@functools.cache
def _update_of(names: tuple[str, ...]) -> sqlalchemy.Update:
    """Return the statement that sets some columns of a row: made once, and so prepared once."""
    return sqlalchemy.update(INSTANCES).where(INSTANCES.c.id == sqlalchemy.bindparam(_ROW)).values(
        {name: sqlalchemy.bindparam(_NEW + name) for name in names})


class InstanceCopies(Part):
    """What the top does with instances by the hundred."""

    @operation
    def instance_lock_all(self, context: Any, uuids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Lock those of some instances that have rows, deleted or not, until the end of the transaction this is in.

        Returns {uuid: row with nothing joined}. Everybody locks in one order, so that nobody waits in a circle.
        """
        found: dict[str, dict[str, Any]] = {}
        with self.store.writer(context) as session:
            for some in chunks(sorted(uuids)):
                rows = session.all(sqlalchemy.select(INSTANCES).where(
                    INSTANCES.c.uuid.in_(some)).order_by(INSTANCES.c.uuid).with_for_update())
                found.update((row["uuid"], row) for row in rows)
        return found

    @operation
    def instance_update_columns(self, context: Any,
                                changes: Iterable[tuple[dict[str, Any], Mapping[str, Any]]]) -> None:
        """Write columns of rows that were locked in this transaction, telling no other cell of it.

        changes: (row, {column: value}), columns of `instances` that need no check. Each counts as one change.
        """
        with self.store.writer(context) as session:
            alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
            for row, values in changes:
                columns = {**clean_columns(dict(values)), "revision": row["revision"] + 1, "updated_at": session.now}
                names = tuple(sorted(columns))
                alike.setdefault(names, []).append(
                    {_ROW: row["id"], **{_NEW + name: columns[name] for name in names}})
            for names, rows in alike.items():
                session.execute(_update_of(names), rows)
