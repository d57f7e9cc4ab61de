"""Deleting instances."""

import pytest

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states


def terminate(world, instance, **arguments):
    world.compute.terminate_instance(world.context, instance=instance.to_legacy_dict(), **arguments)


def test_a_deleted_instance_leaves_neither_guest_nor_row(world):
    instance = world.busy(world.boot(), task_states.DELETING)

    terminate(world, instance)

    assert world.guest(instance) is None
    with pytest.raises(exception.InstanceNotFound):
        world.reload(instance)
    row = world.db.instance_get_by_uuid(world.context.elevated(read_deleted="yes"), instance.uuid)
    assert (row["vm_state"], row["task_state"]) == (vm_states.DELETED, None)
    assert row["terminated_at"] is not None
    assert world.notifier.events() == ["delete.start", "shutdown.start", "shutdown.end", "delete.end"]


def test_its_room_is_free_again(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    terminate(world, instance)
    world.compute.update_available_resource(world.context)
    node = world.db.compute_node_get_by_host_and_nodename(world.context, "here", "here-node")
    assert node["memory_mb_used"] == world.conf.reserved_host_memory_mb


def test_the_last_notification_still_knows_the_image(world):
    instance = world.busy(world.boot(system_metadata={"image_os_distro": "hurd"}), task_states.DELETING)
    terminate(world, instance)
    assert world.notifier.payload("delete.end")["image_meta"] == {"os_distro": "hurd"}


def test_C2_a_delete_that_comes_again_is_a_success(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    terminate(world, instance)
    world.notifier.sent.clear()

    terminate(world, instance)

    assert world.notifier.events() == []


def test_an_instance_that_moved_meanwhile_is_deleted_where_it_is(world):
    there = world.add_host("there")
    instance = world.boot()
    there.driver.spawn(world.context, instance, {}, [], None)
    instance = world.busy(instance, task_states.DELETING, host="there", node="there-node")
    forwarded = []
    world.compute.compute_rpcapi.terminate_instance = lambda context, instance, *rest: forwarded.append(instance)

    terminate(world, instance)
    assert world.reload(instance).task_state == task_states.DELETING
    there.terminate_instance(world.context, instance=forwarded[0])

    assert world.guest(instance, there) is None
    with pytest.raises(exception.InstanceNotFound):
        world.reload(instance)


def test_a_guest_that_cannot_be_ended_leaves_an_error_that_can_be_deleted_again(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    with world.failing("destroy", exception.InstanceTerminationFailure(reason="stuck")):
        terminate(world, instance)
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ERROR, task_states.DELETING)

    terminate(world, instance)

    with pytest.raises(exception.InstanceNotFound):
        world.reload(instance)


def test_C14_a_network_that_cannot_be_released_leaves_an_error_that_can_be_deleted_again(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    network_api = world.services.network_api

    def fail(context, instance):
        raise RuntimeError("the network is down")

    network_api.deallocate_for_instance = fail
    with pytest.raises(RuntimeError):
        terminate(world, instance)
    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ERROR, task_states.DELETING)
    assert len(world.faults(instance)) == 1

    del network_api.deallocate_for_instance
    terminate(world, instance)

    with pytest.raises(exception.InstanceNotFound):
        world.reload(instance)


def test_a_guest_that_may_still_run_keeps_its_addresses(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    released = []
    world.services.network_api.deallocate_for_instance = lambda context, instance: released.append(instance.uuid)
    with (world.failing("destroy", exception.InstancePowerOffFailure(reason="stuck")),
          pytest.raises(exception.InstancePowerOffFailure)):
        terminate(world, instance)
    assert released == []


def test_any_other_failure_of_the_guest_releases_its_addresses(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    released = []
    world.services.network_api.deallocate_for_instance = lambda context, instance: released.append(instance.uuid)
    with world.failing("destroy", RuntimeError()), pytest.raises(RuntimeError):
        terminate(world, instance)
    assert released == [instance.uuid]


def test_block_device_rows_go_with_the_instance(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    objects.BlockDeviceMapping(world.context, instance_uuid=instance.uuid, source_type="blank",
                               destination_type="local", guest_format="swap", device_name="/dev/xvdc",
                               volume_size=512, boot_index=-1).create()
    terminate(world, instance)
    assert world.db.block_device_mapping_get_all_by_instance(world.context, instance.uuid) == []


def test_console_tokens_are_revoked(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    revoked = []
    world.services.cells_notifier.delete_console_tokens = lambda context, uuid: revoked.append(uuid)
    terminate(world, instance)
    assert revoked == [instance.uuid]


def softly_deleted(world):
    instance = world.busy(world.boot(), task_states.SOFT_DELETING)
    world.db.instance_update(world.context, instance.uuid, {"deleted_at": world.clock.utcnow().replace(tzinfo=None)})
    world.compute.soft_delete_instance(world.context, instance=instance)
    return instance


def test_a_softly_deleted_instance_is_reclaimed_when_its_time_is_over(make_world):
    world = make_world(reclaim_instance_interval=60)
    instance = softly_deleted(world)
    world.compute._reclaim_queued_deletes(world.context)
    assert world.guest(instance).state == power_state.SHUTDOWN

    world.clock.advance(61)
    world.compute._reclaim_queued_deletes(world.context)

    assert world.guest(instance) is None


def test_an_instance_that_is_being_restored_is_not_reclaimed(make_world):
    world = make_world(reclaim_instance_interval=60)
    instance = softly_deleted(world)
    world.clock.advance(61)
    world.busy(instance, task_states.RESTORING)

    world.compute._reclaim_queued_deletes(world.context)

    assert world.guest(instance) is not None


def test_one_instance_that_cannot_be_reclaimed_does_not_stop_the_others(make_world):
    world = make_world(reclaim_instance_interval=60)
    instances = [softly_deleted(world) for _ in range(2)]
    world.clock.advance(61)
    destroy = world.compute.driver.destroy

    def destroy_all_but_one(instance, *args):
        if instance.uuid == instances[0].uuid:
            raise RuntimeError("stuck")
        destroy(instance, *args)

    world.compute.driver.destroy = destroy_all_but_one
    world.compute._reclaim_queued_deletes(world.context)

    assert world.guest(instances[0]) is not None
    assert world.guest(instances[1]) is None
