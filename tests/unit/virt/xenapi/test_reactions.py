"""What the driver does about each error that a host may answer with, and about calls nobody knows the outcome of."""

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import plugins
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.tasks import TaskTimeout
from tests.fixtures.processes import wait_until


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture
def naps(bench, monkeypatch):
    """The seconds the driver slept, which took no time."""
    naps = []
    monkeypatch.setattr(bench.vmops._session.clock, "sleep", naps.append)
    return naps


@pytest.fixture
def session(bench, naps):
    return bench.vmops._session


@pytest.fixture(scope="module")
def lasting(lasting_bench):
    return lasting_bench.spawn(network_info=[])


@pytest.fixture
def instance(bench, lasting):
    """An instance that runs, before and after each test."""
    yield lasting
    if bench.vm(lasting)["power_state"] != "Running":
        bench.vmops.power_on(lasting)


@pytest.fixture
def fail(bench):
    def plant(method, *error, count=1, nth=1):
        bench.simulator.control.fail(method, error=list(error), count=count, nth=nth)
    return plant


# Calls that are repeated -----------------------------------------------------------------------------------------


def test_an_entry_of_a_map_whose_reply_was_lost_is_there_once(bench, session):
    bench.simulator.control.drop_reply("host.add_to_other_config")
    session.call_xenapi("host.add_to_other_config", session.host_ref, "color", "red")
    assert session.call_xenapi("host.get_other_config", session.host_ref)["color"] == "red"
    with pytest.raises(XenAPI.Failure, match="MAP_DUPLICATE_KEY"):
        session.call_xenapi("host.add_to_other_config", session.host_ref, "color", "red")
    session.call_xenapi("host.remove_from_other_config", session.host_ref, "color")


def test_an_entry_that_somebody_else_set_meanwhile_is_replaced(fail, session):
    fail("host.add_to_other_config", "MAP_DUPLICATE_KEY", "host", "other_config", session.host_ref, "color")
    session.put_in_map("host.other_config", session.host_ref, "color", "blue", is_new=True)
    assert session.call_xenapi("host.get_other_config", session.host_ref)["color"] == "blue"
    session.call_xenapi("host.remove_from_other_config", session.host_ref, "color")


def test_a_removal_whose_reply_was_lost_is_done(bench, session, instance):
    vdi_ref = session.call_xenapi("VDI.snapshot", bench.vmops.disks.root_vdi_of(bench.vmops.finder.require(instance)),
                                  {})
    bench.simulator.control.drop_reply("VDI.destroy")
    bench.vmops.disks.destroy_vdi(vdi_ref)
    assert session.get_rec("VDI", vdi_ref) is None


@pytest.mark.parametrize("code", ["HOST_OFFLINE", "CANNOT_CONTACT_HOST", "HOST_NOT_LIVE", "HOST_STILL_BOOTING"])
def test_our_host_is_waited_for_when_it_is_away_and_a_change_is_not_tried_twice(fail, session, naps, code):
    fail("host.get_uuid", code, session.host_ref)
    assert session.call_xenapi("host.get_uuid", session.host_ref) == session.host_uuid and naps
    fail("pool.sync_database", code, session.host_ref)
    with pytest.raises(HypervisorUnavailable, match=code):
        session.call_xenapi("pool.sync_database")


def test_another_host_that_is_away_is_an_error_of_the_call(fail, session, naps):
    fail("VM.assert_can_migrate", "HOST_OFFLINE", "OpaqueRef:another")
    with pytest.raises(XenAPI.Failure, match="HOST_OFFLINE"):
        session.call_xenapi("VM.assert_can_migrate", "vm", {}, True, {}, {}, {})
    assert naps == []


def test_a_task_is_cancelled_and_has_ended_when_its_time_is_over(bench, instance):
    vm_ref = bench.vmops.finder.require(instance)
    bench.simulator.control.guest_timing(shutdown_s=30)
    try:
        with pytest.raises(TaskTimeout):
            bench.vmops._session.call_task("VM.clean_shutdown", vm_ref, timeout_s=0.1)
    finally:
        bench.simulator.control.guest_timing()
    assert bench.vm(instance)["power_state"] == "Running" and bench.vm(instance)["current_operations"] == {}


# VMs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["OTHER_OPERATION_IN_PROGRESS", "OPERATION_NOT_ALLOWED"])
def test_a_vm_that_is_busy_is_waited_for(bench, fail, naps, code):
    instance = bench.spawn(network_info=[])
    for method, operation, state in [("VM.pause", "pause", "Paused"), ("VM.unpause", "unpause", "Running"),
                                     ("VM.hard_shutdown", "power_off", "Halted"),
                                     ("VM.start_on", "power_on", "Running")]:
        fail(method, code, "VM", "ref", count=2)
        getattr(bench.vmops, operation)(instance)
        assert bench.vm(instance)["power_state"] == state, method
    fail("VM.destroy", code, "VM", "ref")
    bench.vmops.destroy(instance, [])
    assert bench.vm(instance) is None and naps == [0.2, 0.5] * 4 + [0.2]


@pytest.mark.parametrize("code", ["VDI_IN_USE", "VDI_NOT_AVAILABLE", "VDI_MISSING"])
def test_a_disk_that_another_host_still_has_is_waited_for_by_a_start(bench, fail, instance, naps, code):
    bench.vmops.power_off(instance)
    fail("VM.start_on", code, "ref", "op", count=2)
    bench.vmops.power_on(instance)
    assert bench.vm(instance)["power_state"] == "Running" and naps == [0.2, 0.5]


def test_a_disk_that_is_busy_is_frozen_later(bench, fail, instance, naps):
    fail("VDI.snapshot", "OTHER_OPERATION_IN_PROGRESS", "VDI", "ref", count=2)
    bench.vmops.snapshot(None, instance, bench.images.add(b"", status="queued")["id"])
    assert naps == [0.2, 0.5]


def test_a_vm_that_stays_busy_is_told(bench, fail, instance, naps):
    fail("VM.pause", "OTHER_OPERATION_IN_PROGRESS", "VM", "ref", count=50)
    with pytest.raises(XenAPI.Failure, match="OTHER_OPERATION_IN_PROGRESS"):
        bench.vmops.pause(instance)
    assert len(naps) == 4


@pytest.mark.parametrize("code", ["VM_MISSING_PV_DRIVERS", "VM_LACKS_FEATURE"])
def test_a_guest_without_drivers_is_switched_off_hard_and_its_soft_reboot_is_told(bench, fail, instance, code):
    fail("VM.clean_reboot", code, "ref")
    with pytest.raises(exception.InstanceRebootFailure, match=code):
        bench.vmops.reboot(instance, "SOFT")
    fail("VM.clean_shutdown", code, "ref")
    bench.vmops.power_off(instance, timeout=60)
    assert bench.vm(instance)["power_state"] == "Halted"


@pytest.mark.parametrize("code", ["HOST_NOT_ENOUGH_FREE_MEMORY", "NO_HOSTS_AVAILABLE"])
def test_a_host_without_room_for_a_guest_fails_the_build_with_its_reason(bench, fail, instance, code):
    before = bench.counts()
    fail("VM.start_on", code, "1", "0")
    with pytest.raises(XenAPI.Failure, match=code):
        bench.spawn()
    assert bench.counts() == before


# Disks and repositories ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["OTHER_OPERATION_IN_PROGRESS", "OPERATION_NOT_ALLOWED", "VDI_IN_USE",
                                  "VDI_NOT_AVAILABLE", "VDI_MISSING"])
def test_a_disk_that_is_busy_is_removed_later(bench, fail, naps, code):
    vdi_ref = bench.vmops.disks._create({**NEW_VDI, "SR": bench.vmops.storage.for_guests().ref})
    fail("VDI.destroy", code, "ref", "op", count=2)
    bench.vmops.disks.destroy_vdi(vdi_ref)
    assert bench.vmops._session.get_rec("VDI", vdi_ref) is None and naps == [0.2, 0.5]


NEW_VDI = {"name_label": "d", "name_description": "", "virtual_size": str(2 << 20), "type": "user", "sharable": False,
           "read_only": False, "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []}


@pytest.mark.parametrize("code", ["HANDLE_INVALID", "UUID_INVALID"])
def test_what_is_gone_already_is_removed(bench, fail, code):
    fail("VDI.destroy", code, "VDI", "ref")
    bench.vmops.disks.destroy_vdi("ref")
    fail("VBD.destroy", code, "VBD", "ref")
    bench.vmops.disks.destroy_vbd("ref")


@pytest.mark.parametrize("code", ["DEVICE_DETACH_REJECTED", "DEVICE_DETACH_TIMEOUT", "INTERNAL_ERROR",
                                  "VM_MISSING_PV_DRIVERS", "OPERATION_NOT_ALLOWED", "OTHER_OPERATION_IN_PROGRESS"])
def test_a_device_the_guest_holds_is_asked_for_again(bench, fail, naps, code):
    fail("VBD.unplug", code, "VBD", "ref", count=2)
    fail("VBD.unplug", "DEVICE_ALREADY_DETACHED", "ref", nth=3)
    bench.vmops.disks.unplug("vm", "vbd")
    assert naps == [1, 1]


def test_a_device_that_cannot_be_unplugged_is_told_at_once(bench, fail, naps):
    fail("VBD.unplug", "VDI_IO_ERROR", "ref")
    with pytest.raises(exception.StorageError, match="VDI_IO_ERROR"):
        bench.vmops.disks.unplug("vm", "vbd")
    assert naps == []


def test_a_device_that_is_there_already_is_plugged(bench, fail):
    fail("VBD.plug", "DEVICE_ALREADY_ATTACHED", "ref")
    bench.vmops.disks.plug("vm", "vbd")


def test_a_scan_is_repeated_for_the_passing_error_alone(bench, fail, naps):
    sr_ref = bench.vmops.storage.for_guests().ref
    fail("SR.scan", "SR_BACKEND_FAILURE_40", "", "", "", count=3)
    bench.vmops.storage.scan(sr_ref)
    assert naps == [2, 4, 8]
    for code, attempts in [("SR_BACKEND_FAILURE_40", 4), ("SR_BACKEND_FAILURE_44", 1)]:
        fail("SR.scan", code, "", "", "", count=attempts)
        with pytest.raises(XenAPI.Failure, match=code):
            bench.vmops.storage.scan(sr_ref)


def test_a_full_repository_is_not_asked_twice(bench, fail, instance):
    before = bench.counts()
    fail("VDI.clone", "SR_BACKEND_FAILURE_44", "", "no space", "")
    with pytest.raises(XenAPI.Failure, match="SR_BACKEND_FAILURE_44"):
        bench.spawn()
    assert bench.counts() == before


def test_a_pool_without_isos_is_told(bench):
    with pytest.raises(exception.NotFound, match="content-type ISO"):
        Storage(NoRepositories(), "default-sr:true", 60).for_isos()


class NoRepositories:
    @staticmethod
    def get_all_refs_and_recs(record_type):
        return []


def test_a_call_that_the_host_does_not_know_has_an_alternative(bench, session, instance, monkeypatch):
    monkeypatch.setattr(session, "product_brand", "XCP")
    monkeypatch.setattr(session, "product_version", (1, 1))
    vdi_ref = bench.vmops.disks.root_vdi_of(bench.vmops.finder.require(instance))
    bench.vmops.power_off(instance)
    bench.simulator.control.reset_calls()
    bench.vmops.disks.grow(vdi_ref, 1 << 30, 2 << 30)
    assert bench.calls()[:2] == ["VDI.resize_online", "VDI.resize"]
    assert bench.vmops.disks.virtual_size_b(vdi_ref) == 2 << 30


# Plugins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", plugins.MISSING)
def test_a_plugin_that_is_missing_is_named_with_the_version_it_takes(bench, fail, instance, code):
    fail("host.call_plugin", code, "xenstore.py")
    with pytest.raises(exception.PluginError, match=r"dom0 plugins of version 3\.0"):
        bench.vmops.write_to_xenstore(instance, "vm-data/a", 1)


def test_the_arguments_of_a_plugin_stay_the_callers(fail, session):
    arguments = {"key": "value"}
    fail("host.call_plugin", "XENAPI_PLUGIN_FAILURE", "fn", "OSError", "no")
    with pytest.raises(XenAPI.Failure):
        session.call_plugin("plugin", "fn", arguments)
    assert arguments == {"key": "value"}


def test_a_passing_failure_of_a_plugin_is_tried_again_with_another_server(bench, fail, session, naps):
    servers, failed = [], []
    bench.simulator.control.drop("host.call_plugin")
    fail("host.call_plugin", "XENAPI_PLUGIN_FAILURE", "fn", "RetryableError", "busy", count=7, nth=2)

    with pytest.raises(plugins.PluginRetriesExceeded, match="7"):
        session.call_plugin_serialized_with_retry(
            "glance", "fn", 7, lambda arguments: servers.append(arguments["image"]),
            lambda exc: failed.append(type(exc).__name__), image="i")

    assert servers == ["i"] * 8 and failed == ["HypervisorUnavailable"] + ["Failure"] * 7
    assert naps == [0.5, 1, 2, 4, 8, 15, 15]


def test_a_plugin_that_takes_too_long_is_not_run_again(bench, session, monkeypatch):
    bench.simulator.control.delay("host.call_plugin", 1)
    monkeypatch.setattr(session, "call_timeout_s", 0.1)
    with pytest.raises(HypervisorUnavailable, match="timed out"):
        session.call_plugin_serialized_with_retry("glance", "fn", 7, lambda arguments: None)


# Events ----------------------------------------------------------------------------------------------------------


def test_lost_events_are_made_up_for_by_a_new_picture(bench, fail, instance):
    cache, vm_ref = bench.vmops.cache, bench.vmops.finder.require(instance)
    assert cache.wait_synced(60)
    fail("event.from", "EVENTS_LOST")
    for label in ("first", instance["name"]):  # after the first the stream is asked for more, and is lost
        bench.api("VM.set_name_label", vm_ref, label)
        wait_until(lambda label=label: cache.get(vm_ref).name_label == label, label)
