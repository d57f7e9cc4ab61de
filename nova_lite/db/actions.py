"""What users did to instances, and the steps it took."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, chunks

ACTIONS = models.InstanceAction.__table__
EVENTS = models.InstanceActionEvent.__table__

_MESSAGE_ON_ERROR = "Error"


_EVENT_COLUMNS = ("event", "start_time", "host", "details", "created_at", "deleted")
_EVENT_OF_ACTION = sqlalchemy.insert(EVENTS).from_select(
    ["action_id", *_EVENT_COLUMNS],
    sqlalchemy.select(ACTIONS.c.id, *(sqlalchemy.bindparam(name, type_=EVENTS.c[name].type)
                                      for name in _EVENT_COLUMNS)).where(
        ACTIONS.c.instance_uuid == sqlalchemy.bindparam("of_instance"),
        ACTIONS.c.request_id == sqlalchemy.bindparam("of_request"),
    ).order_by(ACTIONS.c.id.desc()).limit(1), include_defaults=False,
).returning(EVENTS.c.id, EVENTS.c.action_id)


class Actions(Part):
    """Actions are found by (instance_uuid, request_id), their events by name."""

    @operation
    def action_start(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert an action of ``action, instance_uuid, request_id, user_id, project_id`` and return it."""
        with self.store.writer(context) as session:
            return self._insert(session, values)

    def _insert(self, session: RowSession, values: Mapping[str, Any]) -> dict[str, Any]:
        return session.insert_row(models.InstanceAction, {"start_time": session.now, **values})

    @operation
    def action_finish(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Set the end of the action of ``instance_uuid, request_id``. Raises InstanceActionNotFound."""
        with self.store.writer(context) as session:
            action = self._action(session, values["instance_uuid"], values["request_id"])
            if action is None:
                raise exception.InstanceActionNotFound(request_id=values["request_id"],
                                                       instance_uuid=values["instance_uuid"])
            changes = {"finish_time": session.now, **values}
            session.update_rows(models.InstanceAction, ACTIONS.c.id == action["id"], **changes)
            return {**action, **changes, "updated_at": session.now}

    @operation
    def actions_get(self, context: Any, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the actions of an instance, latest first."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(ACTIONS).where(ACTIONS.c.instance_uuid == instance_uuid).order_by(
                ACTIONS.c.created_at.desc(), ACTIONS.c.id.desc()))

    @operation
    def action_get_by_request_id(self, context: Any, instance_uuid: str, request_id: str) -> dict[str, Any] | None:
        """Return the action of a request on an instance, None without one."""
        with self.store.reader(context) as session:
            return self._action(session, instance_uuid, request_id)

    def _action(self, session: RowSession, instance_uuid: str, request_id: str) -> dict[str, Any] | None:
        return session.one(sqlalchemy.select(ACTIONS).where(
            ACTIONS.c.instance_uuid == instance_uuid, ACTIONS.c.request_id == request_id).order_by(
            ACTIONS.c.id.desc()).limit(1))

    @operation
    def action_event_start(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a step: ``event, instance_uuid, request_id`` and perhaps ``start_time, host, details``; returns it.

        An action that is missing is made, with the name ``action`` if there is one.
        """
        with self.store.writer(context) as session:
            event = self._insert_event(session, values)
            if event is not None:
                return event
            action = self._action(session, values["instance_uuid"], values["request_id"])
            if action is None:
                action = self._insert(session, {
                    "action": values.get("action"), "instance_uuid": values["instance_uuid"],
                    "request_id": values["request_id"], "user_id": context.user_id,
                    "project_id": context.project_id})
            return session.insert_row(models.InstanceActionEvent, {
                **_event_of(session, values), "action_id": action["id"]})

    def _insert_event(self, session: RowSession, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Insert a step of an action that is there, in one statement; None without it, or if the server cannot."""
        if not session.get_bind().dialect.insert_returning:
            return None
        row = {**_event_of(session, values), "created_at": session.now, "deleted": 0}
        inserted = session.one(_EVENT_OF_ACTION, {
            **row, "of_instance": values["instance_uuid"], "of_request": values["request_id"]})
        return {**row, **inserted} if inserted is not None else None

    @operation
    def action_event_finish(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Set the end of a step: ``event, instance_uuid, request_id, result``, perhaps ``finish_time, traceback,
        details``. A result 'Error' (any case) marks the action. None when there is no such step.

        ``id`` and ``action_id`` of the row that action_event_start gave spare the search for it.
        """
        with self.store.writer(context) as session:
            event = dict(values) if "action_id" in values else self._latest_event(session, values)
            if event is None:
                return None
            changes = {name: values[name] for name in ("result", "traceback", "details") if name in values}
            changes["finish_time"] = values.get("finish_time") or session.now
            session.update_rows(models.InstanceActionEvent, EVENTS.c.id == event["id"], **changes)
            if (values.get("result") or "").lower() == "error":
                session.update_rows(models.InstanceAction, ACTIONS.c.id == event["action_id"],
                                    message=_MESSAGE_ON_ERROR)
            return {**event, **changes, "updated_at": session.now}

    def _latest_event(self, session: RowSession, values: Mapping[str, Any]) -> dict[str, Any] | None:
        return session.one(sqlalchemy.select(EVENTS).join(ACTIONS, ACTIONS.c.id == EVENTS.c.action_id).where(
            ACTIONS.c.instance_uuid == values["instance_uuid"], ACTIONS.c.request_id == values["request_id"],
            EVENTS.c.event == values["event"]).order_by(ACTIONS.c.id.desc(), EVENTS.c.id.desc()).limit(1))

    @operation
    def action_events_get(self, context: Any, action_id: int) -> list[dict[str, Any]]:
        """Return the steps of an action, latest first."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(EVENTS).where(EVENTS.c.action_id == action_id).order_by(
                EVENTS.c.created_at.desc(), EVENTS.c.id.desc()))

    @operation
    def action_events_get_unfinished(self, context: Any, instance_uuids: Collection[str],
                                     names: Collection[str]) -> list[dict[str, Any]]:
        """Return the steps of these names that have not ended, the oldest first, with ``instance_uuid, request_id``."""
        wanted = sqlalchemy.select(EVENTS, ACTIONS.c.instance_uuid, ACTIONS.c.request_id).join(
            ACTIONS, ACTIONS.c.id == EVENTS.c.action_id).where(
            EVENTS.c.event.in_(list(names)), EVENTS.c.finish_time.is_(None))
        with self.store.reader(context) as session:
            found = [row for uuids in chunks(instance_uuids)
                     for row in session.all(wanted.where(ACTIONS.c.instance_uuid.in_(uuids)))]
        return sorted(found, key=lambda event: event["id"])

    @operation
    def action_event_get_by_id(self, context: Any, action_id: int, event_id: int) -> dict[str, Any] | None:
        """Return one step of an action, None without it."""
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(EVENTS).where(EVENTS.c.action_id == action_id,
                                                               EVENTS.c.id == event_id))


def _event_of(session: RowSession, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"event": values["event"], "start_time": values.get("start_time") or session.now,
            "host": values.get("host"), "details": values.get("details")}
