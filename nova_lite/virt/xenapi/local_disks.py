"""Disks that come from no image: swap and ephemeral disks, partitioned and formatted in a sparse local file."""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite.virt import driver as virt_driver
from nova_lite.virt.xenapi import instances, records
from nova_lite.virt.xenapi.config_drive import ConfigDrive
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.images import DiskImage, ImageConversionFailed, qemu_img
from nova_lite.virt.xenapi.plan import Undo

LOG = logging.getLogger(__name__)

FIRST_SECTOR = 2048
SECTOR_B = 512
LINUX, LINUX_SWAP, FAT32 = 0x83, 0x82, 0x0C
# A VHD holds about 2043 GB; disks larger than that are made of several.
LARGEST_GB = 2000
EVEN_SHARE_GB = 1024

Maker = Callable[[dict[str, str], Undo], str]


def ephemeral_sizes_gb(total_gb: int) -> list[int]:
    """Split an ephemeral size into disks a VHD can hold: 1024 GB each if that divides it, else 2000 GB and a rest."""
    share_gb = EVEN_SHARE_GB if total_gb % EVEN_SHARE_GB == 0 else LARGEST_GB
    full, rest = divmod(total_gb, share_gb)
    return [share_gb] * full + ([rest] if rest else [])


class LocalDisks:
    """Plans and makes the disks of an instance that come from no image."""

    def __init__(self, disks: Disks, conf, spool_dir: str | None = None):
        self._disks = disks
        self._conf = conf
        self._spool_dir = spool_dir
        self._config_drive = ConfigDrive(disks, spool_dir)

    def plan(self, build: Any, swap_device: int, config_device: int, ephemeral_device: int) -> Iterator[
            tuple[int, str, Maker]]:
        """Yield (userdevice, kind, make) of every such disk; make(other_config, undo) returns the VDI."""
        swap_mb = self._swap_mb(build)
        if swap_mb:
            for_windows = build.os_type == "windows"
            yield swap_device, "swap", lambda marks, undo: self.swap(
                build.name_label, swap_mb, marks, undo, for_windows)
        if self._config_drive.wanted(build.instance):
            yield config_device, "configdrive", lambda marks, undo: self._config_drive.make(build, marks, undo)
        for number, size_gb in enumerate(self._ephemerals_gb(build)):
            label = f"{build.name_label} ephemeral" + (f" ({number})" if number else "")
            yield (ephemeral_device + number, "ephemeral",
                   lambda marks, undo, label=label, number=number, size_gb=size_gb:
                   self.ephemeral(label, number, size_gb, marks, undo))

    def _swap_mb(self, build: Any) -> int:
        if not self._conf.xenserver.generate_swap:
            return 0
        swap = virt_driver.block_device_info_get_swap(build.block_device_info)
        if virt_driver.swap_is_usable(swap):
            return int(swap["swap_size"])
        return int(instances.read(build.flavor, "swap") or 0)

    @staticmethod
    def _ephemerals_gb(build: Any) -> list[int]:
        listed = virt_driver.block_device_info_get_ephemerals(build.block_device_info)
        totals = [int(entry["size"]) for entry in listed] or [int(instances.read(build.flavor, "ephemeral_gb") or 0)]
        return [size_gb for total_gb in totals for size_gb in ephemeral_sizes_gb(total_gb)]

    def swap(self, name_label: str, size_mb: int, marks: dict[str, str], undo: Undo, for_windows: bool = False) -> str:
        """Return a VDI with one swap partition, for Windows one with a FAT file system to put its page file on."""
        size_b = size_mb * records.MIB
        if for_windows:
            return self._make(name_label, size_b, FAT32, _make_fat, marks, undo)
        return self._make(name_label, size_b, LINUX_SWAP, _make_swap, marks, undo)

    def ephemeral(self, name_label: str, number: int, size_gb: int, marks: dict[str, str], undo: Undo) -> str:
        """Return a VDI with one partition, formatted when default_ephemeral_format says how."""
        size_b = size_gb * records.GIB
        if not self._conf.default_ephemeral_format:
            return self._disks.blank(name_label, size_b, marks, undo)
        file_system = self._conf.default_ephemeral_format
        fs_label = f"ephemeral{number or ''}"
        return self._make(name_label, size_b, LINUX,
                          lambda path, disk_b: _make_file_system(path, disk_b, file_system, fs_label), marks, undo)

    def _make(self, name_label: str, size_b: int, partition_type: int, format_partition: Callable[[str, int], None],
              marks: dict[str, str], undo: Undo) -> str:
        with tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-disk-") as folder:
            raw, vhd = os.path.join(folder, "disk.raw"), os.path.join(folder, "disk.vhd")
            _partition(raw, size_b, partition_type)
            try:
                format_partition(raw, size_b)
                qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, vhd)
            except (FormatFailed, ImageConversionFailed) as error:
                LOG.warning("%s stays unformatted: %s", name_label, error)
                return self._disks.blank(name_label, size_b, marks, undo)
            with open(vhd, "rb") as file:
                length_b = os.path.getsize(vhd)
                disk = DiskImage("vhd", length_b, size_b, FileBlocks(file.fileno(), length_b))
                return self._disks.import_disk(disk, name_label, marks, undo)


class FormatFailed(Exception):
    """A program that formats partitions is missing or failed."""


def _partition(path: str, size_b: int, partition_type: int) -> None:
    sectors = size_b // SECTOR_B - FIRST_SECTOR
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", partition_type, b"\xfe\xff\xff", FIRST_SECTOR, sectors)
    with open(path, "wb") as disk:
        disk.truncate(size_b)
        disk.seek(446)
        disk.write(entry + bytes(48) + b"\x55\xaa")


def _make_swap(path: str, size_b: int) -> None:
    """mkswap takes no offset; all it writes is the first page."""
    partition = f"{path}.swap"
    with open(partition, "wb") as area:
        area.truncate(size_b - FIRST_SECTOR * SECTOR_B)
    _run("mkswap", "-p", "4096", partition)
    with open(partition, "rb") as area, open(path, "r+b") as disk:
        disk.seek(FIRST_SECTOR * SECTOR_B)
        disk.write(area.read(4096))
    os.unlink(partition)


def _make_fat(path: str, size_b: int) -> None:
    blocks = (size_b - FIRST_SECTOR * SECTOR_B) // 1024
    _run("mkfs.vfat", "-F", "32", "-n", "SWAP", "--offset", str(FIRST_SECTOR), path, str(blocks))


def _make_file_system(path: str, size_b: int, file_system: str, label: str) -> None:
    blocks = (size_b - FIRST_SECTOR * SECTOR_B) // 4096
    _run(f"mkfs.{file_system}", "-q", "-F", "-b", "4096", "-L", label, "-E", f"offset={FIRST_SECTOR * SECTOR_B}", path,
         str(blocks))


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FormatFailed(f"{program} is not installed")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FormatFailed(f"{program}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
