"""The xenstore of one host: a tree of small texts that domains and dom0 share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Watch = Callable[[str], None]


@dataclass
class Node:
    value: str = ""
    children: dict[str, "Node"] = field(default_factory=dict)


class XenStore:
    """One tree. Paths start with a slash. Every change is told to `on_change(path)`.

    Expects the tables' lock to be held by whoever calls.
    """

    def __init__(self, on_change: Watch):
        self._root = Node()
        self._on_change = on_change

    @staticmethod
    def _parts(path: str) -> list[str]:
        return [part for part in path.split("/") if part]

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._root
        for part in self._parts(path):
            node = node.children.get(part) if node else None
        return node

    def read(self, path: str) -> str | None:
        """Return the value, None when nothing is there."""
        node = self._find(path)
        return node.value if node else None

    def list(self, path: str) -> list[str] | None:
        """Return the names below a path, None when nothing is there."""
        node = self._find(path)
        return list(node.children) if node else None

    def write(self, path: str, value: str) -> None:
        """Set a value; the nodes above are made as needed."""
        self.put(path, value)
        self._on_change(path)

    def put(self, path: str, value: str = "") -> None:
        """Set a value without telling anybody."""
        node = self._root
        for part in self._parts(path):
            node = node.children.setdefault(part, Node())
        node.value = value

    def remove(self, path: str) -> bool:
        """Remove a node and all below; return whether there was one."""
        *above, last = self._parts(path) or [""]
        parent = self._find("/".join(above))
        if parent is None or parent.children.pop(last, None) is None:
            return False
        self._on_change(path)
        return True

    def tree(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield (path below, value) for every node below a path."""
        node = self._find(path)
        if node:
            yield from self._walk(node, "")

    def _walk(self, node: Node, prefix: str) -> Iterator[tuple[str, str]]:
        for name, child in node.children.items():
            yield prefix + name, child.value
            yield from self._walk(child, f"{prefix}{name}/")
