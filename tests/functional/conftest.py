"""Servers for the functional tests: one of each kind a session, private to it."""

import pytest

from tests.fixtures.mariadb import mariadb  # noqa: F401
from tests.fixtures.postgres import postgres  # noqa: F401
from tests.fixtures.rabbit import rabbit, rabbit_server  # noqa: F401

DATABASES = ("sqlite", "mariadb", "postgresql")


def database_factory(kind, request, directory):
    """Return a function that gives the URL of a new database on a server of this kind."""
    if kind == "sqlite":
        return lambda name: f"sqlite:///{directory}/{name}.sqlite"
    server = request.getfixturevalue("mariadb" if kind == "mariadb" else "postgres")
    return server.database


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """Two compute services that can be made to die at any point."""
    from tests.functional.deaths import Deaths

    made = Deaths(tmp_path_factory.mktemp("deaths"))
    yield made
    made.close()


@pytest.fixture(params=DATABASES)
def new_database(request, tmp_path):
    """A function that gives the URL of a new database, once with each kind of server."""
    return database_factory(request.param, request, tmp_path)
