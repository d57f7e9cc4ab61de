"""The xenstore of one host: a tree of small texts that domains and dom0 share.

`XenStore` is the tree as dom0's toolstack uses it, which may do everything. `visitors` is what everybody else meets:
permissions, quotas, transactions and watches.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Listener = Callable[[str], None]
CHANGES_KEPT = 1000
PRIVATE, READ, WRITE, BOTH = "n", "r", "w", "b"


@dataclass(slots=True)
class Node:
    """A text, what lies below it, and its permissions: the owner first, with what all others may do."""

    value: str = ""
    children: dict[str, "Node"] = field(default_factory=dict)
    permissions: tuple[str, ...] = ("n0",)

    @property
    def owner(self) -> int:
        return int(self.permissions[0][1:])


class XenStore:
    """One tree. Paths start with a slash. Every change is told to `on_change(path)` and to the listeners.

    Expects the tables' lock to be held by whoever calls.
    """

    def __init__(self, on_change: Listener):
        self._root = Node()
        self._on_change = on_change
        self.listeners: list[Listener] = []
        self.owned: Counter[int] = Counter()  # nodes of each domain
        self.generation = 0
        self.changes: deque[tuple[int, str]] = deque(maxlen=CHANGES_KEPT)

    @staticmethod
    def _parts(path: str) -> list[str]:
        return [part for part in path.split("/") if part]

    def node(self, path: str) -> Node | None:
        """Return the node at a path, None when nothing is there."""
        node: Node | None = self._root
        for part in self._parts(path):
            node = node.children.get(part) if node else None
        return node

    def read(self, path: str) -> str | None:
        """Return the value, None when nothing is there."""
        node = self.node(path)
        return node.value if node else None

    def list(self, path: str) -> list[str] | None:
        """Return the names below a path, None when nothing is there."""
        node = self.node(path)
        return list(node.children) if node else None

    def write(self, path: str, value: str) -> None:
        """Set a value; the nodes above are made as needed."""
        self.put(path, value)
        self.tell(path)

    def tell(self, path: str) -> None:
        """Let the toolstack look at what changed at a path."""
        self._on_change(path)

    def put(self, path: str, value: str = "", owner: int | None = None) -> None:
        """Set a value without telling the toolstack. New nodes belong to `owner`, or to whom the node above does."""
        node = self._root
        for part in self._parts(path):
            if part not in node.children:
                permissions = node.permissions if owner is None else (f"{PRIVATE}{owner}",)
                node.children[part] = Node(permissions=permissions)
                self.owned[node.children[part].owner] += 1
            node = node.children[part]
        node.value = value
        self._note(path)

    def set_permissions(self, path: str, permissions: tuple[str, ...]) -> None:
        """Change who may do what with a node that exists."""
        node = self.node(path)
        if node:
            self.owned[node.owner] -= 1
            node.permissions = permissions
            self.owned[node.owner] += 1
            self._note(path)

    def remove(self, path: str) -> bool:
        """Remove a node and all below; return whether there was one."""
        *above, last = self._parts(path) or [""]
        parent = self.node("/".join(above))
        gone = parent.children.pop(last, None) if parent else None
        if gone is None:
            return False
        self.owned.subtract(each.owner for each in self._all(gone))
        self._note(path)
        self._on_change(path)
        return True

    def _all(self, node: Node) -> Iterator[Node]:
        yield node
        for child in node.children.values():
            yield from self._all(child)

    def _note(self, path: str) -> None:
        self.generation += 1
        self.changes.append((self.generation, path))
        for listener in list(self.listeners):
            listener(path)

    def announce(self, name: str) -> None:
        """Tell those who watch for domains that one came or went: @introduceDomain, @releaseDomain."""
        for listener in list(self.listeners):
            listener(name)

    def tree(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield (path below, value) for every node below a path."""
        node = self.node(path)
        if node:
            yield from self._walk(node, "")

    def _walk(self, node: Node, prefix: str) -> Iterator[tuple[str, str]]:
        for name, child in node.children.items():
            yield prefix + name, child.value
            yield from self._walk(child, f"{prefix}{name}/")
