"""What deletions, evacuations and failed resizes leave at the hypervisor, and how often it is asked."""

import uuid

import pytest
import sqlalchemy

from nova_lite import objects
from nova_lite.compute import pacing
from nova_lite.objects import power_state, vm_states
from nova_lite.virt.fake import FakeInstance


def deleted_while_the_host_was_down(world, state=power_state.SHUTDOWN):
    """An instance whose row went without its host, which still has the guest."""
    instance = world.boot()
    world.guest(instance).state = state
    instance.destroy()
    return instance


def has_guest(world, instance):
    """Destroyed rows have no name any more."""
    return instance.uuid in world.compute.driver.list_instance_uuids()


def counting(world, *methods):
    """Return the list of driver methods called from now on, of those named."""
    called = []
    for name in methods:
        original = getattr(world.compute.driver, name)
        setattr(world.compute.driver, name, lambda *a, _o=original, _n=name, **k: called.append(_n) or _o(*a, **k))
    return called


def not_cleaned(world):
    return [each.uuid for each in objects.InstanceList.get_not_cleaned(
        world.context.elevated(read_deleted="yes"), "here", 100)]


def test_a_deletion_that_a_host_did_not_see_is_finished_by_it_later(world):
    instance = deleted_while_the_host_was_down(world)

    world.compute._run_pending_deletes(world.context)

    assert not has_guest(world, instance)
    assert not_cleaned(world) == []


def test_a_running_guest_of_a_deleted_instance_is_left_to_the_operators_choice(world):
    instance = deleted_while_the_host_was_down(world, power_state.RUNNING)

    world.compute._run_pending_deletes(world.context)

    assert has_guest(world, instance)
    assert not_cleaned(world) == [instance.uuid]


def test_a_deletion_that_left_nothing_is_not_looked_at(world):
    instance = world.boot()
    world.compute.terminate_instance(world.context, instance=instance)
    assert not_cleaned(world) == []


def test_a_guest_that_cannot_be_removed_is_tried_so_many_times(make_world):
    world = make_world(maximum_instance_delete_attempts=2)
    instance = deleted_while_the_host_was_down(world)
    tried = []
    with world.failing("destroy", RuntimeError("stuck"), before=lambda: tried.append(1)):
        for _ in range(4):
            world.clock.advance(301)
            world.compute._run_pending_deletes(world.context)

    assert len(tried) == 2
    assert has_guest(world, instance)


def test_a_failed_resize_of_a_deleted_instance_leaves_no_guest(world):
    instance = world.boot()
    objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="elsewhere", dest_compute="here",
                      migration_type="resize", status="error").create()
    world.compute._cleanup_incomplete_migrations(world.context)
    while_alive = has_guest(world, instance)
    instance.destroy()

    world.clock.advance(301)
    world.compute._cleanup_incomplete_migrations(world.context)

    assert (while_alive, has_guest(world, instance)) == (True, False)


def test_what_a_failed_live_migration_may_have_left_of_a_deleted_instance_is_looked_for_once(world):
    instance = world.create(vm_state=vm_states.ACTIVE, task_state=None, host="elsewhere", node="elsewhere-node")
    objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="elsewhere", dest_compute="here",
                      migration_type="live-migration", status="error").create()
    looked_for = []
    world.compute.driver.destroy = lambda instance, *args: looked_for.append(instance.uuid)
    world.compute._cleanup_incomplete_migrations(world.context)
    while_alive = list(looked_for)
    instance.destroy()

    for _ in range(2):
        world.clock.advance(301)
        world.compute._cleanup_incomplete_migrations(world.context)

    assert (while_alive, looked_for) == ([], [instance.uuid])


def test_failed_resizes_are_looked_at_in_few_queries_however_many_there_are(world):
    for _ in range(9):
        instance = world.create(vm_state=vm_states.ACTIVE, task_state=None, host="here", node="here-node")
        objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="elsewhere", dest_compute="here",
                          migration_type="resize", status="error").create()
    asked = []
    engine = world.db.store.engines.reader
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *statement: asked.append(statement[2]))

    world.compute._cleanup_incomplete_migrations(world.context)

    assert 0 < len([each for each in asked if not each.startswith("BEGIN")]) <= 8


@pytest.mark.parametrize(("shared", "disks_go"), [(True, False), (False, True)])
def test_disks_of_an_evacuated_instance_go_unless_its_new_host_uses_them(world, shared, disks_go):
    there = world.add_host("there")
    instance = world.busy(world.boot(), "rebuilding")
    there.driver.instance_on_disk = lambda instance: shared
    there.rebuild_instance(world.context, instance=instance, orig_image_ref=None, image_ref=None, injected_files=None,
                           new_pass=None, recreate=True, on_shared_storage=shared)
    destroyed = []
    world.compute.driver.destroy = lambda *args, destroy_disks=True: destroyed.append(destroy_disks)

    world.compute.init_host()
    world.compute.init_host()

    assert destroyed == [disks_go]
    assert world.reload(instance).system_metadata == {}
    assert world.reload(instance).host == "there"


def test_an_evacuation_of_which_nothing_is_known_any_more_stops_no_start(world):
    gone = world.create()
    migration = objects.Migration(world.context, instance_uuid=gone.uuid, source_compute="here", dest_compute="there",
                                  migration_type="evacuation", status="done")
    migration.create()
    migration._db.migration_update(world.context, migration.id, {"instance_uuid": None})

    world.compute.init_host()

    assert objects.Migration.get_by_id(world.context, migration.id).status == "completed"


@pytest.mark.parametrize("count", [1, 12])
def test_a_pass_asks_the_hypervisor_as_often_however_many_instances_there_are(world, count):
    world.conf.set_override("running_deleted_instance_action", "log")
    for _ in range(count):
        instance = world.create(vm_state=vm_states.ACTIVE, task_state=None, host="here", node="here-node",
                                power_state=power_state.RUNNING)
        world.compute.driver.instances[instance.name] = FakeInstance(instance.name, instance.uuid,
                                                                     power_state.RUNNING)
    questions = [name for name in dir(world.compute.driver)
                 if callable(getattr(world.compute.driver, name)) and not name.startswith("_")
                 and name not in ("legacy_nwinfo", "estimate_instance_overhead")]
    world.compute.periodic_tasks(world.context)
    world.clock.advance(4000)
    called = counting(world, *questions)

    world.compute.periodic_tasks(world.context)

    assert sorted(called) == ["get_all_bw_counters", "get_available_nodes", "get_available_resource",
                              "get_host_stats", "get_per_instance_usage", "get_power_states", "list_instance_uuids",
                              "manage_image_cache"]


def test_C18_a_pass_that_takes_long_leaves_the_rest_for_the_next_one(world):
    done = []

    def slow(context, item):
        world.clock.advance(pacing.BUDGET_S / 2 + 1)
        done.append(item)

    pacing.each_in_turn(world.clock, slow, world.context, [str(uuid.uuid4()) for _ in range(5)])

    assert len(done) == 2
