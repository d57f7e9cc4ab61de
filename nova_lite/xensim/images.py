"""The files behind disks: one directory a storage repository, VHD chains or raw sparse files in it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nova_lite.xensim.vhd import BLOCK_SIZE, ZERO_BLOCK, DamagedImage, Image, VhdError, count_blocks, write_at

CHAIN_LIMIT = 30
UNFINISHED = ".new"  # ends the names of files that do not count yet


class RawImage:
    """A raw sparse file with the part of the VHD image's interface that raw disks need."""

    parent = None

    def __init__(self, path: str):
        self.path = path
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  closed by close()
        self.virtual_size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> "RawImage":
        return self

    def __exit__(self, *_details) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def block(self, number: int) -> bytes | None:
        """Return a block of 2 MiB, the last one padded with zeros."""
        return os.pread(self._file.fileno(), BLOCK_SIZE, number * BLOCK_SIZE).ljust(BLOCK_SIZE, b"\0")

    def write(self, offset: int, content: bytes | bytearray) -> None:
        """Write at any offset. Raises VhdError beyond the end."""
        if offset + len(content) > self.virtual_size:
            raise VhdError("data beyond the end of the disk")
        write_at(self._file.fileno(), [content], offset)

    def fill_block(self, number: int, fill: Callable[[int, int, int], None]) -> None:
        """Have a whole block put there by fill(file descriptor, place, size). Raises VhdError beyond the end."""
        if (number + 1) * BLOCK_SIZE > self.virtual_size:
            raise VhdError("data beyond the end of the disk")
        fill(self._file.fileno(), number * BLOCK_SIZE, BLOCK_SIZE)

    def pieces(self) -> Iterator[bytes]:
        for number in range(count_blocks(self.virtual_size)):
            yield (self.block(number) or ZERO_BLOCK)[: self.virtual_size - number * BLOCK_SIZE]


@dataclass(frozen=True)
class ImageFile:
    """What a file of a repository says of itself."""

    parent_uuid: str
    virtual_size: int
    is_damaged: bool = False


class ImageStore:
    """Creates, opens, renames and measures the files. Knows nothing of records."""

    def __init__(self, directory: str):
        self._directory = directory

    def path(self, sr_uuid: str, vdi_uuid: str, is_raw: bool = False) -> str:
        return os.path.join(self._directory, sr_uuid, vdi_uuid + (".raw" if is_raw else ".vhd"))

    def _existing(self, sr_uuid: str, vdi_uuid: str) -> tuple[str, bool]:
        """Return (path, whether it is raw). Raises FileNotFoundError."""
        for is_raw in (False, True):
            path = self.path(sr_uuid, vdi_uuid, is_raw)
            if os.path.exists(path):
                return path, is_raw
        raise FileNotFoundError(f"no image of disk {vdi_uuid}")

    def exists(self, sr_uuid: str, vdi_uuid: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return bool(self._existing(sr_uuid, vdi_uuid))
        return False

    def create(self, sr_uuid: str, vdi_uuid: str, size: int, *, is_raw: bool = False, parent_uuid: str = "") -> None:
        path = self.path(sr_uuid, vdi_uuid, is_raw)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if is_raw:
            with open(path, "wb") as file:
                file.truncate(size)
        else:
            Image.create(path, size, vdi_uuid, time.time(), parent_uuid)

    def open(self, sr_uuid: str, vdi_uuid: str) -> Image | RawImage:
        """Open an image with its chain of parents; close() closes all."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        if is_raw:
            return RawImage(path)
        image: Any = Image(path)
        if image.parent_uuid:
            image.parent = self.open(sr_uuid, image.parent_uuid)
        return image

    def corrupt(self, sr_uuid: str, vdi_uuid: str) -> None:
        """Overwrite the beginning of an image's file. Raises FileNotFoundError."""
        path, _ = self._existing(sr_uuid, vdi_uuid)
        with open(path, "r+b") as file:
            file.write(b"\xde\xad" * 2048)

    def measure(self, sr_uuid: str, vdi_uuid: str) -> int:
        """Return the bytes that the file takes on the disk of the repository."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        status = os.stat(path)
        return min(status.st_blocks * 512, status.st_size) if is_raw else status.st_size

    def delete(self, sr_uuid: str, vdi_uuid: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._existing(sr_uuid, vdi_uuid)[0])

    def put_under(self, sr_uuid: str, vdi_uuid: str, base_uuid: str) -> None:
        """Give a VHD image another uuid, and put an empty child of it in its place.

        Until the last step the disk is what it was, whatever ends the process; `finish_renames` clears up.
        """
        path, base_path = self.path(sr_uuid, vdi_uuid), self.path(sr_uuid, base_uuid)
        with Image(path) as image:
            size = image.virtual_size
        Image.create(path + UNFINISHED, size, vdi_uuid, time.time(), base_uuid)
        os.link(path, base_path)
        with Image(base_path) as image:
            image.restamp(base_uuid, time.time(), image.parent_uuid)
        os.replace(path + UNFINISHED, path)

    def finish_renames(self, sr_uuid: str, recorded: set[str]) -> None:
        """Take back what the end of the process interrupted: unfinished files, and second names of recorded disks."""
        directory = os.path.join(self._directory, sr_uuid)
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        for name in names:
            path = os.path.join(directory, name)
            is_second_name = os.stat(path).st_nlink > 1 and os.path.splitext(name)[0] not in recorded
            if is_second_name or name.endswith(UNFINISHED):
                os.unlink(path)

    def inventory(self, sr_uuid: str) -> dict[str, ImageFile]:
        """Return what is in a repository's directory by uuid."""
        directory = os.path.join(self._directory, sr_uuid)
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return {os.path.splitext(name)[0]: self._look_at(os.path.join(directory, name)) for name in names}

    @staticmethod
    def _look_at(path: str) -> ImageFile:
        if path.endswith(".raw"):
            return ImageFile("", os.path.getsize(path))
        try:
            with Image(path) as image:
                return ImageFile(image.parent_uuid, image.virtual_size)
        except DamagedImage:
            return ImageFile("", 0, is_damaged=True)

    def repair(self, sr_uuid: str, vdi_uuid: str) -> None:
        """Make a VHD file end where its last block does, under its own uuid: a write may have been cut short."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        if not is_raw:
            with Image(path) as image:
                image.restamp(vdi_uuid, time.time(), image.parent_uuid)

    def resize(self, sr_uuid: str, vdi_uuid: str, size: int) -> None:
        """Grow an image."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        if is_raw:
            os.truncate(path, size)
            return
        with self.open(sr_uuid, vdi_uuid) as image:
            image.rewritten(path + UNFINISHED, size, time.time(), image.parent)
        os.replace(path + UNFINISHED, path)

    def merge(self, sr_uuid: str, parent_uuid: str, child_uuid: str) -> None:
        """Fold the parent into its only child: the result has the child's uuid and the parent's parent."""
        with self.open(sr_uuid, child_uuid) as child:
            grows = child.virtual_size > child.parent.virtual_size
            size = child.virtual_size
        if grows:
            self.resize(sr_uuid, parent_uuid, size)
        with self.open(sr_uuid, parent_uuid) as parent, Image(self.path(sr_uuid, child_uuid)) as child:
            parent.absorb(child)
            parent.restamp(child_uuid, time.time(), parent.parent_uuid)
        os.replace(self.path(sr_uuid, parent_uuid), self.path(sr_uuid, child_uuid))

    def has_own_blocks(self, sr_uuid: str, vdi_uuid: str) -> bool:
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        if is_raw:
            return True
        with Image(path) as image:
            return bool(image.allocated)

    def chain_length(self, sr_uuid: str, vdi_uuid: str) -> int:
        """Return how many files a read may pass through."""
        with self.open(sr_uuid, vdi_uuid) as image:
            length, link = 1, image
            while link.parent:
                length, link = length + 1, link.parent
            return length

    def copy(self, source: Image | RawImage, sr_uuid: str, vdi_uuid: str) -> Iterator[int]:
        """Write the source's content into an image; yield the bytes done so far after each block."""
        with self.open(sr_uuid, vdi_uuid) as target:
            for number in range(count_blocks(source.virtual_size)):
                content = source.block(number)
                if content and content.strip(b"\0"):
                    offset = number * BLOCK_SIZE
                    target.write(offset, content[: min(source.virtual_size, target.virtual_size) - offset])
                yield min((number + 1) * BLOCK_SIZE, source.virtual_size)
