"""Volumes of guests: at boot, attached later, and taken off again."""

import json

import pytest

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states


@pytest.fixture
def shelf(world):
    return world.shelf


def with_mapping(world, **values):
    """Return a new, unbuilt instance with a block device."""
    instance = world.create()
    objects.BlockDeviceMapping(world.context, **{
        "instance_uuid": instance.uuid, "source_type": "volume", "destination_type": "volume", "boot_index": -1,
        "device_name": "/dev/xvdb", **values}).create()
    return instance


def build(world, instance, **arguments):
    world.compute.run_instance(world.context, instance=instance.to_legacy_dict(), **arguments)


def mappings(world, instance):
    return list(objects.BlockDeviceMappingList.get_by_instance_uuid(world.context, instance.uuid))


# --- At boot ---

def seen_by_driver(world):
    seen, spawn = [], world.compute.driver.spawn

    def watched(*args):
        seen.append(args[6])
        spawn(*args)

    world.compute.driver.spawn = watched
    return seen


def test_a_guest_boots_with_its_volume_attached(world, shelf):
    volume_id = shelf.add()
    instance, seen = with_mapping(world, volume_id=volume_id, delete_on_termination=True), seen_by_driver(world)

    build(world, instance)

    (entry,) = seen[0]["block_device_mapping"]
    assert entry["mount_device"] == "/dev/xvdb"
    assert entry["connection_info"]["serial"] == volume_id
    assert entry["delete_on_termination"] is True
    assert shelf.volumes[volume_id]["instance_uuid"] == instance.uuid
    assert json.loads(mappings(world, instance)[0].connection_info)["data"]["target_lun"] == 1


def test_swap_and_ephemeral_disks_are_described_to_the_driver(world):
    instance, seen = with_mapping(world, source_type="blank", destination_type="local", guest_format="swap",
                                  device_name="/dev/xvdc", volume_size=512), seen_by_driver(world)
    build(world, instance)
    assert seen[0]["swap"] == {"device_name": "/dev/xvdc", "swap_size": 512}
    assert seen[0]["block_device_mapping"] == []


def test_a_snapshot_becomes_a_volume_that_is_waited_for(world, shelf):
    shelf.looks_until_created = 4
    instance = with_mapping(world, source_type="snapshot", snapshot_id="5" * 8 + "-0000-0000-0000-" + "5" * 12,
                            volume_size=1)
    before = world.clock.monotonic()
    build(world, instance)
    assert world.reload(instance).vm_state == vm_states.ACTIVE
    assert world.clock.monotonic() > before
    assert mappings(world, instance)[0].volume_id in shelf.volumes


def test_a_volume_that_is_never_created_fails_the_build_in_bounded_time(world, shelf):
    shelf.looks_until_created = 10 ** 6
    instance = with_mapping(world, source_type="blank", volume_size=1)
    before = world.clock.monotonic()
    with pytest.raises(exception.InvalidVolume):
        build(world, instance)
    conf = world.conf
    limit_s = conf.block_device_allocate_retries * conf.block_device_allocate_retries_interval
    assert world.clock.monotonic() - before <= limit_s + conf.block_device_allocate_retries_interval


def test_C27_a_build_that_goes_elsewhere_keeps_its_volumes_and_only_detaches_them(world, shelf):
    volume_id = shelf.add()
    instance = with_mapping(world, volume_id=volume_id, delete_on_termination=True)
    world.compute._rescheduler._scheduler.run_instance = lambda context, **arguments: None

    with world.failing("spawn", RuntimeError()):
        build(world, instance, request_spec={"x": 1}, filter_properties={"retry": {"hosts": []}})

    assert shelf.volumes[volume_id]["status"] == "available"
    assert shelf.connections == set()
    assert len(mappings(world, instance)) == 1


def test_a_deleted_instance_takes_its_flagged_volumes_along_and_leaves_the_others(world, shelf):
    kept, flagged = shelf.add(), shelf.add()
    instance = with_mapping(world, volume_id=kept)
    objects.BlockDeviceMapping(world.context, instance_uuid=instance.uuid, source_type="volume", boot_index=-1,
                               destination_type="volume", device_name="/dev/xvdc", volume_id=flagged,
                               delete_on_termination=True).create()
    build(world, instance)
    world.busy(instance, task_states.DELETING)

    world.compute.terminate_instance(world.context, instance=instance)

    assert list(shelf.volumes) == [kept]
    assert shelf.volumes[kept]["status"] == "available"
    assert shelf.connections == set()


# --- Attached later ---

def attached(world, shelf):
    instance, volume_id = world.boot(), shelf.add("attaching")
    name = world.compute.reserve_block_device_name(world.context, instance, None, volume_id)
    world.compute.attach_volume(world.context, volume_id, name, instance)
    return instance, volume_id, name


def test_an_attached_volume_is_in_use_and_recorded(world, shelf):
    instance, volume_id, name = attached(world, shelf)
    (bdm,) = mappings(world, instance)
    assert (bdm.volume_id, bdm.device_name, bdm.delete_on_termination) == (volume_id, name, False)
    assert json.loads(bdm.connection_info)["serial"] == volume_id
    assert shelf.volumes[volume_id]["status"] == "in-use"
    assert name in world.compute.driver._mounts[instance.name]


def test_a_rebuilt_guest_keeps_its_volumes(world, shelf):
    instance, volume_id, name = attached(world, shelf)
    instance, seen, spawn = world.busy(instance, task_states.REBUILDING), [], world.compute.driver.spawn

    def watched(*args, block_device_info, **kwargs):
        seen.append([entry["mount_device"] for entry in block_device_info["block_device_mapping"]])
        spawn(*args, **kwargs)

    world.compute.driver.spawn = watched
    world.compute.rebuild_instance(world.context, instance=instance, orig_image_ref=world.image["id"],
                                   image_ref=world.image["id"], injected_files=[], new_pass="pw")

    assert seen == [[name]]
    assert (shelf.volumes[volume_id]["status"], shelf.volumes[volume_id]["instance_uuid"]) == ("in-use", instance.uuid)


def test_a_reserved_name_is_not_given_twice(world, shelf):
    instance = world.boot()
    first = world.compute.reserve_block_device_name(world.context, instance, None, shelf.add("attaching"))
    second = world.compute.reserve_block_device_name(world.context, instance, None, shelf.add("attaching"))
    assert first != second
    with pytest.raises(exception.DevicePathInUse):
        world.compute.reserve_block_device_name(world.context, instance, first, shelf.add("attaching"))


def test_a_refused_name_does_not_clear_the_task_of_another_action(world, shelf):
    instance = world.busy(world.boot(), task_states.IMAGE_SNAPSHOT)
    with pytest.raises(exception.InvalidDevicePath):
        world.compute.reserve_block_device_name(world.context, instance, "nonsense", shelf.add("attaching"))
    assert world.reload(instance).task_state == task_states.IMAGE_SNAPSHOT


@pytest.mark.parametrize("step", ["get_volume_connector", "attach_volume"])
def test_C28_a_failed_attachment_leaves_nothing_behind(world, shelf, step):
    instance, volume_id = world.boot(), shelf.add("attaching")
    name = world.compute.reserve_block_device_name(world.context, instance, None, volume_id)

    with world.failing(step, RuntimeError("no path")), pytest.raises(RuntimeError):
        world.compute.attach_volume(world.context, volume_id, name, instance)

    assert mappings(world, instance) == []
    assert shelf.volumes[volume_id]["status"] == "available"
    assert shelf.connections == set()


def test_a_volume_service_that_refuses_at_the_end_has_the_guest_detached_again(world, shelf):
    instance, volume_id = world.boot(), shelf.add("attaching")

    def refuse(*args):
        raise exception.InvalidVolume(reason="changed its mind")

    shelf.attach = refuse
    with pytest.raises(exception.InvalidVolume):
        world.compute.attach_volume(world.context, volume_id, "/dev/xvdb", instance)
    assert world.compute.driver._mounts[instance.name] == {}
    assert shelf.connections == set()


def test_a_detached_volume_is_free_and_forgotten(world, shelf):
    instance, volume_id, name = attached(world, shelf)
    shelf.begin_detaching(world.context, volume_id)

    world.compute.detach_volume(world.context, volume_id, instance)

    assert mappings(world, instance) == []
    assert shelf.volumes[volume_id]["status"] == "available"
    assert shelf.connections == set()
    assert world.compute.driver._mounts[instance.name] == {}


def test_a_volume_the_guest_does_not_let_go_is_in_use_again(world, shelf):
    instance, volume_id, _ = attached(world, shelf)
    shelf.begin_detaching(world.context, volume_id)
    with world.failing("detach_volume", RuntimeError()), pytest.raises(RuntimeError):
        world.compute.detach_volume(world.context, volume_id, instance)
    assert shelf.volumes[volume_id]["status"] == "in-use"
    assert len(mappings(world, instance)) == 1


def test_a_removed_connection_keeps_the_volume_attached(world, shelf):
    instance, volume_id, _ = attached(world, shelf)
    world.compute.remove_volume_connection(world.context, volume_id, instance)
    assert shelf.connections == set()
    assert shelf.volumes[volume_id]["status"] == "in-use"
    world.compute.remove_volume_connection(world.context, "not-there", instance)


def test_C8_a_reservation_that_nobody_uses_is_dropped_in_time(world, shelf):
    instance, stale = world.boot(), shelf.add("available")
    world.compute.reserve_block_device_name(world.context, instance, None, stale)
    world.compute._drop_stale_device_reservations(world.context)
    assert len(mappings(world, instance)) == 1

    world.clock.advance(3601)
    world.compute._drop_stale_device_reservations(world.context)

    assert mappings(world, instance) == []


def test_a_volume_whose_order_to_be_attached_was_lost_is_given_back_in_time(world, shelf):
    instance, volume_id = world.boot(), shelf.add("attaching")
    name = world.compute.reserve_block_device_name(world.context, instance, None, volume_id)
    world.compute.init_host()
    world.compute._drop_stale_device_reservations(world.context)
    assert shelf.volumes[volume_id]["status"] == "attaching"  # the order may still come

    world.clock.advance(3601)
    world.compute._drop_stale_device_reservations(world.context)
    world.compute.attach_volume(world.context, volume_id, name, instance)

    assert shelf.volumes[volume_id]["status"] == "available"
    assert mappings(world, instance) == []
    assert "never attached" in world.faults(instance)[0]["details"]


def test_a_volume_that_another_instance_waits_for_is_not_taken_from_it(world, shelf):
    before, now, volume_id = world.boot(), world.boot(), shelf.add("attaching")
    world.compute.reserve_block_device_name(world.context, before, None, volume_id)
    world.clock.advance(3601)
    world.compute.reserve_block_device_name(world.context, now, None, volume_id)

    world.compute._drop_stale_device_reservations(world.context)

    assert shelf.volumes[volume_id]["status"] == "attaching"
    assert (len(mappings(world, before)), len(mappings(world, now))) == (0, 1)


def test_a_reboot_detaches_the_volumes_the_guest_cannot_use(world, shelf):
    instance, volume_id, name = attached(world, shelf)
    world.busy(instance, task_states.REBOOTING)

    def reboot(context, guest, network_info, reboot_type, block_device_info, bad_volumes_callback):
        bad_volumes_callback([name])

    world.compute.driver.reboot = reboot
    world.compute.reboot_instance(world.context, instance=instance)
    assert shelf.volumes[volume_id]["status"] == "available"
    assert mappings(world, instance) == []
    assert world.guest(instance).state == power_state.RUNNING
