import datetime

import pytest

from nova_lite import concurrency, context, exception, notifications
from nova_lite import conf as configuration


class Recorder:
    """A notifier that keeps what it is told."""

    def __init__(self):
        self.sent = []

    def prepare(self, publisher_id):
        self.publisher = publisher_id
        return self

    def _keep(self, priority):
        return lambda ctxt, event, payload: self.sent.append((self.publisher, event, priority, payload, ctxt))

    def __getattr__(self, priority):
        return self._keep(priority)


@pytest.fixture
def recorder():
    return Recorder()


def bound(recorder, **overrides):
    conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                              overrides={(None, name): value for name, value in overrides.items()})
    services = context.Services(conf=conf, host="h1", clock=concurrency.Clock(), notifier=recorder)
    return context.RequestContext("u", "p", auth_token="secret").bind(services)


def instance(**changes):
    return {"uuid": "u1", "project_id": "p", "user_id": "u", "root_gb": 5, "ephemeral_gb": 2, "memory_mb": 512,
            "vm_state": "active", "task_state": None, "image_ref": "i1", "system_metadata": {
                "image_os": "linux", "instance_type_name": "m1.tiny"}, "metadata": [{"key": "a", "value": "b"}],
            "created_at": datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.UTC), **changes}


def test_secrets_are_removed_wherever_they_are():
    payload = {"admin_password": "x", "args": [{"new_pass": "x", "ok": 1}], "injected_files": [], "user_data": "x",
               "token": "x", "auth_token": "x", "deep": {"adminPass": "kept", "admin_pass": "x"}}

    assert notifications.redact(payload) == {"args": [{"ok": 1}], "deep": {"adminPass": "kept"}}


def test_a_payload_becomes_plain_data():
    when = datetime.datetime(2026, 11, 21, 8, 0)

    assert notifications.redact({"when": when, "error": ValueError("bad"), "set": {1}}) == {
        "when": "2026-11-21 08:00:00", "error": "bad", "set": [1]}


def test_a_notification_carries_publisher_priority_and_no_token(recorder):
    notifications.send(bound(recorder), "compute.h1", "event", {"a": 1}, priority="ERROR")

    publisher, event, priority, payload, ctxt = recorder.sent[0]
    assert (publisher, event, priority, payload) == ("compute.h1", "event", "error", {"a": 1})
    assert ctxt["auth_token"] is None


def test_an_unknown_priority_is_an_error(recorder):
    with pytest.raises(exception.BadPriorityException):
        notifications.send(bound(recorder), "p", "event", {}, priority="SHOUT")


def test_a_broken_notifier_fails_nothing():
    class Broken:
        def prepare(self, publisher_id):
            raise OSError("no broker")

    notifications.send(bound(Broken()), "p", "event", {})


def test_the_payload_describes_the_instance(recorder):
    payload = notifications.info_from_instance(bound(recorder), instance(), None, None, extra="x")

    assert payload["disk_gb"] == 7
    assert payload["instance_type"] == "m1.tiny"
    assert payload["image_meta"] == {"os": "linux"}
    assert payload["metadata"] == {"a": "b"}
    assert payload["created_at"] == "2026-11-21 08:00:00"
    assert payload["deleted_at"] == ""
    assert payload["image_ref_url"].endswith(":9292/images/i1")
    assert payload["extra"] == "x"
    assert "fixed_ips" not in payload


@pytest.mark.parametrize("options, old, new, told", [
    ({}, {}, {"vm_state": "error"}, False),
    ({"notify_on_state_change": "vm_state"}, {}, {"vm_state": "error"}, True),
    ({"notify_on_state_change": "vm_state"}, {}, {"task_state": "pausing"}, False),
    ({"notify_on_state_change": "vm_and_task_state"}, {}, {"task_state": "pausing"}, True),
    ({"notify_on_state_change": "vm_state"}, {}, {"display_name": "x"}, False),
    ({"notify_on_any_change": True}, {}, {"display_name": "x"}, True),
])
def test_state_changes_are_told_where_options_ask(recorder, options, old, new, told):
    ctxt = bound(recorder, **options)

    notifications.send_update(ctxt, instance(**old), instance(**new), service="compute", host="h9")

    assert bool(recorder.sent) is told
    if told:
        publisher, event, _, payload, _ = recorder.sent[0]
        assert (publisher, event) == ("compute.h9", "compute.instance.update")
        assert {"old_state", "state", "old_task_state", "new_task_state", "audit_period_beginning",
                "bandwidth"} <= payload.keys()


@pytest.mark.parametrize("unit, before, begin, end", [
    ("hour", (2026, 3, 5, 8, 30), (2026, 3, 5, 7), (2026, 3, 5, 8)),
    ("hour@30", (2026, 3, 5, 8, 30), (2026, 3, 5, 6, 30), (2026, 3, 5, 7, 30)),
    ("day", (2026, 3, 5, 8, 30), (2026, 3, 4), (2026, 3, 5)),
    ("day@18", (2026, 3, 5, 8, 30), (2026, 3, 3, 18), (2026, 3, 4, 18)),
    ("month", (2026, 3, 5), (2026, 2, 1), (2026, 3, 1)),
    ("month", (2026, 1, 1), (2025, 11, 1), (2025, 12, 1)),
    ("month@15", (2026, 3, 5), (2026, 1, 15), (2026, 2, 15)),
    ("year", (2026, 3, 5), (2025, 1, 1), (2026, 1, 1)),
    ("month@31", (2026, 3, 31), (2026, 1, 31), (2026, 2, 28)),
    ("month@29", (2024, 2, 29, 1), (2024, 1, 29), (2024, 2, 29)),
    ("month", (2026, 12, 31, 23, 59), (2026, 11, 1), (2026, 12, 1)),
    ("day@18", (2026, 3, 5, 18), (2026, 3, 3, 18), (2026, 3, 4, 18)),
    ("hour@30", (2026, 1, 1, 0, 10), (2025, 12, 31, 22, 30), (2025, 12, 31, 23, 30)),
    ("year@3", (2026, 3, 1), (2024, 3, 1), (2025, 3, 1)),
    ("year@3", (2026, 2, 1), (2024, 3, 1), (2025, 3, 1)),
    ("year@12", (2026, 12, 1, 0, 1), (2025, 12, 1), (2026, 12, 1)),
])
def test_the_last_audit_period_is_the_one_that_was_over(unit, before, begin, end):
    found = notifications.last_completed_audit_period(unit, datetime.datetime(*before))

    assert found == (datetime.datetime(*begin), datetime.datetime(*end))


@pytest.mark.parametrize("unit", ["week", "hour@60", "day@x", "", "month@0"])
def test_other_audit_periods_are_refused(unit):
    with pytest.raises(ValueError, match="audit period"):
        notifications.last_completed_audit_period(unit, datetime.datetime(2026, 1, 1))
