"""Starting, stopping, pausing, suspending and rebooting."""

import pytest

from nova_lite import exception
from nova_lite.objects import power_state, task_states, vm_states

# method, task state set by the API, vm_state before, guest before, vm_state after, guest after, notifications
ACTIONS = [
    ("stop_instance", task_states.POWERING_OFF, vm_states.ACTIVE, power_state.RUNNING,
     vm_states.STOPPED, power_state.SHUTDOWN, ["power_off.start", "power_off.end"]),
    ("start_instance", task_states.POWERING_ON, vm_states.STOPPED, power_state.SHUTDOWN,
     vm_states.ACTIVE, power_state.RUNNING, ["power_on.start", "power_on.end"]),
    ("pause_instance", task_states.PAUSING, vm_states.ACTIVE, power_state.RUNNING,
     vm_states.PAUSED, power_state.PAUSED, ["pause.start", "pause.end"]),
    ("unpause_instance", task_states.UNPAUSING, vm_states.PAUSED, power_state.PAUSED,
     vm_states.ACTIVE, power_state.RUNNING, ["unpause.start", "unpause.end"]),
    ("suspend_instance", task_states.SUSPENDING, vm_states.ACTIVE, power_state.RUNNING,
     vm_states.SUSPENDED, power_state.SUSPENDED, ["suspend.start", "suspend", "suspend.end"]),
    ("resume_instance", task_states.RESUMING, vm_states.SUSPENDED, power_state.SUSPENDED,
     vm_states.ACTIVE, power_state.RUNNING, ["resume.start", "resume", "resume.end"]),
    ("soft_delete_instance", task_states.SOFT_DELETING, vm_states.ACTIVE, power_state.RUNNING,
     vm_states.SOFT_DELETED, power_state.SHUTDOWN, ["soft_delete.start", "soft_delete.end"]),
    ("restore_instance", task_states.RESTORING, vm_states.SOFT_DELETED, power_state.SHUTDOWN,
     vm_states.ACTIVE, power_state.RUNNING, ["restore.start", "restore.end"]),
    ("unrescue_instance", task_states.UNRESCUING, vm_states.RESCUED, power_state.RUNNING,
     vm_states.ACTIVE, power_state.RUNNING, ["unrescue.start", "unrescue.end"]),
]
DRIVER_METHODS = {
    "stop_instance": "power_off", "start_instance": "power_on", "pause_instance": "pause",
    "unpause_instance": "unpause", "suspend_instance": "suspend", "resume_instance": "resume",
    "soft_delete_instance": "soft_delete", "restore_instance": "restore", "unrescue_instance": "unrescue",
}


def in_state(world, vm_state, guest_state, task_state):
    instance = world.boot()
    world.guest(instance).state = guest_state
    return world.busy(instance, task_state, vm_state=vm_state)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_C35_an_action_changes_guest_row_and_tells(world, action):
    method, task, before, guest_before, after, guest_after, told = action
    instance = in_state(world, before, guest_before, task)

    getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())

    instance = world.reload(instance)
    assert world.guest(instance).state == guest_after
    assert (instance.vm_state, instance.task_state, instance.power_state) == (after, None, guest_after)
    assert world.notifier.events() == told
    assert world.events(instance)[f"compute_{method}"] == "Success"


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_an_action_that_was_done_already_is_a_success_without_effect(world, action):
    method, _, _, _, after, guest_after, _ = action
    instance = in_state(world, after, guest_after, None)

    with world.failing(DRIVER_METHODS[method], AssertionError("the driver must not be asked again")):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())

    assert world.notifier.events() == []


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_C6_an_action_gives_way_to_a_delete_that_was_asked_meanwhile(world, action):
    method, _, before, guest_before, _, _, _ = action
    instance = in_state(world, before, guest_before, task_states.DELETING)

    with (world.failing(DRIVER_METHODS[method], AssertionError("the driver must not be asked")),
          pytest.raises(exception.UnexpectedTaskStateError)):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())

    assert world.reload(instance).task_state == task_states.DELETING


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_a_failed_action_leaves_a_fault_and_no_task(world, action):
    method, task, before, guest_before, _, _, _ = action
    instance = in_state(world, before, guest_before, task)

    with world.failing(DRIVER_METHODS[method], RuntimeError("the host is tired")), pytest.raises(RuntimeError):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())

    instance = world.reload(instance)
    assert instance.task_state is None
    assert [fault["message"] for fault in world.faults(instance)] == ["RuntimeError"]
    assert world.events(instance)[f"compute_{method}"] == "Error"
    name = ACTIONS_NOTIFIED[method]
    assert f"{name}.error" in world.notifier.events()
    assert f"{name}.end" not in world.notifier.events()


ACTIONS_NOTIFIED = {action[0]: action[6][0].partition(".")[0] for action in ACTIONS}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_an_action_on_an_instance_that_is_gone_is_a_success(world, action):
    instance = in_state(world, action[2], action[3], action[1])
    world.db.instance_destroy(world.context, instance.uuid)

    getattr(world.compute, action[0])(world.context, instance=instance.to_legacy_dict())

    assert world.notifier.events() == []


def test_a_failed_action_does_not_wipe_the_task_of_a_newer_one(world):
    instance = in_state(world, vm_states.ACTIVE, power_state.RUNNING, task_states.PAUSING)

    with (world.failing("pause", RuntimeError(), before=lambda: world.busy(instance, task_states.DELETING)),
          pytest.raises(RuntimeError)):
        world.compute.pause_instance(world.context, instance=instance.to_legacy_dict())

    assert world.reload(instance).task_state == task_states.DELETING


@pytest.mark.parametrize(("method", "task", "before", "driver_method"), [
    ("suspend_instance", task_states.SUSPENDING, vm_states.ACTIVE, "suspend"),
    ("resume_instance", task_states.RESUMING, vm_states.SUSPENDED, "resume"),
])
def test_a_suspend_or_resume_that_fails_is_an_error_unless_it_was_rolled_back(world, method, task, before,
                                                                              driver_method):
    instance = in_state(world, before, power_state.RUNNING, task)
    with world.failing(driver_method, RuntimeError()), pytest.raises(RuntimeError):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())
    assert world.reload(instance).vm_state == vm_states.ERROR

    instance = world.busy(instance, task, vm_state=before)
    rolled_back = exception.InstanceFaultRollback(ValueError("inner"))
    with world.failing(driver_method, rolled_back), pytest.raises(ValueError, match="inner"):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())
    assert (world.reload(instance).vm_state, world.reload(instance).task_state) == (before, None)
    assert world.faults(instance)[0]["message"] == "ValueError"

    instance = world.busy(instance, task, vm_state=before)
    with world.failing(driver_method, NotImplementedError()), pytest.raises(NotImplementedError):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict())
    assert (world.reload(instance).vm_state, world.reload(instance).task_state) == (before, None)


@pytest.mark.parametrize(("system_metadata", "clean", "patience"), [
    ({}, True, (60, 10)),
    ({"image_os_shutdown_timeout": "5"}, True, (5, 10)),
    ({}, False, (0, 0)),
])
def test_a_guest_gets_time_to_shut_down(world, system_metadata, clean, patience):
    instance = world.busy(world.boot(system_metadata=system_metadata), task_states.POWERING_OFF)
    asked = []
    world.compute.driver.power_off = lambda instance, *how: asked.append(how)

    world.compute.stop_instance(world.context, instance=instance, clean_shutdown=clean)

    assert asked == [patience]


def test_power_off_and_power_on_are_old_names_of_soft_delete_and_restore(world):
    instance = world.busy(world.boot(), task_states.SOFT_DELETING)
    world.compute.power_off_instance(world.context, instance=instance)
    assert world.reload(instance).vm_state == vm_states.SOFT_DELETED
    world.busy(instance, task_states.RESTORING)
    world.compute.power_on_instance(world.context, instance=instance)
    assert world.reload(instance).vm_state == vm_states.ACTIVE


# --- Reboot ---

@pytest.mark.parametrize(("reboot_type", "asked", "steps"), [
    ("SOFT", task_states.REBOOTING, [task_states.REBOOT_STARTED]),
    ("HARD", task_states.REBOOTING_HARD, [task_states.REBOOT_STARTED_HARD]),
])
def test_a_reboot_ends_active_and_shows_that_it_had_begun(world, reboot_type, asked, steps):
    instance = world.busy(world.boot(), asked)
    seen = []
    reboot = world.compute.driver.reboot

    def watched(context, guest, network_info, how, **kwargs):
        seen.append((world.reload(instance).task_state, how))
        reboot(context, guest, network_info, how, **kwargs)

    world.compute.driver.reboot = watched

    world.compute.reboot_instance(world.context, instance=instance.to_legacy_dict(), reboot_type=reboot_type)

    assert seen == [(steps[0], reboot_type)]
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    assert world.notifier.events() == ["reboot.start", "reboot.end"]


def test_a_reboot_of_an_unknown_kind_is_refused_with_one_line(world):
    instance = world.busy(world.boot(), task_states.REBOOTING)
    with pytest.raises(exception.Invalid, match="SOFT or HARD"):
        world.compute.reboot_instance(world.context, instance=instance, reboot_type="GENTLE")
    assert world.reload(instance).task_state is None


def test_a_failed_reboot_of_a_guest_that_still_runs_is_only_a_fault(world):
    instance = world.busy(world.boot(), task_states.REBOOTING)
    with world.failing("reboot", RuntimeError("no")):
        world.compute.reboot_instance(world.context, instance=instance.to_legacy_dict())
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    assert [fault["message"] for fault in world.faults(instance)] == ["RuntimeError"]


def test_C16_a_failed_reboot_that_leaves_the_guest_down_is_an_error(world):
    instance = world.busy(world.boot(), task_states.REBOOTING)

    def halt():
        world.guest(instance).state = power_state.SHUTDOWN

    with world.failing("reboot", RuntimeError("no"), before=halt), pytest.raises(RuntimeError):
        world.compute.reboot_instance(world.context, instance=instance.to_legacy_dict())

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ERROR, None)
    assert instance.power_state == power_state.SHUTDOWN
    assert len(world.faults(instance)) == 1
    assert world.notifier.events() == ["reboot.start", "reboot.error"]


@pytest.mark.parametrize(("method", "driver_method", "arguments"), [
    ("reboot_instance", "reboot", {}),
    ("rebuild_instance", "spawn", {"orig_image_ref": None, "image_ref": None, "injected_files": [], "new_pass": ""}),
    ("rescue_instance", "rescue", {}),
    ("snapshot_instance", "snapshot", {"image_id": "x"}),
    ("finish_resize", "finish_migration", {"disk_info": None, "image": None, "migration": None}),
])
def test_C2_a_message_that_comes_late_or_again_finds_nothing_to_do(world, method, driver_method, arguments):
    instance = world.boot()
    with world.failing(driver_method, AssertionError("the driver must not be asked")):
        getattr(world.compute, method)(world.context, instance=instance.to_legacy_dict(), **arguments)
    assert world.faults(instance) == []
    assert world.notifier.sent == []


def test_an_instance_deleted_while_it_reboots_stays_with_its_delete(world):
    instance = world.busy(world.boot(), task_states.REBOOTING)
    reboot = world.compute.driver.reboot

    def deleted_meanwhile(*args, **kwargs):
        reboot(*args, **kwargs)
        world.busy(instance, task_states.DELETING)

    world.compute.driver.reboot = deleted_meanwhile
    with pytest.raises(exception.UnexpectedTaskStateError):
        world.compute.reboot_instance(world.context, instance=instance.to_legacy_dict())
    assert world.reload(instance).task_state == task_states.DELETING
