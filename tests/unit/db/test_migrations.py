"""The schema: what the migrations make is what the models say."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from nova_lite.db import models
from nova_lite.db.api import Database
from tests.fixtures.services import make_conf


def synced(tmp_path):
    database = Database(make_conf(tmp_path))
    database.sync()
    return database


def test_the_migrations_make_what_the_models_say(tmp_path):
    database = synced(tmp_path)

    with database.store.engines.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, models.Base.metadata)

    assert differences == []


def test_a_new_database_has_the_default_flavors_and_a_version(tmp_path):
    database = Database(make_conf(tmp_path))
    before = database.version()

    database.sync()

    assert before is None
    assert database.version() == "001"
    assert [(row["name"], row["flavorid"]) for row in database.flavor_get_all(None)] == [
        ("m1.tiny", "1"), ("m1.small", "2"), ("m1.medium", "3"), ("m1.large", "4"), ("m1.xlarge", "5")]


def test_syncing_again_brings_no_flavor_back(tmp_path):
    database = synced(tmp_path)
    database.flavor_destroy(None, "m1.tiny")

    database.sync()

    assert "m1.tiny" not in [row["name"] for row in database.flavor_get_all(None)]
