"""From an image of the image service to a disk the host can take: opening, unpacking, converting, checking."""

import enum
import json
import os
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.image_content import LARGEST_REST_B, FileContent, StreamContent, open_content
from nova_lite.virt.xenapi.transfer import CHUNK_B, chunks

SECTOR_B = 512
FIRST_SECTOR = 63
VHD_COOKIE = b"conectix"
VHD_FIXED, VHD_DYNAMIC = 2, 3
# VHDs count their seconds from the year 2000.
VHD_EPOCH_S = 946684800
CLOCKS_MAY_DIFFER_S = 3600


Content = StreamContent | FileContent


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
    blocks: Iterable[bytes]


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
            content = open_content(stream, image_meta, stack)
            yield self._as_disk(kind, content, image_meta, stack)
            content.check()

    def _as_disk(self, kind: ImageType, content: Content, image_meta: dict, stack: ExitStack) -> DiskImage:
        if kind is ImageType.QCOW2:
            return self._converted(content, image_meta, stack)
        if kind is ImageType.VHD:
            return self._vhd(content, image_meta, stack)
        if image_meta.get("container_format") == "tgz":
            return _tar_member(content, image_meta, stack)
        blocks, size_b = self._measured(content, b"", stack)
        disk = DiskImage("raw", size_b, size_b, blocks)
        return _with_partition_table(disk) if kind is ImageType.FILESYSTEM else disk

    def _vhd(self, content: Content, image_meta: dict, stack: ExitStack) -> DiskImage:
        head = _read_exactly(content, SECTOR_B)
        if head[:2] == b"\x1f\x8b":
            return _tar_member(_Joined(head, content), image_meta, stack)
        blocks, size_b = self._measured(content, head, stack)
        return _vhd_disk(head, blocks, size_b, image_meta)

    def _measured(self, content: Content, head: bytes, stack: ExitStack) -> tuple[Iterable[bytes], int]:
        """Return the blocks of the content, of which `head` has been read, and its size."""
        blocks = content.rest(head)
        return (blocks, content.size_b) if content.size_b else self._spooled(blocks, stack)

    def _spooled(self, blocks: Iterable[bytes], stack: ExitStack) -> tuple[FileBlocks, int]:
        spool = stack.enter_context(tempfile.TemporaryFile(dir=self._spool_dir))  # noqa: SIM115
        for block in blocks:
            concurrency.run_blocking(spool.write, block)
        spool.flush()
        size_b = spool.tell()
        return FileBlocks(spool.fileno(), size_b), size_b

    def _converted(self, content: Content, image_meta: dict, stack: ExitStack) -> DiskImage:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=self._spool_dir, prefix="nova_lite-image-"))
        source, target = os.path.join(folder, "image.qcow2"), os.path.join(folder, "image.vhd")
        with open(source, "wb") as spool:
            for block in content.rest(b""):
                concurrency.run_blocking(spool.write, block)
        content.check()
        virtual_size_b = _inspect_qcow2(source, image_meta["id"])
        qemu_img("convert", "-f", "qcow2", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", source, target)
        os.unlink(source)
        vhd = stack.enter_context(open(target, "rb"))  # noqa: SIM115
        size_b = os.path.getsize(target)
        return DiskImage("vhd", size_b, virtual_size_b, FileBlocks(vhd.fileno(), size_b))


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


def _vhd_disk(head: bytes, blocks: Iterable[bytes], size_b: int, image_meta: dict) -> DiskImage:
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
    return DiskImage("vhd", size_b, virtual_size_b, blocks)


def _tar_member(stream, image_meta: dict, stack: ExitStack) -> DiskImage:
    """The one disk of a gzipped tar: of an image of VHDs the one named so, swap.vhd left out; else the only file."""
    is_vhd = ImageType.of(image_meta) is ImageType.VHD
    try:
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|gz", bufsize=CHUNK_B))  # noqa: SIM115
        disks = _vhds_in(archive) if is_vhd else _files_in(archive)
        member = next(disks, None)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason=f"its archive is broken: {error}") from None
    if member is None:
        raise exception.ImageUnacceptable(image_id=image_meta["id"], reason="its archive holds no disk")
    content: Any = archive.extractfile(member)
    if not is_vhd:
        return DiskImage("raw", member.size, member.size, _only_disk(disks, content, image_meta))
    head = _read_exactly(content, SECTOR_B)
    return _vhd_disk(head, _only_disk(disks, _Joined(head, content), image_meta), member.size, image_meta)


def _files_in(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files from the present place in the archive on."""
    while (entry := archive.next()) is not None:
        if entry.isfile():
            yield entry


def _vhds_in(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for entry in _files_in(archive):
        if entry.name.endswith(".vhd") and os.path.basename(entry.name) != "swap.vhd":
            yield entry


def _only_disk(disks: Iterator[tarfile.TarInfo], content, image_meta: dict) -> Iterator[bytes]:
    try:
        yield from chunks(content)
        other = next(disks, None)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise exception.CouldNotFetchImage(image=image_meta["id"]) from error
    if other is not None:
        raise exception.ImageUnacceptable(image_id=image_meta["id"],
                                          reason="it is a chain of disks, or holds several; one is expected")


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
