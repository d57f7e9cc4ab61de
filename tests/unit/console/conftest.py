import pytest

from tests.fixtures.one_cell import OneCell


@pytest.fixture
def cell(tmp_path):
    made = OneCell(tmp_path)
    yield made
    made.close()
