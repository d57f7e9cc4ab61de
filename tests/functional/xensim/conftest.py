"""One simulator in a process of its own for each module, reached through its sockets alone."""

import pytest

from tests.fixtures.xen_client import Client
from tests.fixtures.xensim import logged_in, simulator_process


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A pool of two hosts; the tests of a module share it and leave it as they found it."""
    with simulator_process(tmp_path_factory.mktemp("pool"), hosts=2) as process:
        process.control.failed_login_delay(0)
        yield process


@pytest.fixture
def client(pool):
    with logged_in(pool) as session:
        yield Client(session)
