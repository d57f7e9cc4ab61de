"""Events: the net changes of event.from, the single changes of event.next, and the message store."""

import threading
import time
import uuid as uuid_module
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.values import parse_timestamp, timestamp_text

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

BATCH_DELAY_S = 0.05
QUEUE_LIMIT_BYTES = 10 * 1024 * 1024
HEARTBEAT_S = 60.0


@dataclass(frozen=True)
class Subscription:
    """`*`, a class, or one object of a class; names in lower case."""

    class_name: str
    ref: str = ""

    @classmethod
    def parse(cls, text: str) -> "Subscription":
        name, slash, ref = text.lower().partition("/")
        if not name or (slash and not ref):
            raise ApiError("EVENT_SUBSCRIPTION_PARSE_FAILURE", text)
        return cls("*") if name == "*" else cls(name, ref)


class Subscriptions:
    """What somebody wants to hear of; thousands of single objects cost no more than one class."""

    def __init__(self, members: Iterable[Subscription] = ()):
        self.members = set(members)
        self._classes = {each.class_name for each in self.members if not each.ref}
        self._named = {each.class_name for each in self.members}

    @classmethod
    def parse(cls, texts: list[str]) -> "Subscriptions":
        """Raises EVENT_SUBSCRIPTION_PARSE_FAILURE."""
        return cls(Subscription.parse(text) for text in texts)

    def names(self, class_name: str) -> bool:
        """Return whether objects of the class may be covered."""
        return "*" in self._named or class_name.lower() in self._named

    def covers(self, class_name: str, ref: str) -> bool:
        name = class_name.lower()
        if "*" in self._classes or name in self._classes:
            return True
        return name in self._named and Subscription(name, ref.lower()) in self.members

    def is_only(self, class_name: str) -> bool:
        """Return whether no other class is named."""
        return self._named <= {class_name}


@dataclass
class Queue:
    """What event.next has not yet handed to a session."""

    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    events: deque[tuple[int, dict[str, Any]]] = field(default_factory=deque)
    size: int = 0
    has_lost: bool = False

    def add(self, event: dict[str, Any]) -> None:
        size = 200 + len(str(event.get("snapshot") and event["snapshot"].values))
        self.events.append((size, event))
        self.size += size
        while self.size > QUEUE_LIMIT_BYTES:
            self.size -= self.events.popleft()[0]
            self.has_lost = True


class Events(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._queues: dict[str, Queue] = {}
        self._counter = 0
        self.db.observers.append(self._note)

    def forget(self, session_ref: str) -> None:
        """Drop what is kept for a session that ends."""
        self._queues.pop(session_ref, None)

    # event.from

    @call("event.from")
    def from_(self, caller, classes, token, timeout):
        subscriptions = Subscriptions.parse(classes)
        since, messages_since = self._read_token(token)
        if since < self.db.forgotten_generation and token:
            raise ApiError("EVENTS_LOST")
        deadline = time.monotonic() + min(max(timeout, 0.0), threading.TIMEOUT_MAX / 2)
        has_waited = False
        while True:
            events = self._collect(subscriptions, since, messages_since)
            if events and has_waited and not subscriptions.is_only("task"):
                self._wait(min(BATCH_DELAY_S, max(deadline - time.monotonic(), 0)), caller)
                events = self._collect(subscriptions, since, messages_since)
            left = deadline - time.monotonic()
            if events or left <= 0 or self.toolstack.is_stopping:
                return self._batch(events)
            has_waited = True
            self._wait(left, caller)

    def _wait(self, seconds: float, caller) -> None:
        self.db.changed.wait(seconds)
        if self.db.find("session", caller.session_ref) is None:
            raise ApiError("SESSION_INVALID", caller.session_ref)

    @staticmethod
    def _read_token(token: str) -> tuple[int, int]:
        if not token:
            return -1, -1
        parts = token.split(",")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise ApiError("EVENT_FROM_TOKEN_PARSE_FAILURE", token)
        return int(parts[0]), int(parts[1])

    def token(self, generation: int | None = None) -> str:
        at = self.db.generation if generation is None else generation
        return f"{at:020d},{self.toolstack.messages.generation:020d}"

    def _collect(self, subscriptions: Subscriptions, since: int, messages_since: int) -> list[dict[str, Any]]:
        events = self.toolstack.messages.events_since(subscriptions, messages_since)
        added, changed = [], []
        for name, described in self.db.schema.classes.items():
            if not described.has_events or not described.has_table or not subscriptions.names(name):
                continue
            for row in self.db.changed_since(name, since):
                if subscriptions.covers(name, row.ref):
                    (added if row.created > since else changed).append(row)
        events += [self._event("add", row) for row in added]
        events += [self._event("mod", row) for row in changed]
        return events + self._deletions(subscriptions, since)

    def _deletions(self, subscriptions: Subscriptions, since: int) -> list[dict[str, Any]]:
        events = []
        for generation, created, class_name, ref in reversed(self.db.deletions):
            if generation <= since:
                break
            has_events = self.db.schema.classes[class_name].has_events
            if created <= since and has_events and subscriptions.covers(class_name, ref):
                events.append(self._record(str(generation), "0.0", class_name, "del", ref))
        return events[::-1]

    def _event(self, operation: str, row: Row) -> dict[str, Any]:
        return self._record(str(row.modified), "0.0", row.described.name, operation, row.ref, row)

    @staticmethod
    def _record(event_id, timestamp, class_name, operation, ref, snapshot=None) -> dict[str, Any]:
        event = {
            "id": event_id,
            "timestamp": timestamp,
            "class": class_name.lower(),
            "operation": operation,
            "ref": ref,
        }
        return {**event, "snapshot": snapshot} if snapshot is not None else event

    def _batch(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        counts = {name.lower(): len(table) for name, table in self.db.tables.items()}
        return {"events": events, "valid_ref_counts": counts, "token": self.token()}

    # event.register and event.next

    def _note(self, kind: str, row: Row) -> None:
        self._counter += 1
        if not self._queues or not row.described.has_events:
            return
        name = row.described.name
        for queue in self._queues.values():
            if queue.subscriptions.covers(name, row.ref):
                queue.add(
                    self._record(
                        str(self._counter),
                        str(int(time.time())),
                        name,
                        kind,
                        row.ref,
                        None if kind == "del" else row.frozen(),
                    )
                )

    @call("event.register")
    def register(self, caller, classes):
        added = Subscriptions.parse(classes)
        queue = self._queues.setdefault(caller.session_ref, Queue())
        queue.subscriptions = Subscriptions(queue.subscriptions.members | added.members)

    @call("event.unregister")
    def unregister(self, caller, classes):
        removed = Subscriptions.parse(classes)
        queue = self._queues.get(caller.session_ref)
        if queue:
            queue.subscriptions = Subscriptions(queue.subscriptions.members - removed.members)

    @call("event.next")
    def next_(self, caller):
        queue = self._queues.get(caller.session_ref)
        if queue is None or not queue.subscriptions.members:
            raise ApiError("SESSION_NOT_REGISTERED", caller.session_ref)
        while not queue.events and not queue.has_lost and not self.toolstack.is_stopping:
            self._wait(60.0, caller)
        if queue.has_lost:
            queue.events.clear()
            queue.size, queue.has_lost = 0, False
            raise ApiError("EVENTS_LOST")
        events = [event for _, event in queue.events]
        queue.events.clear()
        queue.size = 0
        return events

    @call("event.get_current_id")
    def get_current_id(self, _caller):
        return self._counter

    @call("event.inject")
    def inject(self, _caller, class_name, ref):
        name = self.db.schema.lower_names.get(class_name.lower(), class_name)
        row = self.db.tables.get(name, {}).get(ref)
        if row is None:
            raise ApiError("HANDLE_INVALID", class_name, ref)
        token = self.token()
        self.db.touch(row)
        return token


class Messages(Noun):
    """Messages of the pool. They are no rows: they have a generation of their own and appear in event.from."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.generation = 0
        self._messages: dict[str, Row] = {}
        self._deleted: deque[tuple[int, int, str]] = deque(maxlen=10_000)

    def add(self, name: str, priority: int, cls: str, obj_uuid: str, body: str) -> str:
        """Store a message and return its reference."""

        self.generation += 1
        message_uuid = str(uuid_module.uuid4())
        values = {"uuid": message_uuid, "name": name, "priority": priority, "cls": cls, "obj_uuid": obj_uuid}
        values |= {"timestamp": timestamp_text(time.time()), "body": body}
        ref = f"OpaqueRef:{uuid_module.uuid4()}"
        self._messages[ref] = Row(self.db.schema.classes["message"], ref, values, self.generation)
        self.db.changed.notify_all()
        return ref

    def events_since(self, subscriptions: Subscriptions, since: int) -> list[dict[str, Any]]:
        if since < 0:
            is_named = any(each.class_name == "message" for each in subscriptions.members)
            since = 0 if is_named else self.generation
        events = [
            Events._record(str(row.created), "0.0", "message", "add", row.ref, row)
            for row in self._messages.values()
            if row.created > since and subscriptions.covers("message", row.ref)
        ]
        return events + [
            Events._record(str(generation), "0.0", "message", "del", ref)
            for generation, created, ref in self._deleted
            if generation > since >= created and subscriptions.covers("message", ref)
        ]

    def _row(self, ref: str) -> Row:
        if ref not in self._messages:
            raise ApiError("HANDLE_INVALID", "message", ref)
        return self._messages[ref]

    @call("message.create")
    def create(self, _caller, name, priority, cls, obj_uuid, body):
        lookup = {"Host": "host", "Pool": "pool"}.get(cls, cls)
        if lookup in self.db.uuids:
            self.db.by_uuid(lookup, obj_uuid)
        return self.add(name, priority, cls, obj_uuid, body)

    @call("message.destroy")
    def destroy(self, _caller, ref):
        row = self._row(ref)
        self.generation += 1
        del self._messages[ref]
        self._deleted.append((self.generation, row.created, ref))
        self.db.changed.notify_all()

    @call("message.destroy_many")
    def destroy_many(self, caller, refs):
        for ref in refs:
            self._row(ref)
        for ref in refs:
            self.destroy(caller, ref)

    @call("message.destroy_all")
    def destroy_all(self, caller, filters):
        """Destroy the messages that pass all filters: `before` and `after` a time, `priority`."""
        unknown = set(filters) - {"before", "after", "priority"}
        if unknown:
            raise ApiError("INVALID_VALUE", "filters", ", ".join(sorted(unknown)))
        try:
            limits = {name: parse_timestamp(filters[name]) for name in ("before", "after") if name in filters}
        except ValueError as error:
            raise ApiError("INVALID_VALUE", "filters", str(error)) from None
        for ref, row in list(self._messages.items()):
            is_old = row["timestamp"] < limits.get("before", "9999")
            is_new = row["timestamp"] > limits.get("after", "")
            if is_old and is_new and filters.get("priority", str(row["priority"])) == str(row["priority"]):
                self.destroy(caller, ref)

    @call("message.get_all")
    def get_all(self, _caller):
        return list(self._messages)

    @call("message.get_all_records")
    def get_all_records(self, _caller):
        return dict(self._messages)

    @call("message.get_all_records_where")
    def get_all_records_where(self, _caller, _expr):
        return dict(self._messages)  # XenServer ignores the expression here

    @call("message.get_record")
    def get_record(self, _caller, ref):
        return self._row(ref)

    @call("message.get_by_uuid")
    def get_by_uuid(self, _caller, uuid):
        for ref, row in self._messages.items():
            if row["uuid"] == uuid:
                return ref
        raise ApiError("UUID_INVALID", "message", uuid)

    @call("message.get")
    def get(self, _caller, cls, obj_uuid, since):
        return {
            ref: row
            for ref, row in self._messages.items()
            if row["cls"] == cls and row["obj_uuid"] == obj_uuid and row["timestamp"] >= since
        }

    @call("message.get_since")
    def get_since(self, _caller, since):
        return {ref: row for ref, row in self._messages.items() if row["timestamp"] >= since}
