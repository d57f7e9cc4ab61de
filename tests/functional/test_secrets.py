"""Canaries: secrets go where they have to, and into no log, fault, event, notification, reply or row that is read."""

import contextlib
import json

import pytest
import sqlalchemy

from nova_lite.objects import task_states, vm_states
from tests.fixtures.canaries import (
    CHAP,
    ENCODED,
    FILE,
    NEW_PASSWORD,
    PASSWORD,
    RESCUE,
    TOKEN,
    attempt,
    collected_logs,
    leaks,
    rows,
)
from tests.fixtures.one_cell import OneCell
from tests.unit.compute.world import World


@pytest.fixture
def logs():
    with collected_logs() as lines:
        yield lines


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, notify_on_state_change="vm_and_task_state")
    made.context.auth_token = TOKEN
    connection = {"driver_volume_type": "iscsi", "data": {"auth_password": CHAP, "auth_username": "u",
                                                          "target_lun": 1}}
    made.shelf.initialize_connection = lambda context, volume, connector: connection
    yield made
    made.close()


def story(world):
    """Everything that takes a secret, once well and once with a driver that quotes what it was given."""
    compute, ctxt, seen = world.compute, world.context, []
    files = [["/etc/motd", ENCODED[0]]]

    def build():
        instance = world.create(user_data=ENCODED[1])
        seen.append(attempt(compute.run_instance, ctxt, instance=instance, injected_files=files,
                            admin_password=PASSWORD, request_spec={"instance_properties": {"user_data": ENCODED[1]}},
                            filter_properties={}, is_first_time=True))
        return world.reload(instance)

    def each(instance):
        volume = world.shelf.add("attaching")
        for method, task, arguments in (
            ("set_admin_password", task_states.UPDATING_PASSWORD, {"new_pass": NEW_PASSWORD}),
            ("inject_file", None, {"path": "/etc/motd", "file_contents": FILE}),
            ("attach_volume", None, {"volume_id": volume, "mountpoint": "/dev/xvdc"}),
            ("rescue_instance", task_states.RESCUING, {"rescue_password": RESCUE}),
            ("unrescue_instance", task_states.UNRESCUING, {}),
            ("rebuild_instance", task_states.REBUILDING, {
                "orig_image_ref": world.image["id"], "image_ref": world.image["id"], "injected_files": files,
                "new_pass": NEW_PASSWORD}),
            ("terminate_instance", task_states.DELETING, {}),
        ):
            waiting = world.busy(instance, task, vm_state=vm_states.ACTIVE)
            seen.append(attempt(getattr(compute, method), ctxt, instance=waiting, **arguments))

    each(build())
    for method in ("set_admin_password", "inject_file", "attach_volume", "rescue", "spawn"):
        _make_quoting(world, method)
    ruined = build()
    each(ruined)
    return seen


def _make_quoting(world, method):
    """The driver fails; what it says of it is the driver's own, and no driver of ours quotes its arguments."""
    def fail(*args, **kwargs):
        raise RuntimeError(f"{method} failed")

    setattr(world.compute.driver, method, fail)


def test_C37_no_secret_is_told_to_anybody_who_need_not_know_it(world, logs):
    answers = story(world)

    assert logs, "nothing was logged"
    assert leaks(logs) == []
    assert leaks(answers) == []
    assert leaks(json.dumps(sent, default=str) for sent in world.notifier.sent) == []
    assert leaks(rows(world.db)) == []


# --- What a database quotes ---

REFUSALS = {
    "sqlite": "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    "mysql": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'",
    "postgresql": "FOR EACH ROW EXECUTE FUNCTION refuse()",
}
REFUSING = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused'; END$$"


@contextlib.contextmanager
def refusing_writes_of(world, *tables):
    """Have the database refuse rows of tables, with an error of its own that names what was to be written."""
    kind = world.db.store.engines.url.get_backend_name()
    triggers = {f"refuse_{verb}_{table}": (verb, table) for table in tables for verb in ("INSERT", "UPDATE")}
    with world.db.writer(None) as session:
        if kind == "postgresql":
            session.execute(sqlalchemy.text(REFUSING))
        for name, (verb, table) in triggers.items():
            session.execute(sqlalchemy.text(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {REFUSALS[kind]}"))
    yield
    with world.db.writer(None) as session:
        for name, (_, table) in triggers.items():
            session.execute(sqlalchemy.text(f"DROP TRIGGER {name}{f' ON {table}' if kind == 'postgresql' else ''}"))


def test_what_the_database_refuses_is_not_quoted(world, logs):
    volume = world.shelf.add("attaching")
    instance = world.boot()
    name = world.compute.reserve_block_device_name(world.context, instance, None, volume)

    with refusing_writes_of(world, "block_device_mapping", "instances"):
        answers = [
            attempt(world.compute.attach_volume, world.context, volume_id=volume, mountpoint=name, instance=instance),
            attempt(world.create, user_data=ENCODED[1]),
            attempt(world.compute.rebuild_instance, world.context, instance=world.reload(instance),
                    orig_image_ref=None, image_ref=None, injected_files=[["/etc/motd", ENCODED[0]]],
                    new_pass=PASSWORD)]

    assert any("refused" in answer for answer in answers)
    assert leaks(answers) == []
    assert leaks(logs) == []
    assert leaks(rows(world.db)) == []
    assert leaks(json.dumps(sent, default=str) for sent in world.notifier.sent) == []


# --- What the user-level API says ---

@pytest.fixture
def cell(tmp_path):
    made = OneCell(tmp_path, quota_injected_file_path_bytes=20, notify_api_faults=True)
    yield made
    made.close()


@pytest.mark.parametrize("serves", [True, False], ids=["a host that listens", "nobody who listens"])
def test_the_api_tells_no_secret_whether_or_not_its_orders_are_taken(cell, logs, serves):
    cell.add_host("h1", serves=serves)
    if serves:
        cell.listen_to_the_scheduler()
    ctxt, image = cell.context(is_admin=True, auth_token=TOKEN), cell.image()
    api, files = cell.api, [["/etc/motd", ENCODED[0]]]

    answers = [attempt(api.create, ctxt, cell.flavor(), image, user_data=ENCODED[1], injected_files=given,
                       admin_password=PASSWORD)
               for given in (files, [["/etc/" + "x" * 30, ENCODED[0]]], [["/etc/motd", FILE]], [[FILE]])]
    for method, arguments in (
            ("set_admin_password", (NEW_PASSWORD,)), ("inject_file", ("/etc/motd", FILE)),
            ("rescue", (RESCUE,)), ("rebuild", (image, PASSWORD, files)), ("evacuate", ("h2", False, PASSWORD)),
            ("set_admin_password", (NEW_PASSWORD * 1000,)), ("inject_file", (FILE * 1000, FILE))):
        answers.append(attempt(getattr(api, method), ctxt, cell.instance(ctxt), *arguments))

    assert leaks(answers) == []
    assert leaks(logs) == []
    assert leaks(rows(cell.db)) == []
