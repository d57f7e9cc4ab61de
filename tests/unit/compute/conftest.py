import pytest

from tests.unit.compute.world import World


@pytest.fixture
def make_world(tmp_path):
    """Make a cell with one compute host; keyword arguments are options."""
    worlds = []

    def make(**options):
        worlds.append(World(tmp_path / str(len(worlds)), **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world):
    """A cell with one compute host."""
    return make_world()
