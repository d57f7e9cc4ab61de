"""From an image of the image service to a disk the host can take: opening, unpacking, converting, checking."""

import enum
import hashlib
import io
import json
import os
import queue
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi.transfer import CHUNK_B, chunks

LOG = logging.getLogger(__name__)

SECTOR_B = 512
# What an image may have beside its disk: tables, bitmaps, the end of an archive.
LARGEST_REST_B = 16 * CHUNK_B
BLOCKS_BEHIND = 4
FIRST_SECTOR = 63
VHD_COOKIE = b"conectix"
VHD_FIXED, VHD_DYNAMIC = 2, 3
# VHDs count their seconds from the year 2000.
VHD_EPOCH_S = 946684800
CLOCKS_MAY_DIFFER_S = 3600


class ImageType(enum.Enum):
    """What an image is for; the value is its disk_format."""

    KERNEL = "aki"
    RAMDISK = "ari"
    FILESYSTEM = "ami"
    RAW = "raw"
    VHD = "vhd"
    ISO = "iso"
    QCOW2 = "qcow2"

    @classmethod
    def of(cls, image_meta: dict) -> "ImageType":
        """Return the type of the image. Raises InvalidDiskFormat."""
        disk_format = (image_meta or {}).get("disk_format")
        try:
            return cls(disk_format)
        except ValueError:
            raise exception.InvalidDiskFormat(disk_format=disk_format) from None


@dataclass
class DiskImage:
    """A disk on its way to the host: `length_b` bytes of `format` (raw, vhd) that show as `virtual_size_b`."""

    format: str
    length_b: int
    virtual_size_b: int
    blocks: Iterator[bytes]


class BackgroundDigest:
    """A digest that is computed beside its caller, who reads and sends meanwhile; BLOCKS_BEHIND blocks at most are due.

    Closed by leaving its block.
    """

    def __init__(self, digest: Any):
        self._digest = digest
        self._due: queue.Queue = queue.Queue(BLOCKS_BEHIND)
        self._worker = concurrency.spawn(self._work)

    def __enter__(self) -> "BackgroundDigest":
        return self

    def __exit__(self, *_details) -> None:
        self._due.put(None)
        self._worker.wait()

    def update(self, block: bytes) -> None:
        self._due.put(block)

    def hexdigest(self) -> str:
        """Return the digest of all blocks so far."""
        self._due.join()
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (block := self._due.get()) is not None:
            concurrency.run_blocking(self._digest.update, block)
            self._due.task_done()


class _Measured(io.RawIOBase):
    """A stream that hashes what is read from it, and ends with an error where it is longer than the image says."""

    def __init__(self, stream: BinaryIO, digest, image_meta: dict):
        self._stream = stream
        self._digest = digest
        self._image_id = image_meta["id"]
        self._expected_b = image_meta.get("size") or None
        self.read_b = 0

    def readable(self):
        return True

    def read(self, size=-1):
        block = self._stream.read(size)
        self._digest.update(block)
        self.read_b += len(block)
        if self._expected_b is not None and self.read_b > self._expected_b:
            LOG.warning("Image %s has more than the %d bytes it is said to have", self._image_id, self._expected_b)
            raise exception.CouldNotFetchImage(image=self._image_id)
        return block

    def drain(self) -> None:
        """Read what follows the disk, which is little. Raises ImageUnacceptable where it does not end."""
        limit_b = self.read_b + LARGEST_REST_B
        while self.read(CHUNK_B):
            if self._expected_b is None and self.read_b > limit_b:
                raise exception.ImageUnacceptable(image_id=self._image_id, reason="it does not end with its disk")


class Images:
    """Reads disks out of the images of an image port."""

    def __init__(self, image_api, spool_dir: str | None = None):
        self._image_api = image_api
        self._spool_dir = spool_dir

    @contextmanager
    def open(self, context: Any, image_meta: dict) -> Iterator[DiskImage]:
        """Lend the image as a disk; leaving without an error checks length and checksum.

        Raises InvalidDiskFormat, ImageUnacceptable (content that is not what the format says),
        CouldNotFetchImage (checksum or length differ).
        """
        kind = ImageType.of(image_meta)
        with ExitStack() as stack:
            stream = stack.enter_context(self._image_api.open(context, image_meta["id"]))
            digest = stack.enter_context(BackgroundDigest(_digest_of(image_meta)))
            measured = _Measured(stream, digest, image_meta)
            disk = self._as_disk(kind, measured, image_meta, stack)
            yield disk
            measured.drain()
            _check(measured, image_meta)

    def _as_disk(self, kind: ImageType, stream: Any, image_meta: dict, stack: ExitStack) -> DiskImage:
        if kind is ImageType.QCOW2:
            return self._converted(stream, image_meta, stack)
        if kind is ImageType.VHD:
            return self._vhd(stream, image_meta, stack)
        if image_meta.get("container_format") == "tgz":
            return _tar_member(stream, image_meta, stack)
        size_b = image_meta.get("size")
        if not size_b:
            stream, size_b = self._spooled(stream, stack)
        disk = DiskImage("raw", size_b, size_b, chunks(stream))
        return _with_partition_table(disk) if kind is ImageType.FILESYSTEM else disk

    def _vhd(self, stream: Any, image_meta: dict, stack: ExitStack) -> DiskImage:
        head = _read_exactly(stream, SECTOR_B)
        joined: Any = _Joined(head, stream)
        if head[:2] == b"\x1f\x8b":
            return _tar_member(joined, image_meta, stack)
        size_b = image_meta.get("size")
        if not size_b:
            joined, size_b = self._spooled(joined, stack)
            head = _read_exactly(joined, SECTOR_B)
            joined = _Joined(head, joined)
        return _vhd_disk(head, joined, size_b, image_meta)

    def _spooled(self, stream, stack: ExitStack) -> tuple[BinaryIO, int]:
        spool = stack.enter_context(tempfile.TemporaryFile(dir=self._spool_dir))  # noqa: SIM115
        for block in chunks(stream):
            concurrency.run_blocking(spool.write, block)
        size_b = spool.tell()
        spool.seek(0)
        return spool, size_b

    def _converted(self, stream: Any, image_meta: dict, stack: ExitStack) -> DiskImage:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-image-"))
        source, target = os.path.join(folder, "image.qcow2"), os.path.join(folder, "image.vhd")
        with open(source, "wb") as spool:
            for block in chunks(stream):
                concurrency.run_blocking(spool.write, block)
        _check(stream, image_meta)
        virtual_size_b = _inspect_qcow2(source, image_meta["id"])
        qemu_img("convert", "-f", "qcow2", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", source, target)
        os.unlink(source)
        vhd = stack.enter_context(open(target, "rb"))  # noqa: SIM115
        return DiskImage("vhd", os.path.getsize(target), virtual_size_b, chunks(vhd))


def _digest_of(image_meta: dict):
    expected = image_meta.get("os_hash_value")
    if expected:
        return hashlib.new(image_meta.get("os_hash_algo") or {64: "sha256", 96: "sha384"}.get(len(expected), "sha512"))
    return hashlib.md5(usedforsecurity=False)


def _check(stream: _Measured, image_meta: dict) -> None:
    expected = image_meta.get("os_hash_value") or image_meta.get("checksum")
    size_b = image_meta.get("size")
    if size_b and stream.read_b != size_b:
        LOG.warning("Image %s has %d bytes, expected %d", image_meta["id"], stream.read_b, size_b)
        raise exception.CouldNotFetchImage(image=image_meta["id"])
    if expected and stream._digest.hexdigest() != expected.lower():
        LOG.warning("Image %s does not have the checksum %s", image_meta["id"], expected)
        raise exception.CouldNotFetchImage(image=image_meta["id"])


class _Joined:
    """A stream that starts with bytes already read."""

    def __init__(self, head: bytes, stream):
        self._head = head
        self._stream = stream

    def read(self, size=-1):
        if not self._head:
            return self._stream.read(size)
        if size is None or size < 0:
            head, self._head = self._head, b""
            return head + self._stream.read()
        head, self._head = self._head[:size], self._head[size:]
        return head


def _read_exactly(stream, size_b: int) -> bytes:
    block = b""
    while len(block) < size_b:
        more = stream.read(size_b - len(block))
        if not more:
            break
        block += more
    return block


def _vhd_disk(head: bytes, stream, size_b: int, image_meta: dict) -> DiskImage:
    """A dynamic VHD begins with a copy of its footer: cookie, virtual size at 48, type at 60."""
    if len(head) < SECTOR_B or head[:8] != VHD_COOKIE:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason="it is no dynamic VHD")
    virtual_size_b, = struct.unpack(">Q", head[48:56])
    made_at = VHD_EPOCH_S + struct.unpack(">I", head[24:28])[0]
    if made_at > time.time() + CLOCKS_MAY_DIFFER_S:
        # The host compares these times along a chain: one of the future makes it think that a parent was changed.
        raise exception.ImageUnacceptable(
            image_id=image_meta["id"], reason="its VHD is from the future: a clock is wrong where it was made, or here")
    if size_b > virtual_size_b + virtual_size_b // 256 + LARGEST_REST_B:
        raise exception.ImageUnacceptable(image_id=image_meta["id"],
                                          reason="its VHD is larger than the disk it describes")
    disk_type, = struct.unpack(">I", head[60:64])
    if disk_type != VHD_DYNAMIC:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason=f"its VHD type is {disk_type}, not dynamic")
    return DiskImage("vhd", size_b, virtual_size_b, chunks(stream))


def _tar_member(stream, image_meta: dict, stack: ExitStack) -> DiskImage:
    """The one disk of a gzipped tar; swap.vhd beside it is left out."""
    try:
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|gz", bufsize=CHUNK_B))  # noqa: SIM115
        member = next(_disks_in(archive), None)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason=f"its archive is broken: {error}") from None
    if member is None:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason="its archive holds no disk")
    content = archive.extractfile(member)
    if not member.name.endswith(".vhd"):
        return DiskImage("raw", member.size, member.size, _only_disk(archive, content, image_meta))
    head = _read_exactly(content, SECTOR_B)
    disk = _vhd_disk(head, _Joined(head, content), member.size, image_meta)
    disk.blocks = _only_disk(archive, _Joined(head, content), image_meta)
    return disk


def _disks_in(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the disks from the present place in the archive on."""
    while (entry := archive.next()) is not None:
        if entry.isfile() and os.path.basename(entry.name) != "swap.vhd":
            yield entry


def _only_disk(archive, content, image_meta: dict) -> Iterator[bytes]:
    try:
        yield from chunks(content)
        others = [entry.name for entry in _disks_in(archive) if entry.name.endswith(".vhd")]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise exception.CouldNotFetchImage(image=image_meta["id"]) from error
    if others:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason="it is a chain of VHDs, one is expected")


def _with_partition_table(disk: DiskImage) -> DiskImage:
    sectors = -(-disk.length_b // SECTOR_B)
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_SECTOR, sectors)
    table = bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes((FIRST_SECTOR - 1) * SECTOR_B)
    padding = bytes(sectors * SECTOR_B - disk.length_b)

    def blocks() -> Iterator[bytes]:
        yield table
        yield from disk.blocks
        if padding:
            yield padding

    size_b = len(table) + sectors * SECTOR_B
    return DiskImage("raw", size_b, size_b, blocks())


def _inspect_qcow2(path: str, image_id: str) -> int:
    """Return the virtual size; an image that reaches for other files is refused."""
    described = json.loads(qemu_img("info", "--output=json", "-f", "qcow2", path))
    specific = described.get("format-specific", {}).get("data", {})
    if described.get("backing-filename") or specific.get("data-file"):
        raise exception.ImageUnacceptable(image_id=image_id, reason="it refers to another file")
    return described["virtual-size"]


def qemu_img(*arguments: str) -> str:
    """Run qemu-img and return what it prints. Raises ImageConversionFailed with its last line."""
    try:
        done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ImageConversionFailed(reason="qemu-img is not installed") from None
    if done.returncode:
        raise ImageConversionFailed(reason=(done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return done.stdout


class ImageConversionFailed(exception.NovaException):
    """qemu-img could not convert an image."""

    msg_fmt = "qemu-img failed: %(reason)s"
