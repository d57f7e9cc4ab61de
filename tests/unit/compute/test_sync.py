"""Power states of the hypervisor against ours."""

import pytest

from nova_lite.concurrency import spawn
from nova_lite.objects import power_state, task_states, vm_states
from nova_lite.virt import event as virtevent


def sync(world):
    world.compute._sync_power_states(world.context)


@pytest.mark.parametrize(("vm_state", "guest_state", "called"), [
    (vm_states.ACTIVE, power_state.SHUTDOWN, "stop"),
    (vm_states.ACTIVE, power_state.CRASHED, "stop"),
    (vm_states.ACTIVE, power_state.SUSPENDED, "stop"),
    (vm_states.ACTIVE, power_state.PAUSED, None),
    (vm_states.ACTIVE, power_state.RUNNING, None),
    (vm_states.STOPPED, power_state.RUNNING, "force_stop"),
    (vm_states.STOPPED, power_state.PAUSED, "force_stop"),
    (vm_states.STOPPED, power_state.SHUTDOWN, None),
    (vm_states.PAUSED, power_state.RUNNING, None),
    (vm_states.PAUSED, power_state.SHUTDOWN, "force_stop"),
    (vm_states.ERROR, power_state.SHUTDOWN, None),
    (vm_states.RESCUED, power_state.SHUTDOWN, None),
    (vm_states.SOFT_DELETED, power_state.RUNNING, None),
])
def test_C7_what_differs_is_acted_on_through_the_api(world, vm_state, guest_state, called):
    instance = world.busy(world.boot(), None, vm_state=vm_state)
    world.guest(instance).state = guest_state

    sync(world)

    assert world.compute_api.calls == ([(called, instance.uuid)] if called else [])
    assert world.reload(instance).power_state == guest_state


def test_an_active_instance_without_a_guest_is_only_told_about(world):
    instance = world.boot()
    world.compute.driver.instances.clear()
    sync(world)
    assert world.compute_api.calls == []
    assert world.reload(instance).power_state == power_state.NOSTATE


def test_an_instance_that_is_to_go_when_it_shuts_down_is_deleted(world):
    instance = world.boot(shutdown_terminate=True)
    world.guest(instance).state = power_state.SHUTDOWN
    sync(world)
    assert world.compute_api.calls == [("delete", instance.uuid)]


def test_an_instance_with_a_task_is_left_alone(world):
    instance = world.busy(world.boot(), task_states.POWERING_OFF)
    world.guest(instance).state = power_state.SHUTDOWN
    sync(world)
    assert world.compute_api.calls == []
    assert world.reload(instance).power_state == power_state.RUNNING


def test_C18_a_pass_asks_the_hypervisor_once_for_all_guests(world):
    for _ in range(5):
        world.boot()
    asked = []
    get_power_states = world.compute.driver.get_power_states
    world.compute.driver.get_power_states = lambda: asked.append("all") or get_power_states()
    world.compute.driver.get_info = lambda instance: asked.append("one")

    sync(world)

    assert asked == ["all"]


def test_one_instance_that_cannot_be_compared_does_not_stop_the_others(world):
    first, second = world.boot(), world.boot()
    for instance in (first, second):
        world.guest(instance).state = power_state.SHUTDOWN
    get_info = world.compute.driver.get_info

    def fail_for_first(instance):
        if instance["uuid"] == first.uuid:
            raise RuntimeError("no answer")
        return get_info(instance)

    world.compute.driver.get_info = fail_for_first

    sync(world)

    assert world.compute_api.calls == [("stop", second.uuid)]


def test_C7_a_bulk_answer_that_is_older_than_the_last_action_is_asked_again(world):
    instance = world.boot()
    world.compute.driver.get_power_states = lambda: {instance.uuid: power_state.SHUTDOWN}
    sync(world)
    assert world.compute_api.calls == []


def event(world, instance, transition):
    world.compute.driver.emit_event(virtevent.LifecycleEvent(instance.uuid, transition))


def test_an_event_of_a_guest_that_stopped_stops_the_instance(world):
    world.compute.init_virt_events()
    instance = world.boot()
    world.guest(instance).state = power_state.SHUTDOWN

    event(world, instance, virtevent.EVENT_LIFECYCLE_STOPPED)

    assert world.compute_api.calls == [("stop", instance.uuid)]


def test_a_late_event_is_dropped(world):
    world.compute.init_virt_events()
    instance = world.boot()
    event(world, instance, virtevent.EVENT_LIFECYCLE_STOPPED)
    assert world.compute_api.calls == []
    assert world.reload(instance).power_state == power_state.RUNNING


@pytest.mark.parametrize("task_state", [None, task_states.POWERING_OFF])
def test_an_event_never_waits_for_an_action_in_progress(world, task_state):
    world.compute.init_virt_events()
    instance = world.busy(world.boot(), task_state)
    world.guest(instance).state = power_state.SHUTDOWN

    with world.compute.compute_host.locks.hold(instance.uuid):
        spawn(event, world, instance, virtevent.EVENT_LIFECYCLE_STOPPED).wait(10)

    assert world.compute_api.calls == []
    assert world.reload(instance).power_state == power_state.RUNNING


def test_an_event_of_an_unknown_guest_is_ignored(world):
    world.compute.handle_events(virtevent.LifecycleEvent("00000000-0000-0000-0000-000000000000",
                                                         virtevent.EVENT_LIFECYCLE_STOPPED))
    world.compute.handle_events(virtevent.Event())
    assert world.compute_api.calls == []
