import uuid

import pytest

from tests.fixtures.services import make_context, make_services


@pytest.fixture
def database_of():
    """Return the overrides that name a cell's database; SQLite files need none."""
    return lambda cell_name: {}


@pytest.fixture
def services(tmp_path, database_of):
    made = make_services(tmp_path, overrides=database_of("api"))
    yield made
    made.db.dispose()


@pytest.fixture
def clock(services):
    return services.clock


@pytest.fixture
def db(services):
    return services.db


@pytest.fixture
def ctxt(services):
    return make_context(services)


@pytest.fixture
def child(tmp_path, database_of):
    """The services of a cell that has a parent."""
    made = make_services(tmp_path, cell_name="rack1",
                         overrides={("cells", "enable"): True, **database_of("rack1")})
    made.db.cell_create(make_context(made), {"name": "api", "is_parent": True,
                                             "transport_url": "memory://local/api"})
    yield made
    made.db.dispose()


@pytest.fixture
def make_instance(db, ctxt):
    def make(**values):
        return db.instance_create(ctxt, {"uuid": str(uuid.uuid4()), "project_id": "project", "user_id": "user",
                                         **values})

    return make
