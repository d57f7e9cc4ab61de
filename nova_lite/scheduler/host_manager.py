"""What the scheduler knows about the hosts of its cell (compute specification §11.3)."""

import copy
import datetime
import json
import threading
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import servicegroup
from nova_lite.context import RequestContext, Services
from nova_lite.objects import task_states, vm_states

LOG = logging.getLogger(__name__)

_IO_TASKS = frozenset({task_states.RESIZE_MIGRATING, task_states.REBUILDING, task_states.RESIZE_PREP,
                       task_states.IMAGE_SNAPSHOT, task_states.IMAGE_BACKUP})


class HostState:
    """One compute node as far as choosing it goes; what was given away since its last report is already gone.

    `limits`: how far compute may fill the node, set by the filters. `aggregates`: the aggregates the host is in.
    """

    def __init__(self, host: str, nodename: str | None) -> None:
        self.host = host
        self.nodename = nodename
        self.capabilities: dict[str, Any] = {}
        self.service: dict[str, Any] = {}
        self.service_up = False
        self.aggregates: list[dict[str, Any]] = []
        self.limits: dict[str, float] = {}
        self.total_usable_ram_mb = 0
        self.total_usable_disk_gb = 0
        self.free_ram_mb = 0
        self.free_disk_mb = 0
        self.disk_mb_used = 0
        self.vcpus_total = 0
        self.vcpus_used = 0
        self.num_instances = 0
        self.num_instances_by_project: dict[str, int] = {}
        self.num_instances_by_os_type: dict[str, int] = {}
        self.vm_states: dict[str, int] = {}
        self.task_states: dict[str, int] = {}
        self.num_io_ops = 0
        self.allowed_vm_type = "all"
        self.host_ip: str | None = None
        self.hypervisor_type: str | None = None
        self.hypervisor_version = 0
        self.supported_instances: list[list[str]] = []
        self.updated: datetime.datetime | None = None
        self._gave = False  # something since the last report

    @property
    def key(self) -> tuple[str, str | None]:
        """(host, node), which identifies the node."""
        return self.host, self.nodename

    def update_from_compute_node(self, node: dict[str, Any]) -> None:
        """Take over a report of the node, unless something was given away since, or just when, it was made."""
        reported = _naive(node.get("updated_at") or node.get("created_at"))
        if self.updated and reported and (reported < self.updated or (self._gave and reported == self.updated)):
            return
        self.updated = reported
        self._gave = False
        self.total_usable_ram_mb = node["memory_mb"] or 0
        self.total_usable_disk_gb = node["local_gb"] or 0
        self.free_ram_mb = node["free_ram_mb"] or 0
        self.free_disk_mb = _first_known(node.get("disk_available_least"), node.get("free_disk_gb")) * 1024
        self.disk_mb_used = (node["local_gb_used"] or 0) * 1024
        self.vcpus_total = node["vcpus"] or 0
        self.vcpus_used = node["vcpus_used"] or 0
        self.host_ip = node.get("host_ip")
        self.hypervisor_type = node.get("hypervisor_type")
        self.hypervisor_version = node.get("hypervisor_version") or 0
        self.supported_instances = _parsed(node.get("supported_instances")) or []
        self._count(_parsed(node.get("stats")) or {})

    def _count(self, stats: dict[str, Any]) -> None:
        self.num_instances = int(stats.get("num_instances") or 0)
        self.num_io_ops = int(stats.get("io_workload") or 0)
        self.num_instances_by_project = _with_prefix(stats, "num_proj_")
        self.num_instances_by_os_type = _with_prefix(stats, "num_os_type_")
        self.vm_states = _with_prefix(stats, "num_vm_")
        self.task_states = _with_prefix(stats, "num_task_")

    def consume_from_instance(self, instance: dict[str, Any], now: datetime.datetime) -> None:
        """Take what the instance needs out of what is free, until the node reports by itself."""
        disk_mb = ((instance.get("root_gb") or 0) + (instance.get("ephemeral_gb") or 0)) * 1024
        self.free_ram_mb -= instance.get("memory_mb") or 0
        self.free_disk_mb -= disk_mb
        self.disk_mb_used += disk_mb
        self.vcpus_used += instance.get("vcpus") or 0
        self.num_instances += 1
        for counter, value in ((self.num_instances_by_project, instance.get("project_id")),
                               (self.num_instances_by_os_type, instance.get("os_type")),
                               (self.vm_states, instance.get("vm_state") or vm_states.BUILDING),
                               (self.task_states, instance.get("task_state"))):
            counter[str(value)] = counter.get(str(value), 0) + 1
        if instance.get("vm_state") == vm_states.BUILDING or instance.get("task_state") in _IO_TASKS:
            self.num_io_ops += 1
        self.updated = _naive(now)
        self._gave = True

    def __repr__(self) -> str:
        return (f"<{self.host}, {self.nodename}: {self.free_ram_mb} MB memory, {self.free_disk_mb} MB disk free, "
                f"{self.num_io_ops} I/O operations, {self.num_instances} instances>")


class HostManager:
    """The hosts of the cell, read from its database once per request.

    What requests gave away stays remembered from one request to the next, until the node's own report is newer. Hold
    `lock` while states are looked at or changed.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._servicegroup = servicegroup.API(services)
        self._states: dict[tuple[str, str | None], HostState] = {}
        self._capabilities: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()

    def update_service_capabilities(self, service_name: str, host: str, capabilities: dict[str, Any]) -> None:
        """Remember what a compute host says it can do; a hint beside the database."""
        if service_name != "compute":
            LOG.debug("Ignoring the capabilities of %s on %s", service_name, host)
            return
        with self.lock:
            self._capabilities[host] = copy.deepcopy(capabilities)

    def read(self, context: RequestContext) -> list[dict[str, Any]]:
        """Return the compute nodes as they are in the database, each with `service` and `aggregates`.

        The only reads of a request: nodes, services and aggregates, one query each, without the lock.
        """
        context = context.elevated()
        database = self._services.db
        services = {service["host"]: service for service in database.service_get_all(context)
                    if service["binary"] == "nova-compute"}
        aggregates = _by_host(database.aggregate_get_all(context))
        return [{**node, "service": services.get(node["host"]), "aggregates": aggregates.get(node["host"], [])}
                for node in database.compute_node_get_all(context)]

    def refresh(self, nodes: Iterable[dict[str, Any]]) -> list[HostState]:
        """Return the states of these nodes, brought up to date; nodes that are no more are forgotten."""
        with self.lock:
            seen: dict[tuple[str, str | None], HostState] = {}
            for node in nodes:
                if node["service"] is None:
                    LOG.warning("No compute service record for host %s", node["host"])
                    continue
                key = (node["host"], node["hypervisor_hostname"])
                seen[key] = self._refreshed(self._states.get(key) or HostState(*key), node)
            self._states = seen
            return list(seen.values())

    def get_all_host_states(self, context: RequestContext) -> list[HostState]:
        """Return the states of all nodes as of now."""
        return self.refresh(self.read(context))

    def _refreshed(self, state: HostState, node: dict[str, Any]) -> HostState:
        state.update_from_compute_node(node)
        state.service = node["service"]
        state.service_up = self._servicegroup.service_is_up(node["service"])
        state.aggregates = node["aggregates"]
        state.limits = {}
        state.capabilities = {**_capabilities_of(node), **self._capabilities.get(state.host, {})}
        return state


def named_hosts(states: list[HostState], filter_properties: dict[str, Any]) -> tuple[list[HostState], bool]:
    """Return the states left by `ignore_hosts`, `force_hosts` and `force_nodes`, and whether they were forced.

    Forced hosts are taken as they are: no filter applies to them.
    """
    ignored = set(filter_properties.get("ignore_hosts") or ())
    states = [state for state in states if state.host not in ignored]
    hosts, nodes = (set(filter_properties.get(key) or ()) for key in ("force_hosts", "force_nodes"))
    if not hosts and not nodes:
        return states, False
    return [state for state in states if (not hosts or state.host in hosts)
            and (not nodes or state.nodename in nodes)], True


def _capabilities_of(node: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in node.items() if key not in ("service", "aggregates")}
    return {**plain, **{key: _parsed(node.get(key)) for key in ("cpu_info", "stats", "supported_instances")}}


def _by_host(aggregates: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for aggregate in aggregates:
        for host in aggregate["hosts"]:
            found.setdefault(host, []).append(aggregate)
    return found


def _with_prefix(stats: dict[str, Any], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): int(value or 0) for key, value in stats.items() if key.startswith(prefix)}


def _first_known(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _parsed(value: Any) -> Any:
    """The data of a JSON text column; text that is none stays text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _naive(moment: datetime.datetime | None) -> datetime.datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)
