"""How often an action goes to the database: what was read once is not read again, and a change is one statement."""

import pytest
import sqlalchemy

from nova_lite import objects
from nova_lite.objects import task_states, vm_states
from tests.fixtures import databases

pytestmark = pytest.mark.skipif(databases.KIND != "sqlite", reason="counted once; the statements are the same")


def noted(world):
    """Return the list of what is sent to the database from now on, but for begin and commit."""
    sent = []

    def note(connection, cursor, statement, parameters, context, many):
        if not statement.startswith("BEGIN"):
            sent.append(" ".join(statement.split()))

    for engine in (world.db.store.engines.writer, world.db.store.engines.reader):
        sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    return sent


@pytest.fixture
def statements(world):
    return noted(world)


def test_a_build_takes_25_round_trips_at_most(world, statements):
    message = world.create().to_legacy_dict()
    statements.clear()

    world.compute.run_instance(world.context, instance=message)

    assert len(statements) <= 25, statements


def test_what_a_driver_tells_of_a_build_takes_one_round_trip_each(world, statements):
    driver, told = world.compute.driver, []
    spawn = driver.spawn

    def telling(context, instance, *args):
        statements.clear()
        for percent in (25, 50, 75):
            answer = world.compute.virtapi.instance_update(context, instance["uuid"], {"progress": percent})
            told.append((answer["progress"], len(statements)))
        spawn(context, instance, *args)

    driver.spawn = telling

    instance = world.boot()

    assert told == [(25, 1), (50, 2), (75, 3)]
    assert (instance.progress, instance.vm_state) == (75, vm_states.ACTIVE)


@pytest.mark.parametrize(("method", "task_state", "at_most"), [
    ("pause_instance", task_states.PAUSING, 8), ("reboot_instance", task_states.REBOOTING, 8),
    ("stop_instance", task_states.POWERING_OFF, 8)])
def test_an_action_takes_few_round_trips(world, statements, method, task_state, at_most):
    instance = world.busy(world.boot(), task_state, vm_state=vm_states.ACTIVE)
    message = instance.to_legacy_dict()
    statements.clear()

    getattr(world.compute, method)(world.context, instance=message)

    assert len(statements) <= at_most, statements


def test_an_audit_takes_as_many_round_trips_however_many_instances_come_and_go(world, statements):
    def coming_and_going():
        for host, status, kind in (("elsewhere", "finished", "resize"), ("elsewhere", "running", "live-migration")):
            instance = world.create(vm_state=vm_states.RESIZED, task_state=None, host=host, node="node")
            objects.Migration(world.context, instance_uuid=instance.uuid, source_compute="here", dest_compute="here",
                              source_node="here-node", dest_node="here-node", old_instance_type_id=1,
                              new_instance_type_id=1, migration_type=kind, status=status).create()
        world.compute.compute_host.trackers.of("here-node").arrival_claim(world.context, instance)

    def audit():
        statements.clear()
        world.compute.update_available_resource(world.context)
        return len(statements)

    coming_and_going()
    once = audit()
    for _ in range(2):
        coming_and_going()

    assert audit() == once
    tracker = world.compute.compute_host.trackers.of("here-node")
    assert (len(tracker.tracked_migrations), len(tracker.arrivals)) == (3, 3)


def test_a_pass_of_all_periodic_tasks_takes_as_many_round_trips_however_many_instances_there_are(make_world):
    world = make_world(volume_usage_poll_interval=60, rescue_timeout=1, reboot_timeout=1, resize_confirm_window=1,
                       reclaim_instance_interval=1, running_deleted_instance_action="log")
    sent = noted(world)

    def a_pass_with(more):
        for _ in range(more):
            world.boot()
        world.clock.advance(4000)
        sent.clear()
        world.compute.periodic_tasks(world.context)
        return len(sent)

    a_pass_with(0)
    assert a_pass_with(1) == a_pass_with(3) > 0


def test_a_change_that_others_have_made_meanwhile_is_kept_and_seen(world):
    instance = world.boot()
    world.db.instance_update(world.context, instance.uuid, {"progress": 42})

    instance.vm_state = vm_states.PAUSED
    instance.save(expected_task_state=[None])

    assert (instance.progress, instance.vm_state) == (42, vm_states.PAUSED)
    assert world.reload(instance).progress == 42
