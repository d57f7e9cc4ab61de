"""Which device name a volume gets in the guest, and whether the name asked for is free."""

import itertools
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from nova_lite import exception
from nova_lite.objects.instance_legacy import pairs_of

_DEVICE = re.compile(r"(?P<prefix>/dev/x?[a-z]?d?)(?P<letters>[a-z]+)[0-9]*")
_BUS = re.compile(r"^(?:xvd|sd|vd)")
_XEN_ROOT = "/dev/xvda"
# What a guest without a root device name is taken to use: image root, first ephemeral disk, root, swap.
_DEFAULT_DEVICES = ("sda1", "sda2", "/dev/sda1", "sda3")


def pick_device_name(
    instance: Mapping[str, Any], bdms: Iterable[Mapping[str, Any]], device: str | None, *, xenapi: bool
) -> str:
    """Return the name for a new device of `instance`: `device` on the root device's bus, or the first free one.

    With `xenapi` the bus is always /dev/xvd, and the letters of the ephemeral disk (b) and of swap (c) are kept
    free. Raises InvalidDevicePath, DevicePathInUse (compute specification §6.3).
    """
    wanted = split_device_name(device)[1] if device else None
    root = instance["root_device_name"] or (_XEN_ROOT if xenapi else _DEFAULT_DEVICES[2])
    prefix = split_device_name(root)[0]
    used = _used_letters(instance, bdms, root)
    if instance["root_device_name"] is None and not xenapi:
        used |= {_letters(name) for name in _DEFAULT_DEVICES}
    if xenapi:
        prefix = "/dev/xvd"
        used |= _letters_of_flavor_disks(instance)
    if wanted is None:
        wanted = next(letters for letters in _all_letters() if letters not in used)
    elif wanted in used:
        raise exception.DevicePathInUse(path=device)
    return prefix + wanted


def split_device_name(device: str) -> tuple[str, str]:
    """Return the prefix and the letters of a device name; raises InvalidDevicePath."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise exception.InvalidDevicePath(path=device)
    return match["prefix"], match["letters"]


def _used_letters(instance: Mapping[str, Any], bdms: Iterable[Mapping[str, Any]], root: str) -> set[str]:
    names = [root, instance["default_ephemeral_device"], instance["default_swap_device"]]
    names.extend(bdm["device_name"] for bdm in bdms if not bdm["no_device"])
    return {_letters(name) for name in names if name}


def _letters(name: str) -> str:
    bare = name.removeprefix("/dev/")
    return re.sub(r"[0-9]", "", _BUS.sub("", bare))


def _letters_of_flavor_disks(instance: Mapping[str, Any]) -> set[str]:
    sizes = _sizes_of_flavor(instance)
    return {letter for letter, disk in (("b", "ephemeral_gb"), ("c", "swap")) if sizes[disk]}


def _sizes_of_flavor(instance: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of the ephemeral disk and of swap; a dict of old has them spelled in system_metadata."""
    flavor = instance.get("flavor")
    if flavor:
        return {name: flavor[name] or 0 for name in ("ephemeral_gb", "swap")}
    spelled = pairs_of(instance.get("system_metadata"))
    return {name: int(spelled.get(f"instance_type_{name}") or 0) for name in ("ephemeral_gb", "swap")}


def _all_letters() -> Iterable[str]:
    alphabet = string.ascii_lowercase
    return itertools.chain(alphabet, map("".join, itertools.product(alphabet, repeat=2)))
