"""Visitors of a xenstore: domains and programs that are bound by its rules."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nova_lite.xensim.xenstore import BOTH, READ, WRITE, Node, XenStore

PATH = re.compile(r"/?[A-Za-z0-9_@-]+(/[A-Za-z0-9_@-]+)*$")
PERMISSION = re.compile(r"[nrwb]\d{1,5}$")
ABSOLUTE_LIMIT, RELATIVE_LIMIT = 3072, 2048
PAYLOAD_LIMIT = 4096
# What a domain other than 0 may have.
VALUE_LIMIT = 2048
NODES_LIMIT = 1000
WATCHES_LIMIT = 128
TRANSACTIONS_LIMIT = 10
SPECIAL = frozenset({"@introduceDomain", "@releaseDomain"})


class StoreError(Exception):
    """A refusal, by the name of its errno: EINVAL, EACCES, ENOENT, ENOSPC, E2BIG, EEXIST, EAGAIN."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@dataclass
class Transaction:
    """Changes that take place at once or not at all. Reads see the tree as the changes so far leave it."""

    generation: int
    reads: set[str] = field(default_factory=set)
    # (operation, path, argument) in order
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    written: dict[str, str | None] = field(default_factory=dict)


class Visitor:
    """One connection of a domain. Paths without a slash at the start lie below the domain's own.

    Expects the tables' lock to be held by whoever calls. Every method raises StoreError.
    """

    def __init__(self, store: XenStore, domid: int, on_event: Callable[[str, str], None] | None = None):
        self._store = store
        self._domid = domid
        self._on_event = on_event
        self._watches: list[tuple[str, str, bool]] = []  # path, token, whether it was given without a slash
        self._transactions: dict[int, Transaction] = {}
        self._ids = itertools.count(1)

    # paths and permissions

    def absolute(self, path: str) -> str:
        """Return the whole path. Raises EINVAL for what is none."""
        limit = ABSOLUTE_LIMIT if path.startswith("/") else RELATIVE_LIMIT
        if len(path) > limit:
            raise StoreError("E2BIG" if len(path) > PAYLOAD_LIMIT else "EINVAL")
        if path != "/" and not PATH.match(path):
            raise StoreError("EINVAL")
        return path if path.startswith("/") else f"/local/domain/{self._domid}/{path}"

    def _may(self, node: Node, access: str) -> bool:
        if self._domid in (0, node.owner):
            return True
        own = [each for each in node.permissions[1:] if int(each[1:]) == self._domid]
        granted = (own or node.permissions)[0][0]
        return granted in (access, BOTH)

    def _nearest(self, path: str) -> Node:
        """Return the node at a path, or the nearest above it."""
        while (node := self._store.node(path)) is None:
            path = path.rpartition("/")[0]
        return node

    def _readable(self, path: str) -> Node:
        node = self._store.node(path)
        if node is None:
            if not self._may(self._nearest(path), READ):
                raise StoreError("EACCES")
            raise StoreError("ENOENT")
        if not self._may(node, READ):
            raise StoreError("EACCES")
        return node

    # reading

    def read(self, path: str, transaction: int = 0) -> str:
        """Return the value at a path."""
        path = self.absolute(path)
        if transaction:
            state = self._transaction(transaction)
            state.reads.add(path)
            if path in state.written:
                value = state.written[path]
                if value is None:
                    raise StoreError("ENOENT")
                return value
        return self._readable(path).value

    def directory(self, path: str, transaction: int = 0) -> list[str]:
        """Return the names below a path."""
        path = self.absolute(path)
        names: dict[str, None] = {}
        state = self._transaction(transaction) if transaction else None
        if state is None or not any(each.startswith(f"{path}/") for each in state.written):
            names = dict.fromkeys(self._readable(path).children)
        elif node := self._store.node(path):
            names = dict.fromkeys(node.children)
        if state:
            state.reads.add(path)
            for each, value in state.written.items():
                below = each.removeprefix(f"{path}/")
                if below != each and "/" not in below and value is None:
                    names.pop(below, None)
                elif below != each and value is not None:
                    names[below.partition("/")[0]] = None
        return list(names)

    def permissions(self, path: str) -> tuple[str, ...]:
        """Return who owns a node, with what all others may do, and what single domains may."""
        return self._readable(self.absolute(path)).permissions

    # writing

    def write(self, path: str, value: str, transaction: int = 0) -> None:
        """Set a value; nodes that are missing are made and belong to the domain."""
        if len(value) > PAYLOAD_LIMIT:
            raise StoreError("E2BIG")
        if self._domid and len(value) > VALUE_LIMIT:
            raise StoreError("ENOSPC")
        self._change("write", path, value, transaction)

    def mkdir(self, path: str, transaction: int = 0) -> None:
        """Make a node with an empty value unless it is there."""
        self._change("mkdir", path, "", transaction)

    def remove(self, path: str, transaction: int = 0) -> None:
        """Remove a node and all below it."""
        self._change("remove", path, "", transaction)

    def set_permissions(self, path: str, permissions: list[str]) -> None:
        """Say who owns a node and who may do what with it. Only domain 0 gives nodes away."""
        path = self.absolute(path)
        node = self._readable(path)
        if self._domid not in (0, node.owner):
            raise StoreError("EACCES")
        if not permissions or not all(PERMISSION.match(each) for each in permissions):
            raise StoreError("EINVAL")
        if self._domid and int(permissions[0][1:]) != self._domid:
            raise StoreError("EACCES")
        self._store.set_permissions(path, tuple(permissions))

    def _change(self, operation: str, path: str, value: str, transaction: int) -> None:
        path = self.absolute(path)
        state = self._transaction(transaction) if transaction else None
        self._check_change(operation, path, state)
        if state is None:
            self._apply(operation, path, value)
            return
        state.changes.append((operation, path, value))
        if operation != "mkdir" or (self._store.node(path) is None and state.written.get(path) is None):
            state.written[path] = None if operation == "remove" else value

    def _check_change(self, operation: str, path: str, state: Transaction | None) -> None:
        node = self._store.node(path)
        if not self._may(node or self._nearest(path), WRITE):
            raise StoreError("EACCES")
        is_new = bool(state and state.written.get(path) is not None)
        if operation == "remove":
            if path == "/":
                raise StoreError("EINVAL")
            if node is None and not is_new:
                raise StoreError("ENOENT")
        elif node is None and not is_new and self._is_full(state):
            raise StoreError("ENOSPC")

    def _is_full(self, state: Transaction | None) -> bool:
        return bool(self._domid) and self._store.owned[self._domid] + len(state.written if state else ()) >= NODES_LIMIT

    def _apply(self, operation: str, path: str, value: str) -> None:
        if operation == "remove":
            self._store.remove(path)
        elif operation == "write" or self._store.node(path) is None:
            self._store.put(path, value, self._domid)
            self._store.tell(path)

    # transactions

    def begin(self) -> int:
        """Start a transaction and return its number."""
        if self._domid and len(self._transactions) >= TRANSACTIONS_LIMIT:
            raise StoreError("ENOSPC")
        number = next(self._ids)
        self._transactions[number] = Transaction(self._store.generation)
        return number

    def _transaction(self, number: int) -> Transaction:
        if number not in self._transactions:
            raise StoreError("ENOENT")
        return self._transactions[number]

    def end(self, number: int, *, commit: bool) -> None:
        """Let the changes take place, or forget them. EAGAIN: somebody changed what was read or written."""
        state = self._transaction(number)
        del self._transactions[number]
        if not commit:
            return
        if self._has_conflict(state):
            raise StoreError("EAGAIN")
        for operation, path, value in state.changes:
            self._apply(operation, path, value)

    def _has_conflict(self, state: Transaction) -> bool:
        if self._store.generation == state.generation:
            return False
        changes = self._store.changes
        if not changes or changes[0][0] > state.generation + 1:
            return True  # what happened meanwhile is not known any more
        touched = state.reads | set(state.written)
        return any(
            path in touched or any(path.startswith(f"{each}/") or each.startswith(f"{path}/") for each in touched)
            for generation, path in changes
            if generation > state.generation
        )

    # watches

    def watch(self, path: str, token: str) -> None:
        """Be told of changes at and below a path, and once at the beginning."""
        entry = self._watched(path, token)
        if entry in self._watches:
            raise StoreError("EEXIST")
        if self._domid and len(self._watches) >= WATCHES_LIMIT:
            raise StoreError("E2BIG")
        if not self._watches:
            self._store.listeners.append(self._changed)
        self._watches.append(entry)
        self._tell(path, token)

    def unwatch(self, path: str, token: str) -> None:
        """Be told no more."""
        entry = self._watched(path, token)
        if entry not in self._watches:
            raise StoreError("ENOENT")
        self._watches.remove(entry)
        if not self._watches:
            self._store.listeners.remove(self._changed)

    def _watched(self, path: str, token: str) -> tuple[str, str, bool]:
        return (path if path in SPECIAL else self.absolute(path)), token, not path.startswith(("/", "@"))

    def _changed(self, path: str) -> None:
        for watched, token, is_relative in list(self._watches):
            # A node that goes takes along what is watched below it.
            if path == watched or path.startswith(f"{watched.rstrip('/')}/") or watched.startswith(f"{path}/"):
                seen = path if len(path) >= len(watched) else watched
                own = f"/local/domain/{self._domid}/"
                self._tell(seen.removeprefix(own) if is_relative else seen, token)

    def _tell(self, path: str, token: str) -> None:
        if self._on_event:
            self._on_event(path, token)

    def close(self) -> None:
        """End the connection: its watches and transactions are forgotten."""
        if self._watches:
            self._store.listeners.remove(self._changed)
        self._watches, self._transactions = [], {}
