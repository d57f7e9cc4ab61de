#!/usr/bin/env python3
"""Puts a guest's network settings and a boot menu into the iPXE installation CD it boots from."""

import os
import re
import shutil
import struct
import tempfile

import nova_lite_dom0 as dom0
import nova_lite_vhds as vhds
import XenAPIPlugin

SECTOR_B = 2048
FIRST_DESCRIPTOR = 16
ROOT_AT = 156
IS_DIRECTORY = 2
# iPXE images have a handful of small files; another CD is none.
LARGEST_FILE_B = 64 * 1024 * 1024
URL = re.compile(r"^https?://[!-~]+\Z")
NETWORK = """#!ipxe
imgfree
ifclose net0
set net0/ip {ip_address}
set net0/netmask {netmask}
set net0/gateway {gateway}
set dns {dns}
ifopen net0
chain {boot_menu_url} || goto failed
:failed
echo The boot menu cannot be loaded
shell
"""
BOOT = """SAY iPXE
TIMEOUT 30
DEFAULT ipxe
LABEL ipxe
 KERNEL ipxe.krn
 INITRD netcfg.ipxe
"""


@dom0.serialized
def inject(session, sr_path, vdi_uuid, boot_menu_url, ip_address, netmask, gateway, dns, mkisofs_cmd):
    """Build the CD `<sr_path>/iso/<vdi_uuid>.img` anew with these settings."""
    if not URL.match(boot_menu_url):
        raise dom0.ArgumentError("Invalid value for argument boot_menu_url")
    settings = {"ip_address": ip_address, "netmask": netmask, "gateway": gateway, "dns": dns}
    for name, value in settings.items():
        dom0.checked(value, name)
    folder = os.path.join(vhds.repository(sr_path), "iso")
    path = os.path.join(folder, dom0.checked(vdi_uuid, "vdi_uuid") + ".img")
    if os.path.islink(folder) or os.path.islink(path) or not os.path.isfile(path):
        raise dom0.PluginError(f"{path} is no file of the repository itself")
    staging = tempfile.mkdtemp(prefix="nova-lite-ipxe-", dir=folder)
    try:
        _rebuild(path, staging, NETWORK.format(boot_menu_url=boot_menu_url, **settings),
                 dom0.checked(mkisofs_cmd, "mkisofs_cmd"))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ""


def _rebuild(path, staging, network, mkisofs_cmd):
    content = os.path.join(staging, "content")
    os.mkdir(content)
    with open(path, "rb") as image:
        for name, body in _files_of(image):
            with open(os.path.join(content, name), "wb") as file:
                file.write(body)
    if not os.path.exists(os.path.join(content, "isolinux.bin")):
        raise dom0.PluginError("the image is no iPXE CD: it has no isolinux.bin")
    for name, text in (("netcfg.ipxe", network), ("isolinux.cfg", BOOT)):
        with open(os.path.join(content, name), "w") as file:
            file.write(text)
    made = os.path.join(staging, "made.img")
    dom0.must_run(mkisofs_cmd, "-quiet", "-l", "-o", made, "-c", "boot.cat", "-b", "isolinux.bin", "-no-emul-boot",
                  "-boot-load-size", "4", "-boot-info-table", content)
    os.rename(made, path)


def _files_of(image):
    """Yield (name, content) of the files in the root of an ISO 9660 image."""
    image.seek(FIRST_DESCRIPTOR * SECTOR_B)
    descriptor = image.read(SECTOR_B)
    if descriptor[:6] != b"\x01CD001":
        raise dom0.PluginError("the image is no CD")
    extent, size_b = _place(descriptor[ROOT_AT:])
    image.seek(extent * SECTOR_B)
    directory = image.read(min(size_b, LARGEST_FILE_B))
    at = 0
    while at < len(directory):
        length = directory[at]
        if length == 0:  # records do not cross sectors
            at = (at // SECTOR_B + 1) * SECTOR_B
            continue
        record = directory[at:at + length]
        at += length
        if len(record) < 34 or record[25] & IS_DIRECTORY:
            continue
        name = record[33:33 + record[32]].decode("ascii", "replace").split(";")[0].rstrip(".").lower()
        extent, size_b = _place(record)
        if not dom0.SAFE.match(name) or name.startswith("-") or size_b > LARGEST_FILE_B:
            raise dom0.PluginError("the image is no iPXE CD")
        image.seek(extent * SECTOR_B)
        yield name, image.read(size_b)


def _place(record):
    """Return (first sector, bytes) of what a directory record is about."""
    return struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"inject": inject})
