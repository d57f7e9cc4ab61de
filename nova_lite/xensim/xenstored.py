"""A host's xenstored: the wire protocol that xenstore libraries in dom0 speak, on a Unix socket.

A message is a head of four 32 bit numbers (type, request, transaction, length) and a payload of texts that end in NUL.
"""

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nova_lite.xensim.visitors import StoreError, Visitor

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

HEAD = struct.Struct("=IIII")
PAYLOAD_LIMIT = 4096
EVENTS_LIMIT = 10_000  # watch events that a slow reader may fall behind
(DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END) = range(1, 8)
GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_DOMAIN_INTRODUCED = range(10, 18)
DONE = "OK\0"


def joined(texts: Iterable[object]) -> str:
    """Return texts as a payload holds them."""
    return "".join(f"{text}\0" for text in texts)


class Connection:
    """One client of domain 0. What it is told goes out in order, by a thread of its own."""

    def __init__(self, toolstack: "Toolstack", host_ref: str, sock: socket.socket):
        self._toolstack = toolstack
        self._socket = sock
        self._store = toolstack.domains.store(host_ref)
        self._visitor = Visitor(self._store, 0, self._event)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        visitor = self._visitor
        self._questions: dict[int, Callable[[int, list[str]], str]] = {
            DIRECTORY: lambda number, texts: joined(visitor.directory(texts[0], number)),
            READ: lambda number, texts: visitor.read(texts[0], number),
            GET_PERMS: lambda _number, texts: joined(visitor.permissions(texts[0])),
            TRANSACTION_START: lambda _number, _texts: joined([visitor.begin()]),
            GET_DOMAIN_PATH: lambda _number, texts: joined([f"/local/domain/{int(texts[0])}"]),
            IS_DOMAIN_INTRODUCED: lambda _number, texts: "T\0" if self._is_introduced(int(texts[0])) else "F\0",
        }
        self._orders: dict[int, Callable[[int, list[str]], None]] = {
            WATCH: lambda _number, texts: visitor.watch(texts[0], texts[1]),
            UNWATCH: lambda _number, texts: visitor.unwatch(texts[0], texts[1]),
            TRANSACTION_END: self._end,
            WRITE: lambda number, texts: visitor.write(texts[0], "\0".join(texts[1:]), number),
            MKDIR: lambda number, texts: visitor.mkdir(texts[0], number),
            RM: lambda number, texts: visitor.remove(texts[0], number),
            SET_PERMS: lambda _number, texts: visitor.set_permissions(texts[0], texts[1:]),
        }

    def serve(self) -> None:
        """Answer until the client goes."""
        writer = threading.Thread(target=self._write, name="xensim-xenstored", daemon=True)
        writer.start()
        with self._socket, contextlib.suppress(OSError):
            stream = self._socket.makefile("rb")
            while len(head := stream.read(HEAD.size)) == HEAD.size:
                kind, request, transaction, length = HEAD.unpack(head)
                if length > PAYLOAD_LIMIT:
                    break
                payload = stream.read(length).decode("utf-8", "surrogateescape")
                self._answer(kind, request, transaction, payload)
            with self._toolstack.lock:
                self._visitor.close()
            self._outgoing.put(None)
            writer.join()

    def _answer(self, kind: int, request: int, transaction: int, payload: str) -> None:
        texts = payload.split("\0") if kind == WRITE else payload.removesuffix("\0").split("\0")
        try:
            with self._toolstack.lock:
                if kind in self._questions:
                    reply = self._questions[kind](transaction, texts)
                elif kind in self._orders:
                    self._orders[kind](transaction, texts)
                    reply = DONE
                else:
                    raise StoreError("ENOSYS")
        except StoreError as error:
            kind, reply = ERROR, joined([error.name])
        except (IndexError, ValueError):
            kind, reply = ERROR, joined(["EINVAL"])
        self._send(kind, request, transaction, reply)

    def _end(self, number: int, texts: list[str]) -> None:
        if texts[0] not in ("T", "F"):
            raise StoreError("EINVAL")
        self._visitor.end(number, commit=texts[0] == "T")

    def _is_introduced(self, domid: int) -> bool:
        return self._store.node(f"/local/domain/{domid}") is not None

    def _event(self, path: str, token: str) -> None:
        if self._outgoing.qsize() < EVENTS_LIMIT:
            self._send(WATCH_EVENT, 0, 0, joined([path, token]))

    def _send(self, kind: int, request: int, transaction: int, payload: str) -> None:
        content = payload.encode("utf-8", "surrogateescape")
        self._outgoing.put(HEAD.pack(kind, request, transaction, len(content)) + content)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                self._socket.sendall(message)
