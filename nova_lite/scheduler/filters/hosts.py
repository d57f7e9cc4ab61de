"""Filters by what kind of host it is and what happened on it."""

from typing import Any

from oslo_log import log as logging

from nova_lite.scheduler.filters.base import BaseHostFilter
from nova_lite.scheduler.host_manager import HostState

LOG = logging.getLogger(__name__)


class AllHostsFilter(BaseHostFilter):
    """Every host."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        return True


class ComputeFilter(BaseHostFilter):
    """The compute service is up and not disabled, and the host does not say that it is not enabled."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        if state.service.get("disabled") or not state.service_up:
            LOG.debug("%s is disabled or not heard of", state)
            return False
        return state.capabilities.get("enabled") is not False


class RetryFilter(BaseHostFilter):
    """Not a host that this instance was already tried on."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        retry = filter_properties.get("retry") or {}
        return [state.host, state.nodename] not in [list(tried) for tried in retry.get("hosts", [])]


class IsolatedHostsFilter(BaseHostFilter):
    """Isolated images run on isolated hosts, all others on the other hosts."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        image_ref = filter_properties["request_spec"].get("instance_properties", {}).get("image_ref")
        return (image_ref in self.conf.isolated_images) == (state.host in self.conf.isolated_hosts)


class TypeAffinityFilter(BaseHostFilter):
    """No instance of another flavor lives on the host."""

    def filter_all(self, states: list[HostState], filter_properties: dict[str, Any]) -> list[HostState]:
        context = filter_properties["context"].elevated()
        wanted = filter_properties["instance_type"].get("id")
        return [state for state in states
                if all(instance["instance_type_id"] == wanted
                       for instance in self.services.db.instance_get_all_by_host(context, state.host))]
