"""Sending a file of this machine into a connection, with as little work as the connection allows."""

import errno
import os
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nova_lite import concurrency

BLOCK_B = 1024 * 1024
# How long the kernel sends before others have their turn.
SLICE_S = 0.05
# A peer that takes nothing for this long is waited for where waiting costs no thread.
PATIENCE_S = 0.005
NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class FileBlocks:
    """The first `length_b` bytes of an open file, as blocks, or sent by the kernel straight from its cache.

    Reading does not move the file's position, and holds one block.
    """

    def __init__(self, descriptor: int, length_b: int):
        self._descriptor = descriptor
        self.length_b = length_b

    def __iter__(self) -> Iterator[bytes]:
        read_b = 0
        while block := concurrency.run_blocking(
                os.pread, self._descriptor, min(BLOCK_B, self.length_b - read_b), read_b):
            yield block
            read_b += len(block)

    def views(self) -> Iterator[memoryview]:
        """Yield the blocks in one buffer, which the next one overwrites."""
        buffer = memoryview(bytearray(BLOCK_B))
        read_b = 0
        while size_b := concurrency.run_blocking(
                os.preadv, self._descriptor, [buffer[:self.length_b - read_b]], read_b):
            yield buffer[:size_b]
            read_b += size_b

    def send_to(self, sock: socket.socket) -> int:
        """Send all of it and return how many bytes that were; fewer when the file has become shorter.

        Raises TimeoutError when the peer takes nothing for as long as the socket's timeout, and ConnectionError.
        """
        if not isinstance(sock, ssl.SSLSocket):
            sent_b = self._send_by_kernel(sock)
            if sent_b is not None:
                return sent_b
        return self._send_copies(sock)

    def _send_copies(self, sock: socket.socket) -> int:
        sent_b = 0
        for view in self.views():
            sock.sendall(view)
            sent_b += len(view)
        return sent_b

    def _send_by_kernel(self, sock: socket.socket) -> int | None:
        """Return how much was sent, or None when the file system has no way to hand its pages on."""
        sent_b = 0
        with _patient(sock):
            while sent_b < self.length_b:
                # Descriptors of its own: when the caller is killed and closes his, their numbers may lead elsewhere.
                ends = os.dup(sock.fileno()), os.dup(self._descriptor)
                try:
                    more_b, is_full = concurrency.run_blocking(_send_slice, *ends, sent_b, self.length_b)
                except OSError as error:
                    if sent_b or error.errno not in NO_SENDFILE:
                        raise
                    return None
                sent_b += more_b
                if is_full:
                    _wait_for_room(sock)
                elif not more_b:
                    break
        return sent_b


def _send_slice(target: int, source: int, offset_b: int, end_b: int) -> tuple[int, bool]:
    """Send for SLICE_S; return how much, and whether the target was full at the end. Closes both descriptors."""
    start_b, until = offset_b, time.monotonic() + SLICE_S
    try:
        while offset_b < end_b:
            more_b = os.sendfile(target, source, offset_b, min(BLOCK_B, end_b - offset_b))
            offset_b += more_b
            if not more_b or time.monotonic() > until:
                break
    except BlockingIOError:
        return offset_b - start_b, True
    finally:
        os.close(target)
        os.close(source)
    return offset_b - start_b, False


@contextmanager
def _patient(sock: socket.socket) -> Iterator[None]:
    """Let the kernel wait for room in the socket meanwhile, PATIENCE_S at most."""
    was_blocking = os.get_blocking(sock.fileno())
    _limit_waiting(sock, PATIENCE_S)
    os.set_blocking(sock.fileno(), True)
    try:
        yield
    finally:
        os.set_blocking(sock.fileno(), was_blocking)
        _limit_waiting(sock, 0)


def _limit_waiting(sock: socket.socket, seconds: float) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, int(seconds * 1_000_000)))


def _wait_for_room(sock: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        if not selector.select(sock.gettimeout()):
            raise TimeoutError("the host takes no more of the disk")
