"""Which of the hosts that passed is best (compute specification §11.5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from oslo_utils import importutils

from nova_lite.context import Services
from nova_lite.scheduler import least_cost
from nova_lite.scheduler.host_manager import HostState


class WeighedHost(NamedTuple):
    """A host and what the weighers gave it."""

    state: HostState
    weight: float

    def to_dict(self) -> dict[str, Any]:
        """The form in notifications."""
        return {"weight": self.weight, "host": self.state.host}


class BaseWeigher:
    """Gives each host a number; the highest sum of multiplier times number wins."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.conf = services.conf

    def multiplier(self) -> float:
        """How much this weigher's opinion counts."""
        return 1.0

    def raw_weight(self, state: HostState, filter_properties: dict[str, Any]) -> float:
        """The number of this host."""
        raise NotImplementedError


class RAMWeigher(BaseWeigher):
    """Free memory: hosts fill evenly, or one after the other with a negative `ram_weight_multiplier`."""

    def multiplier(self) -> float:
        return self.conf.ram_weight_multiplier

    def raw_weight(self, state: HostState, filter_properties: dict[str, Any]) -> float:
        return state.free_ram_mb


class LeastCostWeigher(BaseWeigher):
    """What deprecated cost functions say; the least cost is the highest weight."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        paths = self.conf.least_cost_functions
        self._functions = ([importutils.import_class(path) for path in paths] if paths
                           else [least_cost.compute_fill_first_cost_fn])

    def multiplier(self) -> float:
        return -1.0

    def raw_weight(self, state: HostState, filter_properties: dict[str, Any]) -> float:
        return sum(self._weight_of(function) * function(state, filter_properties) for function in self._functions)

    def _weight_of(self, function: Callable[..., float]) -> float:
        weight = getattr(self.conf, f"{function.__name__}_weight", 1.0)  # functions of others have no option
        return -1.0 if weight is None else weight


def all_weighers() -> list[type[BaseWeigher]]:
    """Return every weigher there is."""
    return [RAMWeigher]


def load_weighers(services: Services) -> list[BaseWeigher]:
    """Return the weighers of `scheduler_weight_classes`, or the one of least costs where those are set."""
    if services.conf.least_cost_functions or services.conf.compute_fill_first_cost_fn_weight is not None:
        return [LeastCostWeigher(services)]
    weighers: list[BaseWeigher] = []
    for path in services.conf.scheduler_weight_classes:
        found = importutils.import_class(path)
        weighers += [found(services)] if isinstance(found, type) else [cls(services) for cls in found()]
    return weighers


def weigh(weighers: list[BaseWeigher], states: list[HostState],
          filter_properties: dict[str, Any]) -> list[WeighedHost]:
    """Return the hosts, best first; equal ones keep their order."""
    weighed = [WeighedHost(state, sum(weigher.multiplier() * weigher.raw_weight(state, filter_properties)
                                      for weigher in weighers)) for state in states]
    return sorted(weighed, key=lambda host: host.weight, reverse=True)
