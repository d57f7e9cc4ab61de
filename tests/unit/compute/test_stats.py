"""Counters of a compute node."""

from nova_lite.compute.stats import Stats
from nova_lite.objects import task_states, vm_states


def make_instance(uuid="one", **changes):
    return {"uuid": uuid, "vm_state": vm_states.BUILDING, "task_state": None, "os_type": "linux",
            "project_id": "p1", "vcpus": 2, **changes}


def test_an_instance_is_counted_by_all_that_it_is():
    stats = Stats()
    stats.update_stats_for_instance(make_instance())
    assert stats == {"num_instances": 1, "num_vcpus_used": 2, "num_vm_building": 1, "num_task_None": 1,
                     "num_os_type_linux": 1, "num_proj_p1": 1, "io_workload": 1}


def test_a_change_replaces_what_the_instance_contributed_before():
    stats = Stats()
    stats.update_stats_for_instance(make_instance())
    stats.update_stats_for_instance(make_instance(vm_state=vm_states.ACTIVE, task_state=task_states.RESIZE_PREP))
    assert (stats["num_vm_building"], stats["num_vm_active"]) == (0, 1)
    assert (stats["num_task_None"], stats["num_task_resize_prep"]) == (0, 1)
    assert stats.num_instances == 1
    assert stats.num_vcpus_used == 2


def test_a_deleted_instance_leaves_nothing_behind():
    stats = Stats()
    stats.update_stats_for_instance(make_instance())
    stats.update_stats_for_instance(make_instance(vm_state=vm_states.DELETED))
    assert set(stats.values()) == {0}
    assert stats.states == {}


def test_workload_counts_instances_with_a_task_and_io_those_that_load_disks():
    stats = Stats()
    stats.update_stats_for_instance(make_instance("a", vm_state=vm_states.ACTIVE, task_state=task_states.PAUSING))
    stats.update_stats_for_instance(make_instance("b", vm_state=vm_states.ACTIVE,
                                                  task_state=task_states.IMAGE_SNAPSHOT))
    stats.update_stats_for_instance(make_instance("c", vm_state=vm_states.ACTIVE))
    assert stats.calculate_workload() == 2
    assert stats.io_workload == 1
    assert stats.num_instances_for_project("p1") == 3
    assert stats.num_os_type("linux") == 3


def test_a_migration_holds_vcpus_and_gives_them_back():
    stats = Stats()
    stats.update_stats_for_migration({"vcpus": 4})
    assert stats.num_vcpus_used == 4
    stats.update_stats_for_migration({"vcpus": 4}, sign=-1)
    assert stats.num_vcpus_used == 0


def test_clear_forgets_the_instances_too():
    stats = Stats()
    stats.update_stats_for_instance(make_instance())
    stats.clear()
    assert stats == {}
    assert stats.states == {}
