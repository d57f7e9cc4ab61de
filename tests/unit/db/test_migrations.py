"""The schema: what the migrations make is what the models say."""

import datetime
import subprocess
import sys
import uuid

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from benchmarks.database import fill
from nova_lite.context import RequestContext
from nova_lite.db import models, revision, schema
from nova_lite.db.api import Database
from tests.fixtures.processes import REPOSITORY
from tests.fixtures.services import database_url, make_conf


def empty(tmp_path):
    url = database_url(tmp_path / "empty.sqlite", is_new=True)
    return Database(make_conf(tmp_path, overrides={("database", "connection"): url}))


def synced(tmp_path):
    database = empty(tmp_path)
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
    database = empty(tmp_path)
    at_first = database.schema_is_current()

    database.sync()
    then = database.schema_is_current()
    with database.writer(None) as session:
        session.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '000'"))

    assert (at_first, then, database.schema_is_current()) == (False, True, False)


def test_the_version_is_read_without_the_libraries_of_migrations_and_mapped_classes(tmp_path):
    database = synced(tmp_path)
    code = ("import pathlib, sys\n"
            "from nova_lite.db.api import Database\n"
            "from tests.fixtures.services import load_conf\n"
            "assert Database(load_conf({('database', 'connection'): sys.argv[1]})).schema_is_current()\n"
            "assert not {'alembic', 'sqlalchemy.orm'} & set(sys.modules)\n")

    subprocess.run([sys.executable, "-c", code, database.conf.database.connection], check=True, cwd=REPOSITORY)


def test_a_new_database_has_the_default_flavors_and_a_version(tmp_path):
    database = empty(tmp_path)
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


def upgraded_from_the_first_release(database):
    """Make a database as the first release left it, upgrade it, and return what it holds then."""
    schema.upgrade(database.store, "001")
    with database.writer(None) as session:
        session.execute(sqlalchemy.text(
            "INSERT INTO instances (uuid, vm_state, deleted, locked, auto_disk_config, shutdown_terminate, "
            "disable_terminate, cleaned, revision) "
            f"VALUES ('u1', 'active', 0, {_false(database)}, {_false(database)}, {_false(database)}, "
            f"{_false(database)}, 0, 7)"))
    database.sync()
    with database.reader(None) as session:
        row = session.one(sqlalchemy.select(models.Instance.__table__.c.uuid).where(
            models.Instance.__table__.c.revision == 7))
    return row["uuid"], database.version()


def _false(database):
    return "false" if database.store.engines.url.get_backend_name() == "postgresql" else "0"


def test_a_database_of_the_first_release_keeps_its_rows(tmp_path):
    database = empty(tmp_path)

    assert upgraded_from_the_first_release(database) == ("u1", revision.CURRENT)
    with database.store.engines.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models.Base.metadata) == []


MARKER = str(uuid.UUID(int=3001))
HOT = {
    "a page of a project": {"filters": {"project_id": "project-7", "deleted": False}, "limit": 100},
    "a page of all": {"filters": {"deleted": False}, "limit": 100},
    "a later page of all": {"filters": {"deleted": False}, "limit": 100, "marker": MARKER},
    "a host's": {"filters": {"host": "host-42", "deleted": False}},
    "what has changed": {"filters": {"changes-since": datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)}},
    "what is healed": {"filters": {}, "sort_key": "deleted", "sort_dir": "asc", "limit": 100},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A database with so many instances that the planner of a server uses indexes."""
    database = synced(tmp_path_factory.mktemp("filled"))
    fill(database, 6000)
    yield database
    database.dispose()


def whole_tables_read(engine, cursor, statement, parameters):
    """Return the steps of a statement's plan that read the instances from end to end, or sort what they read."""
    kind = engine.dialect.name
    cursor.execute(f"{'EXPLAIN QUERY PLAN' if kind == 'sqlite' else 'EXPLAIN'} {statement}", parameters)
    steps = cursor.fetchall()
    if kind == "mysql":
        return [step for step in steps if step[2] == "instances" and step[3] == "ALL"]
    if kind == "postgresql":
        return [step for (step,) in steps if "Seq Scan on instances" in step]
    scans = [step[3] for step in steps if step[3].startswith("SCAN") and "INDEX" not in step[3]]
    sorts = [step[3] for step in steps if "TEMP B-TREE FOR ORDER BY" in step[3] and "UNION ALL" not in statement]
    return [step for step in scans if "changed" not in step and "subquery" not in step.lower()] + sorts


@pytest.mark.parametrize("what", HOT)
def test_lists_of_many_instances_read_no_table_from_end_to_end(filled, what):
    admin = RequestContext("admin", "admin", is_admin=True)
    engine, explained, found = filled.store.engines.reader, [], []
    if what == "what is healed" and engine.dialect.name == "mysql":
        pytest.skip("MariaDB would rather sort a table of this size; of 100,000 instances it reads the index")

    def explain(connection, cursor, statement, parameters, context, many):
        if statement.startswith("SELECT instances."):
            explained.append(statement)
            found.extend(whole_tables_read(engine, cursor, statement, parameters))

    sqlalchemy.event.listen(engine, "before_cursor_execute", explain)
    try:
        filled.instance_get_all_by_filters(admin, **HOT[what])
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", explain)

    assert explained
    assert found == []
