"""Moving running guests between two hosts, with real messages in between."""

import threading

import pytest

from nova_lite import exception, objects
from nova_lite.objects import power_state, task_states, vm_states


@pytest.fixture
def pair(world):
    world.there = world.add_host("there")
    for compute in (world.compute, world.there):
        world.serve(compute)
    world.compute_api.is_volume_backed_instance = lambda context, instance, bdms: False
    return world


def migrate(world, instance, **arguments):
    world.compute.live_migration(world.context, dest="there", instance=instance.to_legacy_dict(), **arguments)


def migrating(world):
    return world.busy(world.boot(), task_states.MIGRATING)


def record_of(world, instance):
    return objects.MigrationList.get_by_filters(world.context, {"instance_uuid": instance.uuid})[0]


def used_mb(world, host):
    node = world.db.compute_node_get_by_host_and_nodename(world.context, host, f"{host}-node")
    return node["memory_mb_used"] - world.conf.reserved_host_memory_mb


def test_a_migrated_instance_runs_on_the_other_host(pair):
    instance = migrating(pair)

    migrate(pair, instance)

    instance = pair.reload(instance)
    assert (instance.host, instance.node, instance.vm_state, instance.task_state) == (
        "there", "there-node", vm_states.ACTIVE, None)
    assert pair.guest(instance, pair.there).state == power_state.RUNNING
    assert record_of(pair, instance).status == "completed"
    assert (used_mb(pair, "here"), used_mb(pair, "there")) == (0, 512)
    events = pair.notifier.events()
    for part in ("pre", "post.dest", "_post"):
        assert f"live_migration.{part}.start" in events
        assert f"live_migration.{part}.end" in events


def test_a_guest_that_arrives_and_is_not_taken_over_is_in_error_where_it_is(pair):
    instance = migrating(pair)

    def fail(*args):
        raise exception.VirtualInterfaceCreateException("planted")

    pair.there.driver.post_live_migration_at_destination = fail
    with pytest.raises(Exception, match="planted"):
        migrate(pair, instance)

    instance = pair.reload(instance)
    assert (instance.host, instance.node, instance.vm_state, instance.task_state) == (
        "there", "there-node", vm_states.ERROR, None)
    assert record_of(pair, instance).status == "error"


def test_both_drivers_are_asked_and_the_destinations_check_is_cleaned_up(pair):
    instance = migrating(pair)
    cleaned = []
    pair.there.driver.check_can_live_migrate_destination = lambda *args: {"a": 1, "migrate_data": {"dest": True}}
    pair.there.driver.check_can_live_migrate_destination_cleanup = lambda context, data: cleaned.append(data["a"])
    pair.compute.driver.check_can_live_migrate_source = lambda context, instance, data: {
        "source": data["a"], "is_volume_backed": data["is_volume_backed"]}

    answer = pair.there.check_can_live_migrate_destination(pair.context, instance)

    assert answer == {"source": 1, "is_volume_backed": False, "dest": True}
    assert cleaned == [1]


def test_drivers_may_have_nothing_to_say_about_a_move(pair):
    pair.there.driver.check_can_live_migrate_destination = lambda *args: None
    pair.compute.driver.check_can_live_migrate_source = lambda *args: None

    assert pair.there.check_can_live_migrate_destination(pair.context, migrating(pair)) == {}


def test_a_refusal_of_the_source_is_cleaned_up_too(pair):
    instance = migrating(pair)
    cleaned = []
    pair.there.driver.check_can_live_migrate_destination_cleanup = lambda context, data: cleaned.append(data)
    with (pair.failing("check_can_live_migrate_source", exception.MigrationPreCheckError(reason="no")),
          pytest.raises(exception.MigrationPreCheckError)):
        pair.there.check_can_live_migrate_destination(pair.context, instance)
    assert cleaned == [{}]


def test_a_destination_that_cannot_get_ready_leaves_the_guest_where_it_is(pair):
    instance = migrating(pair)
    with (pair.failing("pre_live_migration", exception.MigrationError(reason="no SR"), compute=pair.there),
          pytest.raises(exception.MigrationError)):
        migrate(pair, instance)
    instance = pair.reload(instance)
    assert (instance.host, instance.vm_state, instance.task_state) == ("here", vm_states.ACTIVE, None)
    assert pair.faults(instance)
    assert record_of(pair, instance).status == "error"
    assert used_mb(pair, "there") == 0
    assert "live_migration._rollback.end" in pair.notifier.events()


def test_C29_a_destination_without_room_refuses_before_anything_moves(pair):
    instance = migrating(pair)
    pair.conf.set_override("ram_allocation_ratio", 0.01)
    with pytest.raises(exception.ComputeResourcesUnavailable):
        migrate(pair, instance)
    assert pair.reload(instance).host == "here"


def test_room_is_kept_while_the_guest_is_on_its_way(pair):
    instance = migrating(pair)
    seen = []

    def on_the_way(context, guest, dest, post_method, recover_method, *args):
        pair.there.update_available_resource(pair.context)
        seen.append(used_mb(pair, "there"))
        post_method(context, guest, dest)

    pair.compute.driver.live_migration = on_the_way
    migrate(pair, instance)
    assert seen == [512]


@pytest.mark.parametrize(("guest_state", "found"), [
    (power_state.RUNNING, vm_states.ACTIVE),
    (power_state.SHUTDOWN, vm_states.ERROR),
])
def test_C29_a_rollback_says_what_became_of_the_guest(pair, guest_state, found):
    instance = migrating(pair)

    def fail(context, guest, dest, post_method, recover_method, *args):
        pair.guest(instance).state = guest_state
        recover_method(context, guest, dest)

    pair.compute.driver.live_migration = fail
    migrate(pair, instance)
    instance = pair.reload(instance)
    assert (instance.vm_state, instance.task_state, instance.host) == (found, None, "here")


def test_a_guest_that_is_not_at_its_source_any_more_is_not_removed_at_its_destination(pair):
    instance = migrating(pair)
    removed = []
    pair.compute.compute_rpcapi.rollback_live_migration_at_destination = lambda *args: removed.append(args)

    def lose(context, guest, dest, post_method, recover_method, *args):
        pair.compute.driver.instances.pop(instance.name)
        recover_method(context, guest, dest, True, {})

    pair.compute.driver.live_migration = lose
    migrate(pair, instance, block_migration=True)

    assert pair.reload(instance).vm_state == vm_states.ERROR
    assert removed == []


@pytest.mark.parametrize("how", [
    {"block_migration": True}, {"migrate_data": {"is_volume_backed": True, "is_shared_storage": False}}],
    ids=["with its disks", "on volumes"])
def test_a_failed_move_without_shared_storage_is_cleared_away_at_the_destination(pair, how):
    instance = migrating(pair)
    destroyed, cleared = [], threading.Event()
    pair.there.driver.destroy = lambda guest, *args: destroyed.append(guest.uuid) or cleared.set()

    def fail(context, guest, dest, post_method, recover_method, block_migration, migrate_data):
        recover_method(context, guest, dest, block_migration, migrate_data)

    pair.compute.driver.live_migration = fail
    migrate(pair, instance, **how)
    assert cleared.wait(60)
    assert destroyed == [instance.uuid]
