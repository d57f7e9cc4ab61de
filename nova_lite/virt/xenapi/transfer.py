"""Moving disks through xapi's HTTP handlers."""

import http.client
import queue
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.file_blocks import FileBlocks
from nova_lite.virt.xenapi.transport import Endpoint

LOG = logging.getLogger(__name__)

CHUNK_B = 1024 * 1024
BLOCKS_AHEAD = 4


class TransferFailed(exception.NovaException):
    """The host refused or broke off a transfer of a disk."""

    msg_fmt = "%(verb)s %(path)s: %(reason)s"


class TransferRefused(TransferFailed):
    """The host does not accept our session (any more)."""


def chunks(stream: BinaryIO, size_b: int = CHUNK_B) -> Iterator[bytes]:
    """Yield what is left in the stream."""
    while chunk := stream.read(size_b):
        yield chunk


def read_ahead(blocks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield the blocks while the next ones are made in another thread: reading and checking cost no time of sending.

    BLOCKS_AHEAD are held at most. When the caller ends early, the other thread has left the blocks alone before that
    returns; what it meets is raised here.
    """
    ready: queue.Queue = queue.Queue(BLOCKS_AHEAD)
    given_up = threading.Event()

    def make() -> None:
        try:
            for block in blocks:
                ready.put(block)
                if given_up.is_set():
                    return
            ready.put(None)
        except Exception as error:  # the edge of the thread
            ready.put(error)

    maker = concurrency.spawn(make)
    try:
        while (block := ready.get()) is not None:
            if isinstance(block, Exception):
                raise block
            yield block
    finally:
        given_up.set()
        with suppress(queue.Empty):
            while True:
                ready.get_nowait()  # one that waits for room finds it, and ends
        maker.wait()


class Transfers:
    """Imports into and exports from VDIs, straight to and from the host."""

    def __init__(self, session):
        self._session = session

    def import_vdi(self, vdi_ref: str, blocks: Iterable[bytes], length_b: int, format: str = "raw") -> None:
        """Fill the VDI with exactly `length_b` bytes of a `raw` or `vhd` image.

        Raises TransferFailed when the host breaks it off, XenAPI.Failure when it could not use what it got.
        """
        with self._session.custom_task("import", "disk import") as task_ref:
            query = {"session_id": self._session.http_handle(), "task_id": task_ref, "vdi": vdi_ref, "format": format}
            self._put("/import_raw_vdi", query, blocks, length_b)
            # The host said 200 before it read the body: only the task tells how it ended.
            self._session.wait_for_task(task_ref, label="import_raw_vdi")

    def import_vhd(self, vdi_ref: str, blocks: Iterable[bytes], virtual_size_b: int) -> None:
        """Fill the VDI with a VHD whose length nobody knows before its end.

        The host takes an announced length that is too large, and a connection that closes earlier, as the end.
        """
        bound_b = virtual_size_b + virtual_size_b // 256 + 16 * CHUNK_B
        with self._session.custom_task("import", "disk import") as task_ref, \
                self._session.http_connection() as connection:
            query = {"session_id": self._session.http_handle(), "task_id": task_ref, "vdi": vdi_ref, "format": "vhd"}
            connection.putrequest("PUT", f"/import_raw_vdi?{urlencode(query)}", skip_accept_encoding=True)
            connection.putheader("Content-Length", str(bound_b))
            connection.endheaders()
            try:
                _send_all(connection, blocks)
                # Not closed before the host has read it all: its reply is waiting here, and closing would reset.
                connection.sock.shutdown(socket.SHUT_WR)
            except (ConnectionError, TimeoutError) as error:
                LOG.warning("The host broke off an import: %s", error)  # its task says why
            self._session.wait_for_task(task_ref, label="import_raw_vdi")

    def _put(self, path: str, query: dict[str, str], blocks: Iterable[bytes], length_b: int) -> None:
        with self._session.http_connection() as connection:
            connection.putrequest("PUT", f"{path}?{urlencode(query)}", skip_accept_encoding=True)
            connection.putheader("Content-Length", str(length_b))
            connection.endheaders()
            broken = None
            try:
                sent_b = _send_all(connection, blocks)
                if sent_b != length_b:
                    raise TransferFailed(verb="PUT", path=path, reason=f"{sent_b} bytes instead of {length_b}")
            except (ConnectionError, TimeoutError) as error:
                broken = error  # the host may have said why before it closed
            try:
                response = connection.getresponse()
                response.read()
            except errors.CONNECTION_ERRORS as error:
                raise TransferFailed(verb="PUT", path=path, reason=broken or error) from None
            if broken or response.status != 200:
                raise TransferFailed(verb="PUT", path=path, reason=broken or f"HTTP status {response.status}")

    @contextmanager
    def export_vdi(self, vdi_ref: str, format: str = "vhd") -> Iterator[http.client.HTTPResponse]:
        """Lend a readable stream of the VDI as `raw` or `vhd`; it ends where the host closes it."""
        with ExitStack() as stack:
            def begin(handle: str) -> http.client.HTTPResponse:
                query = {"session_id": handle, "vdi": vdi_ref, "format": format}
                return stack.enter_context(
                    open_export(self._session.host_endpoint, query, self._session.call_timeout_s))

            yield self._with_session(begin)

    def get(self, path: str, query: dict[str, str]) -> bytes:
        """Return a small document, such as metrics. Raises TransferFailed."""
        return self._with_session(lambda handle: self._get(path, {**query, "session_id": handle}))

    def _with_session(self, act: Callable[[str], Any]) -> Any:
        """Run act(session handle); when the session had expired, once more with one that is certain to live."""
        try:
            return act(self._session.http_handle())
        except TransferRefused:
            return act(self._session.fresh_http_handle())

    def _get(self, path: str, query: dict[str, str]) -> bytes:
        with self._session.http_connection(60) as connection:
            response = _request(connection, path, query)
            _demand_success(response, path)
            try:
                return response.read()
            except errors.CONNECTION_ERRORS as error:
                raise TransferFailed(verb="GET", path=path, reason=error) from None


@contextmanager
def open_export(endpoint: Endpoint, query: dict[str, str], timeout_s: float) -> Iterator[http.client.HTTPResponse]:
    """Lend the stream of /export_raw_vdi at any host. Follows one redirect to the host that has the disk."""
    path = "/export_raw_vdi"
    connection = endpoint.connection(timeout_s)
    try:
        response = _request(connection, path, query)
        if response.status == 302:
            connection.close()
            connection = endpoint.on_host(urlsplit(response.getheader("Location")).hostname).connection(timeout_s)
            response = _request(connection, path, query)
        _demand_success(response, path)
        yield response
    finally:
        connection.close()


def _demand_success(response: http.client.HTTPResponse, path: str) -> None:
    if response.status != 200:
        failure = TransferRefused if response.status in (401, 403) else TransferFailed
        raise failure(verb="GET", path=path, reason=f"HTTP status {response.status}")


def _request(connection, path: str, query: dict[str, str]) -> http.client.HTTPResponse:
    try:
        connection.request("GET", f"{path}?{urlencode(query)}")
        return connection.getresponse()
    except errors.CONNECTION_ERRORS as error:
        raise TransferFailed(verb="GET", path=path, reason=error) from None


def _send_all(connection, blocks: Iterable[bytes]) -> int:
    if isinstance(blocks, FileBlocks):
        return blocks.send_to(connection.sock)
    sent_b = 0
    with closing(read_ahead(blocks)) as ready:
        for block in ready:
            # A view: what is left of a block after a part was sent is not copied.
            connection.send(memoryview(block))
            sent_b += len(block)
    return sent_b
