import contextlib

import pytest

from tests.unit.cells.tree import REFERENCE, Tree


@pytest.fixture(scope="module")
def _reference_tree():
    tree = Tree(REFERENCE)
    yield tree
    tree.close()


@pytest.fixture
def tree(_reference_tree):
    """The eight cells of the reference tree; they stand as long as the module's tests run."""
    _reference_tree.forget()
    return _reference_tree


@pytest.fixture
def make_tree():
    """Returns a function that builds a tree of its own, closed at the end."""
    made = []

    def make(parents, **kwargs):
        made.append(Tree(parents, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_live_tree(tmp_path):
    """Returns a function that builds a tree of whole cells, closed at the end."""
    with _builder(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting_tree(tmp_path_factory):
    """As make_live_tree, for a tree that stands as long as the module's tests run."""
    with _builder(tmp_path_factory.mktemp("tree")) as make:
        yield make


@contextlib.contextmanager
def _builder(directory):
    from tests.unit.cells.live import LiveTree

    made = []

    def make(parents, **kwargs):
        made.append(LiveTree(parents, directory, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()
