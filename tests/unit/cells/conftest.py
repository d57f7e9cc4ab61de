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
