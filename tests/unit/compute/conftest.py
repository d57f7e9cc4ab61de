import pytest

from tests.unit.compute.world import World


@pytest.fixture
def world(tmp_path):
    """A cell with one compute host."""
    world = World(tmp_path)
    yield world
    world.close()
