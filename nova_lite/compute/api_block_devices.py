"""Block devices of new instances: where they come from, and whether they exist."""

from typing import Any

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import BlockDeviceMapping, BlockDeviceMappingList, Instance, block_device


def properties_of(image: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an image, {} without one."""
    return image.get("properties") or {}


def root_device_name(image: dict[str, Any]) -> str | None:
    """Return the root device that an image names, in `root_device_name` or as `ami` / `root` of its mappings."""
    properties = properties_of(image)
    named = properties.get("root_device_name")
    for mapping in _mappings(properties):
        if mapping.get("virtual") == "root":
            named = mapping.get("device")
    return block_device.prepend_dev(named)


def wanted(context: RequestContext, conf: cfg.ConfigOpts, image: dict[str, Any], requested: Any,
           root_device: str | None) -> BlockDeviceMappingList:
    """Return the block devices of an instance: the image's mappings, its own block devices, those of the request.

    A later one takes the place of an earlier one with the same device name. Raises InvalidBDM.
    """
    properties = properties_of(image)
    sources = [_virtual_disks(properties), _listed(properties.get("block_device_mapping")), requested]
    found: list[BlockDeviceMapping] = []
    _check_wish(context, requested, root_device, conf)
    for source in sources:
        for mapping in BlockDeviceMappingList.of(context, source, root_device, conf.default_ephemeral_format):
            if not mapping.get("device_name") and not block_device.is_root(mapping) and not mapping.get("source_type"):
                raise exception.InvalidBDM(f"Block device {dict(mapping.items())} names neither device nor source")
            found = [other for other in found
                     if not block_device.same_device(other.get("device_name"), mapping.get("device_name"))]
            found.append(mapping)
    return BlockDeviceMappingList(context, objects=[one for one in found if not block_device.is_image_root(one)])


def _check_wish(context: RequestContext, requested: Any, root_device: str | None, conf: Any) -> None:
    """Raise InvalidBDM for a device name that is asked for twice, and for sizes that no disk has."""
    names: list[str] = []
    for mapping in BlockDeviceMappingList.of(context, requested, root_device, conf.default_ephemeral_format):
        name, size_gb = mapping.get("device_name"), mapping.get("volume_size")
        if name and any(block_device.same_device(name, other) for other in names):
            raise exception.InvalidBDM(f"Block device {name[:255]} is asked for twice")
        if size_gb is not None and size_gb < 0:
            raise exception.InvalidBDM(f"A block device cannot have {size_gb} GB")
        names += [name] if name else []


def _listed(value: Any) -> list[dict[str, Any]]:
    return list(value) if isinstance(value, list) else []


def _mappings(properties: dict[str, Any]) -> list[dict[str, Any]]:
    return [mapping for mapping in _listed(properties.get("mappings")) if isinstance(mapping, dict)]


def _virtual_disks(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """The swap and ephemeral disks of the image's mappings, in legacy form."""
    disks = []
    for mapping in _mappings(properties):
        virtual = mapping.get("virtual")
        if block_device.is_swap_or_ephemeral(virtual):
            disks.append({"device_name": block_device.prepend_dev(mapping.get("device")), "virtual_name": virtual})
    return disks


def write(context: RequestContext, instance: Instance, mappings: BlockDeviceMappingList) -> None:
    """Make the rows of an instance's block devices, unless it has them already."""
    if len(BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)):
        return
    for mapping in mappings:
        values = {name: mapping.get(name) for name in block_device.NEW_FIELDS}
        BlockDeviceMapping(context, instance_uuid=instance.uuid, **{
            name: value for name, value in values.items() if value is not None}).create()


def check(context: RequestContext, volume_api: Any, instance: Instance | None,
          mappings: BlockDeviceMappingList) -> None:
    """Raise InvalidBDMVolume or InvalidBDMSnapshot for what does not exist or cannot be attached."""
    for mapping in mappings:
        if mapping.get("no_device"):
            continue
        if mapping.get("volume_id"):
            try:
                volume = volume_api.get(context, mapping.volume_id)
                volume_api.check_attach(context, volume, instance=instance)
            except (exception.VolumeNotFound, exception.InvalidVolume) as error:
                raise exception.InvalidBDMVolume(id=mapping.volume_id) from error
        elif mapping.get("snapshot_id"):
            try:
                volume_api.get_snapshot(context, mapping.snapshot_id)
            except (exception.SnapshotNotFound, exception.InvalidVolume) as error:
                raise exception.InvalidBDMSnapshot(id=mapping.snapshot_id) from error


def is_volume_backed(instance: Any, mappings: Any) -> bool:
    """Whether the instance boots from a volume: it has no image, or its root device is among the block devices."""
    if not instance["image_ref"]:
        return True
    return any(block_device.same_device(mapping["device_name"], instance["root_device_name"]) for mapping in mappings)
