"""Upward updates in batches with acknowledgement, and the comparison that finds what was lost."""

from collections.abc import Iterator
from typing import Any

from oslo_db.exception import DBDataError, DBError
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_lite import exception, objects
from nova_lite.cells import healing, replica, utils
from nova_lite.cells.operations import BROADCAST, Route, operation, registry
from nova_lite.cells.work.at_top import owner_of

LOG = logging.getLogger(__name__)

_READ_AT_ONCE = 100
_UPDATE = "instance_update_at_top"
_IN_A_TRANSACTION = 100  # updates; whoever else wants to write waits as long
# What comes of an entry that can never be applied.
_UNUSABLE = (exception.NovaException, AttributeError, KeyError, TypeError, ValueError, DBDataError)


@operation(Route.NEIGHBOUR, replies=True, own=True)
def outbox_batch(cell, message, entries):
    """Apply upward updates in their order; return the id of the last one that is done with.

    entries: [{'id', 'method', 'kwargs'}]. One that can never be applied is logged and passed over; a database that
    does not answer ends the batch, and what is not done is sent again.
    """
    for together in _applied_together(entries):
        if not _update_together(cell, message, together):
            for entry in together:
                _apply(cell, message, entry)
    return entries[-1]["id"] if entries else None


def _applied_together(entries) -> Iterator[list[dict]]:
    """Yield the entries in lists: updates of different instances that follow each other, and all others alone."""
    together: dict[str, dict] = {}
    for entry in entries:
        uuid = _updated_instance(entry)
        if uuid is None or uuid in together or len(together) == _IN_A_TRANSACTION:
            yield list(together.values())
            together = {}
        if uuid is None:
            yield [entry]
        else:
            together[uuid] = entry
    yield list(together.values())


def _updated_instance(entry) -> str | None:
    """Return the uuid of the instance that an entry updates, None for any other entry."""
    instance = entry["kwargs"].get("instance") if entry["method"] == _UPDATE else None
    return instance.uuid if isinstance(instance, objects.Instance) and "uuid" in instance else None


def _update_together(cell, message, entries) -> bool:
    """Apply updates in one transaction; False, and nothing is applied, if one of them, or this top, is not up to it."""
    if len(entries) < 2 or not cell.is_top:
        return not entries
    owner = owner_of(message)
    try:
        cell.runner.replica.update(message.ctxt, [
            replica.Update(told["instance"], owner, told.get("revision"), told.get("snapshot", False))
            for told in (entry["kwargs"] for entry in entries)])
    except (*_UNUSABLE, DBError) as error:
        LOG.debug("%d updates cannot be applied together: %s", len(entries), type(error).__name__)
        return False
    return True


def _apply(cell, message, entry) -> None:
    op = registry.find(BROADCAST, entry["method"])
    if op is None or op.route is not Route.TOP:
        LOG.warning("Refused: upward update by method %r", entry["method"])
        return
    try:
        op.work(cell, message, **op.accepted(entry["kwargs"]))
    except _UNUSABLE as error:
        LOG.warning("Upward update %s of cell %s cannot be applied: %s", entry["method"], owner_of(message), error)


@operation(Route.EVERY_CELL, since="1.1", client="(ctxt, project_id=None, updated_since=None, deleted=False)")
def sync_instances(cell, message, project_id, updated_since, deleted):
    """Tell the top again of all instances changed since a time (ISO text), deleted ones too if `deleted`."""
    since = timeutils.parse_isotime(updated_since) if isinstance(updated_since, str) else updated_since
    uuids = utils.get_instances_to_sync(message.ctxt, updated_since=since, project_id=project_id, deleted=deleted,
                                        uuids_only=True)
    for uuid in uuids:
        cell.runner.healer.push(message.ctxt, uuid)


@operation(Route.NAMED_CELL, own=True)
def send_snapshots(cell, message, instance_uuids):
    """Tell the top all about these instances."""
    for uuid in instance_uuids:
        cell.runner.healer.push(message.ctxt, uuid)


@operation(Route.NAMED_CELL, replies=True, own=True)
def instances_here(cell, message, instance_uuids) -> list[str]:
    """Return which of these instances have a row in this cell that is not deleted."""
    rows = cell.db.instance_get_all_by_uuids(message.ctxt.elevated(read_deleted="no"), instance_uuids)
    return [row["uuid"] for row in rows]


@operation(Route.NEIGHBOUR, replies=True, own=True)
def compare_digests(cell, message, digests):
    """Return {uuid: revision the top has applied, or None} of those in {uuid: digest or None (deleted there)} of
    which the top has another idea.

    What is deleted at the top but not there is left out: telling the top again would not bring it back. What was
    deleted at the top before it had a cell, or was built twice and deleted by its user, is to be deleted there, too; so
    is what the top was asked to have deleted while the order did not get there.
    """
    owner = owner_of(message)
    return dict(_differences(cell, message.ctxt.elevated(read_deleted="yes"), owner, digests))


def _differences(cell, ctxt, owner: str, digests: dict[str, str | None]) -> Iterator[tuple[str, int | None]]:
    deletions = cell.runner.deletions
    ours: dict[str, dict[str, Any]] = {}
    known: dict[str, str] = {}
    unwanted: dict[str, dict[str, Any]] = {}
    for uuids in healing.batched(digests, _READ_AT_ONCE):
        rows = healing.rows_of(ctxt, uuids)
        ours.update((row["uuid"], row) for row in rows)
        known.update(cell.runner.healer.digests.of(ctxt, [row for row in rows if not row["deleted"]]))
        unwanted.update(deletions.of(ctxt, uuids))
    for uuid, theirs in digests.items():
        row = ours.get(uuid)
        if row is None:
            if theirs is not None:
                yield uuid, None
            continue
        if row["deleted"]:
            if theirs is not None and (replica.was_deleted_before_it_had_a_cell(row) or (
                    row["cell_name"] != owner and uuid in unwanted)):
                # Ordered again at every comparison, until it is done: the order itself may be lost.
                cell.runner.have_deleted(owner, uuid)
            continue
        if row["cell_name"] not in (None, owner):
            if theirs is not None:  # else it had what another cell has, and does so no more: as it has to be
                cell.runner.disputes.note(owner, uuid)
        elif theirs is not None and deletions.is_lost(row, unwanted.get(uuid), theirs == known.get(uuid)):
            LOG.warning("Cell %s does not know that instance %s is to be deleted, it is told again", owner, uuid)
            cell.runner.have_deleted(owner, uuid)
        elif theirs != known.get(uuid) and not (theirs and cell.runner.replica.is_just_ordered(row)):
            yield uuid, row["replicated_revision"]
