"""A host in trouble while work is in flight: restarts, lost sessions, a moved master, no power, no room."""

import threading

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi.snapshot import CoalesceTimeout
from nova_lite.xensim import Simulator
from tests.chaos.xen.faults import HurriedBench, left
from tests.fixtures.processes import wait_until
from tests.fixtures.xen_bench import make_instance, make_network_info

PROPER = (exception.NovaException, XenAPI.Failure)


@pytest.fixture
def simulator(tmp_path):
    made = Simulator(state_dir=str(tmp_path / "host"), name="hard-times")
    made.start()
    yield made
    made.control.clear()
    made.stop()


@pytest.fixture
def bench(simulator):
    made = HurriedBench(simulator)
    made.spawn_warm()
    yield made
    made.close()


def outcome(act):
    """Return the error of ours or of XenServer that an act ends with, None for success; any other is raised."""
    try:
        act()
    except PROPER as error:
        return error
    return None


def destroy(bench, instance):
    bench.driver.destroy(instance, make_network_info())


def test_a_toolstack_that_restarts_during_a_build_leaves_it_done_or_undone(simulator, bench):
    before, instance = left(bench), make_instance()
    simulator.control.delay("VM.start_on", 0.5)
    build = threading.Thread(target=lambda: outcome(lambda: bench.spawn(instance)))
    simulator.control.reset_calls()
    build.start()
    wait_until(lambda: "Async.VM.start_on" in simulator.control.calls(), "the VM was not started")
    simulator.restart_toolstack()
    build.join(60)
    assert not build.is_alive()
    destroy(bench, instance)
    assert left(bench) == before
    bench.spawn(instance)
    assert bench.vm(instance)["power_state"] == "Running"


def test_lost_sessions_are_replaced_without_anybody_noticing(simulator, bench):
    instance = bench.spawn()
    simulator.control.lose_sessions()
    bench.driver.pause(instance)
    assert bench.vm(instance)["power_state"] == "Paused"
    simulator.control.lose_sessions()
    bench.spawn()


def test_a_host_without_power_is_an_error_of_one_line_and_work_goes_on_when_it_is_back(simulator, bench):
    before, instance = left(bench), make_instance()
    simulator.control.kill_host(bench.vmops._session.host_ref)
    error = outcome(lambda: bench.spawn(instance))
    assert isinstance(error, HypervisorUnavailable) and "\n" not in str(error)
    simulator.control.revive_host(bench.vmops._session.host_ref)
    bench.spawn(instance)
    destroy(bench, instance)
    assert left(bench) == before


def test_a_repository_without_room_fails_the_build_and_nothing_of_it_stays(simulator, bench):
    before = left(bench)
    simulator.control.fail("VDI.clone", error=["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""])
    error = outcome(bench.spawn)
    assert isinstance(error, XenAPI.Failure) and error.details[0] == "SR_BACKEND_FAILURE_44"
    assert left(bench) == before


def test_a_plug_that_is_refused_while_another_runs_takes_the_attachment_back(simulator, bench):
    instance = bench.spawn()
    ready = left(bench)
    simulator.control.iscsi_target("10.0.0.9", "iqn.hard:1", {"0": 1 << 30})
    connection = {"driver_volume_type": "iscsi", "data": {
        "volume_id": "v1", "target_portal": "10.0.0.9:3260", "target_iqn": "iqn.hard:1", "target_lun": 0}}
    simulator.control.fail("VBD.plug", error=["OTHER_OPERATION_IN_PROGRESS", "VM", "", "hotplug", ""])
    error = outcome(lambda: bench.driver.attach_volume(connection, instance, "/dev/xvdf"))
    assert isinstance(error, exception.StorageError)
    assert left(bench) == ready
    bench.driver.attach_volume(connection, instance, "/dev/xvdf")
    simulator.control.fail("VBD.unplug", error=["DEVICE_DETACH_REJECTED", "VBD", "", "busy"])
    bench.driver.detach_volume(connection, instance, "/dev/xvdf")
    assert left(bench) == ready


def test_a_cached_image_that_is_being_cloned_is_waited_for(simulator, bench):
    busy = ["OTHER_OPERATION_IN_PROGRESS", "VDI", "OpaqueRef:image", "clone", "OpaqueRef:other"]
    simulator.control.fail("VDI.clone", error=busy, count=3)
    assert bench.vm(bench.spawn())["power_state"] == "Running"


def test_a_return_that_was_not_answered_does_not_take_the_vm_for_a_newer_one(simulator, bench):
    instance = bench.spawn()
    vm_ref = bench.vmops.finder.require(instance)
    # The host gave it its name back and nobody was told: only the other name is remembered.
    bench.vmops.cache.note_label(vm_ref, instance["name"] + "-orig")
    bench.driver.finish_revert_migration(instance, make_network_info())
    assert bench.api("VM.get_power_state", vm_ref) == "Running"


def test_parents_that_are_never_merged_end_a_snapshot_and_leave_nothing_of_it(simulator):
    # A disk of its own, without siblings in the image cache: its parents could be merged.
    bench = HurriedBench(simulator, cache_images="none", vhd_coalesce_max_attempts=3)
    try:
        instance = bench.spawn()
        vdi_ref = bench.vmops.disks.root_vdi_of(bench.vmops.finder.require(instance))
        simulator.control.collector(is_paused=True)
        bench.api("VDI.destroy", bench.api("VDI.snapshot", vdi_ref, {}))
        # What the guest has written since then has to be merged with what was there.
        bench.driver.power_off(instance)
        bench.vmops.disks._transfers.import_vdi(vdi_ref, [b"new" * 1000], 3000)
        ready = left(bench)
        image_id = bench.images.add(b"")["id"]
        error = outcome(lambda: bench.driver.snapshot(None, instance, image_id, lambda **states: None))
        assert isinstance(error, CoalesceTimeout) and "\n" not in str(error)
        assert left(bench) == ready
        simulator.control.collector(is_paused=False)
        wait_until(lambda: outcome(lambda: bench.driver.snapshot(
            None, instance, image_id, lambda **states: None)) is None, "it stays so once they are merged")
        assert left(bench) == ready
    finally:
        simulator.control.collector(is_paused=False)
        bench.close()


def test_a_reply_past_the_deadline_is_an_error_and_what_it_made_can_be_removed(simulator):
    bench = HurriedBench(simulator, call_timeout=1)
    try:
        before, instance = left(bench), make_instance()
        simulator.control.delay("VM.create", 3)
        error = outcome(lambda: bench.spawn(instance))
        assert isinstance(error, HypervisorUnavailable)
        # The host carries out what it was asked, after all: found by its name, it goes with the instance.
        wait_until(lambda: bench.vm(instance), "the host did not make the VM")
        destroy(bench, instance)
        assert bench.vm(instance) is None
        assert left(bench) == before
    finally:
        bench.close()


def test_a_moved_master_is_followed_with_work_in_flight(tmp_path):
    with Simulator(hosts=2, state_dir=str(tmp_path / "pool"), name="moving") as pool:
        bench = HurriedBench(pool)
        try:
            instance = bench.spawn()
            other = next(ref for ref in bench.api("host.get_all") if ref != bench.vmops._session.host_ref)
            bench.api("pool.designate_new_master", other)
            bench.driver.pause(instance)
            assert bench.vm(instance)["power_state"] == "Paused"
        finally:
            bench.close()
