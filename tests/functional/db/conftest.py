"""The database's unit tests once more, on MariaDB and PostgreSQL: two databases a session, emptied after each test."""

import pytest
import sqlalchemy

from nova_lite.db import models
from tests.unit.db.conftest import child, clock, ctxt, db, make_instance, services  # noqa: F401

KINDS = {"mariadb": "mariadb", "postgresql": "postgres"}


@pytest.fixture(scope="session", params=[pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in KINDS])
def server_urls(request):
    """The URLs of the databases of the cells ``api`` and ``rack1``."""
    server = request.getfixturevalue(KINDS[request.param])
    return {cell: server.database(f"db_tests_{cell}") for cell in ("api", "rack1")}


@pytest.fixture
def database_of(server_urls):
    yield lambda cell_name: {("database", "connection"): server_urls[cell_name]}
    for url in server_urls.values():
        empty(url)


def empty(url):
    """Remove every row; the next sync inserts the default flavors."""
    engine = sqlalchemy.create_engine(url)
    known = set(sqlalchemy.inspect(engine).get_table_names())
    with engine.begin() as connection:
        for table in reversed(models.Base.metadata.sorted_tables):
            if table.name in known:
                connection.execute(table.delete())
    engine.dispose()
