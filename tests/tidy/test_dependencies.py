"""What the package imports is what the distribution asks for."""

import ast
import configparser
import importlib.metadata
import re
import sys

from tests.tidy.source import REPOSITORY, modules, runtime_nodes

NOT_FOR_RUNNING = {"test", "lint", "docs"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared():
    """Return the names of the distributions that an installation, or one of its extras, brings."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    extras = parser["options.extras_require"]
    texts = [parser["options"]["install_requires"], *(extras[name] for name in extras if name not in NOT_FOR_RUNNING)]
    return {normal(re.match(r"[\w.-]+", line).group()) for text in texts for line in text.split("\n") if line.strip()}


def third_party_imports(module):
    for node in runtime_nodes(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top != "nova_lite" and top not in sys.stdlib_module_names:
                yield node.lineno, top


def test_every_import_has_its_distribution():
    brought = declared()
    distributions = importlib.metadata.packages_distributions()
    missing = [
        f"{module.path.relative_to(REPOSITORY)}:{line}: {top}"
        for module in modules()
        for line, top in third_party_imports(module)
        if not {normal(name) for name in distributions.get(top, [])} & brought
    ]

    assert not missing, "\n".join(missing)
