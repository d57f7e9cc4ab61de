"""Filters by what a host can do."""

from typing import Any

from oslo_log import log as logging

from nova_lite.objects import vm_mode
from nova_lite.scheduler.filters.base import BaseHostFilter, satisfies
from nova_lite.scheduler.host_manager import HostState

LOG = logging.getLogger(__name__)

_ABSENT = object()


class ComputeCapabilitiesFilter(BaseHostFilter):
    """Every extra spec of the flavor, unscoped or in scope `capabilities`, holds on the host."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        extra_specs = filter_properties["instance_type"].get("extra_specs") or {}
        for key, requirement in extra_specs.items():
            steps = key.split(":")
            if len(steps) > 1:
                if steps[0] != "capabilities":
                    continue
                steps = steps[1:]
            found = _look_up(state, steps)
            if found is _ABSENT or not satisfies(found, requirement):
                LOG.debug("%s does not satisfy %s %s", state, key, requirement)
                return False
        return True


def _look_up(state: HostState, steps: list[str]) -> Any:
    found: Any = state.capabilities
    for step in steps:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif found is state.capabilities and step in vars(state):
            found = getattr(state, step)
        else:
            return _ABSENT
    return found


class ImagePropertiesFilter(BaseHostFilter):
    """Some kind of instance that the host supports fits architecture, hypervisor type and mode of the image."""

    def host_passes(self, state: HostState, filter_properties: dict[str, Any]) -> bool:
        image = filter_properties["request_spec"].get("image") or {}
        properties = image.get("properties") or {}
        mode = properties.get("vm_mode")
        wanted = [properties.get("architecture"), properties.get("hypervisor_type"),
                  vm_mode.get_from_instance({"vm_mode": mode}) if mode else None]
        if not any(wanted):
            return True
        supported = state.capabilities.get("supported_instances") or state.supported_instances
        return any(all(want is None or want in kind for want in wanted) for kind in supported or [])
