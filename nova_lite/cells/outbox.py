"""Sending upwards what the database layer has written down: in order, merged, until it is acknowledged."""

import collections
import contextlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, context, exception
from nova_lite.cells import messages, routing
from nova_lite.cells.own_methods import OUTBOX_TOLD_EVERY_S
from nova_lite.cells.remote_exceptions import first_line
from nova_lite.cells.share import Share

LOG = logging.getLogger(__name__)

UPDATE = "instance_update_at_top"
DESTROY = "instance_destroy_at_top"

_GRACE_S = 30.0
_MAX_PAUSE_S = 30.0
_BATCH_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 2.0
_LOOK_AGAIN_S = 1.2 * OUTBOX_TOLD_EVERY_S
# Of a stream of changes, what a tenth of a second brings is sent together: each alone would cost far more.
_FEW = 4
_REST_S = 0.1
_DROP_LIMIT = 10_000
_MOST_BYTES = 1_000_000  # of what is told, in one message
_FEWEST_ROWS = 10
_WITH_REVISION = frozenset((UPDATE, DESTROY, "instance_fault_create_at_top", "bw_usage_update_at_top"))


@dataclass
class Entry:
    """One message to the top, and the rows it is made of."""

    instance_uuid: str
    method: str
    kwargs: dict[str, Any]
    row_ids: list[int] = field(default_factory=list)

    @property
    def id(self) -> int:
        return self.row_ids[-1]


def merged(rows: list[dict[str, Any]]) -> list[Entry]:
    """Return the rows as entries, in order: successive updates of one instance become one, with the latest values.

    An entry that was merged stands where its last row stood, so nothing overtakes what came before it.
    """
    entries: dict[int, Entry] = {}  # by the id of the last row
    open_updates: dict[str, Entry] = {}
    for row in rows:
        entry = _entry(row)
        earlier = open_updates.pop(row["instance_uuid"], None) if entry.method in (UPDATE, DESTROY) else None
        if entry.method == UPDATE:
            if earlier is not None:
                del entries[earlier.id]
                entry = _merge(earlier, entry)
            open_updates[row["instance_uuid"]] = entry
        entries[entry.id] = entry
    return list(entries.values())


def _short_enough(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first rows, as many as fit into a message; one at least."""
    sizes = itertools.accumulate(len(row["payload"]) for row in rows)
    return rows[:max(1, sum(1 for size in sizes if size <= _MOST_BYTES))]


def _entry(row: dict[str, Any]) -> Entry:
    kwargs = json.loads(row["payload"])
    if row["revision"] is not None and row["method"] in _WITH_REVISION:
        kwargs = {**kwargs, "revision": row["revision"]}
    return Entry(row["instance_uuid"], row["method"], kwargs, [row["id"]])


def _merge(earlier: Entry, later: Entry) -> Entry:
    before, after = earlier.kwargs["instance"], later.kwargs["instance"]
    instance = {**after, "nova_object.data": {**before["nova_object.data"], **after["nova_object.data"]}}
    changes = set(before.get("nova_object.changes", ())) | set(after.get("nova_object.changes", ()))
    instance["nova_object.changes"] = sorted(changes)
    return Entry(later.instance_uuid, later.method, {**later.kwargs, "instance": instance},
                 earlier.row_ids + later.row_ids)


class Outbox:
    """Drains the table `outbox` of this cell. One thread; woken by a kick, else looking now and then.

    Soon after a kick it looks once more: whoever has just kicked does not do so again for each of many changes.
    """

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services
        self._conf = runner.services.conf
        self._clock = runner.clock
        self._share = Share(runner.services)
        self._draining = threading.Lock()
        self._wake = self._clock.event()
        self._stopped = False
        self._task = None
        self._size = self._most_rows = self._conf.cells.outbox_batch_size
        self._silent_since_s: dict[str, float] = {}  # parents that tell nothing of their kind, by name
        self.counts: collections.Counter[str] = collections.Counter()

    def start(self) -> None:
        """Begin to send, in a worker of its own."""
        if self._task is None:
            self._task = concurrency.spawn(self._run)

    def stop(self) -> None:
        """Send nothing more. What is on its way and not acknowledged is sent again after the next start."""
        self._stopped = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(concurrency.TimeLimitExceeded):
                self._task.wait(_STOP_TIMEOUT_S)

    def kick(self) -> None:
        """There is something to send."""
        self._wake.set()

    def enqueue(self, ctxt, instance_uuid: str, method: str, kwargs: dict[str, Any],
                revision: int | None = None) -> None:
        """Write one more update down, to be sent after all that are there; `kwargs` in wire form."""
        if self._runner.state_manager.get_parent_cells():
            self._services.db.outbox_add(ctxt, instance_uuid, _kind(method), method, json.dumps(kwargs), revision)
            self.kick()

    def drop(self, ctxt, instance_uuids: list[str]) -> None:
        """Forget what is still to be sent of instances that another cell is going to build."""
        wanted = set(instance_uuids)
        rows = self._services.db.outbox_pending(ctxt, limit=_DROP_LIMIT)
        self._services.db.outbox_delete(ctxt, [row["id"] for row in rows if row["instance_uuid"] in wanted])

    def drain(self) -> bool:
        """Send what there is; False when something is left that could not be sent now."""
        with self._draining:
            ctxt = context.get_admin_context().bind(self._services)
            while True:
                rows = self._next_rows(ctxt)
                parents = self._runner.state_manager.get_parent_cells()
                if not rows or not parents:
                    return True
                if any(self.is_unknown(parent) for parent in parents):
                    return False
                entries = merged(rows)
                sent = min(self._send(ctxt, parent, entries) for parent in parents)
                self._resize(sent == len(entries))
                self._services.db.outbox_delete(ctxt, [row_id for entry in entries[:sent] for row_id in entry.row_ids])
                self.counts["sent"] += sent
                if sent < len(entries):
                    return False

    def _next_rows(self, ctxt) -> list[dict[str, Any]]:
        """Return the next rows that are this process's to send; [] when there are none."""
        after_id = 0
        while page := self._services.db.outbox_pending(ctxt, limit=self._size, after_id=after_id):
            mine = self._share.mine(page)
            if mine:
                return _short_enough(mine)
            after_id = page[-1]["id"]
        return []

    def _resize(self, was_taken: bool) -> None:
        """What was too much for those above in the time they had is sent in smaller batches, for a while."""
        self._size = min(self._most_rows, 2 * self._size) if was_taken else max(
            min(_FEWEST_ROWS, self._most_rows), self._size // 2)

    def is_unknown(self, parent) -> bool:
        """Whether it is too early to say that a parent, or one above it, is no nova_lite cell: it may yet greet.

        What goes to a cell of another kind is not acknowledged, so nothing is sent on a mere guess.
        """
        if parent.heard and not (parent.is_ours and self._runner.place.path_to_top(parent) is None):
            return False
        now_s = self._clock.monotonic()
        if not parent.is_reachable:  # and so cannot have heard that we are here; the reports go on trying
            self._silent_since_s[parent.name] = now_s
        return now_s - self._silent_since_s.setdefault(parent.name, now_s) < _GRACE_S

    def _send(self, ctxt, parent, entries: list[Entry]) -> int:
        """Send entries by way of a parent; return how many are done with."""
        path = self._runner.place.path_to_top(parent)
        try:
            if path is None:
                return self._send_one_by_one(ctxt, parent, entries)
            return self._send_batch(ctxt, path, entries)
        except Exception as error:  # edge: whatever it was, the rows stay and are sent again
            self.counts["failed"] += 1
            LOG.warning("%d upward updates wait, cell %s cannot be told: %s", len(entries), parent.name,
                        first_line(error))
            return 0

    def _send_batch(self, ctxt, path: str, entries: list[Entry]) -> int:
        batch = [{"id": entry.id, "method": entry.method, "kwargs": entry.kwargs} for entry in entries]
        response = self._runner.send_targeted(ctxt, "outbox_batch", {"entries": batch}, routing.UP, path,
                                              need_response=True, deadline=self._clock.time() + _BATCH_TIMEOUT_S)
        done_id = response.value_or_raise()
        return next((index + 1 for index, entry in enumerate(entries) if entry.id == done_id), 0)

    def _send_one_by_one(self, ctxt, parent, entries: list[Entry]) -> int:
        for index, entry in enumerate(entries):
            message = messages.BroadcastMessage(self._runner, ctxt, entry.method, entry.kwargs, routing.UP)
            try:
                parent.send_message(message)
            except exception.NovaException as error:
                LOG.warning("%d upward updates wait, cell %s cannot be told: %s", len(entries) - index, parent.name,
                            error)
                return index
        return len(entries)

    def _run(self) -> None:
        pause_s = poll_s = self._conf.cells.outbox_poll_interval
        while not self._stopped:
            was_told = self._clock.wait(self._wake, pause_s)
            self._wake.clear()
            if self._stopped:
                return
            sent_before = self.counts["sent"]
            try:
                done = self.drain()
            except Exception:  # thread top
                LOG.exception("The outbox could not be read")
                done = False
            is_early = any(self.is_unknown(parent) for parent in self._runner.state_manager.get_parent_cells())
            if self.counts["sent"] - sent_before > _FEW:
                self._clock.sleep(_REST_S)
            if done and was_told:
                pause_s = min(poll_s, _LOOK_AGAIN_S)
            elif done or is_early:
                pause_s = poll_s
            else:
                pause_s = min(_MAX_PAUSE_S, pause_s * 2)


def _kind(method: str) -> str:
    return method.removesuffix("_at_top")
