"""The top's copies of instances that live in other cells: which updates are applied, and what of them.

The cell that has an instance is the authority for its states and sizes; the top for names, owners, keys and
metadata. An update names the revision its cell gave it: only newer ones are applied, field by field, and only
from the cell that owns the row. Updates without a revision, from the reference, follow its rules: a table of
states that may follow each other.
"""

import collections
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_lite import exception, objects
from nova_lite.cells import routing
from nova_lite.objects import task_states, vm_states
from nova_lite.objects.instance import JOINED

LOG = logging.getLogger(__name__)

# What the owning cell decides; all else stays as it is at the top.
REPLICATED_FIELDS = frozenset((
    "vm_state", "task_state", "power_state", "host", "node", "launched_on", "memory_mb", "vcpus", "root_gb",
    "ephemeral_gb", "flavor", "old_flavor", "new_flavor", "progress", "image_ref", "kernel_id", "ramdisk_id",
    "os_type", "architecture", "vm_mode", "root_device_name", "default_ephemeral_device", "default_swap_device",
    "config_drive", "hostname", "availability_zone", "access_ip_v4", "access_ip_v6", "auto_disk_config",
    "launched_at", "terminated_at", "ephemeral_key_uuid", "system_metadata", "info_cache", "pci_requests",
    "numa_topology", "vcpu_model", "migration_context"))
# Of these, columns that many rows can be given at once: no parts in other tables, nothing that has to be unique.
_PLAIN_FIELDS = REPLICATED_FIELDS - frozenset(JOINED) - {"hostname"}
# What a row of the top is never created with: values of the other cell's database.
_LOCAL_FIELDS = frozenset((
    "id", "name", "cell_name", "instance_type_id", "scheduled_at", "cleaned", "deleted", "deleted_at", "created_at",
    "updated_at", "fault", "ec2_ids", "services", "tags", "keypairs", "device_metadata", "trusted_certs",
    "pci_devices", "security_groups", "revision", "replicated_revision"))
_NEEDED_TO_CREATE = ("user_id", "project_id")

_STATES_BEFORE = {
    task_states.REBUILD_BLOCK_DEVICE_MAPPING: (task_states.REBUILDING,),
    task_states.REBUILD_SPAWNING: (task_states.REBUILD_BLOCK_DEVICE_MAPPING, task_states.REBUILDING),
    task_states.RESIZE_MIGRATING: (task_states.RESIZE_PREP,),
    task_states.RESIZE_MIGRATED: (task_states.RESIZE_MIGRATING, task_states.RESIZE_PREP),
    task_states.RESIZE_FINISH: (task_states.RESIZE_MIGRATED, task_states.RESIZE_MIGRATING, task_states.RESIZE_PREP),
}
# What is accounted for when it is asked for, whatever comes of it below.
_ACCOUNTED_TASKS = frozenset((
    task_states.DELETING, task_states.SOFT_DELETING, task_states.RESIZE_PREP, task_states.RESIZE_MIGRATING,
    task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH, task_states.RESIZE_REVERTING,
    task_states.RESIZE_CONFIRMING))
# What the top shows as soon as its user-level API has asked an instance's cell for it.
ORDERED_TASKS = frozenset((
    task_states.POWERING_ON, task_states.POWERING_OFF, task_states.REBOOTING, task_states.REBOOTING_HARD,
    task_states.PAUSING, task_states.UNPAUSING, task_states.SUSPENDING, task_states.RESUMING, task_states.RESCUING,
    task_states.UNRESCUING, task_states.RESTORING, task_states.REBUILDING, task_states.UPDATING_PASSWORD,
    task_states.IMAGE_SNAPSHOT, task_states.IMAGE_BACKUP, task_states.RESIZE_PREP, task_states.RESIZE_REVERTING,
    task_states.MIGRATING))
_PATIENCE_S = 60  # an order may be on its way for so long
_SIZES = frozenset(("memory_mb", "vcpus"))
_MAX_REMEMBERED = 10_000
_TO_SECONDS = len("2026-01-01 00:00:00")

Remedy = Callable[[str, str], None]  # asks the owner (full name) of an instance (uuid) for what the top lacks


@dataclass(frozen=True)
class Update:
    """The changed fields of an instance, told by the cell `owner` (full name)."""

    instance: Any
    owner: str
    revision: int | None = None
    is_snapshot: bool = False


@dataclass
class _Outcome:
    """What is left to do when updates have been looked at: first what belongs into their transaction."""

    columns: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    accounted: set[str] = field(default_factory=set)  # projects
    applied: list[tuple[Update, set[str], bool]] = field(default_factory=list)  # fields; whether they are all
    remedies: list[tuple[Remedy, Update]] = field(default_factory=list)


class FieldRevisions:
    """Per instance, the revision each field was last applied with; bounded, in memory."""

    def __init__(self, limit: int = _MAX_REMEMBERED):
        self._limit = limit
        # {uuid: {field: revision}}; the key "" stands for all fields that are not named.
        self._by_uuid: collections.OrderedDict[str, dict[str, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def newer(self, uuid: str, fields: set[str], revision: int) -> set[str] | None:
        """Return which of the fields were last applied from an older revision; None if that is not known."""
        with self._lock:
            known = self._by_uuid.get(uuid)
            if known is None:
                return None
            others = known.get("", -1)
            return {name for name in fields if known.get(name, others) < revision}

    def note(self, uuid: str, fields: set[str], revision: int) -> None:
        with self._lock:
            known = self._by_uuid.setdefault(uuid, {})
            others = known.get("", -1)
            known.update({name: max(revision, known.get(name, others)) for name in fields})
            self._keep(uuid)

    def note_all(self, uuid: str, revision: int) -> None:
        """As note, of every field there is."""
        with self._lock:
            newer = {name: known for name, known in self._by_uuid.get(uuid, {}).items() if known > revision}
            self._by_uuid[uuid] = {"": revision, **newer}
            self._keep(uuid)

    def _keep(self, uuid: str) -> None:
        self._by_uuid.move_to_end(uuid)
        if len(self._by_uuid) > self._limit:
            self._by_uuid.popitem(last=False)

    def forget(self, uuid: str) -> None:
        with self._lock:
            self._by_uuid.pop(uuid, None)


class Replica:
    """Applies what other cells tell of their instances to this, the top cell's, database."""

    def __init__(self, services, counts: collections.Counter, ask_for_snapshot: Remedy, have_deleted: Remedy,
                 note_claim: Remedy):
        self._db = services.db
        self._clock = services.clock
        self._counts = counts
        self._ask_for_snapshot = ask_for_snapshot
        self._have_deleted = have_deleted
        self._note_claim = note_claim
        self._revisions = FieldRevisions()

    def update(self, ctxt, updates: Sequence[Update]) -> None:
        """Apply what is told of different instances, all of it in one transaction.

        Raises a database's errors only: what cannot be applied is logged, and asked for again.
        """
        seen_all = ctxt.elevated(read_deleted="yes")
        outcome = _Outcome()
        with self._db.writer(seen_all):
            rows = self._db.instance_lock_all(seen_all, [update.instance.uuid for update in updates])
            for update in updates:
                remedy = self._update(seen_all, update, rows.get(update.instance.uuid), outcome)
                if remedy is not None:
                    outcome.remedies.append((remedy, update))
            self._db.instance_update_columns(seen_all, outcome.columns)
            for project_id in sorted(outcome.accounted):
                self._account(seen_all, project_id)
        for update, fields, are_all in outcome.applied:
            self._note(update, fields, are_all)
        for remedy, update in outcome.remedies:
            remedy(update.owner, update.instance.uuid)

    def _update(self, ctxt, update: Update, row: dict[str, Any] | None, outcome: _Outcome) -> Remedy | None:
        """Apply what can be; return what has to be asked of the owner, once the transaction is over."""
        uuid, owner, revision = update.instance.uuid, update.owner, update.revision
        if row is None:
            return self._create(ctxt, update, outcome)
        if row["deleted"]:
            LOG.debug("Instance %s is deleted here, what cell %s tells of it is ignored", uuid, owner)
            return self._have_deleted if was_deleted_before_it_had_a_cell(row) else None
        if not self._may_tell(row, owner):
            return self._note_claim
        changed = set(update.instance.obj_what_changed()) & REPLICATED_FIELDS
        fields = self._newer_fields(row, changed, revision, update.is_snapshot)
        if fields is None:
            LOG.info("Instance %s: revision %s came after %s", uuid, revision, row["replicated_revision"])
            return self._ask_for_snapshot
        if fields or not row["cell_name"]:
            self._apply(ctxt, row, update, fields, outcome)
            if revision is not None and update.is_snapshot and fields == changed:
                outcome.applied.append((update, fields, True))
        return None

    def _note(self, update: Update, fields: set[str], are_all: bool) -> None:
        """Remember the revision that fields are of, for updates that come late."""
        if update.revision is None:
            return
        if are_all:
            self._revisions.note_all(update.instance.uuid, update.revision)
        else:
            self._revisions.note(update.instance.uuid, fields, update.revision)

    def destroy(self, ctxt, instance, owner: str) -> None:
        """Delete the top's row of an instance that its cell deleted, or never had."""
        seen = ctxt.elevated()
        try:
            row = self._db.instance_get_by_uuid(seen, instance.uuid, columns_to_join=())
            if not self._may_tell(row, owner):
                return
            self._db.instance_destroy(seen, instance.uuid, replicate=False)
            self._account(seen, row["project_id"])
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone here already", instance.uuid)
        self._revisions.forget(instance.uuid)

    def destroy_unowned(self, ctxt, row: dict[str, Any]) -> None:
        """Delete the top's row of an instance that its cell does not have. Raises InstanceNotFound."""
        self._db.instance_destroy(ctxt.elevated(), row["uuid"], constraint={"cell_name": row["cell_name"]},
                                  replicate=False)
        self._account(ctxt.elevated(), row["project_id"])
        self._revisions.forget(row["uuid"])

    def create_fault(self, ctxt, values: dict[str, Any]) -> None:
        """Insert a fault unless it is here already: what is sent again must not show twice."""
        values = {key: value for key, value in values.items() if key not in ("id", "deleted", "deleted_at",
                                                                            "updated_at")}
        uuid = values["instance_uuid"]
        known = self._db.instance_fault_get_by_instance_uuids(ctxt.elevated(), [uuid]).get(uuid, [])
        if any(_same_fault(fault, values) for fault in known):
            return
        self._db.instance_fault_create(ctxt, _with_times(values), replicate=False)

    def is_told_by_owner(self, ctxt, uuid: str, owner: str) -> bool:
        """Whether a cell may tell of an instance's parts: it has the instance, or nobody is known to have it."""
        try:
            row = self._db.instance_get_by_uuid(ctxt.elevated(read_deleted="yes"), uuid, columns_to_join=())
        except exception.InstanceNotFound:
            return True
        return self._may_tell(row, owner)

    def release(self, ctxt, uuids: list[str], failed: str, and_below: bool = False) -> None:
        """Forget that instances are in the cell `failed` (or below it): it could not build them, another will try.

        What is in any other cell stays there: the word of that one may have come before this one.
        """
        for uuid in uuids:
            try:
                row = self._db.instance_get_by_uuid(ctxt.elevated(), uuid, columns_to_join=())
            except exception.InstanceNotFound:
                continue
            owner = row["cell_name"] or ""
            if owner == failed or (and_below and owner.startswith(failed + routing.PATH_CELL_SEP)):
                self._db.instance_update(ctxt, uuid, {"cell_name": None, "replicated_revision": None},
                                         replicate=False)
                self._revisions.forget(uuid)

    def _may_tell(self, row: dict[str, Any], owner: str) -> bool:
        if not row["cell_name"] or row["cell_name"] == owner:
            return True
        self._counts["foreign_update"] += 1
        LOG.warning("Cell %s tells of instance %s, which belongs to cell %s: ignored", owner, row["uuid"],
                    row["cell_name"])
        return False

    def _newer_fields(self, row, changed: set[str], revision: int | None, is_snapshot: bool) -> set[str] | None:
        """Return those fields of an update that are news; None when that cannot be told."""
        known = row.get("replicated_revision") if row["cell_name"] else None
        if revision is None or known is None or revision > known or (is_snapshot and revision == known):
            return changed
        if revision == known:
            return set()
        return self._revisions.newer(row["uuid"], changed, revision)

    def _apply(self, ctxt, row, update: Update, fields: set[str], outcome: _Outcome) -> None:
        told: dict[str, Any] = {"cell_name": update.owner}
        if update.revision is not None:
            known = row.get("replicated_revision") if row["cell_name"] else None
            told["replicated_revision"] = max(update.revision, known or 0)
        if update.revision is not None and fields <= _PLAIN_FIELDS:
            outcome.columns.append((row, {**{name: update.instance[name] for name in fields}, **told}))
        elif not self._save(ctxt, update, fields, told):
            return
        outcome.applied.append((update, fields, False))
        if update.is_snapshot and self._is_without_effect(row, update.instance):
            self.tell_of_lost_order(ctxt, row)
        is_resized = any(update.instance[name] != row[name] for name in fields & _SIZES)
        has_ended = ("task_state" in fields and row["task_state"] in _ACCOUNTED_TASKS
                     and update.instance.task_state is None)
        if is_resized or has_ended:
            outcome.accounted.add(row["project_id"])

    def is_just_ordered(self, row: dict[str, Any]) -> bool:
        """Whether the top has asked a cell for something so lately that the order may still be on its way."""
        told_at = row["updated_at"] or row["created_at"]
        age = self._clock.utcnow().replace(tzinfo=None) - told_at
        return row["task_state"] in ORDERED_TASKS and age.total_seconds() <= _PATIENCE_S

    def _is_without_effect(self, row: dict[str, Any], instance) -> bool:
        """Whether an instance's cell, asked for all it knows, knows nothing of what the top has ordered long ago."""
        return (row["task_state"] in ORDERED_TASKS and not self.is_just_ordered(row)
                and instance.get("task_state") is None and instance.get("vm_state") == row["vm_state"])

    def tell_of_lost_order(self, ctxt, row: dict[str, Any]) -> None:
        """Give an instance a fault at the top for what was ordered and has come to nothing."""
        LOG.warning("The order that made instance %s %s has not reached cell %s", row["uuid"], row["task_state"],
                    row["cell_name"])
        self._db.instance_fault_create(ctxt, {
            "instance_uuid": row["uuid"], "code": 500, "host": None, "message": "The order was lost",
            "details": f"Nothing came of task state {row['task_state']}: cell {row['cell_name']} was not told"},
            replicate=False)

    def _save(self, ctxt, update: Update, fields: set[str], told: dict[str, Any]) -> bool:
        """Write fields that are not only columns, or that no revision vouches for; False if they come out of order."""
        instance = update.instance
        instance._context = ctxt
        instance.obj_reset_changes(set(instance.obj_what_changed()) - fields)
        instance.update(told)
        expected = {} if update.revision is not None else _expected_states(instance)
        try:
            instance.save(replicate=False, **expected)
        except (exception.UnexpectedTaskStateError, exception.UnexpectedVMStateError) as error:
            self._counts["out_of_order"] += 1
            LOG.info("Update of instance %s from cell %s is out of order: %s", instance.uuid, update.owner, error)
            return False
        except exception.NotFound as error:
            LOG.debug("Part of an update of instance %s has nowhere to go: %s", instance.uuid, error)
        return True

    def _account(self, ctxt, project_id: str) -> None:
        """Count anew what a project uses: the cell decides what became of what the user-level API had booked."""
        for usage in self._db.quota_usage_reconcile(ctxt, 0, project_id=project_id):
            LOG.info("Project %s uses %s %s, not %s", usage["project_id"], usage["counted"], usage["resource"],
                     usage["in_use"])

    def _create(self, ctxt, update: Update, outcome: _Outcome) -> Remedy | None:
        instance, owner = update.instance, update.owner
        if self._db.tombstone_get(ctxt, instance.uuid) is not None:
            LOG.info("Instance %s was deleted here, it is not created again", instance.uuid)
            return None
        missing = [name for name in _NEEDED_TO_CREATE if name not in instance or not instance[name]]
        if missing:
            LOG.info("Cell %s tells of instance %s, unknown here, without its %s", owner, instance.uuid,
                     " and ".join(missing))
            return self._ask_for_snapshot
        copy = objects.Instance(ctxt)
        for name, value in instance.items():
            if name not in _LOCAL_FIELDS:
                setattr(copy, name, value)
        copy.cell_name, copy.replicated_revision = owner, update.revision
        copy.create(replicate=False)
        outcome.accounted.add(copy.project_id)
        LOG.info("Instance %s of cell %s was unknown here and has been created", copy.uuid, owner)
        return None


def was_deleted_before_it_had_a_cell(row: Any) -> bool:
    """Whether the top deleted an instance without knowing its cell: the word may not have reached the one it is in."""
    return bool(row["deleted"]) and not row["cell_name"]


def mark_replicated(instance) -> None:
    """Mark every field that the top takes over as changed."""
    for name in REPLICATED_FIELDS:
        if name in instance:
            setattr(instance, name, instance[name])
    cache = instance.get("info_cache")
    if cache is not None and "network_info" in cache:
        cache.network_info = cache.network_info


def _expected_states(instance) -> dict[str, Any]:
    expected: dict[str, Any] = {}
    if instance.obj_attr_is_set("vm_state") and instance.vm_state == vm_states.BUILDING:
        expected["expected_vm_state"] = [vm_states.BUILDING, None]
    if instance.obj_attr_is_set("task_state") and instance.task_state in _STATES_BEFORE:
        expected["expected_task_state"] = [instance.task_state, *_STATES_BEFORE[instance.task_state]]
    return expected


def _same_fault(fault: dict[str, Any], values: dict[str, Any]) -> bool:
    return (fault["code"] == values.get("code") and fault["message"] == values.get("message")
            and fault.get("details") == values.get("details")
            and _same_moment(fault.get("created_at"), values.get("created_at")))


def _same_moment(ours: Any, theirs: Any) -> bool:
    """Whether two times, or texts of them, are the same, as precisely as both are given."""
    here, there = (str(when or "").replace("T", " ").partition("+")[0].removesuffix("Z") for when in (ours, theirs))
    return here == there if "." in here and "." in there else here[:_TO_SECONDS] == there[:_TO_SECONDS]


def _with_times(values: dict[str, Any]) -> dict[str, Any]:
    created_at = values.get("created_at")
    if isinstance(created_at, str):
        values = {**values, "created_at": timeutils.normalize_time(timeutils.parse_isotime(created_at))}
    return values
