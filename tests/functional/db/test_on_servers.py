"""Simultaneous use of a server, and what only servers can do wrong."""

import oslo_db.exception
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from nova_lite.db import models, revision
from nova_lite.db.api import Database
from tests.unit.db.test_concurrency import (
    at_once,
    test_no_address_is_given_twice,
    test_no_change_is_lost_and_every_one_has_its_revision,
    test_no_quota_is_passed,
    test_of_many_who_expect_one_state_one_wins,
    test_readers_do_not_wait_for_a_writer,
)
from tests.unit.db.test_migrations import upgraded_from_the_first_release

__all__ = [
    "test_no_address_is_given_twice",
    "test_no_change_is_lost_and_every_one_has_its_revision",
    "test_no_quota_is_passed",
    "test_of_many_who_expect_one_state_one_wins",
    "test_readers_do_not_wait_for_a_writer",
]


def test_the_migrations_make_what_the_models_say(db):
    with db.store.engines.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, models.Base.metadata)

    assert differences == []
    assert db.schema_is_current()


def test_crossing_transactions_all_come_through(db, ctxt, make_instance):
    rows = [make_instance() for _ in range(2)]

    def cross(n):
        first, second = (rows[n % 2]["uuid"], rows[1 - n % 2]["uuid"])
        for _attempt in range(30):
            try:
                with db.writer(ctxt):
                    db.instance_update(ctxt, first, {"progress": n})
                    db.instance_update(ctxt, second, {"progress": n})
                return True
            except oslo_db.exception.DBDeadlock:
                continue
        return False

    results = at_once(6, cross)

    assert results == [True] * 6
    assert [db.instance_get_by_uuid(ctxt, row["uuid"])["revision"] for row in rows] == [7, 7]


def test_text_of_any_language_and_size_is_kept(db, ctxt, make_instance):
    row = make_instance(display_name="机器 🐧", user_data="x" * 200_000)

    seen = db.instance_get_by_uuid(ctxt, row["uuid"])

    assert (seen["display_name"], len(seen["user_data"])) == ("机器 🐧", 200_000)


def test_a_transaction_sees_what_others_have_committed_meanwhile(db, ctxt, make_instance):
    row = make_instance(progress=1)

    with db.reader(ctxt):
        before = db.instance_get_by_uuid(ctxt, row["uuid"])["progress"]
        at_once(1, lambda _: db.instance_update(ctxt, row["uuid"], {"progress": 2}))
        after = db.instance_get_by_uuid(ctxt, row["uuid"])["progress"]

    assert (before, after) == (1, 2)


def test_values_that_do_not_fit_are_refused_not_cut(db, ctxt, make_instance):
    row = make_instance(display_name="short")

    with pytest.raises(oslo_db.exception.DBDataError):
        db.instance_update(ctxt, row["uuid"], {"display_name": "x" * 256})

    assert db.instance_get_by_uuid(ctxt, row["uuid"])["display_name"] == "short"


# What lists the other connections to the database, and what ends one of them.
OTHERS = {
    "mysql": ("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
              "KILL {}"),
    "postgresql": ("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
                   "SELECT pg_terminate_backend({})"),
}


def test_connections_that_the_server_has_closed_are_replaced(db, ctxt, make_instance):
    row = make_instance()
    operator = sqlalchemy.create_engine(db.store.engines.url)
    others, end = OTHERS[operator.name]
    with operator.connect() as connection:
        for (number,) in connection.execute(sqlalchemy.text(others)).all():
            connection.execute(sqlalchemy.text(end.format(number)))
    operator.dispose()

    assert db.instance_update(ctxt, row["uuid"], {"progress": 5})["progress"] == 5


def test_an_operation_on_a_server_that_is_gone_tells_so(tmp_path, services):
    url = services.db.store.engines.url.set(port=1)
    services.conf.set_override("connection", url.render_as_string(hide_password=False), group="database")
    gone = Database(services.conf, services.clock)

    with pytest.raises(oslo_db.exception.DBConnectionError):
        gone.ping()


def test_a_database_of_the_first_release_comes_to_the_newest_schema_with_its_rows(server_urls, services):
    services.conf.set_override("connection", server_urls["rack1"], group="database")
    old = Database(services.conf, services.clock)
    metadata = sqlalchemy.MetaData()
    metadata.reflect(old.store.engines.writer)
    metadata.drop_all(old.store.engines.writer)

    found = upgraded_from_the_first_release(old)
    old.dispose()

    assert found == ("u1", revision.CURRENT)
