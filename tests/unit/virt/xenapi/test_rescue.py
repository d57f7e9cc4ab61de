import pytest
import XenAPI

from nova_lite import exception
from tests.fixtures.xen_bench import make_network_info


@pytest.fixture
def instance(bench):
    return bench.spawn()


def vbds(bench, vm):
    return {record["userdevice"]: record for record in (bench.api("VBD.get_record", ref) for ref in vm["VBDs"])}


def rescue(bench, instance, **kwargs):
    bench.vmops.rescue(None, instance, make_network_info(), bench.image, **kwargs)


def test_defect_21_in_rescue_the_instance_sees_its_own_root_disk_as_the_second(bench, instance):
    root = vbds(bench, bench.vm(instance))["0"]["VDI"]

    rescue(bench, instance)

    assert bench.vm(instance)["power_state"] == "Halted"
    rescuer = bench.vm(instance, "-rescue")
    assert rescuer["power_state"] == "Running"
    assert vbds(bench, rescuer)["1"]["VDI"] == root
    assert vbds(bench, rescuer)["0"]["VDI"] != root


def test_an_instance_in_rescue_cannot_be_started(bench, instance):
    rescue(bench, instance)
    with pytest.raises(XenAPI.Failure, match="OPERATION_BLOCKED"):
        bench.vmops.power_on(instance)


def test_defect_21_ending_rescue_starts_the_instance_and_keeps_its_disk(bench, instance):
    before = bench.counts()
    rescue(bench, instance)

    bench.vmops.unrescue(instance)

    assert bench.vm(instance)["power_state"] == "Running"
    assert bench.vm(instance, "-rescue") is None
    assert bench.vm(instance)["blocked_operations"] == {}
    assert bench.counts() == before


def test_rescue_inside_rescue_is_refused(bench, instance):
    rescue(bench, instance)
    with pytest.raises(RuntimeError):
        rescue(bench, instance)


def test_ending_a_rescue_that_is_none_is_refused(bench, instance):
    with pytest.raises(exception.InstanceNotInRescueMode):
        bench.vmops.unrescue(instance)


def test_defect_19_a_failed_rescue_leaves_the_instance_running_and_unlocked(bench, instance):
    before = bench.counts()
    bench.simulator.control.fail("VM.create", error=["INTERNAL_ERROR", "planted"])

    with pytest.raises(XenAPI.Failure, match="planted"):
        rescue(bench, instance)

    assert bench.vm(instance)["power_state"] == "Running"
    assert bench.vm(instance)["blocked_operations"] == {}
    assert bench.counts() == before


def test_defect_20_only_rescues_older_than_the_limit_are_ended(bench, instance):
    rescue(bench, instance)
    bench.vmops.poll_rescued_instances(3600)
    assert bench.vm(instance, "-rescue") is not None

    bench.vmops.poll_rescued_instances(-1)

    assert bench.vm(instance, "-rescue") is None
    assert bench.vm(instance)["power_state"] == "Running"


def test_destroying_an_instance_in_rescue_removes_both(bench):
    bench.spawn()
    before = bench.counts()
    instance = bench.spawn()
    rescue(bench, instance)

    bench.vmops.destroy(instance, [])

    assert bench.counts() == before
