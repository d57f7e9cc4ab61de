"""What every instance action does beside its own work, each part alone and all together."""

import threading

import pytest

from nova_lite import exception
from nova_lite.compute import manager
from nova_lite.compute.instance_locks import Hold, InstanceLocks
from nova_lite.concurrency import spawn
from nova_lite.objects import task_states, vm_states


class Holder:
    """An object as a manager is to the decorators."""

    def __init__(self, world):
        self.host = "here"
        self.services = world.services
        self.conductor_api = world.compute.conductor_api

    @manager.reverts_task_state
    def reverting(self, context, extra, instance):
        raise extra

    @manager.wrap_instance_event
    def recorded(self, context, instance, result=None):
        if isinstance(result, Exception):
            raise result
        return result

    @manager.wrap_instance_fault
    def faulted(self, context, error, instance):
        raise error


@pytest.fixture
def holder(world):
    return Holder(world)


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_failed_method_clears_its_task_however_the_instance_is_given(world, holder, positional, legacy):
    instance = world.busy(world.boot(), task_states.PAUSING)
    given = instance.to_legacy_dict() if legacy else instance
    with pytest.raises(ValueError):
        if positional:
            holder.reverting(world.context, ValueError(), given)
        else:
            holder.reverting(world.context, ValueError(), instance=given)
    assert world.reload(instance).task_state is None


def test_a_method_that_was_pre_empted_leaves_the_task_alone(world, holder):
    instance = world.busy(world.boot(), task_states.PAUSING)
    with pytest.raises(exception.UnexpectedTaskStateError):
        holder.reverting(world.context, exception.UnexpectedTaskStateError(expected="a", actual="b"), instance)
    assert world.reload(instance).task_state == task_states.PAUSING


def test_C5_the_task_of_a_newer_action_is_not_wiped(world, holder):
    instance = world.busy(world.boot(), task_states.PAUSING)
    world.busy(instance, task_states.DELETING)
    with pytest.raises(ValueError):
        holder.reverting(world.context, ValueError(), instance)
    assert world.reload(instance).task_state == task_states.DELETING


def test_the_first_error_survives_an_instance_that_is_gone(world, holder):
    instance = world.boot()
    world.db.instance_destroy(world.context, instance.uuid)
    with pytest.raises(ValueError):
        holder.reverting(world.context, ValueError(), instance)


def test_an_event_is_named_after_the_method_and_its_result_is_dropped(world, holder):
    instance = world.boot()
    assert holder.recorded(world.context, instance, "answer") is None
    assert world.events(instance)["compute_recorded"] == "Success"
    with pytest.raises(ValueError):
        holder.recorded(world.context, instance, ValueError("no"))


def test_C33_an_event_without_an_action_is_no_reason_to_fail(world, holder):
    instance = world.boot()
    other_request = world.context.elevated()
    other_request.request_id = "req-unknown"
    holder.recorded(other_request, instance)


def test_a_fault_has_code_text_and_traceback(world, holder):
    instance = world.boot()
    with pytest.raises(ValueError):
        holder.faulted(world.context, ValueError("too many"), instance)
    (fault,) = world.faults(instance)
    assert (fault["code"], fault["message"], fault["host"]) == (500, "ValueError", "here")
    assert fault["details"].startswith("too many\nTraceback")


def test_an_instance_that_is_gone_has_no_fault(world, holder):
    instance = world.boot()
    with pytest.raises(exception.InstanceNotFound):
        holder.faulted(world.context, exception.InstanceNotFound(instance_id="x"), instance)
    assert world.faults(instance) == []


def test_a_failure_is_announced_without_secrets(world):
    instance = world.busy(world.boot(), task_states.REBUILDING)
    with world.failing("spawn", RuntimeError("no disk")), pytest.raises(RuntimeError):
        world.compute.rebuild_instance(world.context, instance=instance, orig_image_ref=None,
                                       image_ref=world.image["id"], injected_files=[["/etc/key", "c2VjcmV0"]],
                                       new_pass="hunter2")
    publisher, priority, event, payload = world.notifier.sent[-1]
    assert (publisher, priority, event) == ("compute.here", "ERROR", "rebuild_instance")
    assert payload["args"]["image_ref"] == world.image["id"]
    assert "no disk" in payload["exception"]
    assert "hunter2" not in str(payload)
    assert "c2VjcmV0" not in str(payload)


def test_the_publisher_names_the_host():
    assert manager.publisher_id("rack1") == "compute.rack1"
    assert manager.publisher_id().startswith("compute.")


# --- Locks ---

def test_C3_two_actions_on_one_instance_follow_each_other(world):
    instance = world.busy(world.boot(), task_states.PAUSING)
    started, go_on, order = threading.Event(), threading.Event(), []

    def slow_pause(guest):
        started.set()
        assert go_on.wait(5)
        order.append("pause")

    world.compute.driver.pause = slow_pause
    world.compute.driver.unpause = lambda guest: order.append("unpause")
    first = spawn(world.compute.pause_instance, world.context, instance=instance)
    assert started.wait(5)
    world.busy(instance, task_states.UNPAUSING)
    second = spawn(world.compute.unpause_instance, world.context, instance=instance)
    go_on.set()
    with pytest.raises(exception.UnexpectedTaskStateError):
        first.wait(5)
    second.wait(5)
    assert order == ["pause", "unpause"]
    assert world.reload(instance).vm_state == vm_states.ACTIVE


@pytest.mark.parametrize(("held", "wanted", "free"), [
    (Hold.ORDINARY, Hold.ORDINARY, False),
    (Hold.ORDINARY, Hold.DELETE, False),
    (Hold.PREEMPTIBLE, Hold.ORDINARY, False),
    (Hold.PREEMPTIBLE, Hold.DELETE, True),
    (Hold.DELETE, Hold.ORDINARY, False),
])
def test_C3_only_a_delete_overtakes_and_only_what_may_be_overtaken(held, wanted, free):
    locks, entered = InstanceLocks(), threading.Event()

    def take():
        with locks.hold("one", wanted):
            entered.set()

    with locks.hold("one", held):
        task = spawn(take)
        assert entered.wait(5 if free else 0.05) is free
    task.wait(5)
    assert entered.is_set()


def test_instances_do_not_wait_for_each_other():
    locks, entered = InstanceLocks(), threading.Event()

    def take():
        with locks.hold("two"):
            entered.set()

    with locks.hold("one"):
        spawn(take).wait(5)
    assert entered.is_set()
