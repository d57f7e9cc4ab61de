"""What users have asked the top to have deleted in other cells."""

from collections.abc import Collection
from typing import Any

from nova_lite import exception
from nova_lite.objects import task_states

_PATIENCE_S = 60


class Deletions:
    """Orders to delete, kept as tombstones at the top until their instances are gone or their cells have refused.

    The state `deleting`, which the top shows at once, is no memory of an order: an update that was on its way when
    the order was given takes it away.
    """

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services

    def ordered(self, ctxt, uuid: str) -> None:
        """Remember, at the top, that an instance is to be deleted; elsewhere the top does."""
        if not self._runner.state_manager.get_parent_cells():
            self._services.db.tombstone_create(ctxt, uuid)

    def refused(self, ctxt, uuid: str) -> None:
        """Tell the top that this cell cannot delete an instance of its own, so that it is not asked again."""
        if not self._runner.state_manager.get_parent_cells():
            self.forget(ctxt, uuid)
        elif self._runner.place.path_to_top() is not None:  # no other kind of cell remembers
            self._runner.outbox.enqueue(ctxt, uuid, "deletion_refused", {"instance_uuid": uuid})

    def forget(self, ctxt, uuid: str) -> None:
        """Forget that an instance, which lives on, was to be deleted."""
        try:
            self._services.db.instance_get_by_uuid(ctxt.elevated(read_deleted="no"), uuid, columns_to_join=())
        except exception.InstanceNotFound:
            return
        self._services.db.tombstone_delete(ctxt, uuid)

    def of(self, ctxt, uuids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return {uuid: tombstone} of those of some instances that users wanted deleted.

        Only what a cell told of the end of an instance gives a tombstone a revision. Such an end alone is no reason to
        delete what another cell has under the same uuid.
        """
        return {uuid: tombstone for uuid, tombstone in self._services.db.tombstones_get(ctxt, uuids).items()
                if tombstone["revision"] is None}

    def is_lost(self, row: dict[str, Any], order: dict[str, Any] | None, is_known_below: bool) -> bool:
        """Whether the order to delete an instance has not reached its cell, though it had the time.

        is_known_below: whether the cell's idea of the instance is the top's.
        """
        is_awaited = row["task_state"] == task_states.DELETING
        if is_awaited and is_known_below:
            return False  # under way
        given_at = order["deleted_at"] if order else (row["updated_at"] or row["created_at"]) if is_awaited else None
        now = self._services.clock.utcnow().replace(tzinfo=None)
        return given_at is not None and (now - given_at).total_seconds() > _PATIENCE_S
