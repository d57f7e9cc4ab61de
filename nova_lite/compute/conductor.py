"""What the reference asks its conductor service, answered by the database of this very process."""

import datetime
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_lite import exception, notifications
from nova_lite.compute import utils as compute_utils
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance, InstanceFault

LOG = logging.getLogger(__name__)

UPDATABLE = frozenset({
    "task_state", "vm_state", "power_state", "access_ip_v4", "access_ip_v6", "launched_at", "terminated_at", "host",
    "node", "memory_mb", "vcpus", "root_gb", "ephemeral_gb", "instance_type_id", "root_device_name", "launched_on",
    "progress", "vm_mode", "default_ephemeral_device", "default_swap_device", "system_metadata", "updated_at",
    # what later eras keep in fields of their own
    "flavor", "old_flavor", "new_flavor", "image_ref", "cleaned",
})
_GUARDS = frozenset({"expected_task_state", "expected_vm_state"})
_TIMES = frozenset({"launched_at", "terminated_at", "updated_at"})

# Methods that are the database's, name and arguments alike.
_OF_THE_DATABASE = frozenset({
    "agent_build_get_by_triple", "aggregate_get", "aggregate_get_by_host", "aggregate_host_add",
    "aggregate_host_delete", "aggregate_metadata_add", "aggregate_metadata_delete", "bw_usage_get",
    "bw_usage_update", "compute_node_create", "compute_node_delete", "compute_node_update",
    "instance_get", "instance_get_all_by_host", "instance_get_all_hung_in_rebooting",
    "instance_get_by_uuid", "instance_info_cache_delete", "instance_info_cache_update", "instance_type_get",
    "migration_get", "migration_get_unconfirmed_by_dest_compute", "migration_update", "provider_fw_rule_get_all",
    "security_group_get_by_instance", "security_group_rule_get_by_security_group", "service_get_by_compute_host",
    "task_log_begin_task", "task_log_end_task", "task_log_get", "vol_get_usage_by_time", "vol_usage_update",
})


class LocalConductor:
    """The conductor's methods under the reference's names; results are plain dicts, as from a conductor.

    What an instance update does beside the row is written here once: known columns only, expected states as a
    guard, and the notification of the state change. `save` is the same for an Instance in hand.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_DATABASE:
            return getattr(self._services.db, name)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def save(self, context: RequestContext, instance: Instance, **updates: Any) -> Instance:
        """Write `updates` to the instance, announce the change of its state, and return the instance.

        expected_task_state and expected_vm_state: scalar or list; None given means "must be idle", absence means no
        check (UnexpectedTaskStateError, UnexpectedVMStateError). When the write fails, the object is as before.
        Raises KeyError for a column that is not updatable.
        """
        guards: dict[str, Any] = {name: _as_list(updates.pop(name)) for name in _GUARDS & updates.keys()}
        unknown = updates.keys() - UPDATABLE
        if unknown:
            raise KeyError(f"not updatable: {', '.join(sorted(unknown))}")
        updates = {name: _parsed(name, value) for name, value in updates.items()}
        before = {name: instance.get(name) for name in {"vm_state", "task_state", *updates}}
        try:
            for name, value in updates.items():
                instance[name] = value
            if guards and not instance.obj_what_changed():
                _check_unchanged(instance, guards)
            instance.save(**guards)
        except Exception:  # whatever stopped the write, the object must show what the row says
            _restore(instance, before, updates)
            raise
        notifications.send_update(context, before, instance, service="compute", host=self._services.host)
        return instance

    def instance_update(self, context: RequestContext, instance_uuid: str, **updates: Any) -> dict[str, Any]:
        """Update the row with this uuid as `save` does; returns the updated row."""
        return self.save(context, Instance.get_by_uuid(context, instance_uuid), **updates).to_legacy_dict()

    def instance_destroy(self, context: RequestContext, instance: Any) -> None:
        """Delete the row; related rows go as the database documents."""
        Instance.get_by_uuid(context, instance["uuid"]).destroy()

    def instance_fault_create(self, context: RequestContext, values: dict[str, Any]) -> None:
        """Record a fault, also for the cells above."""
        InstanceFault(context, **values).create()

    def action_event_start(self, context: RequestContext, values: dict[str, Any]) -> Any:
        """Record the start of an event; an action that nobody recorded is logged, not an error."""
        try:
            return self._services.db.action_event_start(context, values)
        except exception.InstanceActionNotFound as error:
            LOG.debug("Event %s is not recorded: %s", values["event"], error)
            return None

    def action_event_finish(self, context: RequestContext, values: dict[str, Any]) -> Any:
        """Record the end of an event; one whose start is not there is logged, not an error."""
        try:
            return self._services.db.action_event_finish(context, values)
        except (exception.InstanceActionNotFound, exception.InstanceActionEventNotFound) as error:
            LOG.debug("Event %s is not recorded: %s", values["event"], error)
            return None

    def notify_usage_exists(self, context: RequestContext, instance: Any, current_period: bool = False,
                            ignore_missing_network_data: bool = True, system_metadata: dict[str, str] | None = None,
                            extra_usage_info: dict[str, Any] | None = None) -> None:
        """See compute.utils.notify_usage_exists."""
        compute_utils.notify_usage_exists(context, instance, current_period, ignore_missing_network_data,
                                          system_metadata, extra_usage_info)


def _check_unchanged(instance: Instance, guards: dict[str, list[Any]]) -> None:
    """Hold an update that writes nothing against the states it expects: no statement would do it."""
    instance.refresh()
    expected = guards.get("expected_task_state")
    if expected is not None and instance.task_state not in expected:
        raise exception.UnexpectedTaskStateError(expected=expected, actual=instance.task_state)
    expected = guards.get("expected_vm_state")
    if expected is not None and instance.vm_state not in expected:
        raise exception.UnexpectedVMStateError(expected=expected, actual=instance.vm_state)


def _as_list(states: Any) -> list[Any]:
    return list(states) if isinstance(states, (list, tuple, set, frozenset)) else [states]


def _parsed(name: str, value: Any) -> Any:
    if name not in _TIMES or value is None:
        return value
    if isinstance(value, str):
        value = timeutils.parse_isotime(value) if "T" in value else timeutils.parse_strtime(value)
    return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)


def _restore(instance: Instance, before: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        instance[name] = before[name]
    instance.obj_reset_changes(list(names))
