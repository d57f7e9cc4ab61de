"""Telling others what happened: usage and state notifications (compute specification §6.4, §6.6).

Functions find notifier, configuration, database and network of the cell in the context. A notification that cannot
be sent is logged and never fails what it tells about. Secrets are removed by key.
"""

import calendar
import datetime
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

PRIORITIES = ("DEBUG", "WARN", "INFO", "ERROR", "CRITICAL")
_SECRET_PARTS = ("_pass", "password")
_SECRET_KEYS = frozenset(("injected_files", "files_to_inject", "file_contents", "user_data", "token",
                         "connection_info", "disk_info"))
_MAX_DEPTH = 20


# --- Sending ---

def send(context: RequestContext, publisher_id: str, event_type: str, payload: Mapping[str, Any],
         priority: str = "INFO") -> None:
    """Publish one notification on the broker of the context's cell. Raises BadPriorityException, and nothing else."""
    if priority not in PRIORITIES:
        raise exception.BadPriorityException(priority=priority)
    if not context.is_bound or context.services.notifier is None:
        return
    try:
        notifier = context.services.notifier.prepare(publisher_id=publisher_id)
        getattr(notifier, priority.lower())({**context.to_dict(), "auth_token": None, "service_catalog": []},
                                            event_type, redact(payload))
    except Exception as error:  # a library's, or what a payload could not be written for
        LOG.warning("notification %s was not sent: %s", event_type, type(error).__name__)


def redact(payload: Any) -> Any:
    """The payload as plain JSON data, without passwords, tokens, injected files and user data."""
    return _plain(payload, _MAX_DEPTH)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth == 0:
        return "…"
    if hasattr(value, "to_legacy_dict"):
        value = value.to_legacy_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items() if not _is_secret(str(key))}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, datetime.datetime):
        return str(_naive(value))
    return str(value)


def _is_secret(key: str) -> bool:
    return key in _SECRET_KEYS or key.startswith("auth_") or any(part in key for part in _SECRET_PARTS)


# --- State changes ---

def send_update(context: RequestContext, old_instance: Mapping[str, Any], new_instance: Mapping[str, Any],
                service: str | None = None, host: str | None = None) -> None:
    """Tell that an instance was changed, where options ask for it. Failures are logged."""
    conf = context.services.conf
    if not conf.notify_on_any_change and not conf.notify_on_state_change:
        return
    states = [(item.get("vm_state"), item.get("task_state")) for item in (old_instance, new_instance)]
    vm_changed, task_changed = states[0][0] != states[1][0], states[0][1] != states[1][1]
    if vm_changed or (conf.notify_on_state_change == "vm_and_task_state" and task_changed):
        send_update_with_states(context, new_instance, states[0][0], states[1][0], states[0][1], states[1][1],
                                service or "compute", host)
    elif conf.notify_on_any_change:
        _send_update(context, new_instance, service, host, old_vm_state=None, old_task_state=None,
                     new_vm_state=states[1][0], new_task_state=states[1][1])


def send_update_with_states(context: RequestContext, instance: Mapping[str, Any], old_vm_state: str | None,
                            new_vm_state: str | None, old_task_state: str | None, new_task_state: str | None,
                            service: str = "compute", host: str | None = None, verify_states: bool = False) -> None:
    """Tell a change of states, where notify_on_state_change asks for it.

    ``verify_states``: only if they differ in a way the option names. Failures are logged.
    """
    wanted = context.services.conf.notify_on_state_change
    if not wanted:
        return
    changed = old_vm_state != new_vm_state or (wanted == "vm_and_task_state" and old_task_state != new_task_state)
    if verify_states and not changed:
        return
    _send_update(context, instance, service, host, old_vm_state, old_task_state, new_vm_state, new_task_state)


def _send_update(context: RequestContext, instance: Mapping[str, Any], service: str | None, host: str | None,
                 old_vm_state: str | None, old_task_state: str | None, new_vm_state: str | None,
                 new_task_state: str | None) -> None:
    try:
        beginning, ending = audit_period_bounds(context, current_period=True)
        payload = info_from_instance(
            context, instance, None, None,
            old_state=old_vm_state, state=new_vm_state, old_task_state=old_task_state, new_task_state=new_task_state,
            audit_period_beginning=str(beginning), audit_period_ending=str(ending),
            bandwidth=bandwidth_usage(context, instance, beginning, ignore_missing_network_data=True))
    except Exception:  # the change itself is done and must not fail
        LOG.exception("notification compute.instance.update of %s was not made", instance["uuid"])
        return
    publisher = f"{service or 'compute'}.{host or context.services.host}"
    send(context, publisher, "compute.instance.update", payload)


def send_api_fault(context: RequestContext, url: str, status: int, error: Any) -> None:
    """Tell that a request of the API failed, where notify_api_faults asks for it."""
    if context.services.conf.notify_api_faults:
        send(context, f"api.{context.services.host}", "api.fault",
             {"url": url, "exception": str(error), "status": status}, priority="ERROR")


# --- Payloads ---

def info_from_instance(context: RequestContext, instance: Mapping[str, Any], network_info: Any,
                       system_metadata: Mapping[str, str] | None, **extra: Any) -> dict[str, Any]:
    """The payload of compute specification §6.4; ``extra`` is merged last and wins."""
    get = instance.get
    if system_metadata is None:
        system_metadata = metadata_dict(get("system_metadata"))
    root_gb, ephemeral_gb = get("root_gb") or 0, get("ephemeral_gb") or 0
    payload = {
        "tenant_id": get("project_id"),
        "user_id": get("user_id"),
        "instance_id": get("uuid"),
        "display_name": get("display_name"),
        "reservation_id": get("reservation_id"),
        "hostname": get("hostname"),
        "instance_type": _flavor_name(instance, system_metadata),
        "instance_type_id": get("instance_type_id"),
        "architecture": get("architecture"),
        "memory_mb": get("memory_mb"),
        "vcpus": get("vcpus"),
        "root_gb": root_gb,
        "ephemeral_gb": ephemeral_gb,
        "disk_gb": root_gb + ephemeral_gb,
        "host": get("host"),
        "availability_zone": get("availability_zone"),
        "created_at": _text(get("created_at")),
        "deleted_at": _text(get("terminated_at")),
        "launched_at": _text(get("launched_at")),
        "image_ref_url": image_url(context, get("image_ref")),
        "os_type": get("os_type"),
        "kernel_id": get("kernel_id"),
        "ramdisk_id": get("ramdisk_id"),
        "state": get("vm_state"),
        "state_description": get("task_state") or "",
        "access_ip_v4": _address(get("access_ip_v4")),
        "access_ip_v6": _address(get("access_ip_v6")),
        "image_meta": image_meta(system_metadata),
        "metadata": metadata_dict(get("metadata")),
    }
    if network_info is not None:
        payload["fixed_ips"] = [{**ip, "label": vif["network"]["label"]}
                                for vif in NetworkInfo.hydrate(network_info) for ip in vif.fixed_ips()]
    return {**payload, **extra}


def metadata_dict(metadata: Any) -> dict[str, str]:
    """Metadata as a dict, from a dict, rows of key and value, or None."""
    if isinstance(metadata, Mapping):
        return dict(metadata)
    return {row["key"]: row["value"] for row in metadata or ()}


def image_meta(system_metadata: Mapping[str, str]) -> dict[str, str]:
    """What of system metadata was copied from the image, without its prefix."""
    return {key.removeprefix("image_"): value for key, value in system_metadata.items() if key.startswith("image_")}


def cached_network_info(instance: Mapping[str, Any]) -> NetworkInfo:
    """The network information kept with the instance; empty when there is none."""
    cache = instance.get("info_cache")
    return NetworkInfo.hydrate((cache["network_info"] if cache else None) or [])


def bandwidth_usage(context: RequestContext, instance: Mapping[str, Any], beginning: datetime.datetime,
                    ignore_missing_network_data: bool) -> dict[str, dict[str, int]] | None:
    """Bytes in and out by network label since ``beginning``, of the interfaces the instance has.

    When the network cannot be asked: None, or what it raised if missing data is not to be ignored.
    """
    services = context.services
    network_info = cached_network_info(instance)
    if not network_info and services.network_api is not None:
        try:
            network_info = services.network_api.get_instance_nw_info(context.elevated(read_deleted="yes"), instance)
        except Exception as error:
            if not ignore_missing_network_data:
                raise
            LOG.warning("no bandwidth of instance %s: %s", instance["uuid"], error)
            return None
    labels = {vif["address"]: vif["network"]["label"] for vif in network_info}
    rows = services.db.bw_usage_get_by_uuids(context, [instance["uuid"]], _naive(beginning)) if labels else ()
    return {labels[row["mac"]] or f"net-name-not-found-{row['mac']}": {"bw_in": row["bw_in"], "bw_out": row["bw_out"]}
            for row in rows if row["mac"] in labels}


def _flavor_name(instance: Mapping[str, Any], system_metadata: Mapping[str, str]) -> str | None:
    flavor = instance.get("flavor")
    if flavor is not None and not isinstance(flavor, str):
        return flavor["name"]
    return system_metadata.get("instance_type_name")


def image_url(context: RequestContext, image_ref: str | None) -> str:
    """Where the image service shows the image."""
    conf = context.services.conf
    return f"{conf.glance_protocol}://{conf.glance_host}:{conf.glance_port}/images/{image_ref}"


def _text(time: datetime.datetime | str | None) -> str:
    return str(_naive(time)) if isinstance(time, datetime.datetime) else (time or "")


def _address(address: Any) -> str | None:
    return None if address is None else str(address)


def _naive(time: datetime.datetime) -> datetime.datetime:
    return time.astimezone(datetime.UTC).replace(tzinfo=None) if time.tzinfo else time


# --- Audit periods ---

def audit_period_bounds(context: RequestContext, current_period: bool) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end of the last completed audit period, or of the current one so far (naive UTC)."""
    now = _naive(context.services.clock.utcnow())
    begin, end = last_completed_audit_period(context.services.conf.instance_usage_audit_period, before=now)
    return (end, now) if current_period else (begin, end)


def last_completed_audit_period(unit: str, before: datetime.datetime) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end of the last period that was over before ``before``.

    ``unit``: hour, day, month or year, optionally @OFFSET: the minute, hour, day or month at which it turns. Raises
    ValueError.
    """
    name, _, offset_text = unit.partition("@")
    if name not in _TURNS or (offset_text and not offset_text.isdigit()):
        raise ValueError(f"audit period must be hour, day, month or year, optionally @offset, not {unit!r}")
    lowest, highest, turn = _TURNS[name]
    offset = int(offset_text) if offset_text else lowest
    if not lowest <= offset <= highest:
        raise ValueError(f"offset of audit period {unit!r} must be {lowest} to {highest}")
    before = _naive(before)
    end = turn(before, 0, offset)
    back = 0
    if end >= before:
        back = 1
        end = turn(before, 1, offset)
    return turn(before, back + 1, offset), end


def _hour_turn(now: datetime.datetime, back: int, minute: int) -> datetime.datetime:
    return now.replace(minute=minute, second=0, microsecond=0) - datetime.timedelta(hours=back)


def _day_turn(now: datetime.datetime, back: int, hour: int) -> datetime.datetime:
    return now.replace(hour=hour, minute=0, second=0, microsecond=0) - datetime.timedelta(days=back)


def _month_turn(now: datetime.datetime, back: int, day: int) -> datetime.datetime:
    year, month = divmod(now.year * 12 + now.month - 1 - back, 12)
    return datetime.datetime(year, month + 1, min(day, calendar.monthrange(year, month + 1)[1]))


def _year_turn(now: datetime.datetime, back: int, month: int) -> datetime.datetime:
    return datetime.datetime(now.year - back, month, 1)


_TURNS = {"hour": (0, 59, _hour_turn), "day": (0, 23, _day_turn), "month": (1, 31, _month_turn),
          "year": (1, 12, _year_turn)}
