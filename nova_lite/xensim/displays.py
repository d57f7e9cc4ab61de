"""/console: the display of a running VM as plain RFB, or its terminal as text."""

import contextlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.handlers import Door, Router
from nova_lite.xensim.http import DropConnection, HttpError, Request
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.screens import HEIGHT, WIDTH, boot_text, render
from nova_lite.xensim.vm_rules import RUNNING
from nova_lite.xensim.websockets import accept, is_upgrade

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

PIXEL_FORMAT = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
LOOK_INTERVAL_S = 0.5
# RFB client messages: type -> bytes that follow the type, lengths of variable parts read separately.
FIXED_MESSAGES = {0: 19, 3: 9, 4: 7, 5: 5}
SET_ENCODINGS, CUT_TEXT, UPDATE_REQUEST = 2, 6, 3
TEXT_LIMIT = 1024 * 1024


class Displays:
    """Serves CONNECT and WebSockets on /console. A console's connections end with its VM's domain."""

    def __init__(self, toolstack: "Toolstack", door: Door, host_ref: str):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._door = door
        self._host_ref = host_ref
        self._open: dict[str, int] = {}

    def register(self, router: Router) -> None:
        router.add("CONNECT", "/console", self.connect)
        router.add("GET", "/console", self.upgrade)

    def upgrade(self, request: Request, caller: Caller) -> None:
        """Serve a display to a browser."""
        if not is_upgrade(request):
            raise HttpError(404, "a display is for CONNECT or a WebSocket")
        self.connect(request, caller)

    def connect(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        with self._db.lock:
            self._door.authenticate(request, caller, "console")
            console = self._find(request)
            vm = self._db.row("VM", console["VM"])
            if vm["power_state"] != RUNNING or vm["resident_on"] != self._host_ref:
                raise HttpError(404, "the VM does not run on this host")
            pool = self._db.row("pool", self._toolstack.pool_ref)
            if pool["limit_console_sessions"] and self._open.get(console.ref):
                raise HttpError(503, "the console is in use")
            self._open[console.ref] = self._open.get(console.ref, 0) + 1
            domid = vm["domid"]
        try:
            kind = RfbSession if console["protocol"] == "rfb" else TextSession
            kind(
                self._channel(request), vm["name_label"], lambda: self._lives(vm.ref, domid), lambda: self._text(vm)
            ).serve()
        finally:
            with self._db.lock:
                self._open[console.ref] -= 1
        raise DropConnection

    @staticmethod
    def _channel(request: Request) -> Any:
        if is_upgrade(request):
            return accept(request)
        sock = request.connection.socket
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nCache-Control: no-cache\r\n\r\n")
        return sock

    def _text(self, vm: Row) -> list[str]:
        with self._db.lock:
            return boot_text(self._db, vm)

    def _find(self, request: Request) -> Row:
        """Return the console named by reference or uuid, its own or its VM's."""
        name = request.query.get("ref") or request.query.get("uuid", "")
        for class_name in ("console", "VM"):
            ref = name if self._db.find(class_name, name) else self._db.uuids[class_name].get(name)
            if ref is None:
                continue
            if class_name == "console":
                return self._db.row("console", ref)
            consoles = [self._db.row("console", each) for each in self._db.get("VM", ref, "consoles")]
            for console in sorted(consoles, key=lambda each: each["protocol"] != "rfb"):
                return console
        raise HttpError(404, "no such console")

    def _lives(self, vm_ref: str, domid: int) -> bool:
        with self._db.lock:
            vm = self._db.find("VM", vm_ref)
            return bool(vm) and vm["domid"] == domid and not self._toolstack.is_stopping


class Stream:
    """Reads exact counts of bytes while the domain lives."""

    def __init__(self, channel: Any, title: str, lives: Callable[[], bool], text: Callable[[], list[str]]):
        self.socket = channel
        self.title = title
        self.text = text
        self._lives = lives
        self._buffer = b""

    def read(self, count: int) -> bytes:
        """Return the next bytes. Raises DropConnection when the client or the domain is gone."""
        while len(self._buffer) < count:
            self.socket.settimeout(LOOK_INTERVAL_S)
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                if not self._lives():
                    raise DropConnection from None
                self.idle()
                continue
            finally:
                with contextlib.suppress(OSError):
                    self.socket.settimeout(None)
            if not piece:
                raise DropConnection
            self._buffer += piece
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def idle(self) -> None:
        """Called from time to time while nothing arrives."""


class RfbSession(Stream):
    """A framebuffer that shows the guest's text, sent when it is asked for and, if that is wished, when it changes."""

    shown: list[str] | None = None
    is_waiting = False
    bytes_per_pixel = 4

    def serve(self) -> None:
        self.socket.sendall(b"RFB 003.008\n")
        version = self.read(12)
        if version >= b"RFB 003.007":
            self.socket.sendall(b"\x01\x01")
            self.read(1)
            if version >= b"RFB 003.008":
                self.socket.sendall(bytes(4))
        else:
            self.socket.sendall(struct.pack(">I", 1))
        self.read(1)
        name = self.title.encode()
        self.socket.sendall(struct.pack(">HH", WIDTH, HEIGHT) + PIXEL_FORMAT + struct.pack(">I", len(name)) + name)
        while True:
            (kind,) = self.read(1)
            if kind == SET_ENCODINGS:
                self.read(4 * struct.unpack(">xH", self.read(3))[0])
            elif kind == CUT_TEXT:
                (length,) = struct.unpack(">xxxI", self.read(7))
                if length > TEXT_LIMIT:
                    return
                self.read(length)
            elif kind not in FIXED_MESSAGES:
                return
            else:
                body = self.read(FIXED_MESSAGES[kind])
                if kind == 0:
                    self.bytes_per_pixel = max(body[3] // 8, 1)
                elif kind == UPDATE_REQUEST:
                    self.is_waiting = True
                    self._update(is_forced=not body[0])

    def idle(self) -> None:
        self._update(is_forced=False)

    def _update(self, *, is_forced: bool) -> None:
        """Send the screen to a client that waits for it, if it is another than before or has to be sent anyway."""
        text = self.text()
        if self.is_waiting and (is_forced or text != self.shown):
            self.is_waiting, self.shown = False, text
            head = struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0)
            self.socket.sendall(head + render(text, self.bytes_per_pixel))


class TextSession(Stream):
    """A terminal that greets and echoes."""

    def serve(self) -> None:
        self.socket.sendall(f"\r\n{self.title} login: ".encode())
        while True:
            self.socket.sendall(self.read(1))
