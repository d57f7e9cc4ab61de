"""Filters by the aggregates a host is in."""

from typing import Any

from nova_lite.scheduler.filters.base import BaseHostFilter, satisfies
from nova_lite.scheduler.host_manager import HostState


def values_of(state: HostState, key: str) -> set[str]:
    """Return what the host's aggregates say under a metadata key."""
    return {aggregate["metadetails"][key] for aggregate in state.aggregates if key in aggregate["metadetails"]}


class AvailabilityZoneFilter(BaseHostFilter):
    """The host is in the zone that was asked for; hosts that no aggregate puts into a zone are in the default one."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        wanted = filter_properties["request_spec"].get("instance_properties", {}).get("availability_zone")
        if not wanted:
            return True
        return wanted in (values_of(state, "availability_zone") or {self.conf.default_availability_zone})


class AggregateInstanceExtraSpecsFilter(BaseHostFilter):
    """Every extra spec of the flavor, unscoped or in scope `aggregate_instance_extra_specs`, holds in an aggregate."""

    scope = "aggregate_instance_extra_specs"

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        for key, requirement in (filter_properties["instance_type"].get("extra_specs") or {}).items():
            scope, colon, name = key.rpartition(":")
            if colon and scope != self.scope:
                continue
            if not any(satisfies(value, requirement) for value in values_of(state, name)):
                return False
        return True


class AggregateMultiTenancyIsolation(BaseHostFilter):
    """Hosts whose aggregates name projects (`filter_tenant_id`) serve those projects only."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        projects = {name.strip() for names in values_of(state, "filter_tenant_id") for name in names.split(",")}
        owner = filter_properties["request_spec"].get("instance_properties", {}).get("project_id")
        return not projects or owner in projects


class AggregateTypeAffinityFilter(BaseHostFilter):
    """Hosts whose aggregates name a flavor (`instance_type`) take that flavor only."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        names = values_of(state, "instance_type")
        return not names or filter_properties["instance_type"].get("name") in names
