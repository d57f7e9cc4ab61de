"""What nodes have and what is taken of it."""

import threading

import pytest

from nova_lite import exception, objects
from nova_lite.concurrency import spawn
from nova_lite.objects import vm_states


def node_row(world, name="here-node"):
    return world.db.compute_node_get_by_host_and_nodename(world.context, "here", name)


def audit(world):
    world.compute.update_available_resource(world.context)


def test_a_node_is_recorded_with_its_service(world):
    row = node_row(world)
    assert (row["vcpus"], row["memory_mb"], row["local_gb"]) == (1, 8192, 1028)
    assert (row["memory_mb_used"], row["free_ram_mb"]) == (512, 7680)
    assert (row["hypervisor_type"], row["host"]) == ("fake", "here")
    assert row["service_id"] == world.db.service_get_by_compute_host(world.context, "here")["id"]


def test_the_hypervisors_own_used_figures_are_not_believed(world):
    original = world.compute.driver.get_available_resource
    world.compute.driver.get_available_resource = lambda node: {**original(node), "memory_mb_used": 8000}
    audit(world)
    assert node_row(world)["memory_mb_used"] == world.conf.reserved_host_memory_mb


def test_an_audit_refreshes_the_time_even_without_changes(world):
    world.clock.advance(60)
    audit(world)
    assert node_row(world)["updated_at"] == world.clock.naive()


def test_a_report_that_lacks_figures_names_them(world):
    world.compute.driver.get_available_resource = lambda node: {"vcpus": 1, "memory_mb": 1}
    with pytest.raises(exception.InvalidInput, match="local_gb, cpu_info"):
        world.compute.compute_host.trackers.of("here-node").update_available_resource(world.context)


def test_a_driver_that_reports_nothing_lets_every_build_in(world):
    world.compute.driver.get_available_resource = lambda node: {}
    audit(world)
    instance = world.create()
    world.compute.run_instance(world.context, instance=instance, filter_properties={"limits": {"memory_mb": 1}})
    assert world.reload(instance).host == "here"


def test_a_node_that_is_no_more_loses_its_record(world):
    world.compute.driver.set_nodes(["here-node", "second"])
    audit(world)
    assert node_row(world, "second")

    world.compute.driver.set_nodes(["here-node"])
    audit(world)

    with pytest.raises(exception.ComputeHostNotFound):
        node_row(world, "second")
    with pytest.raises(exception.NovaException, match="second"):
        world.compute.compute_host.trackers.of("second")


def test_one_node_that_fails_does_not_stop_the_others(world):
    world.compute.driver.set_nodes(["broken", "here-node"])
    original = world.compute.driver.get_available_resource

    def fail_for_broken(node):
        if node == "broken":
            raise RuntimeError("no answer")
        return original(node)

    world.compute.driver.get_available_resource = fail_for_broken
    world.clock.advance(60)
    audit(world)
    assert node_row(world)["updated_at"] == world.clock.naive()


def test_guests_nobody_knows_use_memory_too(world):
    world.compute.driver.get_per_instance_usage = lambda: {"orphan": {"uuid": "orphan", "memory_mb": 1000}}
    audit(world)
    assert node_row(world)["memory_mb_used"] == 1512


def test_C32_what_a_guest_takes_beyond_its_memory_is_counted(world):
    world.compute.driver.estimate_instance_overhead = lambda sizes: {"memory_mb": 8}
    world.boot()
    audit(world)
    assert node_row(world)["memory_mb_used"] == 512 + 512 + 8


def test_the_scheduler_sees_states_in_the_stats(world):
    world.boot()
    audit(world)
    stats = node_row(world)["stats"]
    assert stats["num_vm_active"] == "1"
    assert stats["io_workload"] == "0"


def test_C19_updates_of_instances_ask_the_hypervisor_nothing_about_the_host(world):
    instance, asked = world.boot(), []
    for name in ("get_available_nodes", "get_host_stats", "get_available_resource"):
        setattr(world.compute.driver, name, lambda *args, name=name: asked.append(name))

    for task in ("pausing", None, "pausing", None):
        world.compute._instance_update(world.context, instance.uuid, task_state=task)

    assert asked == []


def test_C20_changes_of_state_are_written_only_now_and_then(world):
    world.boot()
    writes = []
    report = world.db.compute_node_report
    world.db.compute_node_report = lambda *args, **kwargs: writes.append(1) or report(*args, **kwargs)
    instance = world.boot()
    writes.clear()
    for task in ("pausing", None, "pausing", None):
        world.compute._instance_update(world.context, instance.uuid, task_state=task)
    assert writes == []
    world.clock.advance(10)
    world.compute._instance_update(world.context, instance.uuid, task_state="pausing")
    assert writes == [1]


def test_two_builds_cannot_claim_the_same_room(world):
    tracker = world.compute.compute_host.trackers.of("here-node")
    limits = {"memory_mb": 512 + 512}
    barrier, outcomes = threading.Barrier(2), []

    def claim(instance):
        barrier.wait(5)
        try:
            tracker.instance_claim(world.context, instance, limits)
            outcomes.append("claimed")
        except exception.ComputeResourcesUnavailable:
            outcomes.append("refused")

    for task in [spawn(claim, world.create()) for _ in range(2)]:
        task.wait(10)
    assert sorted(outcomes) == ["claimed", "refused"]


def test_a_deleted_instance_is_not_counted(world):
    instance = world.boot()
    world.compute._instance_update(world.context, instance.uuid, vm_state=vm_states.DELETED)
    audit(world)
    assert node_row(world)["memory_mb_used"] == 512


def test_without_a_service_record_nothing_is_tracked_and_builds_go_on(world):
    service = world.db.service_get_by_compute_host(world.context, "here")
    world.db.service_destroy(world.context, service["id"])
    audit(world)
    tracker = world.compute.compute_host.trackers.of("here-node")
    assert tracker.disabled
    world.compute.run_instance(world.context, instance=world.create())
    assert objects.InstanceList.get_by_host(world.context, "here")[0].vm_state == vm_states.ACTIVE
