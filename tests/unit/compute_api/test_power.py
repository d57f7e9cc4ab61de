"""Orders to instances: what they need, what they set, what they send."""

import pytest

from nova_lite import exception
from nova_lite.objects import task_states, vm_states

SIMPLE = [
    # operation, vm_state it starts in, task_state it sets, action, order
    ("start", vm_states.STOPPED, "powering-on", "start", "start_instance"),
    ("stop", vm_states.ACTIVE, "powering-off", "stop", "stop_instance"),
    ("pause", vm_states.ACTIVE, "pausing", "pause", "pause_instance"),
    ("unpause", vm_states.PAUSED, "unpausing", "unpause", "unpause_instance"),
    ("suspend", vm_states.RESCUED, "suspending", "suspend", "suspend_instance"),
    ("resume", vm_states.SUSPENDED, "resuming", "resume", "resume_instance"),
    ("unrescue", vm_states.RESCUED, "unrescuing", "unrescue", "unrescue_instance"),
]
IDS = [row[0] for row in SIMPLE]


@pytest.mark.parametrize(("operation", "vm_state", "task_state", "action", "order"), SIMPLE, ids=IDS)
def test_the_host_gets_the_order_and_the_instance_says_so(cell, operation, vm_state, task_state, action, order):
    host = cell.add_host("h1")
    instance = cell.instance(vm_state=vm_state)

    getattr(cell.api, operation)(cell.context(), instance)

    heard, arguments = host.heard()
    assert (heard, arguments["instance"]["uuid"]) == (order, instance.uuid)
    assert arguments["instance"]["task_state"] == task_state
    assert cell.stored(instance).task_state == task_state
    assert cell.actions_of(instance) == [action]


@pytest.mark.parametrize(("operation", "vm_state"), [row[:2] for row in SIMPLE], ids=IDS)
def test_a_busy_instance_is_left_alone(cell, operation, vm_state):
    host = cell.add_host("h1")
    instance = cell.instance(vm_state=vm_state, task_state=task_states.SPAWNING)

    with pytest.raises(exception.InstanceInvalidState, match="task_state spawning"):
        getattr(cell.api, operation)(cell.context(), instance)

    assert host.has_heard_nothing()
    assert cell.actions_of(instance) == []


@pytest.mark.parametrize("operation", IDS)
def test_an_instance_in_the_wrong_state_is_left_alone(cell, operation):
    instance = cell.instance(vm_state=vm_states.BUILDING)

    with pytest.raises(exception.InstanceInvalidState) as caught:
        getattr(cell.api, operation)(cell.context(), instance)

    assert caught.value.kwargs["attr"] == "vm_state"
    assert caught.value.kwargs["method"] == operation


@pytest.mark.parametrize("operation", [*IDS, "delete", "reset_network"])
def test_a_locked_instance_obeys_administrators_only(cell, operation):
    cell.add_host("h1")
    instance = cell.instance(vm_state=vm_states.BUILDING, locked=True)

    with pytest.raises(exception.InstanceIsLocked):
        getattr(cell.api, operation)(cell.context(), instance)


def test_the_policy_is_asked_before_the_lock(cell):
    instance = cell.instance(locked=True)

    with pytest.raises(exception.PolicyNotAuthorized, match="compute:pause"):
        cell.api.pause(cell.context("bob", "blue"), instance)


def test_an_instance_without_host_is_not_ready(cell):
    instance = cell.instance(vm_state=vm_states.STOPPED, host=None)

    with pytest.raises(exception.InstanceNotReady):
        cell.api.start(cell.context(), instance)


def test_a_dict_is_enough_to_name_an_instance(cell):
    host = cell.add_host("h1")
    instance = cell.instance()

    cell.api.pause(cell.context(), {"uuid": instance.uuid})

    assert host.heard()[0] == "pause_instance"


def test_somebody_who_was_faster_wins(cell):
    host = cell.add_host("h1")
    instance = cell.instance()
    seen_before = cell.stored(instance)
    cell.api.suspend(cell.context(), instance)
    assert host.heard()[0] == "suspend_instance"

    with pytest.raises(exception.UnexpectedTaskStateError):
        cell.api.pause(cell.context(), seen_before)

    assert cell.stored(instance).task_state == task_states.SUSPENDING
    assert host.has_heard_nothing()


def test_an_instance_stays_idle_when_the_order_cannot_be_sent(cell):
    cell.add_host("h1", serves=False)
    instance = cell.instance()

    with pytest.raises(exception.RpcUnavailable):
        cell.api.pause(cell.context(), instance)

    assert cell.stored(instance).task_state is None


def test_a_stop_may_be_hard_and_waited_for(cell):
    host = cell.add_host("h1")
    instance = cell.instance()

    cell.api.stop(cell.context(), instance, do_cast=False, clean_shutdown=False)

    assert host.heard() == ("stop_instance", {"instance": host_form(cell, instance), "clean_shutdown": False})


def host_form(cell, instance):
    from nova_lite.compute.rpcapi import primitive

    return primitive(instance)


def test_force_stop_asks_for_no_vm_state(cell):
    host = cell.add_host("h1")
    instance = cell.instance(vm_state=vm_states.STOPPED)

    cell.api.force_stop(cell.context(), instance)

    assert host.heard()[0] == "stop_instance"


@pytest.mark.parametrize(("kind", "task_state"), [
    ("SOFT", None), ("SOFT", "pausing"), ("HARD", "rebooting"), ("HARD", "reboot_started"), ("HARD", "resuming"),
    ("HARD", "powering-off"), ("HARD", None)])
def test_a_hard_reboot_takes_over_from_what_does_not_end(cell, kind, task_state):
    host = cell.add_host("h1")
    instance = cell.instance(task_state=task_state)
    if kind == "SOFT" and task_state:
        with pytest.raises(exception.InstanceInvalidState):
            cell.api.reboot(cell.context(), instance, kind)
        return

    cell.api.reboot(cell.context(), instance, kind)

    order, arguments = host.heard()
    assert (order, arguments["reboot_type"]) == ("reboot_instance", kind)
    assert cell.stored(instance).task_state == ("rebooting_hard" if kind == "HARD" else "rebooting")


@pytest.mark.parametrize(("kind", "task_state"), [
    ("SOFT", "rebooting"), ("SOFT", "rebooting_hard"), ("HARD", "rebooting_hard"), ("HARD", "deleting")])
def test_a_reboot_of_a_reboot_is_refused(cell, kind, task_state):
    instance = cell.instance(task_state=task_state)

    with pytest.raises(exception.InstanceInvalidState) as caught:
        cell.api.reboot(cell.context(), instance, kind)

    assert caught.value.kwargs["method"] == "reboot"


def test_a_reboot_is_soft_or_hard(cell):
    with pytest.raises(exception.Invalid, match="SOFT or HARD"):
        cell.api.reboot(cell.context(), cell.instance(), "GENTLE")


def test_keywords_of_newer_neighbours_are_dropped_when_they_say_nothing(cell):
    host = cell.add_host("h1")
    instance = cell.instance()

    cell.api.pause(cell.context(), instance, tag=None)

    assert host.heard()[0] == "pause_instance"
    with pytest.raises(exception.Invalid, match="does not support tag"):
        cell.api.unpause(cell.context(), instance, tag="x")


def test_lock_and_unlock(cell):
    instance = cell.instance()

    cell.api.lock(cell.context(), instance)
    assert (cell.stored(instance).locked, cell.stored(instance).locked_by) == (True, "owner")
    assert cell.api.get_lock(cell.context(), instance) is True

    cell.api.unlock(cell.context(), instance)
    assert (cell.stored(instance).locked, cell.stored(instance).locked_by) == (False, None)


def test_what_an_administrator_locked_its_owner_does_not_unlock(cell):
    instance = cell.instance()
    cell.api.lock(cell.admin(), instance)

    with pytest.raises(exception.PolicyNotAuthorized):
        cell.api.unlock(cell.context(), instance)

    assert cell.stored(instance).locked_by == "admin"


def test_resetting_the_state_makes_an_instance_idle(cell):
    instance = cell.instance(vm_state=vm_states.ERROR, task_state=task_states.REBUILDING)

    cell.api.update_state(cell.admin(), instance, vm_states.ACTIVE)

    assert (cell.stored(instance).vm_state, cell.stored(instance).task_state) == ("active", None)


def test_update_changes_what_it_is_told(cell):
    instance = cell.instance()

    returned = cell.api.update(cell.context(), instance, display_name="other", access_ip_v4="10.0.0.9")

    assert returned.display_name == "other"
    assert str(cell.stored(instance).access_ip_v4) == "10.0.0.9"


def test_metadata_is_changed_here_and_on_the_host(cell):
    host = cell.add_host("h1")
    instance = cell.instance(metadata={"a": "1", "b": "2"})

    returned = cell.api.update_instance_metadata(cell.context(), instance, {"b": "3", "c": "4"})

    assert returned == cell.stored(instance).metadata == {"a": "1", "b": "3", "c": "4"}
    assert host.heard()[1]["diff"] == {"b": ["+", "3"], "c": ["+", "4"]}

    cell.api.delete_instance_metadata(cell.context(), instance, "a")
    assert cell.stored(instance).metadata == {"b": "3", "c": "4"}
    assert host.heard()[1]["diff"] == {"a": ["-"]}


def test_instances_are_found_by_project_name_and_flavor(cell):
    own = cell.instance(display_name="web-1")
    cell.instance(cell.context("bob", "blue"), display_name="web-2")
    cell.instance(display_name="db", flavor="m1.large")

    def names(ctxt, **options):
        return sorted(found.display_name for found in cell.api.get_all(ctxt, search_opts=options))

    assert names(cell.context(), name="^web") == ["web-1"]
    assert names(cell.admin(), name="^web") == ["web-1", "web-2"]
    assert names(cell.context(), flavor="4") == ["db"]
    assert names(cell.context(), flavor="no-such") == []
    assert cell.api.get(cell.context(), own.uuid).display_name == "web-1"
    with pytest.raises(exception.NotFound):
        cell.api.get(cell.context(), "not-an-id")


def test_another_projects_instance_is_not_shown(cell):
    instance = cell.instance()

    with pytest.raises((exception.PolicyNotAuthorized, exception.InstanceNotFound)):
        cell.api.get(cell.context("bob", "blue"), instance.uuid)


class Notifier:
    def __init__(self):
        self.sent = []

    def prepare(self, publisher_id):
        return self

    def error(self, ctxt, event_type, payload):
        self.sent.append((event_type, payload["url"], payload["status"]))


@pytest.mark.parametrize(("wanted", "error", "told"), [
    (True, RuntimeError("no"), [("api.fault", "pause", 500)]),
    (True, exception.InstanceNotReady(instance_id="x"), []),
    (False, RuntimeError("no"), []),
])
def test_failures_that_are_nobodys_mistake_are_announced_where_that_is_wanted(cell, wanted, error, told):
    notifier = Notifier()
    cell.conf.set_override("notify_api_faults", wanted)
    ctxt = cell.context().bind(cell.services.with_(notifier=notifier))

    def fail(*args):
        raise error

    cell.api._power.simple = fail
    with pytest.raises(type(error)):
        cell.api.pause(ctxt, cell.instance())

    assert notifier.sent == told
