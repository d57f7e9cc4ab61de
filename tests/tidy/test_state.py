"""No module keeps state that depends on the run: a whole tree of cells lives in one process."""

import ast
import pathlib
import textwrap
from collections.abc import Iterator

import pytest

from tests.tidy.source import Module, modules

MUTATORS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
    "reverse", "setdefault", "sort", "update",
}  # fmt: skip

# (module, name): what is filled at import only, or belongs to the process rather than to a cell.
ALLOWED = {
    ("cells.operations", "registry"): "operations, declared at import",
    ("db.engine", "_file_locks"): "one lock per SQLite file, whoever opens it",
    ("exception", "_registry"): "exception classes, by their definition",
    ("rpc.memory", "_brokers"): "brokers in use: transports of one URL meet there",
}


def module_names(tree: ast.Module) -> set[str]:
    """Return the names that the module's own level assigns."""
    names = set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def changed_names(function: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) for each name that the function changes in place or declares global."""
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            yield from ((node.lineno, name) for name in node.names)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if isinstance(node.value, ast.Name):
                yield node.lineno, node.value.id
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in MUTATORS
            and isinstance(node.func.value, ast.Name)
        ):
            yield node.lineno, node.func.value.id


def own_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the function's parameters and the names that it assigns: these hide the module's."""
    arguments = function.args
    names = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    names |= {star.arg for star in (arguments.vararg, arguments.kwarg) if star}
    declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return (names | stored) - declared


def mutable_state(module: Module) -> list[str]:
    """Return one line for each module-level name that a function of the module changes."""
    at_module_level = module_names(module.tree)
    complaints = []
    for function in ast.walk(module.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        hidden = own_names(function)
        complaints += [
            f"{module.path.name}:{line}: {function.name} changes nova_lite.{module.name}.{name}"
            for line, name in changed_names(function)
            if name in at_module_level - hidden and (module.name, name) not in ALLOWED
        ]
    return complaints


def test_no_function_changes_what_its_module_holds():
    complaints = [line for module in modules() for line in mutable_state(module)]

    assert not complaints, "\n".join(complaints)


def test_every_exception_to_the_rule_still_exists():
    held = {(module.name, name) for module in modules() for name in module_names(module.tree)}

    assert set(ALLOWED) <= held


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("CACHE = {}\ndef f(key):\n    CACHE[key] = 1", False),
        ("SEEN = set()\ndef f(key):\n    SEEN.add(key)", False),
        ("engine = None\ndef f():\n    global engine\n    engine = 1", False),
        ("NAMES = {'a': 1}\ndef f(key):\n    return NAMES[key]", True),
        ("NAMES = {}\ndef f(NAMES):\n    NAMES['a'] = 1", True),
        ("NAMES = {}\ndef f():\n    NAMES = {}\n    NAMES['a'] = 1", True),
        ("NAMES = {}\nNAMES.update(a=1)", True),
    ],
)
def test_state_is_told_from_constants(tmp_path, text, clean):
    path = pathlib.Path(tmp_path, "sample.py")
    path.write_text(textwrap.dedent(text))

    assert (not mutable_state(Module(path, root=tmp_path))) is clean
