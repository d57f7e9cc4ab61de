#!/usr/bin/env python3
"""Kernel and ramdisk files of paravirtual guests, in /boot/guest."""

import contextlib
import os
import re
import shutil
import uuid

import nova_lite_dom0 as dom0
import XenAPIPlugin

FOLDER = "/boot/guest"
CHUNK_B = 1024 * 1024
INVENTORY = "/etc/xensource-inventory"


def _file(name):
    path = os.path.normpath(os.path.join(FOLDER, name))
    if not path.startswith(FOLDER + "/"):
        raise dom0.ArgumentError(f"{name} is not below {FOLDER}")
    return path


def create_kernel_ramdisk(session, args):
    """Copy a cached file to a new name and return that; '' when it is not cached."""
    cached = _file(dom0.validated(args, "cached-image"))
    if not os.path.isfile(cached):
        return ""
    target = _file(dom0.validated(args, "new-image-uuid"))
    shutil.copyfile(cached, target)
    return target


def remove_kernel_ramdisk(session, args):
    """Remove files; missing ones are no error."""
    for key in ("kernel-file", "ramdisk-file"):
        if args.get(key):
            with contextlib.suppress(FileNotFoundError):
                os.remove(_file(args[key]))
    return "ok"


def copy_vdi(session, args):
    """Copy the first `image-size` bytes of a VDI into a file and return its name."""
    vdi_ref, size_b = dom0.exists(args, "vdi-ref"), int(dom0.exists(args, "image-size"))
    target = _file(str(uuid.uuid4()))
    os.makedirs(FOLDER, exist_ok=True)
    with _attached(session, vdi_ref) as device, open(device, "rb") as source, open(target, "wb") as copy:
        while size_b > 0:
            block = source.read(min(CHUNK_B, size_b))
            if not block:
                raise dom0.PluginError("the disk is smaller than the image")
            copy.write(block)
            size_b -= len(block)
    if args.get("cached-image"):
        shutil.copyfile(target, _file(dom0.validated(args, "cached-image")))
    return target


@contextlib.contextmanager
def _attached(session, vdi_ref):
    """Lend the device of a VDI plugged into dom0."""
    vbd_ref = session.xenapi.VBD.create({
        "VM": _own_domain(session), "VDI": vdi_ref, "userdevice": "autodetect", "bootable": False, "mode": "RO",
        "type": "disk", "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
        "qos_algorithm_params": {}, "qos_supported_algorithms": []})
    try:
        session.xenapi.VBD.plug(vbd_ref)
        try:
            yield "/dev/" + session.xenapi.VBD.get_device(vbd_ref)
        finally:
            session.xenapi.VBD.unplug(vbd_ref)
    finally:
        session.xenapi.VBD.destroy(vbd_ref)


def _own_domain(session):
    with open(INVENTORY) as inventory:
        match = re.search(r"^CONTROL_DOMAIN_UUID='?([0-9a-f-]+)'?$", inventory.read(), re.MULTILINE)
    return session.xenapi.VM.get_by_uuid(match.group(1))


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "copy_vdi": copy_vdi,
        "create_kernel_ramdisk": create_kernel_ramdisk,
        "remove_kernel_ramdisk": remove_kernel_ramdisk,
    })
