"""What users did to an instance, and the steps it took."""

import datetime
import traceback as traceback_module
from typing import Any

from nova_lite.objects import base, fields


@base.register
class InstanceAction(base.Persistent, base.NovaObject):
    """One action; its request id ties it to the request that asked for it."""

    VERSION = "1.1"

    fields = {
        "id": fields.Integer(),
        "action": fields.Text(nullable=True),
        "instance_uuid": fields.Uuid(nullable=True),
        "request_id": fields.Text(nullable=True),
        "user_id": fields.Text(nullable=True),
        "project_id": fields.Text(nullable=True),
        "start_time": fields.DateTime(nullable=True),
        "finish_time": fields.DateTime(nullable=True),
        "message": fields.Text(nullable=True),
    }

    @classmethod
    def get_by_request_id(cls, context: Any, instance_uuid: str, request_id: str) -> "InstanceAction | None":
        """Return the action of a request, None without one."""
        row = context.services.db.action_get_by_request_id(context, instance_uuid, request_id)
        return cls._from_row(context, row) if row else None

    @classmethod
    def action_start(cls, context: Any, instance_uuid: str, action_name: str) -> "InstanceAction":
        """Record that the context's user began an action."""
        row = context.services.db.action_start(context, {
            "action": action_name, "instance_uuid": instance_uuid, "request_id": context.request_id,
            "user_id": context.user_id, "project_id": context.project_id})
        return cls._from_row(context, row)

    def finish(self) -> None:
        """Record that the action has ended. Raises InstanceActionNotFound."""
        row = self._db.action_finish(self._context, {"instance_uuid": self.instance_uuid,
                                                     "request_id": self.request_id})
        self._fill(row)


@base.register
class InstanceActionList(base.ObjectList, base.NovaObject):
    """The actions of an instance, latest first."""

    VERSION = "1.0"
    child = InstanceAction
    fields = {"objects": fields.ListOfNested("InstanceAction")}

    @classmethod
    def get_by_instance_uuid(cls, context: Any, instance_uuid: str) -> "InstanceActionList":
        """Return the actions of an instance, latest first."""
        return cls._from_rows(context, context.services.db.actions_get(context, instance_uuid))


@base.register
class InstanceActionEvent(base.Persistent, base.NovaObject):
    """One step of an action."""

    VERSION = "1.1"
    beyond_floor = frozenset(("host", "details"))

    fields = {
        "id": fields.Integer(),
        "event": fields.Text(nullable=True),
        "action_id": fields.Integer(nullable=True),
        "start_time": fields.DateTime(nullable=True),
        "finish_time": fields.DateTime(nullable=True),
        "result": fields.Text(nullable=True),
        "traceback": fields.Text(nullable=True),
        "host": fields.Text(nullable=True),
        "details": fields.Text(nullable=True),
    }

    @classmethod
    def event_start(cls, context: Any, instance_uuid: str, event_name: str,
                    host: str | None = None) -> "InstanceActionEvent":
        """Record the begin of a step of the context's request; the action is made when it is missing."""
        row = context.services.db.action_event_start(context, {
            "event": event_name, "instance_uuid": instance_uuid, "request_id": context.request_id, "host": host})
        return cls._from_row(context, row)

    @classmethod
    def event_finish(cls, context: Any, instance_uuid: str, event_name: str, exc_val: BaseException | None = None,
                     exc_tb: Any = None) -> "InstanceActionEvent | None":
        """Record the end of a step, as an error when there was one. None when no such step is known."""
        values: dict[str, Any] = {"event": event_name, "instance_uuid": instance_uuid,
                                  "request_id": context.request_id, "result": "Success"}
        if exc_val is not None:
            values.update(result="Error", message=str(exc_val), details=str(exc_val))
        if exc_tb is not None:
            values["traceback"] = "".join(traceback_module.format_tb(exc_tb))
        row = context.services.db.action_event_finish(context, values)
        return cls._from_row(context, row) if row else None

    @property
    def duration(self) -> datetime.timedelta | None:
        """How long the step took, None while it runs."""
        return self.finish_time - self.start_time if self.finish_time and self.start_time else None


@base.register
class InstanceActionEventList(base.ObjectList, base.NovaObject):
    """The steps of an action, latest first."""

    VERSION = "1.0"
    child = InstanceActionEvent
    fields = {"objects": fields.ListOfNested("InstanceActionEvent")}

    @classmethod
    def get_by_action(cls, context: Any, action_id: int) -> "InstanceActionEventList":
        """Return the steps of an action, latest first."""
        return cls._from_rows(context, context.services.db.action_events_get(context, action_id))
