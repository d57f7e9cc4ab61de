"""Neighbours, whose passwords are no one's business."""

import os
import stat

import pytest
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.api import Database
from nova_lite.db.secrets import mask_url

URL = "rabbit://user:hunter2@host:5672/vhost"


def stored(db):
    with db.reader(None) as session:
        return session.one(sqlalchemy.select(models.Cell.__table__))


def test_a_neighbour_comes_back_as_it_was_given(db, ctxt):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": False, "weight_offset": 2.5})

    cell = db.cell_get(ctxt, "west")

    assert cell["transport_url"] == URL
    assert (cell["weight_offset"], cell["enabled"], cell["draining"]) == (2.5, True, False)
    assert db.cell_get_all(ctxt) == [cell]


def test_passwords_are_not_readable_in_the_table_nor_in_what_is_printed(db, ctxt, services):
    cell = db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": True, "shared_key": "s3cret"})

    row = stored(db)
    assert "hunter2" not in row["transport_url"]
    assert "s3cret" not in row["shared_key"]
    assert "hunter2" not in repr(cell)
    assert "s3cret" not in repr(cell)
    mode = os.stat(services.conf.database.secret_key_file).st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_another_process_reads_them_with_the_same_key_file(db, ctxt, services):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": True})

    other = Database(services.conf, services.clock)

    assert other.cell_get(ctxt, "west")["transport_url"] == URL
    other.dispose()


def test_neighbours_that_a_wrong_key_does_not_open_are_told_in_one_line(db, ctxt, services, tmp_path):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": True})
    services.conf.set_override("secret_key_file", str(tmp_path / "another.key"), group="database")
    other = Database(services.conf, services.clock)

    with pytest.raises(exception.ConfigurationError, match=r"another\.key"):
        other.cell_get_all(ctxt)
    other.dispose()


def test_a_wrong_key_is_told_in_one_line(db, ctxt, services, tmp_path):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": True})
    services.conf.set_override("secret_key_file", str(tmp_path / "other.key"), group="database")
    other = Database(services.conf, services.clock)

    with pytest.raises(exception.ConfigurationError, match=r"other\.key"):
        other.cell_get(ctxt, "west")
    other.dispose()


def test_a_url_stored_in_the_clear_is_read(db, ctxt):
    with db.writer(ctxt) as session:
        session.insert_row(models.Cell, {"name": "old", "transport_url": URL, "is_parent": True})

    assert db.cell_get(ctxt, "old")["transport_url"] == URL


def test_changes_and_deletion(db, ctxt):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": False})

    changed = db.cell_update(ctxt, "west", {"transport_url": "rabbit://other/", "draining": True})

    assert (changed["transport_url"], changed["draining"]) == ("rabbit://other/", True)
    assert db.cell_delete(ctxt, "west") == 1
    assert db.cell_delete(ctxt, "west") == 0
    assert db.cell_get_all(ctxt) == []
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": False})


def test_names_are_found_or_not(db, ctxt):
    db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": False})

    with pytest.raises(exception.CellExists):
        db.cell_create(ctxt, {"name": "west", "transport_url": URL, "is_parent": False})
    with pytest.raises(exception.CellNotFound):
        db.cell_get(ctxt, "east")
    with pytest.raises(exception.CellNotFound):
        db.cell_update(ctxt, "east", {"draining": True})


@pytest.mark.parametrize("url, masked", [
    (URL, "rabbit://user:***@host:5672/vhost"),
    ("rabbit://a:b@h1:1,c:d@h2:2/v", "rabbit://a:***@h1:1,c:***@h2:2/v"),
    ("memory://host/v", "memory://host/v"), (None, None)])
def test_urls_are_masked(url, masked):
    assert mask_url(url) == masked
