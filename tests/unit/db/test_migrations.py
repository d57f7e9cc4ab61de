"""The schema: what the migrations make is what the models say."""

import subprocess
import sys

import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from nova_lite.db import models, revision, schema
from nova_lite.db.api import Database
from tests.fixtures.processes import REPOSITORY
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


def test_the_version_this_release_works_with_is_the_newest_migration():
    assert ScriptDirectory.from_config(schema.config()).get_heads() == [revision.CURRENT]


def test_a_schema_is_current_once_it_has_the_newest_version(tmp_path):
    database = Database(make_conf(tmp_path))
    empty = database.schema_is_current()

    database.sync()
    synced = database.schema_is_current()
    with database.writer(None) as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '000'"))

    assert (empty, synced, database.schema_is_current()) == (False, True, False)


def test_the_version_is_read_without_the_library_of_migrations(tmp_path):
    synced(tmp_path).dispose()
    code = ("import pathlib, sys\n"
            "from nova_lite.db.api import Database\n"
            "from tests.fixtures.services import make_conf\n"
            "assert Database(make_conf(pathlib.Path(sys.argv[1]))).schema_is_current()\n"
            "assert 'alembic' not in sys.modules\n")

    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=REPOSITORY)


def test_a_new_database_has_the_default_flavors_and_a_version(tmp_path):
    database = Database(make_conf(tmp_path))
    before = database.version()

    database.sync()

    assert before is None
    assert database.schema_is_current()
    assert [(row["name"], row["flavorid"]) for row in database.flavor_get_all(None)] == [
        ("m1.tiny", "1"), ("m1.small", "2"), ("m1.medium", "3"), ("m1.large", "4"), ("m1.xlarge", "5")]


def test_syncing_again_brings_no_flavor_back(tmp_path):
    database = synced(tmp_path)
    database.flavor_destroy(None, "m1.tiny")

    database.sync()

    assert "m1.tiny" not in [row["name"] for row in database.flavor_get_all(None)]
