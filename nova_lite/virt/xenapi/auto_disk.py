"""auto_disk_config: the one partition of a disk, and the file system in it, follow the size of the disk.

A partition cannot be changed through xapi, so the disk is brought here, changed in a sparse file, and sent back. That
is for services near their host only: [xenserver] independent_compute = false.
"""

import errno
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.images import DiskImage, qemu_img
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.transfer import CHUNK_B, Transfers, chunks

LOG = logging.getLogger(__name__)

SECTOR_B = 512
TABLE, ENTRY_B, ENTRIES = 446, 16, 4
GPT = 0xEE
# Where an ext superblock has its magic, and the features that tell a journal.
MAGIC_AT, MAGIC, FEATURES_AT, HAS_JOURNAL = 1024 + 56, 0xEF53, 1024 + 92, 0x4
E2FSCK_FINE = (0, 1, 2)


@dataclass(frozen=True)
class Partition:
    """The only partition of a disk, in sectors."""

    entry: int
    start: int
    sectors: int


class AutoDisk:
    """Makes partitions follow their disks."""

    def __init__(self, session, disks: Disks, conf, spool_dir: str | None = None):
        self._disks = disks
        self._transfers = Transfers(session)
        self._conf = conf
        self._spool_dir = spool_dir

    def is_wanted(self, instance: Any) -> bool:
        """Tell whether the partition of this instance's root disk is ours to change; says so where it cannot be."""
        if not instances.read(instance, "auto_disk_config"):
            return False
        if self._conf.xenserver.independent_compute:
            LOG.warning("auto_disk_config of instance %s is left to the guest: it needs [xenserver] "
                        "independent_compute = false", instances.read(instance, "uuid"))
            return False
        return True

    def fill(self, vdi_ref: str) -> None:
        """Grow partition and file system to the size of a detached disk; a disk that is unlike that stays as it is."""
        size_b = self._disks.virtual_size_b(vdi_ref)
        try:
            with tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-disk-") as folder:
                raw = self._bring(vdi_ref, folder)
                self._resize(raw, size_b)
                self._send(raw, vdi_ref, size_b, folder)
        except exception.CannotResizeDisk as error:
            LOG.warning("%s", error)

    def shrunk_copy(self, vdi_ref: str, size_b: int, name_label: str, marks: dict[str, str], undo: Undo) -> str:
        """Return a new disk of `size_b` bytes with the content of a detached one. Raises ResizeError."""
        try:
            with tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-disk-") as folder:
                raw = self._bring(vdi_ref, folder)
                self._resize(raw, size_b)
                copy_ref = self._disks.blank(name_label, size_b, marks, undo)
                self._send(raw, copy_ref, size_b, folder)
                return copy_ref
        except exception.CannotResizeDisk as error:
            raise exception.ResizeError(reason=str(error)) from error

    # The way here and back ------------------------------------------------------------------------------------

    def _bring(self, vdi_ref: str, folder: str) -> str:
        vhd, raw = os.path.join(folder, "disk.vhd"), os.path.join(folder, "disk.raw")
        with self._transfers.export_vdi(vdi_ref, "vhd") as stream, open(vhd, "wb") as spool:
            for block in chunks(stream):
                concurrency.run_blocking(spool.write, block)
        concurrency.run_blocking(qemu_img, "convert", "-f", "vpc", "-O", "raw", vhd, raw)
        os.unlink(vhd)
        return raw

    def _send(self, raw: str, vdi_ref: str, size_b: int, folder: str) -> None:
        vhd = os.path.join(folder, "disk.vhd")
        concurrency.run_blocking(qemu_img, "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on",
                                 raw, vhd)
        with open(vhd, "rb") as stream:
            disk = DiskImage("vhd", os.path.getsize(vhd), size_b, chunks(stream))
            self._transfers.import_vdi(vdi_ref, disk.blocks, disk.length_b, disk.format)

    # Inside the file ------------------------------------------------------------------------------------------

    def _resize(self, raw: str, size_b: int) -> None:
        """Give the one partition all sectors of a disk of `size_b` bytes. Raises CannotResizeDisk."""
        partition = only_partition(raw)
        sectors = size_b // SECTOR_B - partition.start
        inside = f"{raw}.partition"
        sparse = self._conf.xenserver.sparse_copy
        _copy(raw, inside, partition.start * SECTOR_B, 0, partition.sectors * SECTOR_B, sparse)
        concurrency.run_blocking(resize_file_system, inside, partition.sectors, sectors)
        os.truncate(raw, partition.start * SECTOR_B)
        os.truncate(raw, size_b)
        _write_entry(raw, partition, sectors)
        _copy(inside, raw, 0, partition.start * SECTOR_B, sectors * SECTOR_B, sparse)
        os.unlink(inside)


def only_partition(path: str) -> Partition:
    """Return the one partition of a disk, the first in the table. Raises CannotResizeDisk for any other disk."""
    with open(path, "rb") as disk:
        head = disk.read(SECTOR_B)
    if head[510:512] != b"\x55\xaa":
        raise exception.CannotResizeDisk(reason="it has no partition table")
    found = []
    for number in range(ENTRIES):
        entry = head[TABLE + number * ENTRY_B:TABLE + (number + 1) * ENTRY_B]
        start, sectors = struct.unpack("<II", entry[8:16])
        if sectors:
            found.append((number, entry[4], start, sectors))
    if any(kind == GPT for _, kind, _, _ in found):
        raise exception.CannotResizeDisk(reason="its partition table is a GPT")
    if len(found) != 1:
        raise exception.CannotResizeDisk(reason=f"it has {len(found)} partitions, expected one")
    number, _, start, sectors = found[0]
    if number != 0:
        raise exception.CannotResizeDisk(reason=f"its partition has number {number + 1}, expected 1")
    return Partition(number, start, sectors)


def _write_entry(path: str, partition: Partition, sectors: int) -> None:
    with open(path, "r+b") as disk:
        disk.seek(TABLE + partition.entry * ENTRY_B + 12)
        disk.write(struct.pack("<I", sectors))


def resize_file_system(path: str, old_sectors: int, sectors: int) -> None:
    """Resize the ext3 or ext4 file system that is all of a file. Raises CannotResizeDisk."""
    if not _has_journal(path):
        raise exception.CannotResizeDisk(reason="its file system is neither ext3 nor ext4")
    _run("e2fsck", "-f", "-y", path, fine=E2FSCK_FINE)
    _run("tune2fs", "-O", "^has_journal", path)
    if sectors < old_sectors:
        _run("resize2fs", path, f"{sectors}s")
        os.truncate(path, sectors * SECTOR_B)
    else:
        os.truncate(path, sectors * SECTOR_B)
        _run("resize2fs", path, f"{sectors}s")
    _run("tune2fs", "-j", path)


def _has_journal(path: str) -> bool:
    with open(path, "rb") as partition:
        head = partition.read(2048)
    if len(head) < 2048 or struct.unpack_from("<H", head, MAGIC_AT)[0] != MAGIC:
        return False
    return bool(struct.unpack_from("<I", head, FEATURES_AT)[0] & HAS_JOURNAL)


def _copy(source: str, target: str, source_at_b: int, target_at_b: int, length_b: int, sparse: bool) -> None:
    """Copy a part of one file into another, which grows as needed; with `sparse`, holes are left out."""
    with open(source, "rb") as reading, open(target, "r+b" if os.path.exists(target) else "w+b") as writing:
        writing.truncate(max(os.path.getsize(target), target_at_b + length_b))
        end_b = source_at_b + length_b
        extents = _extents(reading.fileno(), source_at_b, end_b) if sparse else [(source_at_b, end_b)]
        for at_b, until_b in extents:
            reading.seek(at_b)
            writing.seek(target_at_b + at_b - source_at_b)
            while at_b < until_b and (block := reading.read(min(CHUNK_B, until_b - at_b))):
                concurrency.run_blocking(writing.write, block)
                at_b += len(block)


def _extents(source: int, at_b: int, end_b: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of what is not a hole in a part of a file."""
    while at_b < end_b:
        try:
            at_b = os.lseek(source, at_b, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole follows
            raise
        if at_b >= end_b:
            return
        hole_b = os.lseek(source, at_b, os.SEEK_HOLE)
        yield at_b, min(hole_b, end_b)
        at_b = hole_b


def _run(program: str, *arguments: str, fine: tuple[int, ...] = (0,)) -> None:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise exception.CannotResizeDisk(reason=f"{program} is not installed")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise exception.CannotResizeDisk(reason=f"{program}: {lines[-1]}")
