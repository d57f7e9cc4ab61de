"""What drivers ask back, and the conductor's methods behind it."""

import datetime

import pytest

from nova_lite import exception, objects
from nova_lite.objects import task_states, vm_states
from nova_lite.virt.virtapi import VirtAPI


@pytest.fixture
def virtapi(world):
    return world.compute.virtapi


def test_every_question_of_a_driver_has_an_answer(virtapi):
    asked = {name for name in vars(VirtAPI) if not name.startswith("_")}
    answered = {name for name in vars(type(virtapi)) if not name.startswith("_")}
    assert asked == answered


def test_an_update_is_seen_by_the_tracker_and_answered_with_the_row(world, virtapi):
    instance = world.boot()
    answer = virtapi.instance_update(world.context, instance.uuid, {"task_state": task_states.IMAGE_SNAPSHOT})
    assert (answer["uuid"], answer["task_state"]) == (instance.uuid, task_states.IMAGE_SNAPSHOT)
    assert world.compute.compute_host.trackers.of("here-node").stats["num_task_image_snapshot"] == 1


def test_instances_are_found_by_id_uuid_and_host(world, virtapi):
    instance = world.boot()
    assert virtapi.instance_get(world.context, instance.id)["uuid"] == instance.uuid
    assert virtapi.instance_get_by_uuid(world.context, instance.uuid)["id"] == instance.id
    assert [row["uuid"] for row in virtapi.instance_get_all_by_host(world.context, "here")] == [instance.uuid]
    assert virtapi.instance_get_all_hung_in_rebooting(world.context, 60) == []
    assert virtapi.instance_type_get(world.context, instance.instance_type_id)["name"] == "m1.tiny"


def test_a_problem_of_the_driver_becomes_a_fault(world, virtapi):
    instance = world.boot()
    virtapi.instance_fault_create(world.context, instance, ValueError("no agent"))
    assert world.faults(instance)[0]["message"] == "ValueError"


def test_aggregates_are_found_and_marked(world, virtapi):
    aggregate = world.db.aggregate_create(world.context, {"name": "pool"}, {"hypervisor_pool": "xen"})
    world.db.aggregate_host_add(world.context, aggregate["id"], "here")
    (found,) = virtapi.aggregate_get_by_host(world.context, "here", key="hypervisor_pool")
    assert found["name"] == "pool"
    virtapi.aggregate_metadata_add(world.context, found, {"master_compute": "here"})
    assert world.db.aggregate_metadata_get(world.context, found["id"])["master_compute"] == "here"
    virtapi.aggregate_metadata_delete(world.context, found, "master_compute")
    with pytest.raises(exception.AggregateMetadataNotFound):
        virtapi.aggregate_metadata_delete(world.context, found, "master_compute")


def test_firewall_questions_are_answered_from_the_cells_tables(world, virtapi):
    instance = world.boot()
    assert virtapi.provider_fw_rule_get_all(world.context) == []
    for group in virtapi.security_group_get_by_instance(world.context, instance):
        assert virtapi.security_group_rule_get_by_security_group(world.context, group) == []
    assert virtapi.agent_build_get_by_triple(world.context, "xen", "linux", "x86_64") is None


def test_resizes_and_reboots_go_through_the_api(world, virtapi):
    instance = world.boot()
    migration = objects.Migration(world.context, instance_uuid=instance.uuid, dest_compute="here",
                                  migration_type="resize", status="post-migrating")
    migration.create()
    migration.status = "finished"
    migration.save()
    world.clock.advance(61)
    (row,) = virtapi.migration_get_unconfirmed_by_dest_compute(world.context, 60)
    virtapi.migration_update(world.context, row, "error")
    assert objects.Migration.get_by_id(world.context, migration.id).status == "error"
    virtapi.confirm_resize(world.context, instance, row)
    virtapi.reboot_instance(world.context, instance, "HARD")
    assert world.compute_api.calls == [("confirm_resize", instance.uuid), ("reboot", instance.uuid)]


def test_interfaces_are_waited_for_at_the_network_service(world, virtapi):
    instance, asked = world.boot(), []
    world.services.network_api.wait_active = lambda context, instance, vif_ids, timeout_s: asked.append(vif_ids)
    virtapi.wait_vifs_active(world.context, instance, ["vif-1"], 5)
    assert asked == [["vif-1"]]


# --- The conductor ---

def update(world, instance, **changes):
    return world.compute.conductor_api.instance_update(world.context, instance.uuid, **changes)


@pytest.mark.parametrize(("expected", "stored", "passes"), [
    ({}, task_states.PAUSING, True),
    ({"expected_task_state": None}, None, True),
    ({"expected_task_state": None}, task_states.PAUSING, False),
    ({"expected_task_state": task_states.PAUSING}, task_states.PAUSING, True),
    ({"expected_task_state": (task_states.PAUSING, None)}, None, True),
    ({"expected_task_state": [task_states.PAUSING]}, task_states.DELETING, False),
    ({"expected_vm_state": vm_states.ACTIVE}, None, True),
])
def test_an_update_names_the_states_it_expects(world, expected, stored, passes):
    instance = world.busy(world.boot(), stored)
    if passes:
        update(world, instance, progress=5, **expected)
        assert world.reload(instance).progress == 5
    else:
        with pytest.raises(exception.UnexpectedTaskStateError):
            update(world, instance, progress=5, **expected)


def test_an_update_that_changes_nothing_is_guarded_too(world):
    instance = world.boot()
    world.busy(instance, task_states.DELETING)
    with pytest.raises(exception.UnexpectedTaskStateError):
        world.compute.conductor_api.save(world.context, instance, task_state=None, expected_task_state=None)


def test_a_column_that_is_not_updatable_is_refused(world):
    with pytest.raises(KeyError, match="project_id"):
        update(world, world.boot(), project_id="red")


def test_times_may_be_text(world):
    instance = world.boot()
    update(world, instance, launched_at="2026-01-02T03:04:05.000000")
    assert world.reload(instance).launched_at == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def test_an_update_that_failed_leaves_the_object_as_the_row_is(world):
    instance = world.busy(world.boot(), task_states.DELETING)
    with pytest.raises(exception.UnexpectedTaskStateError):
        world.compute.conductor_api.save(world.context, instance, task_state=None, vm_state=vm_states.ERROR,
                                         expected_task_state=task_states.PAUSING)
    assert (instance.task_state, instance.vm_state) == (task_states.DELETING, vm_states.ACTIVE)
    assert instance.obj_what_changed() == set()


def test_changes_of_state_are_told_where_that_is_wanted(make_world):
    world = make_world(notify_on_state_change="vm_and_task_state")
    instance = world.boot()
    update(world, instance, task_state=task_states.PAUSING)
    payload = world.notifier.payload("update")
    assert (payload["old_task_state"], payload["new_task_state"], payload["state"]) == (
        None, task_states.PAUSING, vm_states.ACTIVE)


def test_the_conductor_answers_nothing_it_does_not_know(world):
    with pytest.raises(AttributeError, match="frobnicate"):
        world.compute.conductor_api.frobnicate()
