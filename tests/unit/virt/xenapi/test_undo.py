"""Rescue and destroy: what is done in which order, and what is taken back when one of its calls fails."""

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import power
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import make_instance, make_network_info, vbds

PLANTED = ["INTERNAL_ERROR", "planted"]


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture(scope="module")
def lasting(lasting_bench):
    return lasting_bench.spawn(make_instance(flavor={"ephemeral_gb": 1}))


@pytest.fixture
def instance(bench):
    """An instance that may go."""
    return bench.spawn(network_info=[])


def rescue(bench, instance):
    bench.vmops.rescue(None, instance, make_network_info(), bench.image, rescue_password="s3cret")


@pytest.mark.parametrize("method", ["VM.hard_shutdown", "VM.set_blocked_operations", "VBD.create", "VM.unpause"])
def test_a_rescue_that_fails_leaves_the_instance_as_it_was(bench, lasting, method):
    instance = lasting
    before = bench.counts()
    disks = {number: vbd["VDI"] for number, vbd in vbds(bench, bench.vm(instance)).items()}
    bench.simulator.control.fail(method, error=PLANTED)

    with pytest.raises((XenAPI.Failure, exception.InstancePowerOffFailure), match="planted"):
        rescue(bench, instance)

    bench.simulator.control.clear()
    vm = bench.vm(instance)
    assert (vm["power_state"], vm["blocked_operations"]) == ("Running", {})
    assert {number: vbd["VDI"] for number, vbd in vbds(bench, vm).items()} == disks
    assert bench.counts() == before and bench.vm(instance, "-rescue") is None


def test_a_rescue_vm_has_every_disk_of_the_instance_at_its_number_but_the_first(bench, lasting):
    instance = lasting
    own = {number: vbd["VDI"] for number, vbd in vbds(bench, bench.vm(instance)).items()}
    rescue(bench, instance)
    found = vbds(bench, bench.vm(instance, "-rescue"))
    assert {number: vbd["VDI"] for number, vbd in found.items() if number != "0"} == {"1": own["0"], "4": own["4"]}
    assert found["0"]["bootable"] and not found["1"]["bootable"]
    bench.vmops.unrescue(instance)
    assert {number: vbd["VDI"] for number, vbd in vbds(bench, bench.vm(instance)).items()} == own


def test_an_instance_whose_vm_is_lost_during_its_rescue_stops_no_other_rescue_from_ending(bench, instance):
    other = bench.spawn()
    rescue(bench, instance)
    rescue(bench, other)
    bench.vmops.destroyer.destroy_vm({}, bench.vmops.finder.require(instance))
    bench.vmops.poll_rescued_instances(-1)
    assert bench.vm(instance, "-rescue") is None and bench.vm(other)["power_state"] == "Running"


@pytest.mark.parametrize("ids", [{"kernel_id": "k"}, {"ramdisk_id": "r"}])
def test_an_instance_with_half_a_kernel_is_not_destroyed(bench, lasting, ids):
    with pytest.raises(exception.InstanceUnacceptable, match="not both"):
        bench.vmops.destroy({**lasting, **ids}, [])
    assert bench.vm(lasting)["power_state"] == "Running"


def test_an_instance_is_destroyed_in_this_order_and_its_filters_go_last(bench, instance, monkeypatch):
    order = []
    monkeypatch.setattr(bench.vmops.firewall_driver, "unfilter_instance", lambda *args, **_: order.append("unfilter"))
    call = bench.vmops._session._call

    def watch(pool, method, args, timeout_s):
        order.append(method)
        return call(pool, method, args, timeout_s)

    monkeypatch.setattr(bench.vmops._session, "_call", watch)
    bench.vmops.destroy(instance, [])
    wanted = ("VM.hard_shutdown", "VDI.destroy", "VM.destroy", "unfilter")
    assert [step for step in order if step in wanted] == [
        "VM.hard_shutdown", "VDI.destroy", "VM.destroy", "unfilter"]


@pytest.mark.parametrize("method", ["VM.hard_shutdown", "VM.destroy", "VBD.get_all_records_where"])
def test_a_destruction_that_failed_can_be_repeated(bench, instance, method):
    bench.simulator.control.fail(method, error=PLANTED, count=2)
    with pytest.raises(XenAPI.Failure, match="planted"):
        bench.vmops.destroy(instance, [])
        bench.vmops.destroy(instance, [])
    bench.simulator.control.clear()
    bench.vmops.destroy(instance, [])
    assert bench.vm(instance) is None


def test_a_disk_that_cannot_be_destroyed_keeps_nothing_else(bench, instance):
    bench.simulator.control.fail("VDI.destroy", error=["SR_BACKEND_FAILURE_80", "", "planted", ""])
    bench.vmops.destroy(instance, [])
    assert bench.vm(instance) is None
    left = [vdi for vdi in bench.api("VDI.get_all_records").values()
            if vdi["other_config"].get("nova_instance_uuid") == instance["uuid"]]
    assert left == [], "what the host did not let go at first went when the VM was gone"


def test_a_vm_that_seemed_halted_is_stopped_and_destroyed(bench, instance):
    bench.vmops.cache.note_state(bench.vmops.finder.require(instance), "Halted")
    bench.vmops.destroy(instance, [])
    assert bench.vm(instance) is None


@pytest.fixture
def slow(bench):
    """Guests take their time to shut down."""
    bench.simulator.control.guest_timing(shutdown_s=30)
    yield
    bench.simulator.control.guest_timing()


def test_a_soft_reboot_that_takes_too_long_is_told(bench, instance, slow, monkeypatch):
    session = bench.vmops._session
    call = session.call_long
    monkeypatch.setattr(session, "call_long", lambda method, *args, timeout_s=None: call(method, *args, timeout_s=0.1))
    with pytest.raises(exception.InstanceRebootFailure, match="does not shut down by itself"):
        bench.vmops.reboot(instance, "SOFT")


def test_a_soft_reboot_that_hangs_is_cancelled_before_the_hard_one(bench, instance, slow):
    task_ref = bench.api("Async.VM.clean_reboot", bench.vmops.finder.require(instance))
    domid = bench.vm(instance)["domid"]
    bench.vmops.poll_rebooting_instances(-1, [instance])
    wait_until(lambda: bench.api("task.get_status", task_ref) != "pending", "the end of the soft reboot")
    assert bench.vm(instance)["domid"] != domid and bench.vm(instance)["power_state"] == "Running"


@pytest.mark.parametrize(("operation", "blocked"), [("suspend", power.RESUME_OPERATIONS),
                                                    ("soft_delete", power.START_OPERATIONS)])
def test_what_is_blocked_is_released_and_what_others_blocked_is_not(bench, instance, operation, blocked):
    vm_ref = bench.vmops.finder.require(instance)
    bench.api("VM.set_blocked_operations", vm_ref, {"destroy": "backup"})
    wait_until(lambda: bench.vmops.cache.get(vm_ref).blocked_operations, "the event")
    getattr(bench.vmops, operation)(instance)
    assert set(bench.vm(instance)["blocked_operations"]) == {"destroy", *blocked}
    getattr(bench.vmops, {"suspend": "resume", "soft_delete": "restore"}[operation])(instance)
    assert bench.vm(instance)["blocked_operations"] == {"destroy": "backup"}


@pytest.mark.parametrize(("actual_gb", "wanted_gb", "calls"), [(1, 0, []), (1, 1, []), (1, 2, ["VDI.resize"])])
def test_a_disk_grows_to_its_flavor_and_zero_leaves_it(bench, actual_gb, wanted_gb, calls):
    instance = bench.spawn(network_info=[], power_on=False)
    bench.simulator.control.reset_calls()
    bench.vmops.disks.grow(bench.vmops.disks.root_vdi_of(bench.vmops.finder.require(instance)),
                           actual_gb << 30, wanted_gb << 30)
    assert [call for call in bench.calls() if call.startswith("VDI.resize")] == calls
    with pytest.raises(exception.ResizeError, match="cannot shrink"):
        bench.vmops.disks.grow("vdi", 2 << 30, 1 << 30)


def test_in_rescue_the_rescue_vm_is_rebooted_and_its_console_shown(bench, instance):
    rescue(bench, instance)
    before = bench.vm(instance, "-rescue")["domid"]
    bench.vmops.reboot(instance, "HARD")
    assert bench.vm(instance, "-rescue")["domid"] != before and bench.vm(instance)["power_state"] == "Halted"
    rescue_ref = bench.vmops.finder.require(instance, "-rescue")
    assert f"ref={rescue_ref}&" in bench.vmops.get_vnc_console(instance)["internal_access_path"]
