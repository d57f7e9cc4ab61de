"""What becomes of rows that were soft-deleted."""

import datetime

import pytest
import sqlalchemy

from nova_lite import exception
from nova_lite.db.models import archive


def archived(db, table):
    """The rows of a table that were put away."""
    with db.reader(None) as session:
        return session.all(sqlalchemy.select(archive.SHADOWS[table]))


@pytest.fixture
def old_fresh_and_live(db, ctxt, make_instance, clock):
    """Three instances: deleted three days ago, deleted now, alive."""
    old, fresh, live = (make_instance(metadata={"a": "b"}, security_groups=["default"]) for _ in range(3))
    db.action_event_start(ctxt, {"instance_uuid": old["uuid"], "request_id": "r", "event": "e"})
    db.instance_fault_create(ctxt, {"instance_uuid": old["uuid"], "code": 500, "message": "m"})
    db.instance_destroy(ctxt, old["uuid"])
    clock.advance(3 * 86400)
    db.instance_destroy(ctxt, fresh["uuid"])
    return old["uuid"], fresh["uuid"], live["uuid"]


def test_archiving_puts_an_instance_away_with_all_that_belongs_to_it(db, ctxt, clock, old_fresh_and_live):
    old, fresh, live = old_fresh_and_live

    moved = db.archive_deleted_rows(ctxt, before=clock.naive() - datetime.timedelta(days=2))

    assert moved["instances"] == moved["instance_actions_events"] == moved["instance_faults"] == 1
    assert [row["uuid"] for row in archived(db, "instances")] == [old]
    assert [(row["instance_uuid"], row["value"]) for row in archived(db, "instance_metadata")] == [(old, "b")]
    seen = ctxt.elevated(read_deleted="yes")
    with pytest.raises(exception.InstanceNotFound):
        db.instance_get_by_uuid(seen, old)
    assert db.instance_get_by_uuid(seen, fresh)["deleted"]
    assert db.instance_get_by_uuid(ctxt, live)["metadata"] == {"a": "b"}
    assert db.tombstone_get(ctxt, old) is not None


def test_archiving_again_and_again_ends_with_nothing_left(db, ctxt, old_fresh_and_live):
    first = db.archive_deleted_rows(ctxt, max_rows=1)
    second = db.archive_deleted_rows(ctxt, max_rows=1)

    assert (first["instances"], second["instances"]) == (1, 1)
    assert db.archive_deleted_rows(ctxt, max_rows=1) == {}
    assert len(archived(db, "instances")) == 2


def test_rows_that_are_not_kept_are_in_no_shadow_table(db, ctxt, old_fresh_and_live):
    moved = db.archive_deleted_rows(ctxt, keep=False)

    assert moved["instances"] == 2
    assert archived(db, "instances") == []


def test_purging_removes_what_was_archived_before_a_time(db, ctxt, clock, old_fresh_and_live):
    old, fresh, live = old_fresh_and_live
    db.archive_deleted_rows(ctxt)

    removed = db.purge_archived_rows(ctxt, before=clock.naive() - datetime.timedelta(days=2))

    assert removed["shadow_instances"] == removed["shadow_instance_actions"] == 1
    assert [row["uuid"] for row in archived(db, "instances")] == [fresh]
    assert db.purge_archived_rows(ctxt)["shadow_instances"] == 1
    assert db.instance_get_by_uuid(ctxt, live)["uuid"] == live


def test_deletions_are_forgotten_after_their_time(db, ctxt, old_fresh_and_live):
    old, fresh, _ = old_fresh_and_live

    assert db.tombstone_purge(ctxt) == 1
    assert db.tombstone_get(ctxt, old) is None
    assert db.tombstone_get(ctxt, fresh) is not None


def test_every_archived_table_has_its_columns_in_the_shadow():
    for name, shadow in archive.SHADOWS.items():
        table = archive.Base.metadata.tables[name]
        assert {column.name for column in table.columns} == {column.name for column in shadow.columns}
