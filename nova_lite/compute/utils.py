"""Faults, action events, device names, usage notifications and audits of instances (compute specification §6).

Functions that need collaborators find them in the cell their `context` belongs to.
"""

import datetime
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from nova_lite import notifications
from nova_lite.compute.device_names import pick_device_name
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

AUDIT_TASK = "instance_usage_audit"
_FAULT_MESSAGE_LIMIT = 255  # width of instance_faults.message

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def add_instance_fault_from_exc(context: RequestContext, conductor: Any, instance: Mapping[str, Any],
                                fault: BaseException, exc_info: ExcInfo | None = None) -> None:
    """Record `fault` on the instance. The traceback of `exc_info` is added to the details of unexpected ones (500)."""
    kwargs = getattr(fault, "kwargs", {})
    code = kwargs.get("code", 500)
    message = str(kwargs.get("value", type(fault).__name__))
    details = str(fault)
    if exc_info and code == 500:
        details += "\n" + "".join(traceback.format_exception(*exc_info))
    conductor.instance_fault_create(context, {
        "instance_uuid": instance["uuid"],
        "code": code,
        "message": message[:_FAULT_MESSAGE_LIMIT],
        "details": details,
        "host": context.services.host,
    })


# --- Instance actions and their events ---

def pack_action_start(context: RequestContext, instance_uuid: str, action_name: str) -> dict[str, Any]:
    """Return the row values of an action that starts."""
    return {
        "action": action_name,
        "instance_uuid": instance_uuid,
        "request_id": context.request_id,
        "user_id": context.user_id,
        "project_id": context.project_id,
        "start_time": context.timestamp,
    }


def pack_action_finish(context: RequestContext, instance_uuid: str) -> dict[str, Any]:
    """Return the row values of an action that ends."""
    return {"instance_uuid": instance_uuid, "request_id": context.request_id, "finish_time": _now(context)}


def pack_action_event_start(context: RequestContext, instance_uuid: str, event_name: str) -> dict[str, Any]:
    """Return the row values of an event that starts."""
    return {
        "event": event_name,
        "instance_uuid": instance_uuid,
        "request_id": context.request_id,
        "start_time": _now(context),
    }


def pack_action_event_finish(context: RequestContext, instance_uuid: str, event_name: str,
                             exc_val: BaseException | None = None,
                             exc_tb: TracebackType | None = None) -> dict[str, Any]:
    """Return the row values of an event that ends; with a traceback it ends in error."""
    values = {
        "event": event_name,
        "instance_uuid": instance_uuid,
        "request_id": context.request_id,
        "finish_time": _now(context),
    }
    if exc_tb is None:
        return {**values, "result": "Success"}
    return {
        **values,
        "result": "Error",
        "message": str(exc_val),
        "traceback": "".join(traceback.format_tb(exc_tb)),
    }


class EventReporter:
    """Records a block as an event of the current action of each instance. Never suppresses what the block raises."""

    def __init__(self, context: RequestContext, conductor: Any, event_name: str, *instance_uuids: str) -> None:
        self.context = context
        self.conductor = conductor
        self.event_name = event_name
        self.instance_uuids = instance_uuids
        self._started: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "EventReporter":
        for uuid in self.instance_uuids:
            event = self.conductor.action_event_start(self.context,
                                                      pack_action_event_start(self.context, uuid, self.event_name))
            if isinstance(event, dict):
                self._started[uuid] = {name: event[name] for name in ("id", "action_id") if name in event}
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: BaseException | None,
                 exc_tb: TracebackType | None) -> None:
        for uuid in self.instance_uuids:
            packed = pack_action_event_finish(self.context, uuid, self.event_name, exc_val, exc_tb)
            self.conductor.action_event_finish(self.context, {**packed, **self._started.get(uuid, {})})


def _now(context: RequestContext) -> datetime.datetime:
    """Naive UTC, as rows have it; of the cell's clock when the context belongs to one."""
    now = context.services.clock.utcnow() if context.is_bound else datetime.datetime.now(datetime.UTC)
    return now.replace(tzinfo=None)


# --- Device names ---

def get_device_name_for_instance(context: RequestContext, instance: Mapping[str, Any],
                                 bdms: Iterable[Mapping[str, Any]], device: str | None) -> str:
    """Return the device name for a new volume: `device`, moved to the root device's bus, or the first free one.

    Raises InvalidDevicePath, DevicePathInUse.
    """
    return pick_device_name(instance, bdms, device, xenapi=_uses_xenapi(context))


def _uses_xenapi(context: RequestContext) -> bool:
    return not context.is_bound or (context.services.conf.compute_driver or "").endswith("XenAPIDriver")


# --- Usage notifications ---

def publisher_id(host: str) -> str:
    """Return the publisher of a compute service's notifications."""
    return f"compute.{host}"


def get_nw_info_for_instance(instance: Mapping[str, Any]) -> NetworkInfo:
    """Return the instance's cached network info; empty when there is none."""
    return notifications.cached_network_info(instance)


def notify_about_instance_usage(context: RequestContext, instance: Mapping[str, Any], event_suffix: str,
                                network_info: Any = None, system_metadata: Mapping[str, str] | None = None,
                                extra_usage_info: Mapping[str, Any] | None = None, host: str | None = None) -> None:
    """Send `compute.instance.<event_suffix>` with the payload of the compute specification §6.4.

    `extra_usage_info` is merged last and wins. A notification that cannot be sent is logged, never raised.
    """
    payload = notifications.info_from_instance(context, instance, network_info, system_metadata,
                                               **(extra_usage_info or {}))
    notifications.send(context, publisher_id(host or context.services.host), f"compute.instance.{event_suffix}",
                       payload)


def notify_usage_exists(context: RequestContext, instance_ref: Mapping[str, Any], current_period: bool = False,
                        ignore_missing_network_data: bool = True,
                        system_metadata: Mapping[str, str] | None = None,
                        extra_usage_info: Mapping[str, Any] | None = None) -> None:
    """Send `compute.instance.exists` for the last completed audit period, or for the current one so far.

    Bandwidth that cannot be had is None, or raises with ignore_missing_network_data False.
    """
    beginning, ending = notifications.audit_period_bounds(context, current_period)
    bandwidth = notifications.bandwidth_usage(context, instance_ref, beginning, ignore_missing_network_data)
    if system_metadata is None:
        system_metadata = notifications.metadata_dict(instance_ref["system_metadata"])
    extra = {
        "audit_period_beginning": str(beginning),
        "audit_period_ending": str(ending),
        "bandwidth": bandwidth,
        "image_meta": notifications.image_meta(system_metadata),
        **(extra_usage_info or {}),
    }
    notify_about_instance_usage(context, instance_ref, "exists", system_metadata=system_metadata,
                                extra_usage_info=extra)


# --- Audits and volume usage ---

def has_audit_been_run(context: RequestContext, conductor: Any, host: str,
                       timestamp: datetime.datetime | None = None) -> bool:
    """Tell whether this host's usage audit of the last period completed before `timestamp` (now) has begun."""
    begin, end = notifications.last_completed_audit_period(context.services.conf.instance_usage_audit_period,
                                                           before=timestamp or _now(context))
    return bool(conductor.task_log_get(context, AUDIT_TASK, begin, end, host))


def start_instance_usage_audit(context: RequestContext, conductor: Any, begin: datetime.datetime,
                               end: datetime.datetime, host: str, num_instances: int) -> None:
    """Record that this host's audit of the period begins; raises TaskAlreadyRunning."""
    conductor.task_log_begin_task(context, AUDIT_TASK, begin, end, host, num_instances,
                                  f"Instance usage audit of {host} started: {num_instances} instances")


def finish_instance_usage_audit(context: RequestContext, conductor: Any, begin: datetime.datetime,
                                end: datetime.datetime, host: str, errors: int, message: str) -> None:
    """Record that the audit is done; raises TaskNotRunning."""
    conductor.task_log_end_task(context, AUDIT_TASK, begin, end, host, errors, message)


def usage_volume_info(vol_usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a volume.usage notification of a row of volume usage."""
    times = [time for time in (vol_usage["tot_last_refreshed"], vol_usage["curr_last_refreshed"]) if time]
    totals = {name: (vol_usage[f"tot_{name}"] or 0) + (vol_usage[f"curr_{name}"] or 0)
              for name in ("reads", "read_bytes", "writes", "write_bytes")}
    return {
        "volume_id": vol_usage["volume_id"],
        "instance_id": vol_usage["instance_id"],
        "last_refreshed": str(max(times)) if times else "",
        **totals,
    }
