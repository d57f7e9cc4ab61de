"""The demo's image: a small partitioned disk whose every block tells where it belongs."""

import hashlib
import pathlib
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from typing import BinaryIO

SECTOR_B = 512
DISK_B = 16 * 1024 * 1024
PARTITION_START = 2048  # sectors, the usual 1 MiB
LINUX = 0x83
CHUNK_B = 1024 * 1024
SUFFIX_FORMATS = {".vhd": "vhd", ".raw": "raw", ".img": "raw", ".qcow2": "qcow2"}


class ImageError(Exception):
    """The image cannot be made or read; the text says why."""


def make_disk(path: pathlib.Path) -> None:
    """Write a raw disk of 16 MiB: a master boot record, one partition, and in it a superblock and patterned blocks.

    Most of it is a hole, as on a fresh disk; what is written differs from block to block.
    """
    sectors = DISK_B // SECTOR_B - PARTITION_START
    with path.open("wb") as disk:
        disk.truncate(DISK_B)
        disk.write(boot_record(PARTITION_START, sectors))
        start_b = PARTITION_START * SECTOR_B
        disk.seek(start_b + 1024)
        disk.write(superblock(sectors * SECTOR_B // 4096))
        for block in range(16, 512, 3):
            disk.seek(start_b + block * 4096)
            disk.write(pattern(block))


def boot_record(first_sector: int, sectors: int) -> bytes:
    """Return a master boot record with one active Linux partition; CHS fields say 'use LBA'."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", LINUX, b"\xfe\xff\xff", first_sector, sectors)
    code = b"\xfa\xf4" + b"nova_lite demo disk: nothing to boot"  # cli; hlt
    return code.ljust(440, b"\0") + b"NOVL\0\0" + entry + bytes(48) + b"\x55\xaa"


def superblock(blocks: int) -> bytes:
    """Return the first fields of an ext2 superblock: counts, block size 4096, magic, volume name."""
    text = bytearray(1024)
    struct.pack_into("<II", text, 0, blocks // 4, blocks)
    struct.pack_into("<I", text, 24, 2)
    struct.pack_into("<H", text, 56, 0xEF53)
    text[120:136] = b"nova_lite-demo".ljust(16, b"\0")
    return bytes(text)


def pattern(block: int) -> bytes:
    """Return 4096 bytes that no other block has."""
    return b"".join(hashlib.sha256(f"{block}:{part}".encode()).digest() for part in range(128))


class Image:
    """A disk image file, its format, and its content as a raw disk."""

    def __init__(self, path: pathlib.Path, disk_format: str, raw: pathlib.Path):
        self.path = path
        self.disk_format = disk_format
        self.raw = raw
        self.size_b = raw.stat().st_size
        with raw.open("rb") as disk:
            self.digest = digest_of(chunks_of(disk), self.size_b)


def demo_image(directory: pathlib.Path) -> Image:
    """Make the demo's own image in this directory: VHD where qemu-img is there, else raw."""
    raw = directory / "demo.raw"
    make_disk(raw)
    if not shutil.which("qemu-img"):
        return Image(raw, "raw", raw)
    path = directory / "demo.vhd"
    convert(raw, path, "raw", "vpc", "-o", "subformat=dynamic,force_size=on")
    return Image(path, "vhd", raw)


def users_image(path: pathlib.Path, directory: pathlib.Path) -> Image:
    """Return the user's image, its format told by its content. Raises ImageError."""
    if not path.is_file():
        raise ImageError(f"there is no image file {path}")
    disk_format = format_of(path)
    if disk_format == "raw":
        return Image(path, disk_format, path)
    raw = directory / "image.raw"
    convert(path, raw, {"vhd": "vpc"}.get(disk_format, disk_format), "raw")
    return Image(path, disk_format, raw)


def format_of(path: pathlib.Path) -> str:
    """Return vhd, qcow2 or raw by the magic numbers at both ends of the file. Raises ImageError when it is empty."""
    size_b = path.stat().st_size
    if not size_b:
        raise ImageError(f"the image file {path} is empty")
    with path.open("rb") as stream:
        head = stream.read(8)
        stream.seek(max(size_b - SECTOR_B, 0))
        foot = stream.read(8)
    if head.startswith(b"QFI\xfb"):
        return "qcow2"
    # A fixed VHD has only its footer; a dynamic one has a copy of it in front.
    return "vhd" if b"conectix" in (head, foot) else "raw"


def convert(source: pathlib.Path, target: pathlib.Path, from_format: str, to_format: str, *options: str) -> None:
    """Convert with qemu-img. Raises ImageError."""
    if not shutil.which("qemu-img"):
        raise ImageError(f"qemu-img is needed to read {source}: install qemu-utils, or give a raw image")
    command = ["qemu-img", "convert", "-f", from_format, "-O", to_format, *options, str(source), str(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"qemu-img could not convert {source}: {done.stderr.strip().splitlines()[-1:]}")


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what the stream holds, a chunk at a time."""
    return iter(lambda: stream.read(CHUNK_B), b"")


def digest_of(chunks: Iterable[bytes], size_b: int) -> str:
    """Return the SHA-256 of the first `size_b` bytes. Raises ImageError when there are fewer."""
    digest = hashlib.sha256()
    left_b = size_b
    for chunk in chunks:
        digest.update(chunk[:left_b])
        left_b -= min(left_b, len(chunk))
        if not left_b:
            return digest.hexdigest()
    raise ImageError(f"only {size_b - left_b} of {size_b} bytes are there")
