"""Disks brought to this machine, changed in a sparse file, and sent back: xapi does not reach inside them."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.images import DiskImage, qemu_img
from nova_lite.virt.xenapi.transfer import CHUNK_B, Transfers, chunks


class LocalCopies:
    """Lends copies of detached disks."""

    def __init__(self, session, spool_dir: str | None = None):
        self._transfers = Transfers(session)
        self._spool_dir = spool_dir

    @contextmanager
    def of(self, vdi_ref: str) -> Iterator[str]:
        """Lend the path of a sparse file with the content of the disk; there is room beside it for others."""
        with tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-disk-") as folder:
            vhd, raw = os.path.join(folder, "disk.vhd"), os.path.join(folder, "disk.raw")
            with self._transfers.export_vdi(vdi_ref, "vhd") as stream, open(vhd, "wb") as spool:
                for block in chunks(stream):
                    concurrency.run_blocking(spool.write, block)
            concurrency.run_blocking(qemu_img, "convert", "-f", "vpc", "-O", "raw", vhd, raw)
            os.unlink(vhd)
            yield raw

    def send(self, raw: str, vdi_ref: str, size_b: int) -> None:
        """Make the file the content of a disk of `size_b` bytes."""
        vhd = f"{raw}.vhd"
        concurrency.run_blocking(qemu_img, "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on",
                                 raw, vhd)
        with open(vhd, "rb") as file:
            length_b = os.path.getsize(vhd)
            disk = DiskImage("vhd", length_b, size_b, FileBlocks(file.fileno(), length_b))
            self._transfers.import_vdi(vdi_ref, disk.blocks, disk.length_b, disk.format)


def copy_part(source: str, target: str, source_at_b: int, target_at_b: int, length_b: int, sparse: bool) -> None:
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


def run_program(program: str, *arguments: str, fine: tuple[int, ...] = (0,)) -> str:
    """Run a program that works on disks; returns what it prints. Raises CannotResizeDisk."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise exception.CannotResizeDisk(reason=f"{program} is not installed")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise exception.CannotResizeDisk(reason=f"{program}: {lines[-1]}")
    return done.stdout + done.stderr
