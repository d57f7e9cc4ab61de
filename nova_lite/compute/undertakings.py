"""Work that no row of an instance tells of, written down before it is begun: the next process finds what was left.

An undertaking is an event of the instance's action. Its details say which message it is for and what the instance had
before, so that a message that comes again is told from a new one, and what was half done from what was not begun.
"""

import contextlib
import copy
import dataclasses
import datetime
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from nova_lite import objects
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

_PREFIX = "compute_"


@dataclasses.dataclass
class Undertaking:
    """One piece of work: `found` is what the instance had before, `gave` what it has got by it."""

    name: str
    operation_id: str
    found: list[str]
    arguments: dict[str, Any]
    gave: list[str] = dataclasses.field(default_factory=list)
    is_done: bool = False
    row: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, event: dict[str, Any]) -> "Undertaking":
        """Return what an event tells."""
        return cls(event["event"].removeprefix(_PREFIX), is_done=event["result"] == "Success", row=event,
                   **json.loads(event["details"]))

    def details(self) -> str:
        """Return what the event is to tell."""
        return json.dumps({"operation_id": self.operation_id, "found": self.found, "arguments": self.arguments,
                           "gave": self.gave})


class Undertakings:
    """What this host has undertaken. The caller holds the instance."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    @contextlib.contextmanager
    def begun(self, context: RequestContext, instance: objects.Instance, name: str, found: Iterable[str],
              **arguments: Any) -> Iterator[Undertaking]:
        """Give the undertaking of this message: a new one, that of a process that died at it, or the one that is done.

        It ends with the block: done, or failed.
        """
        undertaking = self._earlier(context, instance, name)
        if undertaking is None:
            undertaking = self._begin(context, instance, Undertaking(
                name, context.operation_id or uuid.uuid4().hex, list(found), arguments))
        if undertaking.is_done:
            yield undertaking
            return
        try:
            yield undertaking
        except Exception as error:  # noted whatever it is, and raised on
            self.end(context, instance, undertaking, error)
            raise
        self.end(context, instance, undertaking)

    def _earlier(self, context: RequestContext, instance: objects.Instance, name: str) -> Undertaking | None:
        """Return the undertaking of the same message, unless it failed."""
        if context.operation_id is None:
            return None
        action = self._here.db.action_get_by_request_id(context, instance.uuid, context.request_id)
        if action is None:
            return None
        for event in self._here.db.action_events_get(context, action["id"]):
            if event["event"] == _PREFIX + name and event["details"] and event["result"] in (None, "Success"):
                undertaking = Undertaking.of(event)
                if undertaking.operation_id == context.operation_id:
                    return undertaking
        return None

    def _begin(self, context: RequestContext, instance: objects.Instance, undertaking: Undertaking) -> Undertaking:
        undertaking.row = self._here.db.action_event_start(context, {
            **compute_utils.pack_action_event_start(context, instance.uuid, _PREFIX + undertaking.name),
            "action": undertaking.name, "host": self._here.name, "details": undertaking.details()})
        return undertaking

    def end(self, context: RequestContext, instance: objects.Instance, undertaking: Undertaking,
            error: Exception | None = None) -> None:
        """Note that the undertaking is done, or has failed."""
        packed = compute_utils.pack_action_event_finish(context, instance.uuid, _PREFIX + undertaking.name, error,
                                                        error.__traceback__ if error else None)
        self._here.conductor.action_event_finish(context, {
            **packed, "details": undertaking.details(),
            "result": "Error" if error else "Success",
            **{key: undertaking.row[key] for key in ("id", "action_id")}})

    def unfinished(self, context: RequestContext, instances: Iterable[objects.Instance], names: Iterable[str],
                   older_than_s: float) -> list[tuple[RequestContext, str, Undertaking]]:
        """Return the undertakings that did not end, begun so long ago, as (context of the message, instance, it)."""
        events = self._here.db.action_events_get_unfinished(
            context, [instance.uuid for instance in instances], [_PREFIX + name for name in names])
        return [(_context_of(context, event, undertaking), event["instance_uuid"], undertaking) for event in events
                if older_than_s == 0 or self._is_older(event["start_time"], older_than_s)
                for undertaking in [Undertaking.of(event)]]

    def _is_older(self, time: datetime.datetime, limit_s: float) -> bool:
        return self._here.is_older(time.replace(tzinfo=datetime.UTC), limit_s)


def _context_of(context: RequestContext, event: dict[str, Any], undertaking: Undertaking) -> RequestContext:
    """Return the context with which the message comes again."""
    context = copy.copy(context)
    context.request_id, context.operation_id = event["request_id"], undertaking.operation_id
    return context
