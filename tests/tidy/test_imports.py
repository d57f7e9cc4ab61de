"""Who may import whom."""

import pathlib
import textwrap

import pytest

from tests.tidy.source import Module, modules

GROUND = {"exception", "context", "conf", "objects", "concurrency"}
STORE = GROUND | {"db", "rpc"}
SERVICES = STORE | {"manager", "notifications", "policy", "quota", "servicegroup"}
PORTS = {"image", "network", "volume", "console"}
DRIVER = {"virt.driver", "virt.virtapi", "virt.event"}

# What runs on top: programs, the commands behind them and the demo. Nothing below imports these.
TOP = {"cmd", "client", "demo", "service", "simulate"}

# Importer -> what it may import besides itself. The longest matching name decides, for both columns.
TABLE = {
    "cells": SERVICES,
    "compute": SERVICES | PORTS | DRIVER | {"scheduler.rpcapi"},
    "scheduler": SERVICES | PORTS | DRIVER | {"compute.rpcapi", "compute.utils"},
    "image": STORE | {"openstack"},
    "network": STORE | {"openstack"},
    "volume": STORE | {"openstack"},
    "openstack": {"exception"},
    "console": STORE,
    "virt": GROUND,
    "virt.xenapi": {"objects", "conf", "exception", "concurrency"} | DRIVER,
    "xensim": set(),
    "manager": STORE | {"scheduler.rpcapi"},
    "db": GROUND,
    "rpc": GROUND,
    "notifications": GROUND,
    "policy": GROUND,
    "quota": GROUND,
    "servicegroup": GROUND | {"db"},
    "objects": {"exception", "context", "conf", "concurrency"},
    "context": {"exception", "concurrency"},
    "concurrency": {"exception"},
    "exception": set(),
    "conf": {"exception"},
}


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def row_of(name: str) -> str | None:
    """Return the longest name of the table that `name` lies in."""
    return max((row for row in [*TABLE, *TOP] if within(name, row)), key=len, default=None)


def forbidden_imports(module: Module) -> list[str]:
    """Return one line for each import that the table does not allow."""
    row = row_of(module.name)
    if not module.name or row in TOP:
        return []
    if row is None:
        return [f"nova_lite.{module.name} stands in no row of the table"]
    return [
        f"{module.path.name}:{line}: nova_lite.{module.name} imports nova_lite.{name}"
        for line, name in module.imports()
        if not is_allowed(row, name)
    ]


def is_allowed(row: str, name: str) -> bool:
    if row_of(name) == row:
        return True
    allowed = TABLE[row]
    if not any(within(name, prefix) for prefix in allowed):
        return False
    # A row of its own (virt.xenapi inside virt) is not opened by the name of what it lies in.
    return row_of(name) in allowed or any(within(name, prefix) and "." in prefix for prefix in allowed)


def test_imports_follow_the_table():
    complaints = [line for module in modules() for line in forbidden_imports(module)]

    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    ("importer", "statement", "allowed"),
    [
        ("cells.manager", "from nova_lite import rpc", True),
        ("cells.manager", "from nova_lite.compute import api", False),
        ("cells.manager", "from nova_lite import compute", False),
        ("cells.manager", "import nova_lite.virt.driver", False),
        ("compute.manager", "from nova_lite.virt import driver", True),
        ("compute.manager", "from nova_lite.virt.xenapi import vmops", False),
        ("compute.manager", "from nova_lite.virt import xenapi", False),
        ("compute.manager", "from nova_lite.compute import claims", True),
        ("compute.manager", "def late():\n    from nova_lite.cells import rpcapi", False),
        ("scheduler.manager", "from nova_lite.compute import rpcapi", True),
        ("scheduler.manager", "from nova_lite.compute.utils import EventReporter", True),
        ("scheduler.manager", "from nova_lite.compute import manager", False),
        ("virt.xenapi.vmops", "from nova_lite.virt.driver import ComputeDriver", True),
        ("virt.xenapi.vmops", "from nova_lite import db", False),
        ("xensim.server", "from nova_lite import exception", False),
        ("xensim.server", "from nova_lite.xensim import storage", True),
        ("objects.instance", "from nova_lite.db import api", False),
        ("rpc.client", "import nova_lite.service", False),
        ("cmd.cells", "from nova_lite import service", True),
        ("compute.manager", "if typing.TYPE_CHECKING:\n    from nova_lite import cells", True),
    ],
)
def test_the_table_tells_right_from_wrong(tmp_path, importer, statement, allowed):
    path = pathlib.Path(tmp_path, *importer.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(statement))

    complaints = forbidden_imports(Module(path, root=tmp_path))

    assert (not complaints) is allowed, complaints
