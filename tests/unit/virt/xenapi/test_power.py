import pytest
import XenAPI

from nova_lite import exception
from nova_lite.objects import power_state
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import make_instance, make_network_info


@pytest.fixture
def instance(bench):
    return bench.spawn()


def test_every_power_operation_leads_to_its_state_and_get_info_shows_it_at_once(bench, instance):
    for operation, state in [("pause", "Paused"), ("unpause", "Running"), ("suspend", "Suspended"),
                             ("resume", "Running"), ("power_off", "Halted"), ("power_on", "Running")]:
        getattr(bench.vmops, operation)(instance)
        assert bench.vm(instance)["power_state"] == state, operation
        expected = {"Paused": power_state.PAUSED, "Running": power_state.RUNNING, "Halted": power_state.SHUTDOWN,
                    "Suspended": power_state.SUSPENDED}[state]
        assert bench.vmops.get_info(instance)["state"] == expected, operation


@pytest.mark.parametrize("operation", ["pause", "unpause", "reboot"])
def test_simple_operations_take_two_calls_at_most(bench, instance, operation):
    if operation == "unpause":
        bench.vmops.pause(instance)
    bench.simulator.control.reset_calls()
    getattr(bench.vmops, operation)(instance, *(["HARD"] if operation == "reboot" else []))
    assert len(bench.calls()) <= 2, bench.calls()


def test_asking_for_the_state_of_a_hundred_instances_takes_no_call(bench, instance):
    bench.simulator.control.reset_calls()
    for _ in range(100):
        assert bench.driver.get_info(instance)["state"] == power_state.RUNNING
    assert instance["uuid"] in bench.driver.list_instance_uuids()
    assert bench.calls() == []


def test_get_info_tells_memory_in_kib_and_cpus_as_a_number(bench, instance):
    info = bench.vmops.get_info(instance)
    assert info == {"state": power_state.RUNNING, "max_mem": 128 << 10, "mem": 128 << 10, "num_cpu": 1, "cpu_time": 0}


def test_pausing_what_is_paused_already_is_no_error(bench, instance):
    bench.vmops.pause(instance)
    bench.vmops.pause(instance)
    assert bench.vm(instance)["power_state"] == "Paused"


@pytest.mark.parametrize("before", ["power_off", "pause"])
def test_a_reboot_leaves_the_instance_running_whatever_it_was(bench, instance, before):
    getattr(bench.vmops, before)(instance)
    bench.vmops.reboot(instance, "SOFT")
    assert bench.vm(instance)["power_state"] == "Running"


def test_a_soft_deleted_instance_cannot_be_started_until_it_is_restored(bench, instance):
    bench.vmops.soft_delete(instance)
    with pytest.raises(XenAPI.Failure, match="OPERATION_BLOCKED"):
        bench.vmops.power_on(instance)
    bench.vmops.restore(instance)
    assert bench.vm(instance)["power_state"] == "Running"
    assert bench.vm(instance)["blocked_operations"] == {}


def test_halted_instances_are_listed(bench, instance):
    bench.vmops.power_off(instance)
    assert instance["name"] in bench.vmops.list_instances()
    assert (instance["name"], power_state.SHUTDOWN) in bench.vmops.list_instances_detail()


def test_an_instance_without_vm_is_not_found(bench):
    with pytest.raises(exception.InstanceNotFound):
        bench.vmops.get_info(make_instance())


def test_a_vm_that_was_replaced_behind_our_back_is_found_again(bench, instance):
    bench.vmops.cache._vms[bench.vmops.finder.require(instance)] = None
    ref = bench.api("VM.get_by_name_label", instance["name"])[0]
    bench.vmops.cache._vms.pop(ref)
    bench.vmops.pause(instance)
    assert bench.vm(instance)["power_state"] == "Paused"


def test_destroying_removes_vm_disks_and_interfaces_and_may_be_repeated(bench):
    bench.spawn()
    before = bench.counts()
    instance = bench.spawn()

    bench.vmops.destroy(instance, make_network_info())
    bench.vmops.destroy(instance, make_network_info())

    assert bench.counts() == before
    assert instance["name"] not in bench.vmops.list_instances()


def test_destroying_may_keep_the_disks(bench, instance):
    disks = bench.disk_count()
    bench.vmops.destroy(instance, [], destroy_disks=False)
    assert bench.vm(instance) is None
    assert bench.disk_count() == disks


def test_changes_made_by_others_reach_the_compute_service_as_events(bench, instance):
    heard = []
    bench.driver.register_event_listener(heard.append)
    bench.api("VM.hard_shutdown", bench.api("VM.get_by_name_label", instance["name"])[0])
    # What the build itself did may still be on its way.
    wait_until(lambda: heard and heard[-1].get_name() == "Stopped", "the stop is told")
    assert heard[-1].get_instance_uuid() == instance["uuid"]


def test_a_guest_that_stops_by_itself_is_seen_without_being_asked_for(bench, instance):
    bench.simulator.control.reset_calls()
    bench.simulator.control.guest_stops(bench.vmops.finder.require(instance))
    wait_until(lambda: bench.driver.get_info(instance)["state"] == power_state.SHUTDOWN, "it is seen")
    assert "VM.get_record" not in bench.calls()


def last_domain(bench, instance):
    return bench.vm(instance)["other_config"].get("last_dom_id")


def test_the_domain_of_a_guest_is_noted_when_it_starts(bench, instance):
    assert last_domain(bench, instance) == bench.vm(instance)["domid"] != "-1"


def test_the_last_domain_of_a_guest_that_rebooted_and_then_stopped_is_noted(bench, instance):
    vm_ref = bench.vmops.finder.require(instance)
    first = last_domain(bench, instance)
    bench.vmops.reboot(instance, "HARD")
    second = bench.vm(instance)["domid"]
    wait_until(lambda: str(bench.vmops.cache.get(vm_ref).domid) == second, "the reboot is seen")
    bench.simulator.control.guest_stops(vm_ref)
    wait_until(lambda: last_domain(bench, instance) == second, "it is noted")
    assert second != first


def test_a_reboot_that_volumes_prevent_goes_on_without_those_that_are_away(bench, instance):
    detached = []

    def detach(devices):
        detached.append(devices)
        bench.api("VM.hard_shutdown", bench.vmops.finder.require(instance))

    bench.simulator.control.fail("VM.hard_reboot", error=["SR_BACKEND_FAILURE_46", "", "VDI is away", ""])
    bench.driver.reboot(None, instance, make_network_info(), "HARD", bad_volumes_callback=detach)
    assert detached == [[]]
    assert bench.vm(instance)["power_state"] == "Running"


def test_a_reboot_that_volumes_prevent_fails_where_nobody_detaches_them(bench, instance):
    bench.simulator.control.fail("VM.hard_reboot", error=["SR_BACKEND_FAILURE_46", "", "VDI is away", ""])
    with pytest.raises(exception.InstanceRebootFailure, match="SR_BACKEND_FAILURE_46"):
        bench.vmops.reboot(instance, "HARD")
