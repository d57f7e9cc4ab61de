"""The server's side of a WebSocket (RFC 6455) whose binary messages are one stream of bytes."""

import base64
import hashlib
import socket

from nova_lite.xensim.http import DropConnection, HttpError, Request

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FRAME_LIMIT = 1024 * 1024


def is_upgrade(request: Request) -> bool:
    """Return whether the client asks for a WebSocket."""
    return request.headers.get("upgrade", "").lower() == "websocket"


def accept(request: Request) -> "WebSocketChannel":
    """Answer the client's wish and return the channel. Raises HttpError."""
    key = request.headers.get("sec-websocket-key", "")
    if not key or request.headers.get("sec-websocket-version") != "13":
        raise HttpError(400, "no WebSocket of version 13")
    digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    head.append(f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}")
    offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
    if "binary" in offered:
        head.append("Sec-WebSocket-Protocol: binary")
    sock = request.connection.socket
    sock.sendall("\r\n".join([*head, "", ""]).encode())
    return WebSocketChannel(sock)


class WebSocketChannel:
    """Looks like a socket to whoever only receives, sends and sets a timeout."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        self._received = b""

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def sendall(self, content: bytes) -> None:
        self._send(BINARY, content)

    def _send(self, opcode: int, content: bytes) -> None:
        size = len(content)
        if size < 126:
            head = bytes([0x80 | opcode, size])
        elif size < 65536:
            head = bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big")
        self._socket.sendall(head + content)

    def recv(self, _size: int) -> bytes:
        """Return the next bytes, empty when the client closes. Raises TimeoutError, DropConnection."""
        while True:
            opcode, content = self._frame()
            if opcode == CLOSE:
                self._send(CLOSE, content[:2])
                return b""
            if opcode == PING:
                self._send(PONG, content)
            elif opcode in (CONTINUATION, TEXT, BINARY) and content:
                return content

    def _frame(self) -> tuple[int, bytes]:
        """Read one frame; what came of it before a timeout is kept for the next try."""
        self._need(2)
        opcode, size = self._received[0] & 0x0F, self._received[1] & 0x7F
        if not self._received[1] & 0x80:  # clients mask what they send
            raise DropConnection
        head = {126: 4, 127: 10}.get(size, 2)
        self._need(head)
        if head > 2:
            size = int.from_bytes(self._received[2:head], "big")
        if size > FRAME_LIMIT:
            raise DropConnection
        self._need(head + 4 + size)
        mask, masked = self._received[head : head + 4], self._received[head + 4 : head + 4 + size]
        self._received = self._received[head + 4 + size :]
        pad = (mask * (size // 4 + 1))[:size]
        return opcode, (int.from_bytes(masked, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")

    def _need(self, size: int) -> None:
        while len(self._received) < size:
            piece = self._socket.recv(65536)
            if not piece:
                raise DropConnection
            self._received += piece
