"""Client of the scheduler's RPC API 2.x."""

from typing import Any

from nova_lite import rpc
from nova_lite.context import RequestContext, Services
from nova_lite.objects import BlockDeviceMappingList, Flavor, Instance, NetworkRequestList
from nova_lite.objects.base import NovaObject

BASE_VERSION = "2.0"


class SchedulerAPI:
    """The scheduler of this cell. Instances, flavors and images may be objects or dicts; dicts are sent."""

    def __init__(self, services: Services) -> None:
        cap = rpc.resolve_cap("scheduler", services.conf.upgrade_levels.scheduler)
        self._client = services.rpc.client(services.conf.scheduler_topic, version=BASE_VERSION, version_cap=cap)

    def run_instance(self, ctxt: RequestContext, request_spec: dict, admin_password: str | None,
                     injected_files: list | None, requested_networks: list | None, is_first_time: bool,
                     filter_properties: dict) -> None:
        """Have the instances of the request built on hosts that the scheduler chooses. Cast."""
        self._cast(ctxt, "run_instance", "2.0", request_spec=request_spec, admin_password=admin_password,
                   injected_files=injected_files, requested_networks=requested_networks, is_first_time=is_first_time,
                   filter_properties=filter_properties)

    def prep_resize(self, ctxt: RequestContext, instance: Any, instance_type: Any, image: dict, request_spec: dict,
                    filter_properties: dict, reservations: list | None) -> None:
        """Have the instance moved to a host that the scheduler chooses. Cast."""
        self._cast(ctxt, "prep_resize", "2.0", instance=instance, instance_type=instance_type, image=image,
                   request_spec=request_spec, filter_properties=filter_properties, reservations=reservations)

    def live_migration(self, ctxt: RequestContext, block_migration: bool | None, disk_over_commit: bool | None,
                       instance: Any, dest: str | None) -> None:
        """Check the move and start it; raises what forbids it. Call."""
        self._client.call(ctxt, "live_migration", version="2.0", **_primitives(
            instance=instance, dest=dest, block_migration=block_migration, disk_over_commit=disk_over_commit))

    def select_hosts(self, ctxt: RequestContext, request_spec: dict, filter_properties: dict) -> list[str]:
        """Return a host for each instance of the request. Call."""
        return self._client.call(ctxt, "select_hosts", version="2.6", **_primitives(
            request_spec=request_spec, filter_properties=filter_properties))

    def update_service_capabilities(self, ctxt: RequestContext, service_name: str, host: str,
                                    capabilities: dict | list) -> None:
        """Tell every scheduler what a host can do. Fan-out cast."""
        self._client.cast(ctxt, "update_service_capabilities", version="2.4", fanout=True, service_name=service_name,
                          host=host, capabilities=capabilities)

    def show_host_resources(self, ctxt: RequestContext, host: str) -> dict:
        """Return what a host has and which project uses how much of it. Call."""
        return self._client.call(ctxt, "show_host_resources", version="2.0", host=host)

    def _cast(self, ctxt: RequestContext, method: str, version: str, **arguments: Any) -> None:
        self._client.cast(ctxt, method, version=version, **_primitives(**arguments))


def _primitives(**arguments: Any) -> dict[str, Any]:
    return {name: as_primitive(value) for name, value in arguments.items()}


def as_primitive(value: Any) -> Any:
    """Return the plain form of an object, also inside lists and dicts; anything else as it is."""
    if hasattr(value, "to_legacy_dict"):
        return value.to_legacy_dict()
    if isinstance(value, NovaObject):
        return {name: as_primitive(getattr(value, name)) for name in value.fields if value.obj_attr_is_set(name)}
    if isinstance(value, dict):
        return {key: as_primitive(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_primitive(item) for item in value]
    return value


# --- The forms of a request -----------------------------------------------------------------------------------------

def request_spec(flavor: Flavor, image: dict[str, Any], instances: list[Instance], security_groups: list[str],
                 mappings: BlockDeviceMappingList) -> dict[str, Any]:
    """Return what the scheduler decides by: `{image, instance_properties, instance_type, instance_uuids,
    block_device_mapping, security_group}`, all plain."""
    return {
        "image": image,
        "instance_properties": instances[0].to_legacy_dict(),
        "instance_type": flavor.to_dict(),
        "instance_uuids": [instance.uuid for instance in instances],
        "block_device_mapping": mappings.to_legacy(),
        "security_group": security_groups,
    }


def group_names(security_groups: Any) -> list[str]:
    """Return the names of security groups given as names, dicts or objects."""
    return [group if isinstance(group, str) else group["name"] for group in security_groups or ()]


def network_triples(requested_networks: Any) -> list[list[str | None]] | None:
    """Return [[network id, fixed address, port id], …] of a NetworkRequestList or of tuples; None stays None."""
    if requested_networks is None:
        return None
    requested = NetworkRequestList.of(requested_networks)
    return [[part if part is None else str(part) for part in triple] for triple in requested.as_tuples()]
