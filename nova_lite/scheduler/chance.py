"""Choosing hosts by lot (compute specification §11.7)."""

from typing import Any

from nova_lite.scheduler import weights
from nova_lite.scheduler.filter_scheduler import FilterScheduler
from nova_lite.scheduler.host_manager import HostState, named_hosts


class ChanceScheduler(FilterScheduler):
    """Any host that is up and not to be ignored; `scheduler_driver = nova_lite.scheduler.chance.ChanceScheduler`."""

    def _choose(self, states: list[HostState], seen: dict[str, Any]) -> weights.WeighedHost | None:
        passing, _forced = named_hosts(states, seen)
        alive = [state for state in passing if state.service_up and not state.service.get("disabled")]
        return weights.WeighedHost(self._random.choice(alive), 0.0) if alive else None
