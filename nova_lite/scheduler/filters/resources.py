"""Filters by what is left on a host. Those with a ratio also tell compute how far it may go (`limits`)."""

from typing import Any

from oslo_log import log as logging

from nova_lite.scheduler.filters.base import BaseHostFilter
from nova_lite.scheduler.host_manager import HostState

LOG = logging.getLogger(__name__)


def memory_limit_mb(state: HostState, ratio: float) -> float:
    """Return how much memory may be promised on the host."""
    return state.total_usable_ram_mb * ratio


def has_memory(state: HostState, memory_mb: int, ratio: float) -> bool:
    """Whether the host can take `memory_mb` more when `ratio` times its memory may be promised."""
    used_mb = state.total_usable_ram_mb - state.free_ram_mb
    return memory_limit_mb(state, ratio) - used_mb >= memory_mb


class RamFilter(BaseHostFilter):
    """Enough memory, counted with `ram_allocation_ratio`."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        ratio = self.conf.ram_allocation_ratio
        if not has_memory(state, filter_properties["instance_type"]["memory_mb"], ratio):
            LOG.debug("%s has not the memory", state)
            return False
        state.limits["memory_mb"] = memory_limit_mb(state, ratio)
        return True


class CoreFilter(BaseHostFilter):
    """Enough virtual CPUs, counted with `cpu_allocation_ratio`; hosts that do not tell how many they have pass."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        if not state.vcpus_total:
            return True
        limit = state.vcpus_total * self.conf.cpu_allocation_ratio
        if limit - state.vcpus_used < filter_properties["instance_type"]["vcpus"]:
            return False
        state.limits["vcpu"] = limit
        return True


class DiskFilter(BaseHostFilter):
    """Enough disk for root and ephemeral, counted with `disk_allocation_ratio`."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        flavor = filter_properties["instance_type"]
        requested_mb = 1024 * (flavor["root_gb"] + flavor["ephemeral_gb"])
        total_mb = state.total_usable_disk_gb * 1024
        limit_mb = total_mb * self.conf.disk_allocation_ratio
        if limit_mb - (total_mb - state.free_disk_mb) < requested_mb:
            return False
        state.limits["disk_gb"] = limit_mb / 1024
        return True


class IoOpsFilter(BaseHostFilter):
    """Fewer than `max_io_ops_per_host` operations that load the disks."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        return state.num_io_ops < self.conf.max_io_ops_per_host


class NumInstancesFilter(BaseHostFilter):
    """Fewer than `max_instances_per_host` instances."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        return state.num_instances < self.conf.max_instances_per_host
