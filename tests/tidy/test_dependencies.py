"""What the package imports is what the distribution asks for."""

import ast
import configparser
import importlib.metadata
import re
import sys

from tests.tidy.source import REPOSITORY, modules, runs_in_dom0, runtime_nodes

NOT_FOR_RUNNING = {"test", "lint", "docs"}
OF_DOM0 = {"XenAPIPlugin", "XenAPI", "kernel", "nova_lite_dom0", "nova_lite_remote", "nova_lite_vhds"}


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
        if not runs_in_dom0(module)
        for line, top in third_party_imports(module)
        if not {normal(name) for name in distributions.get(top, [])} & brought
    ]

    assert not missing, "\n".join(missing)


def test_plugins_need_nothing_that_dom0_lacks():
    foreign = [
        f"{module.path.relative_to(REPOSITORY)}:{line}: {name}"
        for module in modules()
        if runs_in_dom0(module)
        for line, name in [*third_party_imports(module), *module.imports()]
        if name not in OF_DOM0
    ]

    assert not foreign, "\n".join(foreign)
