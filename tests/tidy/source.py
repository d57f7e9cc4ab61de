"""The project's own source, parsed."""

import ast
import functools
import pathlib
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "nova_lite"


class Module:
    """One module: its dotted name below nova_lite ('' for the package itself), its text and its tree."""

    def __init__(self, path: pathlib.Path, root: pathlib.Path = PACKAGE):
        self.path = path
        parts = list(path.relative_to(root).with_suffix("").parts)
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text()
        self.tree = ast.parse(self.text, str(path))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield (line, name below nova_lite) of every import of ours that runs, wherever it stands.

        `from nova_lite import rpc` is `rpc`; imports for annotations only are left out.
        """
        for node in runtime_nodes(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("nova_lite."):
                        yield node.lineno, alias.name.removeprefix("nova_lite.")
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, name) for name in self._imported_from(node))

    def _imported_from(self, node: ast.ImportFrom) -> Iterator[str]:
        base = node.module or ""
        if node.level:
            parent = ["nova_lite", *self.name.split(".")]
            parent = parent[: len(parent) - node.level + (1 if self.is_package else 0)]
            base = ".".join([*parent, base]) if base else ".".join(parent)
        if base == "nova_lite":
            yield from (alias.name for alias in node.names)
        elif base.startswith("nova_lite."):
            below = base.removeprefix("nova_lite.")
            # A name may be a module of that package: the longer name is what the table is asked about.
            yield from (f"{below}.{alias.name}" for alias in node.names)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


@functools.cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    return tuple(Module(path) for path in sorted(PACKAGE.rglob("*.py")))


def runs_in_dom0(module: Module) -> bool:
    """Whether the module is a plugin that a host runs, beside its own Python and libraries."""
    return module.name.startswith("virt.xenapi.dom0.")
