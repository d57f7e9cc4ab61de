"""Hosts, services and compute nodes of this cell (compute specification §10.4)."""

from typing import Any

from nova_lite import exception, servicegroup
from nova_lite.compute import api_checks as checks
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import ComputeNode, ComputeNodeList, InstanceList, Service, ServiceList

POWER_ACTIONS = ("startup", "shutdown", "reboot")


class HostAPI:
    """What administrators do with hosts. Unknown hosts raise HostNotFound."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._compute = ComputeAPI(services)
        self._servicegroup = servicegroup.API(services)

    # -- acting on a host --

    def set_host_enabled(self, context: RequestContext, host_name: str, enabled: bool) -> Any:
        """Let a host take new instances, or not; returns what its driver says."""
        service = self._known(context, host_name)
        answer = self._compute.set_host_enabled(context, enabled, host_name)
        service.disabled = not enabled
        service.save()
        return answer

    def get_host_uptime(self, context: RequestContext, host_name: str) -> str:
        """Return the host's uptime as text. Raises ComputeServiceUnavailable."""
        if not self._servicegroup.service_is_up(self._known(context, host_name)):
            raise exception.ComputeServiceUnavailable(host=host_name)
        return self._compute.get_host_uptime(context, host_name)

    def host_power_action(self, context: RequestContext, host_name: str, action: str) -> Any:
        """Start (`startup`), `shutdown` or `reboot` a host; returns what its driver says. Raises Invalid."""
        check_power_action(action)
        self._known(context, host_name)
        return self._compute.host_power_action(context, action, host_name)

    def set_host_maintenance(self, context: RequestContext, host_name: str, mode: bool) -> Any:
        """Put a host into maintenance, its guests moved away, or take it back."""
        self._known(context, host_name)
        return self._compute.host_maintenance_mode(context, host_name, mode, host_name)

    def _known(self, context: RequestContext, host_name: str) -> Service:
        try:
            return Service.get_by_compute_host(context.elevated(), host_name)
        except exception.ComputeHostNotFound as error:
            raise exception.HostNotFound(host=host_name) from error

    # -- what there is --

    def service_get_all(self, context: RequestContext, filters: dict[str, Any] | None = None,
                        set_zones: bool = False) -> list[Any]:
        """Return the services that match, each with its availability zone (so `set_zones` changes nothing)."""
        wanted = dict(filters or {})
        disabled = wanted.pop("disabled", None)
        services = ServiceList.get_all(context.elevated(), disabled=disabled)
        return [service for service in services
                if all(service.get(name) == value for name, value in wanted.items())]

    def service_get_by_compute_host(self, context: RequestContext, host_name: str) -> Service:
        """Return the nova-compute of a host. Raises ComputeHostNotFound."""
        return Service.get_by_compute_host(context.elevated(), host_name)

    def service_update(self, context: RequestContext, host_name: str, binary: str,
                       params_to_update: dict[str, Any]) -> Service:
        """Change a service's record, such as `disabled`. Raises HostBinaryNotFound, Invalid."""
        checks.check_arguments(params_to_update)
        service = Service.get_by_args(context.elevated(), host_name, binary)
        service.update(params_to_update)
        service.save()
        return service

    def service_delete(self, context: RequestContext, service_id: int) -> None:
        """Forget a service. Raises ServiceNotFound."""
        Service.get_by_id(context.elevated(), int(service_id)).destroy()

    def instance_get_all_by_host(self, context: RequestContext, host_name: str) -> InstanceList:
        """Return the instances of a host."""
        return InstanceList.get_by_host(context.elevated(), host_name)

    def task_log_get_all(self, context: RequestContext, task_name: str, period_beginning: Any, period_ending: Any,
                         host: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
        """Return the records of a periodic audit."""
        return self._services.db.task_log_get_all(context.elevated(), task_name, period_beginning, period_ending,
                                                  host=host, state=state)

    def compute_node_get(self, context: RequestContext, compute_id: int) -> ComputeNode:
        """Return a compute node. Raises ComputeHostNotFound."""
        return ComputeNode.get_by_id(context.elevated(), int(compute_id))

    def compute_node_get_all(self, context: RequestContext) -> ComputeNodeList:
        """Return all compute nodes."""
        return ComputeNodeList.get_all(context.elevated())

    def compute_node_search_by_hypervisor(self, context: RequestContext, hypervisor_match: str) -> ComputeNodeList:
        """Return the compute nodes whose hypervisor host name contains a text."""
        return ComputeNodeList.get_by_hypervisor(context.elevated(), hypervisor_match)

    def compute_node_statistics(self, context: RequestContext) -> dict[str, int]:
        """Return sums over the nodes of services that are not disabled."""
        return self._services.db.compute_node_statistics(context.elevated())


def check_power_action(action: str) -> None:
    """Raise Invalid for what nobody can do with a host."""
    if action not in POWER_ACTIONS:
        raise exception.Invalid(f"A host can do {', '.join(POWER_ACTIONS)}, not {str(action)[:40]!r}")
