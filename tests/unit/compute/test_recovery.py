"""What a starting service makes of what the last run left."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states

RUNNING, DOWN = power_state.RUNNING, power_state.SHUTDOWN


def restart(world):
    world.notifier.sent.clear()
    world.compute.init_host()


def left_behind(world, vm_state, task_state, guest_state=RUNNING, **values):
    instance = world.boot()
    world.guest(instance).state = guest_state
    return world.busy(instance, task_state, vm_state=vm_state, **values)


@pytest.mark.parametrize(("vm_state", "task_state", "guest_state", "found"), [
    (vm_states.BUILDING, task_states.SPAWNING, RUNNING, vm_states.ERROR),
    (vm_states.BUILDING, None, RUNNING, vm_states.ERROR),
    (vm_states.ACTIVE, task_states.NETWORKING, RUNNING, vm_states.ERROR),
    (vm_states.ACTIVE, task_states.REBUILDING, RUNNING, vm_states.ERROR),
    (vm_states.STOPPED, task_states.REBUILD_SPAWNING, DOWN, vm_states.ERROR),
    (vm_states.ACTIVE, task_states.IMAGE_SNAPSHOT, RUNNING, vm_states.ACTIVE),
    (vm_states.STOPPED, task_states.IMAGE_UPLOADING, DOWN, vm_states.STOPPED),
    (vm_states.ACTIVE, task_states.IMAGE_BACKUP, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.RESIZE_PREP, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.MIGRATING, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.PAUSING, RUNNING, vm_states.ACTIVE),
    (vm_states.PAUSED, task_states.UNPAUSING, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.REBOOT_STARTED, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.SUSPENDING, power_state.SUSPENDED, vm_states.SUSPENDED),
    (vm_states.ACTIVE, task_states.SUSPENDING, RUNNING, vm_states.ACTIVE),
    (vm_states.SUSPENDED, task_states.RESUMING, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.UPDATING_PASSWORD, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.RESIZE_FINISH, DOWN, vm_states.ERROR),
    (vm_states.ACTIVE, task_states.RESIZE_REVERTING, RUNNING, vm_states.ACTIVE),
    (vm_states.ACTIVE, task_states.RESCUING, DOWN, vm_states.ERROR),
    (vm_states.ACTIVE, task_states.SOFT_DELETING, DOWN, vm_states.SOFT_DELETED),
    (vm_states.ERROR, task_states.SPAWNING, RUNNING, vm_states.ERROR),
    (vm_states.SOFT_DELETED, None, DOWN, vm_states.SOFT_DELETED),
])
def test_C11_nothing_stays_busy_with_what_died(world, vm_state, task_state, guest_state, found):
    instance = left_behind(world, vm_state, task_state, guest_state)

    restart(world)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (found, None)


@pytest.mark.parametrize(("vm_state", "task_state", "guest_state", "found", "guest_found", "told"), [
    (vm_states.ACTIVE, task_states.POWERING_OFF, RUNNING, vm_states.STOPPED, DOWN, "power_off.end"),
    (vm_states.STOPPED, task_states.POWERING_ON, DOWN, vm_states.ACTIVE, RUNNING, "power_on.end"),
    (vm_states.ACTIVE, task_states.REBOOTING, RUNNING, vm_states.ACTIVE, RUNNING, "reboot.end"),
    (vm_states.ACTIVE, task_states.REBOOT_PENDING_HARD, DOWN, vm_states.ACTIVE, RUNNING, "reboot.end"),
    (vm_states.ACTIVE, task_states.REBOOT_STARTED, DOWN, vm_states.ACTIVE, RUNNING, "reboot.end"),
    (vm_states.PAUSED, task_states.UNPAUSING, power_state.PAUSED, vm_states.ACTIVE, RUNNING, "unpause.end"),
])
def test_what_can_be_done_again_is(world, vm_state, task_state, guest_state, found, guest_found, told):
    instance = left_behind(world, vm_state, task_state, guest_state)

    restart(world)

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (found, None)
    assert world.guest(instance).state == guest_found
    assert told in world.notifier.events()


@pytest.mark.parametrize("error", [None, RuntimeError("the disk is busy")])
def test_the_driver_clears_an_unfinished_snapshot_away_if_it_can(world, error):
    instance, asked = left_behind(world, vm_states.ACTIVE, task_states.IMAGE_UPLOADING), []

    def settle(found, task_state):
        asked.append((found.uuid, task_state))
        if error:
            raise error

    world.compute.driver.settle_interrupted = settle
    restart(world)

    instance = world.reload(instance)
    assert asked == [(instance.uuid, task_states.IMAGE_UPLOADING)]
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)


@pytest.mark.parametrize(("vm_state", "task_state", "guest_state", "method"), [
    (vm_states.ACTIVE, task_states.POWERING_OFF, RUNNING, "power_off"),
    (vm_states.STOPPED, task_states.POWERING_ON, DOWN, "power_on"),
])
def test_a_guest_that_cannot_be_stopped_or_started_again_is_as_it_was(world, vm_state, task_state, guest_state, method):
    instance = left_behind(world, vm_state, task_state, guest_state)

    with world.failing(method, RuntimeError("busy")):
        restart(world)

    now = world.reload(instance)
    assert (now.vm_state, now.task_state) == (vm_state, None)
    assert [fault["message"] for fault in world.faults(instance)] == ["RuntimeError"]


@pytest.mark.parametrize("vm_state", [vm_states.ACTIVE, vm_states.ERROR, vm_states.SOFT_DELETED, vm_states.BUILDING])
def test_a_delete_is_done_again(world, vm_state):
    instance = left_behind(world, vm_state, task_states.DELETING)
    restart(world)
    assert world.guest(instance) is None
    with pytest.raises(exception.InstanceNotFound):
        world.reload(instance)


@pytest.mark.parametrize(("vm_state", "guest_found"), [(vm_states.ACTIVE, RUNNING), (vm_states.STOPPED, DOWN)])
def test_a_migration_that_had_not_left_is_reverted_here(world, vm_state, guest_found):
    instance = left_behind(world, vm_state, task_states.RESIZE_MIGRATING, DOWN)
    restart(world)
    assert world.reload(instance).task_state is None
    assert world.guest(instance).state == guest_found


def test_one_instance_that_cannot_be_recovered_does_not_stop_the_start(world):
    broken = left_behind(world, vm_states.ACTIVE, None)
    other = left_behind(world, vm_states.ACTIVE, task_states.PAUSING)
    plug_vifs = world.compute.driver.plug_vifs

    def fail_for_broken(instance, network_info):
        if instance.uuid == broken.uuid:
            raise RuntimeError("no bridge")
        plug_vifs(instance, network_info)

    world.compute.driver.plug_vifs = fail_for_broken

    restart(world)

    assert world.reload(broken).vm_state == vm_states.ERROR
    assert world.faults(broken)[0]["message"] == "RuntimeError"
    assert world.reload(other).task_state is None


def test_a_guest_that_was_removed_by_hand_stops_no_start(world):
    instance, other = world.boot(), world.boot()
    del world.compute.driver.instances[instance.name]

    restart(world)

    assert world.reload(instance).task_state is None
    assert world.reload(other).vm_state == vm_states.ACTIVE
    assert world.faults(instance) == []


def test_interfaces_that_cannot_be_plugged_are_an_error(world):
    instance = left_behind(world, vm_states.ACTIVE, None)
    with world.failing("plug_vifs", exception.VirtualInterfacePlugException()):
        restart(world)
    assert world.reload(instance).vm_state == vm_states.ERROR


@pytest.mark.parametrize(("wanted", "guest_found"), [(True, RUNNING), (False, DOWN)])
def test_guests_come_up_with_the_host_if_wanted(make_world, wanted, guest_found):
    world = make_world(resume_guests_state_on_host_boot=wanted)
    instance = left_behind(world, vm_states.ACTIVE, None, DOWN)
    restart(world)
    assert world.guest(instance).state == guest_found


def evacuate_record(world, instance, status="done", migration_type="evacuation"):
    migration = objects.Migration(
        world.context, instance_uuid=instance.uuid, source_compute="here", source_node="here-node",
        dest_compute="there", migration_type=migration_type, status=status)
    migration.create()
    return migration


def test_C30_a_guest_that_was_evacuated_is_removed_once(world):
    instance = world.busy(world.boot(), None, host="there", node="there-node")
    migration = evacuate_record(world, instance)

    restart(world)

    assert world.guest(instance) is None
    assert objects.Migration.get_by_id(world.context, migration.id).status == "completed"


@pytest.mark.parametrize("record", [None, ("resize", "finished"), ("evacuation", "completed"),
                                    ("live-migration", "running")])
def test_a_guest_whose_row_is_elsewhere_is_healthy_unless_it_was_evacuated(world, record):
    instance = world.busy(world.boot(), None, host="renamed", node="renamed-node")
    if record:
        evacuate_record(world, instance, migration_type=record[0], status=record[1])
    restart(world)
    assert world.guest(instance).state == RUNNING


def test_an_instance_that_came_back_after_its_evacuation_is_kept(world):
    instance = world.boot()
    evacuate_record(world, instance)
    restart(world)
    assert world.guest(instance).state == RUNNING


@pytest.mark.parametrize(("host", "task_state", "found"), [
    ("there", None, "completed"), ("here", None, "error"), ("there", task_states.MIGRATING, "running")])
def test_the_record_of_a_live_migration_ends_as_the_migration_did(world, host, task_state, found):
    instance = world.busy(world.boot(), task_state, host=host)
    migration = objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="here",
                                  dest_compute="there", migration_type="live-migration", status="running")
    migration.create()

    restart(world)

    assert objects.Migration.get_by_id(world.context, migration.id).status == found


# --- Volumes ---

def test_an_attachment_that_broke_off_is_taken_back(world):
    instance, volume_id = world.boot(), world.shelf.add("attaching")
    world.compute.reserve_block_device_name(world.context, instance, None, volume_id)
    bdm, = objects.BlockDeviceMappingList.get_by_instance_uuid(world.context, instance.uuid)
    world.compute._block_devices.connect(world.context, instance, bdm)

    restart(world)

    assert world.shelf.volumes[volume_id]["status"] == "available"
    assert world.shelf.connections == set()
    assert not objects.BlockDeviceMappingList.get_by_instance_uuid(world.context, instance.uuid).objects


def test_an_attachment_whose_order_may_still_come_waits_for_it(world):
    instance, volume_id = world.boot(), world.shelf.add("attaching")
    name = world.compute.reserve_block_device_name(world.context, instance, None, volume_id)

    restart(world)
    world.compute.attach_volume(world.context, volume_id, name, instance)

    assert world.shelf.volumes[volume_id]["status"] == "in-use"


def test_a_detachment_that_broke_off_is_ended(world):
    instance, volume_id = world.boot(), world.shelf.add("attaching")
    world.compute.attach_volume(world.context, volume_id, "/dev/xvdc", instance)
    world.shelf.begin_detaching(world.context, volume_id)

    restart(world)

    assert world.shelf.volumes[volume_id]["status"] == "available"
    assert not objects.BlockDeviceMappingList.get_by_instance_uuid(world.context, instance.uuid).objects


def test_a_volume_that_nobody_knows_any_more_stops_no_start(world):
    instance, volume_id = world.boot(), world.shelf.add("attaching")
    world.compute.attach_volume(world.context, volume_id, "/dev/xvdc", instance)
    del world.shelf.volumes[volume_id]

    restart(world)

    assert world.reload(instance).vm_state == vm_states.ACTIVE
