"""Filters by what the user asked for in `scheduler_hints`."""

import ipaddress
import json
import operator
from collections.abc import Callable, Iterable
from typing import Any

from nova_lite import exception
from nova_lite.scheduler.filters.base import BaseHostFilter
from nova_lite.scheduler.host_manager import HostState


def hint(filter_properties: dict[str, Any], name: str) -> Any:
    """Return a hint of the request, None without it."""
    return (filter_properties.get("scheduler_hints") or {}).get(name)


class _AffinityFilter(BaseHostFilter):
    hint_name: str

    def hosts_of_hinted(self, filter_properties: dict[str, Any]) -> set[str] | None:
        """Return the hosts of the instances that the hint names; None without the hint. One read per request."""
        uuids = hint(filter_properties, self.hint_name)
        if not uuids:
            return None
        uuids = uuids if isinstance(uuids, list | tuple) else [uuids]
        if not all(isinstance(uuid, str) for uuid in uuids):
            raise exception.InvalidInput(reason=f"hint {self.hint_name}: not the uuids of instances")
        found = self.services.db.instance_get_all_by_filters(filter_properties["context"].elevated(),
                                                             {"uuid": uuids, "deleted": False})
        return {instance["host"] for instance in found if instance["host"]}


class SameHostFilter(_AffinityFilter):
    """A host of one of the instances in hint `same_host`."""

    hint_name = "same_host"

    def filter_all(self, states: list[HostState], filter_properties: dict[str, Any]) -> list[HostState]:
        hosts = self.hosts_of_hinted(filter_properties)
        return states if hosts is None else [state for state in states if state.host in hosts]


class DifferentHostFilter(_AffinityFilter):
    """No host of any instance in hint `different_host`."""

    hint_name = "different_host"

    def filter_all(self, states: list[HostState], filter_properties: dict[str, Any]) -> list[HostState]:
        hosts = self.hosts_of_hinted(filter_properties)
        return states if hosts is None else [state for state in states if state.host not in hosts]


class SimpleCIDRAffinityFilter(BaseHostFilter):
    """The host's address lies in the network of `build_near_host_ip`, with hint `cidr` (/24)."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        near = hint(filter_properties, "build_near_host_ip")
        if not near:
            return True
        cidr = hint(filter_properties, "cidr") or "/24"
        try:
            network = ipaddress.ip_network(near + cidr, strict=False)
        except (ValueError, TypeError) as error:
            raise exception.InvalidInput(reason=f"build_near_host_ip: {error}") from error
        return bool(state.host_ip) and ipaddress.ip_address(state.host_ip) in network


class GroupAntiAffinityFilter(BaseHostFilter):
    """No host that has another instance of the same `group`."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        return state.host not in (filter_properties.get("group_hosts") or ())


class JsonFilter(BaseHostFilter):
    """The expression in hint `query` holds, as in ["and", [">=", "$free_ram_mb", 1024], ["in", "$host", "a", "b"]]."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        query = hint(filter_properties, "query")
        if not query:
            return True
        try:
            return bool(_evaluate(json.loads(query) if isinstance(query, str) else query, state))
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise exception.InvalidInput(reason=f"hint query: {error}") from error


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}


def _evaluate(expression: Any, state: HostState) -> Any:
    if isinstance(expression, str) and expression.startswith("$"):
        return _variable(expression[1:], state)
    if not isinstance(expression, list):
        return expression
    if not expression:
        return True
    name = expression[0]
    values = [_evaluate(part, state) for part in expression[1:]]
    if name == "and":
        return all(values)
    if name == "or":
        return any(values)
    if name == "not":
        return not any(values)
    return _compared(name, values)


def _compared(name: str, values: list[Any]) -> bool:
    if not values or values[0] is None:
        return False
    if name == "in":
        return values[0] in values[1:]
    return all(_COMPARISONS[name](values[0], value) for value in values[1:])


def _variable(path: str, state: HostState) -> Any:
    steps: Iterable[str] = iter(path.split("."))
    first = next(iter(steps))
    found = vars(state).get(first, state.capabilities.get(first))
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return found
