"""Resizing between two hosts, with real messages in between."""

import threading

import pytest

from nova_lite import exception, objects
from nova_lite.compute.api import API
from nova_lite.objects import power_state, task_states, vm_states


@pytest.fixture
def pair(world):
    """The world, with a second host `there`, both answering messages."""
    world.there = world.add_host("there")
    for compute in (world.compute, world.there):
        world.serve(compute)
    return world


def settle(world, instance, condition, timeout_s=60):
    """Wait until `condition` holds of the instance, as messages go through."""
    done = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        instance = world.reload(instance)
        if condition(instance):
            return instance
        done.wait(0.02)
    raise AssertionError(f"still {instance}; faults {world.faults(instance)}")


def idle(instance):
    return instance.task_state is None


def larger(world):
    return objects.Flavor.get_by_flavor_id(world.context, "2")


def begin_resize(world, vm_state=vm_states.ACTIVE, flavor=None, **arguments):
    instance = world.boot()
    if vm_state == vm_states.STOPPED:
        world.guest(instance).state = power_state.SHUTDOWN
    instance = world.busy(instance, task_states.RESIZE_PREP, vm_state=vm_state)
    world.there.prep_resize(world.context, image={}, instance=instance.to_legacy_dict(),
                            instance_type=flavor or larger(world), **arguments)
    return instance


def resized(world, **arguments):
    return settle(world, begin_resize(world, **arguments), lambda instance: instance.vm_state == vm_states.RESIZED)


def migration_of(world, instance):
    return objects.MigrationList.get_by_filters(world.context, {"instance_uuid": instance.uuid})[0]


def used_mb(world, host):
    node = world.db.compute_node_get_by_host_and_nodename(world.context, host, f"{host}-node")
    return node["memory_mb_used"] - world.conf.reserved_host_memory_mb


def test_a_resized_instance_runs_on_the_other_host_with_its_new_flavor(pair):
    instance = resized(pair)

    assert (instance.host, instance.node, instance.task_state) == ("there", "there-node", None)
    assert instance.flavor.name == "m1.small"
    assert instance.old_flavor.name == "m1.tiny"
    assert instance.memory_mb == 2048
    assert pair.guest(instance, pair.there).state == power_state.RUNNING
    assert pair.guest(instance).state == power_state.SHUTDOWN
    assert migration_of(pair, instance).status == "finished"
    assert {"resize.prep.start", "resize.prep.end", "resize.start", "resize.end", "finish_resize.start",
            "finish_resize.end"} <= set(pair.notifier.events())


def test_an_unconfirmed_resize_holds_room_on_both_hosts(pair):
    resized(pair)
    for compute in (pair.compute, pair.there):
        compute.update_available_resource(pair.context)
    assert (used_mb(pair, "here"), used_mb(pair, "there")) == (512, 2048)


def test_a_confirmed_resize_holds_room_on_the_new_host_only(pair):
    instance = resized(pair)

    pair.compute.confirm_resize(pair.context, instance=instance, migration=migration_of(pair, instance))

    instance = pair.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, None)
    assert (instance.old_flavor, instance.new_flavor) == (None, None)
    assert "old_vm_state" not in instance.system_metadata
    assert migration_of(pair, instance).status == "confirmed"
    assert used_mb(pair, "here") == 0
    assert pair.notifier.events()[-2:] == ["resize.confirm.start", "resize.confirm.end"]


def test_C34_what_others_write_into_system_metadata_meanwhile_is_kept(pair):
    instance = resized(pair)
    confirm = pair.compute.driver.confirm_migration

    def confirm_slowly(*args):
        pair.db.instance_system_metadata_update(pair.context, instance.uuid, {"written": "meanwhile"}, delete=False)
        return confirm(*args)

    pair.compute.driver.confirm_migration = confirm_slowly
    pair.compute.confirm_resize(pair.context, instance=instance, migration=migration_of(pair, instance))

    found = pair.reload(instance).system_metadata
    assert found["written"] == "meanwhile"
    assert "old_vm_state" not in found


def test_a_resize_that_is_confirmed_again_is_left_alone(pair):
    instance = resized(pair)
    migration = migration_of(pair, instance)
    pair.compute.confirm_resize(pair.context, instance=instance, migration=migration)
    with pair.failing("confirm_migration", AssertionError("must not be asked again")):
        pair.compute.confirm_resize(pair.context, instance=instance, migration=migration)


def test_a_reverted_resize_is_back_with_its_old_flavor(pair):
    instance = resized(pair)
    migration = migration_of(pair, instance)
    pair.busy(instance, task_states.RESIZE_REVERTING)

    pair.there.revert_resize(pair.context, instance=instance, migration=migration)

    instance = settle(pair, instance, lambda now: now.vm_state == vm_states.ACTIVE and idle(now))
    assert (instance.host, instance.node, instance.flavor.name, instance.memory_mb) == (
        "here", "here-node", "m1.tiny", 512)
    assert pair.guest(instance).state == power_state.RUNNING
    assert pair.guest(instance, pair.there) is None
    settle(pair, instance, lambda _: migration_of(pair, instance).status == "reverted")


def test_an_instance_that_was_stopped_stays_so_through_resize_and_confirmation(pair):
    instance = resized(pair, vm_state=vm_states.STOPPED)
    assert pair.guest(instance, pair.there).state == power_state.SHUTDOWN
    pair.compute.confirm_resize(pair.context, instance=instance, migration=migration_of(pair, instance))
    assert pair.reload(instance).vm_state == vm_states.STOPPED


def test_a_destination_without_room_sends_the_resize_back_to_the_scheduler(pair):
    sent = []
    pair.there._rescheduler._scheduler.prep_resize = lambda context, **arguments: sent.append(arguments)

    instance = begin_resize(pair, request_spec={"image": {}},
                            filter_properties={"limits": {"memory_mb": 100}, "retry": {"hosts": []}})

    assert sent[0]["instance_type"].name == "m1.small"
    assert "ComputeResourcesUnavailable" in "".join(sent[0]["filter_properties"]["retry"]["exc"])
    assert pair.reload(instance).task_state == task_states.RESIZE_PREP


def test_a_resize_that_its_source_did_not_hear_of_holds_no_room(pair):
    def away(*args, **kwargs):
        raise exception.RpcUnavailable("no service has a queue there")

    pair.there.compute_rpcapi.resize_instance = away
    with pytest.raises(exception.RpcUnavailable):
        begin_resize(pair)
    (failed,) = objects.MigrationList.get_by_filters(pair.context, {"dest_compute": "there"})
    pair.db.instance_update(pair.context, failed.instance_uuid, {
        "task_state": task_states.RESIZE_PREP, "vm_state": vm_states.ACTIVE})  # another host has taken it up

    pair.there.update_available_resource(pair.context)

    assert failed.status == "error"
    assert used_mb(pair, "there") == 0


def test_a_resize_to_the_same_host_is_refused_where_that_is_not_allowed(world):
    instance = world.busy(world.boot(), task_states.RESIZE_PREP)
    with pytest.raises(exception.MigrationError):
        world.compute.prep_resize(world.context, image={}, instance=instance, instance_type=larger(world))
    instance = world.reload(instance)
    assert instance.task_state is None
    assert world.faults(instance)[0]["message"] == "MigrationError"


def test_a_refused_resize_goes_to_another_host_without_an_error_in_between(world):
    instance = world.busy(world.boot(), task_states.RESIZE_PREP)
    sent = []
    world.compute._rescheduler._scheduler.prep_resize = lambda context, **arguments: sent.append(arguments)

    world.compute.prep_resize(world.context, image={}, instance=instance, instance_type=larger(world),
                              request_spec={"image": {}}, filter_properties={"retry": {"hosts": []}})

    instance = world.reload(instance)
    assert (instance.vm_state, instance.task_state) == (vm_states.ACTIVE, task_states.RESIZE_PREP)
    assert sent[0]["request_spec"]["instance_uuids"] == [instance.uuid]
    assert world.faults(instance)[0]["message"] == "MigrationError"


def test_C12_a_guest_whose_disks_cannot_be_shipped_runs_again(pair):
    def halt():
        next(iter(pair.compute.driver.instances.values())).state = power_state.SHUTDOWN

    with pair.failing("migrate_disk_and_power_off", RuntimeError("disk full"), before=halt):
        instance = settle(pair, begin_resize(pair), idle)

    assert instance.vm_state == vm_states.ACTIVE
    assert instance.host == "here"
    assert pair.guest(instance).state == power_state.RUNNING
    assert "disk full" in pair.faults(instance)[0]["details"]
    settle(pair, instance, lambda _: migration_of(pair, instance).status == "error")


def test_C12_a_destination_that_cannot_build_keeps_both_hosts_known(pair):
    with pair.failing("finish_migration", RuntimeError("no SR"), compute=pair.there):
        instance = settle(pair, begin_resize(pair), lambda now: now.vm_state == vm_states.ERROR and idle(now))
    migration = migration_of(pair, instance)
    assert (migration.status, migration.source_compute, migration.dest_compute) == ("error", "here", "there")
    assert instance.old_flavor.name == "m1.tiny"


def test_a_revert_that_fails_is_noted_in_its_record(pair):
    instance = resized(pair)

    def fail(*args):
        raise exception.NovaException("planted")

    pair.there.driver.destroy = fail
    instance = pair.busy(instance, task_states.RESIZE_REVERTING)
    with pytest.raises(exception.NovaException):
        pair.there.revert_resize(pair.context, instance=instance, migration=migration_of(pair, instance))

    assert pair.reload(instance).vm_state == vm_states.ERROR
    assert migration_of(pair, instance).status == "error"


def test_C12_what_failed_at_its_destination_goes_back_when_it_is_reverted(pair):
    with pair.failing("finish_migration", RuntimeError("no SR"), compute=pair.there):
        instance = settle(pair, begin_resize(pair), lambda now: now.vm_state == vm_states.ERROR and idle(now))
    pair.busy(instance, task_states.RESIZE_REVERTING, vm_state=vm_states.RESIZED)

    pair.there.revert_resize(pair.context, instance=instance, migration=migration_of(pair, instance))

    instance = settle(pair, instance, lambda now: now.vm_state == vm_states.ACTIVE and idle(now))
    assert (instance.host, instance.flavor.name) == ("here", "m1.tiny")
    assert pair.guest(instance).state == power_state.RUNNING


def test_a_revert_that_failed_back_at_its_source_is_carried_through_when_it_is_asked_for_again(pair):
    instance = resized(pair, vm_state=vm_states.STOPPED)
    instance = pair.busy(instance, task_states.RESIZE_REVERTING)
    with pair.failing("finish_revert_migration", RuntimeError("its host is away")):
        pair.there.revert_resize(pair.context, instance=instance, migration=migration_of(pair, instance))
        settle(pair, instance, lambda now: now.vm_state == vm_states.ERROR and idle(now))
    compute_api = API(pair.services)
    compute_api.update_state(pair.context, pair.reload(instance), vm_states.RESIZED)

    compute_api.revert_resize(pair.context, pair.reload(instance))

    instance = settle(pair, instance, lambda now: now.vm_state == vm_states.STOPPED and idle(now))
    assert (instance.host, instance.flavor.name) == ("here", "m1.tiny")
    assert pair.guest(instance).state == power_state.SHUTDOWN
    settle(pair, instance, lambda _: migration_of(pair, instance).status == "reverted")


def test_a_resize_is_confirmed_although_nobody_can_count_what_its_host_has_left(pair):
    instance = resized(pair)
    with pair.failing("get_available_resource", RuntimeError("busy")):
        pair.compute.confirm_resize(pair.context, instance=instance, migration=migration_of(pair, instance))

    assert pair.reload(instance).vm_state == vm_states.ACTIVE
    assert migration_of(pair, instance).status == "confirmed"


def test_a_migration_keeps_the_flavor(pair):
    instance = resized(pair, flavor=pair.flavor)
    assert instance.flavor.name == "m1.tiny"
    assert migration_of(pair, instance).migration_type == "migration"


def test_resizes_nobody_confirms_are_confirmed_after_their_window(make_world):
    world = make_world(resize_confirm_window=60)
    world.there = world.add_host("there")
    for compute in (world.compute, world.there):
        world.serve(compute)
    instance = resized(world)
    world.there._poll_unconfirmed_resizes(world.context)
    assert world.compute_api.calls == []

    world.clock.advance(61)
    world.there._poll_unconfirmed_resizes(world.context)

    assert world.compute_api.calls == [("confirm_resize", instance.uuid)]


def test_a_resize_that_cannot_be_confirmed_does_not_keep_others_waiting(make_world):
    world = make_world(resize_confirm_window=60)
    instances, asked = [world.busy(world.boot(), None, vm_state=vm_states.RESIZED) for _ in range(3)], []
    for instance in instances:
        migration = objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="there",
                                      dest_compute="here", migration_type="resize", status="post-migrating")
        migration.create()
        migration.status = "finished"
        migration.save()

    def confirm(context, instance, migration):
        asked.append(instance.uuid)
        raise RuntimeError("no")

    world.compute_api.confirm_resize = confirm
    world.clock.advance(61)
    world.compute._poll_unconfirmed_resizes(world.context)

    assert sorted(asked) == sorted(instance.uuid for instance in instances)


def test_the_volumes_of_a_resized_instance_are_connected_to_its_new_host_only(pair):
    for host, compute in (("here", pair.compute), ("there", pair.there)):
        compute.driver.get_volume_connector = lambda instance, host=host: {"ip": host, "initiator": host, "host": host}
    instance, volume_id = pair.boot(), pair.shelf.add("attaching")
    pair.compute.attach_volume(pair.context, volume_id, "/dev/xvdc", instance)
    assert pair.shelf.connections == {(volume_id, "here")}
    pair.compute.reserve_block_device_name(pair.context, instance, None, pair.shelf.add("attaching"))  # and no more yet

    pair.busy(instance, task_states.RESIZE_PREP)
    pair.there.prep_resize(pair.context, image={}, instance=instance.to_legacy_dict(), instance_type=larger(pair))
    settle(pair, instance, lambda now: now.vm_state == vm_states.RESIZED)

    assert pair.shelf.connections == {(volume_id, "there")}
    assert pair.shelf.volumes[volume_id]["status"] == "in-use"


def test_an_unconfirmed_resize_whose_instance_moved_on_is_closed(make_world):
    world = make_world(resize_confirm_window=60)
    world.there = world.add_host("there")
    for compute in (world.compute, world.there):
        world.serve(compute)
    instance = resized(world)
    world.busy(instance, None, vm_state=vm_states.ERROR)
    world.clock.advance(61)

    world.there._poll_unconfirmed_resizes(world.context)

    assert world.compute_api.calls == []
    assert migration_of(world, instance).status == "error"
