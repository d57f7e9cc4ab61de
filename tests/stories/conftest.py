"""One tree for all stories: each boots machines of its own."""

import pytest

from tests.fixtures.tree import RunningTree


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    with RunningTree(tmp_path_factory.mktemp("tree")).start() as running:
        yield running
