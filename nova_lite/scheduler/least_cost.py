"""Cost functions that configurations of older releases may name: the host of the least cost wins."""

from typing import Any

from nova_lite.scheduler.host_manager import HostState


def noop_cost_fn(host_state: HostState, weighing_properties: dict[str, Any]) -> float:
    """Every host costs the same."""
    return 1


def compute_fill_first_cost_fn(host_state: HostState, weighing_properties: dict[str, Any]) -> float:
    """Free memory in MiB costs, so that hosts fill one after the other; with a negative weight, evenly."""
    return host_state.free_ram_mb
