"""The row of a new instance, in the cell where it was asked for and in the cell that was chosen for it."""

from typing import Any

from oslo_utils import strutils

from nova_lite import exception
from nova_lite.compute import api_block_devices as block_devices
from nova_lite.compute import api_names as names
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Flavor, Instance, InstanceInfoCache, task_states, vm_states

DEFAULT_GROUP = "default"
SYSTEM_METADATA_PREFIX = "image_"
_MAX_VALUE = 255
_IMAGE_COLUMNS = ("min_ram", "min_disk", "disk_format", "container_format")

# What is decided where the request was made, and taken over as it is where the instance is built.
_TAKEN_OVER = (
    "uuid", "user_id", "project_id", "image_ref", "kernel_id", "ramdisk_id", "hostname", "launch_index", "key_name",
    "key_data", "user_data", "reservation_id", "availability_zone", "display_name", "display_description", "locked",
    "locked_by", "os_type", "architecture", "vm_mode", "root_device_name", "default_ephemeral_device",
    "default_swap_device", "config_drive", "access_ip_v4", "access_ip_v6", "ephemeral_key_uuid", "auto_disk_config",
    "shutdown_terminate", "disable_terminate", "metadata", "system_metadata", "pci_requests", "numa_topology",
)


class NewRows:
    """Makes the rows of new instances. `with_parts`: also block devices, which live only where it is built."""

    def __init__(self, services: Services, with_parts: bool) -> None:
        self._services = services
        self._with_parts = with_parts

    def create(self, context: RequestContext, flavor: Any, image: dict[str, Any] | None, template: Any,
               security_groups: Any, mappings: Any, num_instances: int, index: int) -> Instance:
        """Return the new row of `template` (an Instance or a dict), or the one it has already."""
        flavor = Flavor.of(context, flavor)
        try:
            instance = Instance.get_by_uuid(context, template["uuid"])
        except exception.InstanceNotFound:
            instance = self._filled(context, flavor, image or {}, template, index)
            instance.security_groups = [{"name": name} for name in _names(security_groups) or [DEFAULT_GROUP]]
            instance.create()
        if self._with_parts:
            wanted = block_devices.wanted(context, self._services.conf, image or {}, mappings,
                                          instance.root_device_name)
            block_devices.write(context, instance, wanted)
        return instance

    def _filled(self, context: RequestContext, flavor: Flavor, image: dict[str, Any], template: Any,
                index: int) -> Instance:
        instance = Instance(context)
        given = template if isinstance(template, Instance) else Instance.from_legacy_dict(context, template)
        for name in _TAKEN_OVER:
            if name in given and (given[name] is not None or instance.fields[name].nullable):
                setattr(instance, name, given[name])
        self._set_sizes(instance, flavor)
        self._set_defaults(instance, image, index)
        instance.vm_state, instance.task_state = vm_states.BUILDING, task_states.SCHEDULING
        instance.host = instance.node = None
        instance.info_cache = InstanceInfoCache.new(context, instance.uuid)
        return instance

    def _set_sizes(self, instance: Instance, flavor: Flavor) -> None:
        instance.flavor, instance.old_flavor, instance.new_flavor = flavor, None, None
        instance.instance_type_id = flavor.get("id")
        for name in ("memory_mb", "vcpus", "root_gb", "ephemeral_gb"):
            setattr(instance, name, flavor[name])

    def _set_defaults(self, instance: Instance, image: dict[str, Any], index: int) -> None:
        if not instance.get("display_name"):
            instance.display_name = f"Server {instance.uuid}"
        if not instance.get("hostname"):
            instance.hostname = names.hostname_of(instance.display_name, instance.uuid)
        if instance.get("launch_index") is None:
            instance.launch_index = index
        if "metadata" not in instance:
            instance.metadata = {}
        instance.system_metadata = {**system_metadata_of(image), **(instance.get("system_metadata") or {})}
        if not instance.get("root_device_name"):
            instance.root_device_name = block_devices.root_device_name(image)


def system_metadata_of(image: dict[str, Any]) -> dict[str, str]:
    """Return what an instance remembers of its image: `image_<property>` and `image_base_image_ref`."""
    if not image:
        return {}
    properties = {name: image[name] for name in _IMAGE_COLUMNS if image.get(name) is not None}
    properties.update(block_devices.properties_of(image))
    properties.setdefault("base_image_ref", image.get("id"))
    return {SYSTEM_METADATA_PREFIX + name: str(value)[:_MAX_VALUE] for name, value in properties.items()
            if value is not None}


def fields_from_image(image: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a new instance that its image decides."""
    properties = block_devices.properties_of(image)
    fields = {name: properties.get(name) for name in ("os_type", "architecture", "vm_mode")}
    if "auto_disk_config" in properties:
        fields["auto_disk_config"] = strutils.bool_from_string(properties["auto_disk_config"])
    return fields


def _names(security_groups: Any) -> list[str]:
    return [group if isinstance(group, str) else group["name"] for group in security_groups or ()]
