"""Hosts and actions of the cells below an API cell: hosts are `path@host`, ids `path@id` (cells specification A.3)."""

from typing import Any

from nova_lite import exception
from nova_lite.compute.host_api import check_power_action
from nova_lite.compute.rpcapi import primitive
from nova_lite.context import RequestContext, Services
from nova_lite.objects import InstanceActionList, InstanceList

# Versions of the host operations in the compute RPC API.
_HOST_METHODS = "2.0"


class HostAPI:
    """What administrators do with hosts of all cells. Unknown hosts raise HostNotFound."""

    def __init__(self, services: Services, cells_api: Any) -> None:
        self._services = services
        self._cells = cells_api

    # -- acting on a host --

    def set_host_enabled(self, context: RequestContext, host_name: str, enabled: bool) -> Any:
        """Let a host take new instances, or not; returns what its driver says."""
        answer = self._proxy(context, host_name, "set_host_enabled", enabled=enabled)
        self._cells.service_update(context, host_name, "nova-compute", {"disabled": not enabled})
        return answer

    def get_host_uptime(self, context: RequestContext, host_name: str) -> str:
        """Return the host's uptime as text. Raises ComputeServiceUnavailable."""
        return self._found(exception.HostNotFound, host_name, self._cells.get_host_uptime, context, host_name)

    def host_power_action(self, context: RequestContext, host_name: str, action: str) -> Any:
        """Start (`startup`), `shutdown` or `reboot` a host; returns what its driver says. Raises Invalid."""
        check_power_action(action)
        return self._proxy(context, host_name, "host_power_action", action=action)

    def set_host_maintenance(self, context: RequestContext, host_name: str, mode: bool) -> Any:
        """Put a host into maintenance, its guests moved away, or take it back."""
        own_name = host_name.rpartition("@")[2]
        return self._proxy(context, host_name, "host_maintenance_mode", host=own_name, mode=mode)

    def _proxy(self, context: RequestContext, host_name: str, method: str, **arguments: Any) -> Any:
        message = {"method": method, "namespace": None, "version": _HOST_METHODS, "args": primitive(arguments)}
        topic = f"{self._services.conf.compute_topic}.{host_name}"
        return self._found(exception.HostNotFound, host_name, self._cells.proxy_rpc_to_manager, context, message,
                           topic, call=True)

    def _found(self, error: type[exception.NotFound], host_name: str, ask: Any, *args: Any, **kwargs: Any) -> Any:
        """Ask a cell; one that does not exist means a host that does not."""
        try:
            return ask(*args, **kwargs)
        except (exception.CellRoutingInconsistency, exception.ComputeHostNotFound) as reason:
            raise error(host=host_name) from reason

    # -- what there is --

    def service_get_all(self, context: RequestContext, filters: dict[str, Any] | None = None,
                        set_zones: bool = False) -> list[Any]:
        """Return the services of all cells that match, each with the zone its own cell says (whatever `set_zones`)."""
        wanted = dict(filters or {})
        zone = wanted.pop("availability_zone", None)
        services = self._cells.service_get_all(context, wanted)
        return [service for service in services if zone is None or service["availability_zone"] == zone]

    def service_get_by_compute_host(self, context: RequestContext, host_name: str) -> Any:
        """Return the nova-compute of a host. Raises ComputeHostNotFound."""
        return self._found(exception.ComputeHostNotFound, host_name, self._cells.service_get_by_compute_host, context,
                           host_name)

    def service_update(self, context: RequestContext, host_name: str, binary: str,
                       params_to_update: dict[str, Any]) -> Any:
        """Change a service's record, such as `disabled`."""
        return self._cells.service_update(context, host_name, binary, params_to_update)

    def service_delete(self, context: RequestContext, service_id: str) -> None:
        """Forget a service."""
        self._cells.service_delete(context, service_id)

    def instance_get_all_by_host(self, context: RequestContext, host_name: str) -> InstanceList:
        """Return the instances of a host, as this cell knows them."""
        path, _, host = host_name.rpartition("@")
        filters = {"host": host, "deleted": False, **({"cell_name": path} if path else {})}
        return InstanceList.get_by_filters(context.elevated(), filters)

    def task_log_get_all(self, context: RequestContext, task_name: str, period_beginning: Any, period_ending: Any,
                         host: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
        """Return the records of a periodic audit in all cells."""
        return self._cells.task_log_get_all(context, task_name, period_beginning, period_ending, host=host, state=state)

    def compute_node_get(self, context: RequestContext, compute_id: str) -> Any:
        """Return a compute node. Raises ComputeHostNotFound."""
        return self._found(exception.ComputeHostNotFound, str(compute_id), self._cells.compute_node_get, context,
                           compute_id)

    def compute_node_get_all(self, context: RequestContext) -> list[Any]:
        """Return the compute nodes of all cells."""
        return self._cells.compute_node_get_all(context)

    def compute_node_search_by_hypervisor(self, context: RequestContext, hypervisor_match: str) -> list[Any]:
        """Return the compute nodes whose hypervisor host name contains a text."""
        return self._cells.compute_node_get_all(context, hypervisor_match=hypervisor_match)

    def compute_node_statistics(self, context: RequestContext) -> dict[str, int]:
        """Return sums over the nodes of all cells."""
        return self._cells.compute_node_stats(context)


class InstanceActionAPI:
    """Actions and their events; asked of the cell that has the instance, or of this one while none has."""

    def __init__(self, services: Services, cells_api: Any) -> None:
        self._services = services
        self._cells = cells_api

    def actions_get(self, context: RequestContext, instance: Any) -> Any:
        """Return the actions, latest first."""
        if not instance["cell_name"]:
            return InstanceActionList.get_by_instance_uuid(context, instance["uuid"])
        return self._cells.actions_get(context, instance)

    def action_get_by_request_id(self, context: RequestContext, instance: Any, request_id: str) -> Any:
        """Return the action of a request, None without one."""
        if not instance["cell_name"]:
            return self._services.db.action_get_by_request_id(context, instance["uuid"], request_id)
        return self._cells.action_get_by_request_id(context, instance, request_id)

    def action_events_get(self, context: RequestContext, instance: Any, action_id: int) -> Any:
        """Return the steps of an action, latest first."""
        if not instance["cell_name"]:
            return self._services.db.action_events_get(context, action_id)
        return self._cells.action_events_get(context, instance, action_id)
