"""auto_disk_config: the one partition of a disk, and the file system in it, follow the size of the disk.

A partition cannot be changed through xapi, so the disk is brought here, changed in a sparse file, and sent back. That
is for services near their host only: [xenserver] independent_compute = false.
"""

import os
import struct
from dataclasses import dataclass
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.local_copies import LocalCopies, copy_part, run_program
from nova_lite.virt.xenapi.plan import Undo

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
        self._copies = LocalCopies(session, spool_dir)
        self._conf = conf

    def is_wanted(self, instance: Any) -> bool:
        """Tell whether the partition of this instance's root disk is ours to change; says so where it cannot be."""
        if not instances.follows_disk(instance):
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
            with self._copies.of(vdi_ref) as raw:
                self._resize(raw, size_b)
                self._copies.send(raw, vdi_ref, size_b)
        except exception.CannotResizeDisk as error:
            LOG.warning("%s", error)

    def shrunk_copy(self, vdi_ref: str, size_b: int, name_label: str, marks: dict[str, str], undo: Undo) -> str:
        """Return a new disk of `size_b` bytes with the content of a detached one. Raises ResizeError."""
        try:
            with self._copies.of(vdi_ref) as raw:
                self._resize(raw, size_b)
                copy_ref = self._disks.blank(name_label, size_b, marks, undo)
                self._copies.send(raw, copy_ref, size_b)
                return copy_ref
        except exception.CannotResizeDisk as error:
            raise exception.ResizeError(reason=str(error)) from error

    # Inside the file ------------------------------------------------------------------------------------------

    def _resize(self, raw: str, size_b: int) -> None:
        """Give the one partition all sectors of a disk of `size_b` bytes. Raises CannotResizeDisk."""
        partition = only_partition(raw)
        sectors = size_b // SECTOR_B - partition.start
        inside = f"{raw}.partition"
        sparse = self._conf.xenserver.sparse_copy
        copy_part(raw, inside, partition.start * SECTOR_B, 0, partition.sectors * SECTOR_B, sparse)
        concurrency.run_blocking(resize_file_system, inside, partition.sectors, sectors)
        os.truncate(raw, partition.start * SECTOR_B)
        os.truncate(raw, size_b)
        _write_entry(raw, partition, sectors)
        copy_part(inside, raw, 0, partition.start * SECTOR_B, sectors * SECTOR_B, sparse)
        os.unlink(inside)


def only_partition(path: str) -> Partition:
    """Return the one partition of a disk, the first in the table. Raises CannotResizeDisk for any other disk."""
    found = _partitions(path)
    if len(found) != 1:
        raise exception.CannotResizeDisk(reason=f"it has {len(found)} partitions, expected one")
    if found[0].entry != 0:
        raise exception.CannotResizeDisk(reason=f"its partition has number {found[0].entry + 1}, expected 1")
    return found[0]


def first_partition(path: str) -> Partition:
    """Return the first partition of a disk. Raises CannotResizeDisk."""
    found = _partitions(path)
    if not found:
        raise exception.CannotResizeDisk(reason="it has no partition")
    return found[0]


def _partitions(path: str) -> list[Partition]:
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
    return [Partition(number, start, sectors) for number, _, start, sectors in found]


def _write_entry(path: str, partition: Partition, sectors: int) -> None:
    with open(path, "r+b") as disk:
        disk.seek(TABLE + partition.entry * ENTRY_B + 12)
        disk.write(struct.pack("<I", sectors))


def resize_file_system(path: str, old_sectors: int, sectors: int) -> None:
    """Resize the ext3 or ext4 file system that is all of a file. Raises CannotResizeDisk."""
    if not _has_journal(path):
        raise exception.CannotResizeDisk(reason="its file system is neither ext3 nor ext4")
    run_program("e2fsck", "-f", "-y", path, fine=E2FSCK_FINE)
    run_program("tune2fs", "-O", "^has_journal", path)
    if sectors < old_sectors:
        run_program("resize2fs", path, f"{sectors}s")
        os.truncate(path, sectors * SECTOR_B)
    else:
        os.truncate(path, sectors * SECTOR_B)
        run_program("resize2fs", path, f"{sectors}s")
    run_program("tune2fs", "-j", path)


def _has_journal(path: str) -> bool:
    with open(path, "rb") as partition:
        head = partition.read(2048)
    if len(head) < 2048 or struct.unpack_from("<H", head, MAGIC_AT)[0] != MAGIC:
        return False
    return bool(struct.unpack_from("<I", head, FEATURES_AT)[0] & HAS_JOURNAL)
