"""Several at once: nobody's change is lost, and nobody gets what another has."""

import sqlite3
import threading

import oslo_db.exception
import pytest

from nova_lite import exception
from nova_lite.db.api import Database
from tests.fixtures import databases


def at_once(count, work):
    """Run ``work(n)`` in threads that start together; return what they returned, or the exceptions."""
    start = threading.Barrier(count)
    results = [None] * count

    def run(n):
        start.wait(10)
        try:
            results[n] = work(n)
        except Exception as exc:
            results[n] = exc

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_of_many_who_expect_one_state_one_wins(db, ctxt, make_instance):
    row = make_instance(task_state=None)

    results = at_once(8, lambda n: db.instance_update(ctxt, row["uuid"], {"task_state": f"task{n}"},
                                                      expected_task_state=[None]))

    won = [result for result in results if isinstance(result, dict)]
    assert len(won) == 1
    assert all(isinstance(result, exception.UnexpectedTaskStateError) for result in results if result not in won)
    assert db.instance_get_by_uuid(ctxt, row["uuid"])["task_state"] == won[0]["task_state"]


def test_no_change_is_lost_and_every_one_has_its_revision(db, ctxt, make_instance):
    row = make_instance()

    results = at_once(8, lambda n: db.instance_update(ctxt, row["uuid"], {"progress": n})["revision"])

    assert sorted(results) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_no_address_is_given_twice(db, ctxt):
    network = db.network_create(ctxt, {"label": "net", "cidr": "10.0.0.0/28"})

    results = at_once(16, lambda n: db.fixed_ip_allocate(ctxt, network["id"], f"instance{n}")["address"])

    given = [result for result in results if isinstance(result, str)]
    assert len(given) == len(set(given)) == 13
    assert all(isinstance(result, exception.NoMoreFixedIps) for result in results if result not in given)


def test_no_quota_is_passed(db, ctxt, clock):
    results = at_once(8, lambda n: db.quota_reserve(ctxt, {"instances": 3}, {"instances": 1}, clock.naive()))

    assert len([result for result in results if isinstance(result, list)]) == 3
    assert db.quota_usage_get_all_by_project(ctxt, "project")["instances"]["reserved"] == 3


def test_two_services_of_one_process_share_a_file(db, ctxt, services, make_instance):
    row = make_instance()
    other = Database(services.conf, services.clock)

    at_once(6, lambda n: (db if n % 2 else other).instance_update(ctxt, row["uuid"], {"progress": n}))

    assert other.instance_get_by_uuid(ctxt, row["uuid"])["revision"] == 7
    other.dispose()


def test_readers_do_not_wait_for_a_writer(db, ctxt, make_instance):
    row = make_instance(vm_state="active")

    with db.writer(ctxt):
        db.instance_update(ctxt, row["uuid"], {"vm_state": "error"})
        [seen] = at_once(1, lambda n: db.instance_get_by_uuid(ctxt, row["uuid"])["vm_state"])

    assert seen == "active"


def test_the_parents_are_asked_for_once_a_minute(child, ctxt):
    db = child.db
    assert db.has_parents(ctxt) is True
    other = Database(child.conf, child.clock)
    other.cell_delete(ctxt, "api")

    before = db.has_parents(ctxt)
    child.clock.advance(61)

    assert (before, db.has_parents(ctxt)) == (True, False)
    other.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_in_one_line(services, url):
    services.conf.set_override("connection", url, group="database")

    with pytest.raises(exception.ConfigurationError, match="SQLite needs a file"):
        Database(services.conf)


@pytest.mark.parametrize("url", ["mysql://nova:secret@localhost/api", "sybase://nova:secret@localhost/api"])
def test_a_database_without_driver_is_refused_in_one_line(services, url):
    services.conf.set_override("connection", url, group="database")

    with pytest.raises(exception.ConfigurationError, match="no driver for") as caught:
        Database(services.conf).ping()

    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(databases.KIND != "sqlite", reason="the servers have many writers at once")
def test_a_writer_of_another_process_is_waited_for_and_then_given_up(db, ctxt, services, make_instance):
    row = make_instance()
    db.dispose()
    services.conf.set_override("sqlite_busy_timeout", 1, group="database")
    other = sqlite3.connect(db.store.engines.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(oslo_db.exception.DBDeadlock), db.writer(ctxt):
        pass
    other.execute("ROLLBACK")
    other.close()

    assert db.instance_update(ctxt, row["uuid"], {"progress": 1})["progress"] == 1
