"""The files behind disks: one directory a storage repository, VHD chains or raw sparse files in it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from nova_lite.xensim.vhd import BLOCK_SIZE, ZERO_BLOCK, Image, VhdError, count_blocks, write_at

CHAIN_LIMIT = 30


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

    def rename(self, sr_uuid: str, vdi_uuid: str, new_uuid: str) -> None:
        """Give an image another uuid, in its name and inside; its parent stays."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        new_path = self.path(sr_uuid, new_uuid, is_raw)
        os.replace(path, new_path)
        if not is_raw:
            with Image(new_path) as image:
                image.restamp(new_uuid, time.time(), image.parent_uuid)

    def resize(self, sr_uuid: str, vdi_uuid: str, size: int) -> None:
        """Grow an image."""
        path, is_raw = self._existing(sr_uuid, vdi_uuid)
        if is_raw:
            os.truncate(path, size)
            return
        with self.open(sr_uuid, vdi_uuid) as image:
            image.rewritten(f"{path}.new", size, time.time(), image.parent)
        os.replace(f"{path}.new", path)

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
