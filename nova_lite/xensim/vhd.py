"""VHD files: dynamic and differencing images read, written and streamed, in blocks of 2 MiB.

A block is present as a whole or not at all: writing part of an absent block copies the rest from the parent. The
sector bitmaps of other writers are honoured when their files are read.
"""

import errno
import os
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SECTOR = 512
BLOCK_SIZE = 2 * 1024 * 1024
SECTORS_PER_BLOCK = BLOCK_SIZE // SECTOR
BITMAP_SIZE = SECTORS_PER_BLOCK // 8
ABSENT = 0xFFFFFFFF
MAX_VIRTUAL_SIZE = 2040 * 1024**3
FULL_BITMAP = b"\xff" * BITMAP_SIZE
ZERO_BLOCK = bytes(BLOCK_SIZE)
YEAR_2000 = 946684800
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4

FOOTER = struct.Struct(">8sIIQI4sIIQQHBBII16sB427s")
HEADER = struct.Struct(">8sQQIIII16sII512s")
FOOTER_AT, HEADER_AT, TABLE_AT = 0, SECTOR, SECTOR + 1024


class VhdError(Exception):
    """The data is not a VHD that can be read."""


class DamagedImage(VhdError):
    """A file of the repository is not the VHD it was."""


@dataclass(frozen=True)
class Footer:
    virtual_size: int
    disk_type: int
    uuid: str
    header_at: int


def checksum(data: bytes, field_at: int) -> int:
    """Return the ones' complement of the sum of all bytes but the checksum field's own."""
    return ~(sum(data) - sum(data[field_at : field_at + 4])) & 0xFFFFFFFF


def _geometry(size: int) -> tuple[int, int, int]:
    """Return (cylinders, heads, sectors) as the VHD specification computes them."""
    sectors = min(size // SECTOR, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        rest = sectors // per_track
    else:
        per_track = 17
        rest = sectors // per_track
        heads = max((rest + 1023) // 1024, 4)
        if rest >= heads * 1024 or heads > 16:
            per_track, heads = 31, 16
            rest = sectors // per_track
        if rest >= heads * 1024:
            per_track, heads = 63, 16
            rest = sectors // per_track
    return rest // heads, heads, per_track


def footer_bytes(size: int, disk_type: int, image_uuid: str, now: float) -> bytes:
    """Return the 512 bytes at the start and at the end of every image."""
    cylinders, heads, sectors = _geometry(size)
    fields = [b"conectix", 2, 0x00010000, HEADER_AT, max(int(now) - YEAR_2000, 0), b"tap\0", 0x00010003, 0]
    fields += [size, size, cylinders, heads, sectors, disk_type, 0, uuid.UUID(image_uuid).bytes, 0, bytes(427)]
    packed = FOOTER.pack(*fields)
    fields[14] = checksum(packed, 64)
    return FOOTER.pack(*fields)


def header_bytes(block_count: int, parent_uuid: str = "", parent_name: str = "") -> bytes:
    """Return the 1024 bytes that describe the block table and the parent."""
    parent = uuid.UUID(parent_uuid).bytes if parent_uuid else bytes(16)
    name = parent_name.encode("utf-16-be")[:510]
    fields = [b"cxsparse", 2**64 - 1, TABLE_AT, 0x00010000, block_count, BLOCK_SIZE, 0, parent, 0, 0, name]
    packed = HEADER.pack(*fields).ljust(1024, b"\0")
    fields[6] = checksum(packed, 36)
    return HEADER.pack(*fields).ljust(1024, b"\0")


def read_footer(data: bytes) -> Footer:
    """Return what a footer says. Raises VhdError."""
    if len(data) < SECTOR or data[:8] != b"conectix":
        raise VhdError("not a VHD: the cookie is missing")
    values = FOOTER.unpack(data[:SECTOR])
    if values[14] != checksum(data[:SECTOR], 64):
        raise VhdError("the checksum of the VHD footer is wrong")
    return Footer(values[9], values[13], str(uuid.UUID(bytes=values[15])), values[3])


def table_size(block_count: int) -> int:
    """Return the size of the block table, whole sectors."""
    return (block_count * 4 + SECTOR - 1) // SECTOR * SECTOR


def count_blocks(size: int) -> int:
    return (size + BLOCK_SIZE - 1) // BLOCK_SIZE


def is_zero(piece: bytes | bytearray) -> bool:
    """Return whether a piece holds zeros alone; costs nothing where it does not."""
    return piece == ZERO_BLOCK if len(piece) == BLOCK_SIZE else not piece.strip(b"\0")


def write_at(fd: int, parts: list[Any], at: int) -> None:
    """Write the parts one after the other in a single call. Raises OSError when not all of it could be written."""
    if os.pwritev(fd, parts, at) != sum(map(len, parts)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Image:
    """One VHD file and, through `parent`, its chain. Not safe for use by several threads at a time."""

    def __init__(self, path: str, parent: "Image | None" = None):
        self.path = path
        self.parent = parent
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  closed by close()
        self._fd = self._file.fileno()
        try:
            self._read_head()
        except (VhdError, struct.error) as error:
            self._file.close()
            raise DamagedImage(f"{path}: {error}") from None

    def _read_head(self) -> None:
        self._footer = os.pread(self._fd, SECTOR, FOOTER_AT)
        self.footer = read_footer(self._footer)
        self.virtual_size = self.footer.virtual_size
        header = HEADER.unpack(os.pread(self._fd, HEADER.size, HEADER_AT).ljust(HEADER.size, b"\0"))
        self.parent_uuid = str(uuid.UUID(bytes=header[7])) if self.footer.disk_type == DIFFERENCING else ""
        self.block_count = header[4]
        table = os.pread(self._fd, self.block_count * 4, TABLE_AT)
        if len(table) < self.block_count * 4:
            raise VhdError("the VHD ends inside its block table")
        self._table = list(struct.unpack(f">{self.block_count}I", table))
        last = max((sector for sector in self._table if sector != ABSENT), default=None)
        # Where the footer is, and the next block will be. Behind it may be the rest of a write that was cut short.
        self._end = TABLE_AT + table_size(self.block_count)
        if last is not None:
            self._end = last * SECTOR + BITMAP_SIZE + BLOCK_SIZE

    @staticmethod
    def create(path: str, size: int, image_uuid: str, now: float, parent_uuid: str = "") -> None:
        """Make an empty image; with a parent's uuid, one that shows the parent's content."""
        blocks = count_blocks(size)
        footer = footer_bytes(size, DIFFERENCING if parent_uuid else DYNAMIC, image_uuid, now)
        with open(path, "wb") as file:
            file.write(footer + header_bytes(blocks, parent_uuid, f"{parent_uuid}.vhd" if parent_uuid else ""))
            file.write((b"\xff" * (blocks * 4)).ljust(table_size(blocks), b"\0"))
            file.write(footer)

    def close(self) -> None:
        self._file.close()
        if self.parent:
            self.parent.close()

    def __enter__(self) -> "Image":
        return self

    def __exit__(self, *_details) -> None:
        self.close()

    @property
    def allocated(self) -> list[int]:
        """The numbers of the blocks this file itself holds."""
        return [number for number, sector in enumerate(self._table) if sector != ABSENT]

    def own_block(self, number: int) -> bytes | None:
        """Return a block of this file, None when it is absent."""
        sector = self._table[number] if number < self.block_count else ABSENT
        if sector == ABSENT:
            return None
        return os.pread(self._fd, BLOCK_SIZE, sector * SECTOR + BITMAP_SIZE).ljust(BLOCK_SIZE, b"\0")

    def block(self, number: int) -> bytes | None:
        """Return a block as a guest sees it, None when no image of the chain holds it."""
        image: Image | None = self
        while image:
            content = image.own_block(number)
            if content is not None:
                return content
            image = image.parent
        return None

    def changed_since(self, base: "Image | None", number: int) -> bool:
        """Return whether the block differs, by allocation, from what the base image shows."""
        own, other = self._holder(number), base._holder(number) if base else None
        return own != other

    def _holder(self, number: int) -> tuple[str, int] | None:
        image: Image | None = self
        while image:
            if number < image.block_count and image._table[number] != ABSENT:
                return image.path, number
            image = image.parent
        return None

    def write(self, offset: int, content: bytes | bytearray) -> None:
        """Write at any offset. Whole blocks of zeros do not allocate. Raises VhdError beyond the end."""
        if offset + len(content) > self.virtual_size:
            raise VhdError("data beyond the end of the disk")
        done = 0
        while done < len(content):
            number, inside = divmod(offset + done, BLOCK_SIZE)
            size = min(BLOCK_SIZE - inside, len(content) - done)
            self._write_piece(number, inside, content if size == len(content) else content[done : done + size])
            done += size

    def _write_piece(self, number: int, inside: int, piece: bytes | bytearray) -> None:
        if self._table[number] != ABSENT:
            write_at(self._fd, [piece], self._table[number] * SECTOR + BITMAP_SIZE + inside)
            return
        under = self.block(number)
        if under is None and is_zero(piece):
            return
        if len(piece) == BLOCK_SIZE:
            self._append_block(number, [piece])
        else:
            block = memoryview(under or ZERO_BLOCK)
            self._append_block(number, [block[:inside], piece, block[inside + len(piece) :]])

    def fill_block(self, number: int, fill: Callable[[int, int, int], None]) -> None:
        """Have a whole block put into the file by fill(file descriptor, place, size); zeros do not allocate.

        Raises VhdError beyond the end, and what `fill` raises: the image is then as it was but for a block it held.
        """
        if (number + 1) * BLOCK_SIZE > self.virtual_size:
            raise VhdError("data beyond the end of the disk")
        if self._table[number] != ABSENT:
            fill(self._fd, self._table[number] * SECTOR + BITMAP_SIZE, BLOCK_SIZE)
            return
        place, is_kept = self._end + BITMAP_SIZE, False  # behind the footer, which stays until the block is whole
        try:
            fill(self._fd, place, BLOCK_SIZE)
            is_kept = not self._holds_zeros(place) or self.block(number) is not None
        finally:
            if not is_kept:
                os.ftruncate(self._fd, place)
        if is_kept:
            write_at(self._fd, [self._footer], self._end + BITMAP_SIZE + BLOCK_SIZE)
            write_at(self._fd, [FULL_BITMAP], self._end)
            self._enter_block(number)

    def _holds_zeros(self, place: int) -> bool:
        return is_zero(os.pread(self._fd, SECTOR, place)) and is_zero(os.pread(self._fd, BLOCK_SIZE, place))

    def _append_block(self, number: int, content: list[Any]) -> None:
        """Put a block where the footer is, the footer behind it, then the block's place into the table."""
        write_at(self._fd, [FULL_BITMAP, *content, self._footer], self._end)
        self._enter_block(number)

    def _enter_block(self, number: int) -> None:
        self._table[number] = self._end // SECTOR
        self._end += BITMAP_SIZE + BLOCK_SIZE
        write_at(self._fd, [struct.pack(">I", self._table[number])], TABLE_AT + 4 * number)

    def rewritten(self, path: str, size: int, now: float, parent: "Image | None" = None) -> None:
        """Write the blocks this file holds into a new file of another size or with another parent."""
        Image.create(path, size, self.footer.uuid, now, parent.footer.uuid if parent else "")
        with Image(path) as copy:
            for number in self.allocated:
                copy._append_block(number, [self.own_block(number)])

    def restamp(self, image_uuid: str, now: float, parent_uuid: str = "") -> None:
        """Give the file another uuid and another parent in place."""
        disk_type = DIFFERENCING if parent_uuid else DYNAMIC
        self._footer = footer_bytes(self.virtual_size, disk_type, image_uuid, now)
        self.footer, self.parent_uuid = read_footer(self._footer), parent_uuid
        header = header_bytes(self.block_count, parent_uuid, f"{parent_uuid}.vhd" if parent_uuid else "")
        write_at(self._fd, [self._footer, header], FOOTER_AT)
        write_at(self._fd, [self._footer], self._end)
        os.ftruncate(self._fd, self._end + SECTOR)

    def absorb(self, child: "Image") -> None:
        """Take over the blocks that the child holds."""
        for number in child.allocated:
            content = child.own_block(number) or ZERO_BLOCK
            if self._table[number] == ABSENT:
                self._append_block(number, [content])
            else:
                self._write_piece(number, 0, content)

    def pieces(self) -> Iterator[bytes]:
        """Yield the content as a guest reads it, from the first byte to the last."""
        for number in range(count_blocks(self.virtual_size)):
            content = self.block(number) or ZERO_BLOCK
            yield content[: self.virtual_size - number * BLOCK_SIZE]


def stream_vhd(image: Image, now: float, base: Image | None = None) -> Iterator[bytes]:
    """Yield the image as one VHD file: whole and dynamic, or against a base holding only what changed since."""
    blocks = count_blocks(image.virtual_size)
    if base:
        present = [number for number in range(blocks) if image.changed_since(base, number)]
    else:
        present = [number for number in range(blocks) if (content := image.block(number)) and content.strip(b"\0")]
    parent = base.footer.uuid if base else ""
    footer = footer_bytes(image.virtual_size, DIFFERENCING if base else DYNAMIC, image.footer.uuid, now)
    yield footer + header_bytes(blocks, parent, f"{parent}.vhd" if parent else "")
    table, sector = [ABSENT] * blocks, (TABLE_AT + table_size(blocks)) // SECTOR
    for number in present:
        table[number] = sector
        sector += 1 + SECTORS_PER_BLOCK
    yield struct.pack(f">{blocks}I", *table).ljust(table_size(blocks), b"\0")
    for number in present:
        yield FULL_BITMAP + (image.block(number) or ZERO_BLOCK)
    yield footer


class VhdReader:
    """Reads a VHD from a stream, front to back, whatever order its blocks are in."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read = read
        self._position = 0
        self.footer = read_footer(self._take(SECTOR))
        self._table: list[int] = []
        self._block_size = BLOCK_SIZE
        if self.footer.disk_type != FIXED:
            self._read_table()

    def _take(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._read(count)
            if not piece:
                raise VhdError("the VHD ends too early")
            pieces.append(piece)
            count -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)

    def _skip_to(self, position: int) -> None:
        if position < self._position:
            raise VhdError("the VHD's parts are in an order that cannot be streamed")
        while self._position < position:
            self._take(min(position - self._position, BLOCK_SIZE))

    def _read_table(self) -> None:
        self._skip_to(self.footer.header_at)
        raw = self._take(1024)
        header = HEADER.unpack(raw[: HEADER.size])
        if header[0] != b"cxsparse" or header[6] != checksum(raw, 36):
            raise VhdError("the header of the VHD is damaged")
        self._block_size = header[5]
        too_many = header[4] * self._block_size > 2 * MAX_VIRTUAL_SIZE
        if not self._block_size or self._block_size % (8 * SECTOR) or self._block_size > 2**28 or too_many:
            raise VhdError("the header of the VHD does not make sense")
        self._skip_to(header[2])
        self._table = list(struct.unpack(f">{header[4]}I", self._take(header[4] * 4)))

    def extents(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset in the disk, content) for everything the VHD holds."""
        if self.footer.disk_type == FIXED:
            raise VhdError("a fixed VHD cannot be streamed: its footer is at the end")
        order = sorted((sector, number) for number, sector in enumerate(self._table) if sector != ABSENT)
        bitmap_size = (self._block_size // SECTOR // 8 + SECTOR - 1) // SECTOR * SECTOR
        for sector, number in order:
            self._skip_to(sector * SECTOR)
            bitmap = self._take(bitmap_size)
            content = self._take(self._block_size)
            yield from self._written(number * self._block_size, bitmap, content)

    def _written(self, at: int, bitmap: bytes, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the runs of sectors that the bitmap marks as written."""
        if bitmap[: self._block_size // SECTOR // 8].strip(b"\xff") == b"":
            yield at, content
            return
        start = None
        for index in range(self._block_size // SECTOR):
            is_written = bool(bitmap[index // 8] & (0x80 >> index % 8))
            if is_written and start is None:
                start = index
            elif not is_written and start is not None:
                yield at + start * SECTOR, content[start * SECTOR : index * SECTOR]
                start = None
        if start is not None:
            yield at + start * SECTOR, content[start * SECTOR :]
