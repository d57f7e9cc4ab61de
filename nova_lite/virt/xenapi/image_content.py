"""The content of an image on its way to a disk, held against what the image is said to be."""

import hashlib
import io
import queue
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.transfer import CHUNK_B, chunks

LOG = logging.getLogger(__name__)

# What an image may have beside its disk: tables, bitmaps, the end of an archive.
LARGEST_REST_B = 16 * CHUNK_B
BLOCKS_BEHIND = 4
ALGORITHMS = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}
LENGTHS_OF_HASHES = {32: "md5", 64: "sha256", 96: "sha384", 128: "sha512"}


@dataclass(frozen=True)
class Claim:
    """What the metadata of an image says of its content; size and checksum (hexadecimal) may be None."""

    image_id: str
    size_b: int | None
    algorithm: str | None
    value: str | None

    @classmethod
    def of(cls, image_meta: dict) -> "Claim":
        """Return the claim. Raises ImageUnacceptable for an algorithm nobody knows."""
        value = image_meta.get("os_hash_value")
        algorithm = image_meta.get("os_hash_algo") if value else "md5"
        value = str(value or image_meta.get("checksum") or "").lower() or None
        algorithm = (algorithm or LENGTHS_OF_HASHES.get(len(value), "sha512")).lower() if value else None
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise exception.ImageUnacceptable(image_id=image_meta["id"], reason=f"its checksum is of {algorithm}")
        return cls(image_meta["id"], image_meta.get("size") or None, algorithm, value)

    def new_digest(self) -> Any:
        """Return the digest to compute, or None."""
        return self.algorithm and hashlib.new(self.algorithm, usedforsecurity=False)

    def check_size(self, size_b: int) -> None:
        """Raises CouldNotFetchImage when the image is said to have another size."""
        if self.size_b is not None and size_b != self.size_b:
            LOG.warning("Image %s has %d bytes, expected %d", self.image_id, size_b, self.size_b)
            raise exception.CouldNotFetchImage(image=self.image_id)

    def check_value(self, value: str) -> None:
        """Raises CouldNotFetchImage when the image is said to have another checksum."""
        if self.value is not None and value != self.value:
            LOG.warning("Image %s does not have the checksum %s", self.image_id, self.value)
            raise exception.CouldNotFetchImage(image=self.image_id)


def open_content(stream: Any, image_meta: dict, stack: ExitStack) -> "StreamContent | FileContent":
    """Return the stream of an image port as a content that is checked; the stack ends what works beside it.

    Raises CouldNotFetchImage where it is known at once not to be what the image is said to be.
    """
    claim = Claim.of(image_meta)
    if hasattr(stream, "is_verified"):
        claim.check_size(stream.size_b)
        if claim.value is None:
            claim = Claim(claim.image_id, claim.size_b, *stream.checksum)
        if claim.algorithm == stream.checksum[0] and stream.is_verified():
            claim.check_value(stream.checksum[1])
            return FileContent(stream, claim, None)
        if stream.is_settled and claim.algorithm is not None:
            return FileContent(stream, claim, stack.enter_context(FileDigest(stream, claim.new_digest())))
    digest = claim.new_digest()
    return StreamContent(stream, claim, digest and stack.enter_context(BackgroundDigest(digest)))


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


class FileDigest:
    """The digest of a file, read beside whoever else takes its content from it. Closed by leaving its block."""

    def __init__(self, file: Any, digest: Any):
        self._blocks = FileBlocks(file.fileno(), file.size_b)
        self._digest = digest
        self._given_up = False
        self._worker = concurrency.spawn(self._work)

    def __enter__(self) -> "FileDigest":
        return self

    def __exit__(self, *_details) -> None:
        self._given_up = True
        with suppress(OSError):  # who wants the digest is told
            self._worker.wait()

    def hexdigest(self) -> str:
        """Return the digest of the whole file; waits until it is there. Raises OSError where it cannot be read."""
        self._worker.wait()
        return self._digest.hexdigest()

    def _work(self) -> None:
        for view in self._blocks.views():
            if self._given_up:
                return
            concurrency.run_blocking(self._digest.update, view)


class StreamContent(io.RawIOBase):
    """A content that is hashed as it is read, and ends with an error where it is longer than the image says."""

    def __init__(self, stream: BinaryIO, claim: Claim, digest: BackgroundDigest | None):
        self._stream = stream
        self._claim = claim
        self._digest = digest
        self.size_b = claim.size_b
        self._read_b = 0

    def readable(self):
        return True

    def read(self, size=-1):
        block = self._stream.read(size)
        if self._digest is not None:
            self._digest.update(block)
        self._read_b += len(block)
        if self.size_b is not None and self._read_b > self.size_b:
            LOG.warning("Image %s has more than the %d bytes it is said to have", self._claim.image_id, self.size_b)
            raise exception.CouldNotFetchImage(image=self._claim.image_id)
        return block

    def rest(self, head: bytes) -> Iterable[bytes]:
        """Return the blocks of the whole content, of which `head` has been read."""
        return _after(head, self)

    def check(self) -> None:
        """Read what follows the disk, which is little, and compare.

        Raises ImageUnacceptable where it does not end, CouldNotFetchImage where length or checksum differ.
        """
        limit_b = self._read_b + LARGEST_REST_B
        while self.read(CHUNK_B):
            if self.size_b is None and self._read_b > limit_b:
                raise exception.ImageUnacceptable(image_id=self._claim.image_id,
                                                  reason="it does not end with its disk")
        self._claim.check_size(self._read_b)
        if self._digest is not None:
            self._claim.check_value(self._digest.hexdigest())


class FileContent(io.RawIOBase):
    """A content that is a file of this machine: verified before, or hashed beside whoever reads it.

    What was read or sent is what was verified if the file is unchanged at the end.
    """

    def __init__(self, file: Any, claim: Claim, digest: FileDigest | None):
        self._file = file
        self._claim = claim
        self._digest = digest
        self.size_b = file.size_b

    def readable(self):
        return True

    def read(self, size=-1):
        return concurrency.run_blocking(self._file.read, size)

    def rest(self, head: bytes) -> Iterable[bytes]:
        """Return the blocks of the whole content, whatever was read of it."""
        return FileBlocks(self._file.fileno(), self.size_b)

    def check(self) -> None:
        """Raises CouldNotFetchImage where the checksum differs, or the file was changed meanwhile."""
        if self._digest is not None:
            self._claim.check_value(self._digest.hexdigest())
        if not self._file.is_unchanged():
            LOG.warning("The file of image %s was changed while it was read", self._claim.image_id)
            raise exception.CouldNotFetchImage(image=self._claim.image_id)
        if self._digest is not None and (self._claim.algorithm, self._claim.value) == self._file.checksum:
            self._file.note_verified()
            self._digest = None


def _after(head: bytes, stream: Any) -> Iterable[bytes]:
    if head:
        yield head
    yield from chunks(stream)
