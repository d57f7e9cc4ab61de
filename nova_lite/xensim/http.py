"""A small HTTP/1.1 server on plain threads: one thread a connection, replies written at once."""

import contextlib
import os
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

HEAD_LIMIT = 64 * 1024
HANDSHAKE_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 60.0
CONNECTION_LIMIT = 1000  # of one listener; more are told that the service is busy
BUFFER_SIZE = 64 * 1024
REASONS = {
    200: "OK",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Method Not Implemented",
    503: "Service Unavailable",
}


class HttpError(Exception):
    """Answered with a small HTML page and the end of the connection."""

    def __init__(self, status: int, text: str = "", headers: dict[str, str] | None = None):
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers or {}


class DropConnection(Exception):
    """The connection ends without a reply."""


class Request:
    """One request: head already read, body still in `stream`."""

    def __init__(self, method: str, target: str, version: str, headers: dict[str, str], connection: "Connection"):
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.connection = connection
        self.path, _, self._query = target.partition("?")
        self.keeps_alive = self._wants_keep_alive()

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self._query, keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        pairs = (part.partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name.strip(): urllib.parse.unquote(value.strip()) for name, _, value in pairs if name.strip()}

    @property
    def stream(self) -> Any:
        return self.connection.reader

    @property
    def content_length(self) -> int | None:
        """The announced length of the body, or None. Raises HttpError."""
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise HttpError(400, "Content-Length is not a number")
        return int(text)

    def _wants_keep_alive(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return "close" not in wish if self.version == "HTTP/1.1" else "keep-alive" in wish

    def body(self, limit: int) -> bytes:
        """Read the whole body. Raises HttpError when it is longer than the limit or of unknown length."""
        length = self.content_length
        if length is None or "transfer-encoding" in self.headers:
            raise HttpError(400, "a Content-Length is required")
        if length > limit:
            raise HttpError(400, f"the body is longer than {limit} bytes")
        if self.connection.ahead >= length:
            return self.stream.read(length)
        with self.connection.patience():
            body = self.stream.read(length)
        if len(body) < length:
            raise DropConnection
        return body

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole reply with a Content-Length."""
        self.send_head(status, {"Content-Length": str(len(body)), **(headers or {})}, body)

    def send_head(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Send status line and headers, and the body that is at hand, in one write."""
        connection = "keep-alive" if self.keeps_alive else "close"
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}", f"Connection: {connection}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        if len(body) > BUFFER_SIZE:
            self.connection.socket.sendall(head)  # copying a long body costs more than a second write
            head = b""
        self.connection.socket.sendall(head + body if head else body)

    def send(self, chunk: bytes) -> None:
        self.connection.socket.sendall(chunk)


class Connection:
    """One client connection: reads requests and hands them to the handler until either side ends it."""

    def __init__(self, sock: socket.socket, handle: Callable[[Request], None], is_trusted: bool):
        self.socket = sock
        self.is_trusted = is_trusted
        self.is_control = False  # serves the simulator's own control path
        self._handle = handle
        self.reader: Any = sock.makefile("rb", BUFFER_SIZE)
        self.ahead = 0  # bytes of the body that came together with the head

    def serve(self) -> None:
        try:
            while self._serve_one():
                pass
        except (OSError, DropConnection, ValueError):
            pass  # the client left, or the server is being stopped
        finally:
            self.close()

    def refuse(self, error: HttpError) -> None:
        """Answer whatever is asked with an error, and end the connection."""
        request = Request("", "/", "HTTP/1.0", {}, self)
        with contextlib.suppress(OSError):
            request.reply(error.status, error_page(error), {"Content-Type": "text/html"})
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            self.socket.close()

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Wait no longer than REQUEST_TIMEOUT_S for each piece of what a client began to send. Raises HttpError 408."""
        self.socket.settimeout(REQUEST_TIMEOUT_S)
        try:
            yield
        except TimeoutError:
            raise HttpError(408, "the request did not come to its end") from None
        finally:
            self.socket.settimeout(None)

    def _serve_one(self) -> bool:
        request = Request("", "/", "HTTP/1.1", {}, self)
        try:
            head = self._await_head()
            if head is None:
                return False
            request = Request(*head, self)
            if request.headers.get("expect", "").lower() == "100-continue":
                self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._handle(request)
        except HttpError as error:
            request.keeps_alive = False
            request.reply(error.status, error_page(error), {"Content-Type": "text/html", **error.headers})
        return request.keeps_alive

    def _await_head(self) -> tuple[str, str, str, dict[str, str]] | None:
        """Wait for a request without a limit; once it has begun its head has to come soon."""
        received = self.reader.peek(1)
        end = received.find(b"\r\n\r\n")
        self.ahead = len(received) - end - 4 if end >= 0 else 0
        if not received or end >= 0:
            return self._read_head()
        with self.patience():
            return self._read_head()

    def _read_head(self) -> tuple[str, str, str, dict[str, str]] | None:
        """Return (method, target, version, headers), None at the end of the connection."""
        line = self.reader.readline(HEAD_LIMIT)
        if line in (b"\r\n", b"\n"):
            line = self.reader.readline(HEAD_LIMIT)
        if not line:
            return None
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise HttpError(400, "not an HTTP request")
        headers: dict[str, str] = {}
        size = len(line)
        while True:
            line = self.reader.readline(HEAD_LIMIT)
            size += len(line)
            if size > HEAD_LIMIT:
                raise HttpError(431)
            if line in (b"\r\n", b"\n"):
                return words[0], words[1], words[2], headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise HttpError(400, "a header without a colon")
            headers[name.strip().lower()] = value.strip()


def error_page(error: HttpError) -> bytes:
    title = f"{error.status} {REASONS.get(error.status, '')}"
    text = error.text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>".encode()


class Listener:
    """One listening socket and the connections accepted on it."""

    def __init__(self, sock: socket.socket, handle: Callable[[Request], None], tls: ssl.SSLContext | None = None):
        self._socket = sock
        self._handle = handle
        self._tls = tls
        self._is_stopping = False
        self._is_unix = sock.family == socket.AF_UNIX
        self.address = sock.getsockname()
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="xensim-accept", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end every connection."""
        self.stop_listening()
        self.drop_connections()

    def stop_listening(self) -> None:
        """Give the address up; connections stay. Doing so twice is no error."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._thread.is_alive():
            self._wake_accept()
            self._thread.join(5)
        self._socket.close()
        if self._is_unix:
            with contextlib.suppress(OSError):
                os.unlink(self.address)

    def _wake_accept(self) -> None:
        """Connect once: closing a socket, or shutting it down, does not end accept() everywhere."""
        with contextlib.suppress(OSError), socket.socket(self._socket.family, socket.SOCK_STREAM) as waker:
            waker.connect(self.address)

    def listen_again(self) -> None:
        """Take the address again after stop_listening. Raises OSError when somebody else has it now."""
        self._socket = listen_unix(self.address) if self._is_unix else listen_tcp(*self.address[:2])
        self._is_stopping = False
        self._thread = threading.Thread(target=self._accept, name="xensim-accept", daemon=True)
        self._thread.start()

    def drop_connections(self) -> None:
        """End every connection but those that give orders to the simulator: their answer is still to come."""
        with self._lock:
            connections = [each for each in self._connections if not each.is_control]
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            if self._is_stopping:
                accepted.close()
                return
            threading.Thread(target=self._serve, args=(accepted,), name="xensim-client", daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        try:
            if not self._is_unix:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                accepted.settimeout(HANDSHAKE_TIMEOUT_S)
                accepted = self._tls.wrap_socket(accepted, server_side=True)
                accepted.settimeout(None)
            connection = Connection(accepted, self._handle, is_trusted=self._is_unix)
        except OSError:
            accepted.close()
            return
        with self._lock:
            self._connections.add(connection)
            is_busy = len(self._connections) > CONNECTION_LIMIT
        try:
            if is_busy:
                connection.refuse(HttpError(503, "too many connections"))
            else:
                connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(256)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: str) -> socket.socket:
    """Return a listening Unix socket; a socket left over at the path is replaced."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(256)
    return sock
