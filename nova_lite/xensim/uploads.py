"""Disks that clients upload: what arrives is written at once, in whichever of the three framings it comes."""

import fcntl
import os
import time
from typing import TYPE_CHECKING

from nova_lite.xensim.http import Request
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.vhd import BLOCK_SIZE, VhdError, VhdReader

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

ACCOUNTING_INTERVAL_S = 0.1
PIPE_SIZE = 1024 * 1024
LEAST_TO_SPLICE = 8 * BLOCK_SIZE


class Upload:
    """The image being written, and the books: brought up to date now and then, and before space runs out."""

    def __init__(self, toolstack: "Toolstack", vdi, image, caller: Caller):
        self._toolstack = toolstack
        self._vdi = vdi
        self._image = image
        self._caller = caller
        self._unaccounted = self._left = 0
        self._due = 0.0

    def write(self, at: int, content: bytes | bytearray) -> None:
        """Write a piece. Raises VhdError, ApiError when there is no space or the task is cancelled."""
        self._toolstack.slow_down(len(content))
        self._image.write(at, content)
        self._count(at, len(content))

    def fill(self, at: int, pipe: "SocketPipe") -> None:
        """Move a whole block from the socket into the image. Raises as `write` does."""
        self._toolstack.slow_down(BLOCK_SIZE)
        self._image.fill_block(at // BLOCK_SIZE, pipe.fill)
        self._count(at, BLOCK_SIZE)

    def _count(self, at: int, size: int) -> None:
        self._unaccounted += size
        if self._unaccounted > self._left or time.monotonic() >= self._due:
            self._account(at + size)

    def _account(self, done: int) -> None:
        toolstack, self._unaccounted = self._toolstack, 0
        with toolstack.lock:
            toolstack.check_cancelled(self._caller)
            toolstack.tasks.report(self._caller.task_ref, min(done / max(self._image.virtual_size, 1), 0.99))
            toolstack.vdis.measure(self._vdi.ref)
            sr = toolstack.db.row("SR", self._vdi["SR"])
            toolstack.repositories.check_space(sr, 0)
            # A block takes a little more than its content.
            self._left = max(sr["physical_size"] - sr["physical_utilisation"] - 2 * BLOCK_SIZE, 0) // 2
        self._due = time.monotonic() + ACCOUNTING_INTERVAL_S


class SocketPipe:
    """Moves bytes from a plain socket into files inside the kernel. Closed by leaving its block."""

    def __init__(self, request: Request):
        self._socket_fd = request.connection.socket.fileno()
        self._ahead = request.stream.read1()  # what was read together with the head of the request
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def __enter__(self) -> "SocketPipe":
        return self

    def __exit__(self, *_details) -> None:
        os.close(self._in)
        os.close(self._out)

    @staticmethod
    def suits(request: Request, length: int) -> bool:
        """Return whether it is worth it, and possible: not through TLS, nor where sockets never block."""
        sock = request.connection.socket
        is_plain = not hasattr(sock, "cipher") and os.get_blocking(sock.fileno())
        return hasattr(os, "splice") and is_plain and length >= LEAST_TO_SPLICE

    def fill(self, fd: int, at: int, size: int) -> None:
        """Put the next bytes of the stream at a place in the file. Raises VhdError when the stream ends before."""
        done = 0
        if self._ahead:
            done = os.pwrite(fd, self._ahead[:size], at)
            self._ahead = self._ahead[done:]
        while done < size:
            received = os.splice(self._socket_fd, self._in, min(size - done, PIPE_SIZE))
            if not received:
                raise VhdError(f"the body ended {size - done} bytes inside a block")
            while received:
                moved = os.splice(self._out, fd, received, offset_dst=at + done)
                received, done = received - moved, done + moved


def receive(request: Request, upload: Upload) -> None:
    """Write the whole body into the upload's image. Raises VhdError when it is not what it should be."""
    if "chunked" in request.query:
        _receive_chunks(request, upload)
    elif request.query.get("format", "raw") == "vhd":
        _receive_vhd(request, upload)
    else:
        _receive_raw(request, upload)


def _receive_raw(request: Request, upload: Upload) -> None:
    length, at = request.content_length or 0, 0
    if SocketPipe.suits(request, length):
        with SocketPipe(request) as pipe:
            while length - at >= BLOCK_SIZE:
                upload.fill(at, pipe)
                at += BLOCK_SIZE
    _receive_range(request, upload, at, length)


def _receive_range(request: Request, upload: Upload, at: int, end: int) -> None:
    """Write the stream's next bytes, up to the place `end` on the disk, through one buffer."""
    block = bytearray(BLOCK_SIZE)
    while at < end:
        if end - at < BLOCK_SIZE:
            block = bytearray(end - at)
        received = request.stream.readinto(block)
        if received < len(block):
            raise VhdError(f"the body ended {end - at - received} bytes too early")
        upload.write(at, block)
        at += received


def _receive_vhd(request: Request, upload: Upload) -> None:
    left = request.content_length or 0

    def read(count: int) -> bytes:
        nonlocal left
        content = request.stream.read(min(count, left))
        left -= len(content)
        return content

    for at, content in VhdReader(read).extents():
        upload.write(at, content)
    while left and read(BLOCK_SIZE):
        pass  # the footer, and what a client announced beyond it


def _receive_chunks(request: Request, upload: Upload) -> None:
    """Read XenServer's own framing: offset (8 bytes), length (4 bytes), little endian; length 0 ends."""
    while True:
        head = request.stream.read(12)
        if len(head) < 12:
            raise VhdError("the body ended inside a chunk")
        at, length = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
        if not length:
            return
        _receive_range(request, upload, at, at + length)
