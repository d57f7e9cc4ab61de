import pytest

from tests.fixtures.one_cell import OneCell


@pytest.fixture
def make_cell(tmp_path):
    made = []

    def make(**overrides):
        made.append(OneCell(tmp_path, **overrides))
        return made[-1]

    yield make
    for cell in made:
        cell.close()


@pytest.fixture
def cell(make_cell):
    return make_cell()
