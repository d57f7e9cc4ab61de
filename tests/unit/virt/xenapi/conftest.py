import pytest

from tests.fixtures.xen_bench import (
    bench,
    lasting_bench,
    make_bench,
    make_conf,
    options,
    shared_bench,
    shared_simulator,
    simulator,
    spare_confs,
)

__all__ = ["bench", "lasting_bench", "make_bench", "make_conf", "options", "shared_bench", "shared_simulator",
           "simulator", "spare_confs"]


@pytest.fixture(scope="module")
def plugins():
    """None: every call of a plugin is a process of its own."""
    return
