"""Canaries: secrets go where they have to, and into no log, fault, event, notification, reply or row that is read."""

import base64
import json
import logging

import pytest
import sqlalchemy

from nova_lite.db import models
from nova_lite.objects import task_states, vm_states
from tests.unit.compute.world import World

PASSWORD, NEW_PASSWORD, RESCUE = "canary-Passw0rd", "canary-NewPassw0rd", "canary-Rescue"
FILE, USER_DATA, CHAP, TOKEN = "canary-file-text", "canary-user-data", "canary-chap", "canary-auth-token"
ENCODED = [base64.b64encode(text.encode()).decode() for text in (FILE, USER_DATA)]
CANARIES = ["canary-", *ENCODED]
# Where a secret is at home: what the guest was given, and what connects its volumes.
HOMES = {("instances", "user_data"), ("block_device_mapping", "connection_info")}


class Collector(logging.Handler):
    """Keeps every line, as it would be written at level debug."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def logs():
    root, ours = logging.getLogger(), logging.getLogger("nova_lite")
    collector, levels = Collector(), (root.level, ours.level)
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    yield collector.lines
    root.removeHandler(collector)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, notify_on_state_change="vm_and_task_state")
    made.context.auth_token = TOKEN
    connection = {"driver_volume_type": "iscsi", "data": {"auth_password": CHAP, "auth_username": "u",
                                                          "target_lun": 1}}
    made.shelf.initialize_connection = lambda context, volume, connector: connection
    yield made
    made.close()


def leaks(texts):
    return sorted({text[:300] for text in texts for canary in CANARIES if canary in text})


def rows(world):
    """Every text of the database, with its place, but those where secrets are at home."""
    with world.db.reader(None) as session:
        for table in models.Base.metadata.sorted_tables:
            for row in session.all(sqlalchemy.select(table)):
                for column, value in row.items():
                    if isinstance(value, str) and (table.name, column) not in HOMES:
                        yield f"{table.name}.{column}: {value}"


def attempt(action, *args, **kwargs):
    """What a caller would see: the answer, or the error's text."""
    try:
        return str(action(*args, **kwargs))
    except Exception as error:
        return repr(error) + str(error)


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
    assert leaks(rows(world)) == []
