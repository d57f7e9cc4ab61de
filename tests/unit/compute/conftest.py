import shutil

import pytest

from tests.unit.compute.world import World


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of a database that was set up once; a copy takes a hundredth of the time."""
    directory = tmp_path_factory.mktemp("empty")
    World.set_up_database(directory)
    return directory / "cell.sqlite"


@pytest.fixture
def make_world(tmp_path, empty_database):
    """Make a cell with one compute host; keyword arguments are options."""
    worlds = []

    def make(**options):
        directory = tmp_path / str(len(worlds))
        directory.mkdir()
        shutil.copy(empty_database, directory / "cell.sqlite")
        worlds.append(World(directory, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world):
    """A cell with one compute host."""
    return make_world()
