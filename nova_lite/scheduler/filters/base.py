"""What a filter is, and finding those the configuration names."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from oslo_utils import importutils

from nova_lite import exception
from nova_lite.context import Services
from nova_lite.scheduler.host_manager import HostState


class BaseHostFilter:
    """Decides which hosts pass. `filter_properties` holds the request: `context, request_spec, instance_type,
    project_id, os_type, scheduler_hints, retry`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.conf = services.conf

    def filter_all(self, states: list[HostState], filter_properties: dict[str, Any]) -> list[HostState]:
        """Return the hosts that pass. Override to read something once for all of them."""
        return [state for state in states if self.host_passes(state, filter_properties)]

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        """Whether this host passes."""
        raise NotImplementedError


def load_filters(services: Services) -> list[BaseHostFilter]:
    """Return the filters of `scheduler_default_filters`, in that order. Raises SchedulerHostFilterNotFound."""
    available = {found.__name__: found for found in _available(services.conf.scheduler_available_filters)}
    filters = []
    for name in services.conf.scheduler_default_filters:
        if name.rpartition(".")[2] not in available:
            raise exception.SchedulerHostFilterNotFound(filter_name=name)
        filters.append(available[name.rpartition(".")[2]](services))
    return filters


def _available(paths: Iterable[str]) -> Iterable[type[BaseHostFilter]]:
    for path in paths:
        found = importutils.import_class(path)
        if isinstance(found, type):
            yield found
        else:
            yield from found()


# --- Comparing what is required with what a host has --------------------------------------------------------------

_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le,
}
_TEXTUAL: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq, "s!=": operator.ne, "s<": operator.lt, "s<=": operator.le, "s>": operator.gt,
    "s>=": operator.ge,
}


def satisfies(value: Any, requirement: str) -> bool:
    """Whether a host's value satisfies a requirement such as `>= 4`, `s== text`, `<in> part`, `<or> a <or> b`.

    Without an operator the texts must be equal; `=` means "at least".
    """
    words = str(requirement).split()
    if not words:
        return str(value) == str(requirement)
    sign, rest = words[0], words[1:]
    if sign == "<or>":
        return str(value) in [word for word in words if word != "<or>"]
    if sign == "<in>":
        return bool(rest) and rest[0] in str(value)
    if sign in _TEXTUAL:
        return bool(rest) and _TEXTUAL[sign](str(value), rest[0])
    if sign in _NUMERIC:
        try:
            return bool(rest) and _NUMERIC[sign](float(value), float(rest[0]))
        except (TypeError, ValueError):
            return False
    return str(value) == str(requirement)
