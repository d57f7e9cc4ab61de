"""Block devices of an instance in their three forms, and the way between them (seams §4.4).

* new: what the table and ``objects.BlockDeviceMapping`` hold: ``source_type``, ``destination_type``, ``boot_index`` …;
* legacy: Grizzly's dicts: ``virtual_name``, ``volume_id``, ``snapshot_id``, ``no_device``;
* block_device_info: what a driver gets (compute specification §9.4).

Mappings are read by item, so dicts and objects both serve.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nova_lite import exception

DEFAULT_ROOT_DEVICE_NAME = "/dev/sda1"

NEW_FIELDS = (
    "source_type", "destination_type", "guest_format", "device_type", "disk_bus", "boot_index", "device_name",
    "delete_on_termination", "snapshot_id", "volume_id", "volume_size", "image_id", "no_device", "connection_info",
)
_CARRIED_OVER = ("device_name", "delete_on_termination", "volume_size", "connection_info", "snapshot_id", "volume_id")
_KEPT = ("id", "uuid", "instance_uuid")

_EPHEMERAL = re.compile(r"^ephemeral(\d+)$")
_DEVICE_PREFIX = re.compile(r"^/dev/")


# --- names -------------------------------------------------------------------------------------------------------

def is_swap_or_ephemeral(virtual_name: str | None) -> bool:
    """Return whether a legacy virtual name is 'swap' or 'ephemeralN'."""
    return bool(virtual_name) and (virtual_name == "swap" or is_ephemeral(virtual_name))


def is_ephemeral(virtual_name: str | None) -> bool:
    """Return whether a legacy virtual name is 'ephemeralN'."""
    return bool(virtual_name) and _EPHEMERAL.match(virtual_name) is not None


def ephemeral_num(virtual_name: str) -> int:
    """Return N of 'ephemeralN'. Raises InvalidBDM for any other name."""
    match = _EPHEMERAL.match(virtual_name)
    if not match:
        raise exception.InvalidBDM(f"{virtual_name!r} is no ephemeral disk")
    return int(match.group(1))


def strip_dev(device_name: str | None) -> str | None:
    """Return a device name without '/dev/'; None and '' as they are."""
    return _DEVICE_PREFIX.sub("", device_name) if device_name else device_name


def prepend_dev(device_name: str | None) -> str | None:
    """Return a device name with '/dev/'; None and '' as they are."""
    return "/dev/" + strip_dev(device_name) if device_name else device_name


def same_device(one: str | None, other: str | None) -> bool:
    """Return whether two device names mean one device, with or without '/dev/'."""
    return bool(one) and strip_dev(one) == strip_dev(other)


# --- what a new-form mapping is ------------------------------------------------------------------------------------

def is_swap(bdm: Mapping) -> bool:
    """Return whether a new-form mapping is the swap disk."""
    return _is_blank_local(bdm) and _get(bdm, "guest_format") == "swap"


def is_new_ephemeral(bdm: Mapping) -> bool:
    """Return whether a new-form mapping is an ephemeral disk."""
    return _is_blank_local(bdm) and _get(bdm, "guest_format") != "swap"


def is_image_root(bdm: Mapping) -> bool:
    """Return whether a new-form mapping is a local root disk made of an image, which has no legacy form."""
    return _get(bdm, "source_type") == "image" and _get(bdm, "destination_type") == "local"


def is_volume(bdm: Mapping) -> bool:
    """Return whether a new-form mapping is, or becomes, a volume."""
    return _get(bdm, "destination_type") == "volume"


def is_root(bdm: Mapping) -> bool:
    """Return whether a new-form mapping is the disk the guest boots from."""
    return _get(bdm, "boot_index") == 0


def _is_blank_local(bdm: Mapping) -> bool:
    return _get(bdm, "source_type") == "blank" and _get(bdm, "destination_type") == "local"


def is_legacy(bdm: Mapping) -> bool:
    """Return whether a mapping is of the legacy form: it says nothing about source and destination."""
    return "source_type" not in bdm and "destination_type" not in bdm


# --- legacy to new -------------------------------------------------------------------------------------------------

def from_legacy(legacy: Mapping, root_device_name: str | None = None,
                default_ephemeral_format: str | None = None) -> dict[str, Any]:
    """Return the new form of one legacy mapping. Raises InvalidBDM when it names nothing to attach."""
    bdm = {name: _get(legacy, name) for name in (*_KEPT, *_CARRIED_OVER) if name in legacy}
    bdm["delete_on_termination"] = bool(_get(legacy, "delete_on_termination"))
    bdm["no_device"] = bool(_get(legacy, "no_device"))
    bdm.update(_source(legacy, root_device_name, default_ephemeral_format))
    return bdm


def _source(legacy: Mapping, root_device_name: str | None, default_ephemeral_format: str | None) -> dict[str, Any]:
    virtual_name = _get(legacy, "virtual_name")
    if _get(legacy, "no_device"):
        return {"source_type": None, "destination_type": None}
    if virtual_name == "swap":
        return {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "boot_index": -1}
    if is_ephemeral(virtual_name):
        return {"source_type": "blank", "destination_type": "local", "guest_format": default_ephemeral_format,
                "boot_index": -1}
    boot_index = 0 if same_device(root_device_name, _get(legacy, "device_name")) else -1
    if _get(legacy, "volume_id"):
        return {"source_type": "volume", "destination_type": "volume", "boot_index": boot_index}
    if _get(legacy, "snapshot_id"):
        return {"source_type": "snapshot", "destination_type": "volume", "boot_index": boot_index}
    raise exception.InvalidBDM(
        f"Block device {_get(legacy, 'device_name')!r} names no volume, snapshot, swap or ephemeral disk")


def from_legacy_list(legacy: Iterable[Mapping], root_device_name: str | None = None,
                     default_ephemeral_format: str | None = None) -> list[dict[str, Any]]:
    """Return the new form of legacy mappings; those that are of the new form already are copied."""
    return [
        from_legacy(bdm, root_device_name, default_ephemeral_format) if is_legacy(bdm) else _plain(bdm)
        for bdm in legacy
    ]


def _plain(bdm: Mapping) -> dict[str, Any]:
    return {name: _get(bdm, name) for name in (*_KEPT, *NEW_FIELDS) if name in bdm}


# --- new to legacy -------------------------------------------------------------------------------------------------

def virtual_names(bdms: Iterable[Mapping]) -> list[str | None]:
    """Return the legacy virtual name of each mapping, None for volumes; ephemerals count by order of device name."""
    bdms = list(bdms)
    ephemerals = sorted((position for position, bdm in enumerate(bdms) if is_new_ephemeral(bdm)),
                        key=lambda position: _get(bdms[position], "device_name") or "")
    numbers = {position: number for number, position in enumerate(ephemerals)}
    return [
        "swap" if is_swap(bdm) else f"ephemeral{numbers[position]}" if position in numbers else None
        for position, bdm in enumerate(bdms)
    ]


def to_legacy_list(bdms: Iterable[Mapping]) -> list[dict[str, Any]]:
    """Return the legacy form of new mappings; root disks made of images have none and are left out."""
    kept = [bdm for bdm in bdms if not is_image_root(bdm)]
    return [
        {
            **{name: _get(bdm, name) for name in _KEPT if name in bdm},
            "device_name": _get(bdm, "device_name"),
            "delete_on_termination": bool(_get(bdm, "delete_on_termination")),
            "virtual_name": virtual_name,
            "snapshot_id": _get(bdm, "snapshot_id"),
            "volume_id": _get(bdm, "volume_id"),
            "volume_size": _get(bdm, "volume_size"),
            "no_device": bool(_get(bdm, "no_device")),
            "connection_info": _get(bdm, "connection_info"),
        }
        for bdm, virtual_name in zip(kept, virtual_names(kept), strict=True)
    ]


# --- what a driver gets --------------------------------------------------------------------------------------------

def driver_swap(bdms: Iterable[Mapping]) -> dict[str, Any] | None:
    """Return {'device_name', 'swap_size' (MB)} of the swap disk; the last one wins, None without one."""
    swaps = [bdm for bdm in bdms if is_swap(bdm)]
    if not swaps:
        return None
    return {"device_name": _get(swaps[-1], "device_name"), "swap_size": _get(swaps[-1], "volume_size") or 0}


def driver_ephemerals(bdms: Iterable[Mapping]) -> list[dict[str, Any]]:
    """Return [{'num', 'virtual_name', 'device_name', 'size' (GB)}] of the ephemeral disks."""
    bdms = list(bdms)
    return [
        {"num": ephemeral_num(name), "virtual_name": name, "device_name": _get(bdm, "device_name"),
         "size": _get(bdm, "volume_size") or 0}
        for bdm, name in zip(bdms, virtual_names(bdms), strict=True) if is_ephemeral(name)
    ]


def driver_volumes(bdms: Iterable[Mapping]) -> list[dict[str, Any]]:
    """Return [{'connection_info' (with 'serial'), 'mount_device', 'delete_on_termination'}] of connected volumes."""
    return [
        {"connection_info": info, "mount_device": _get(bdm, "device_name"),
         "delete_on_termination": bool(_get(bdm, "delete_on_termination"))}
        for bdm in bdms if _get(bdm, "volume_id") and (info := connection_info(bdm)) is not None
    ]


def connection_info(bdm: Mapping) -> dict[str, Any] | None:
    """Return the parsed connection info with 'serial' set; None when there is none or the row is only reserved."""
    text = _get(bdm, "connection_info")
    info = json.loads(text) if isinstance(text, str) and text else text
    if not info or info.get("reserved"):
        return None
    return {"serial": _get(bdm, "volume_id"), **info}


def volumes_only_info(bdms: Iterable[Mapping]) -> dict[str, Any]:
    """Return the block_device_info of an instance that has been booted: its volumes."""
    return {"block_device_mapping": driver_volumes(bdms)}


def root_device_name(info: Mapping | None) -> str | None:
    """Return the root device of a block_device_info, None without one."""
    return (info or {}).get("root_device_name")


def swap(info: Mapping | None) -> dict[str, Any]:
    """Return the swap disk of a block_device_info; without one, {'device_name': None, 'swap_size': 0}."""
    return (info or {}).get("swap") or {"device_name": None, "swap_size": 0}


def swap_is_usable(swap: Mapping | None) -> bool:
    """Return whether a swap disk has a device and a size above 0."""
    return bool(swap and swap["device_name"] and swap["swap_size"] > 0)


def ephemerals(info: Mapping | None) -> list[dict[str, Any]]:
    """Return the ephemeral disks of a block_device_info."""
    return (info or {}).get("ephemerals") or []


def mapping(info: Mapping | None) -> list[dict[str, Any]]:
    """Return the volumes of a block_device_info."""
    return (info or {}).get("block_device_mapping") or []


def _get(bdm: Mapping, name: str) -> Any:
    return bdm.get(name)
