import contextlib
import json

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi.migrate import whole_vhd
from nova_lite.virt.xenapi.transfer import TransferFailed
from nova_lite.xensim import Simulator
from tests.fixtures.xen_bench import GIB, disk_digest, make_network_info, vbds

LARGER = {"root_gb": 2, "memory_mb": 256, "vcpus": 2, "ephemeral_gb": 0, "swap": 0, "vcpu_weight": None}


@pytest.fixture(scope="module")
def other_simulator(tmp_path_factory):
    with contextlib.closing(Simulator(state_dir=str(tmp_path_factory.mktemp("other")), name="other")) as simulator:
        simulator.close = simulator.stop
        simulator.start()
        yield simulator
    simulator.stop()


@pytest.fixture
def source(bench):
    return bench


@pytest.fixture
def destination(make_bench, other_simulator):
    yield make_bench(at=other_simulator)
    other_simulator.control.clear()


@pytest.fixture
def instance(source):
    return source.spawn()


def offer(source, instance, flavor=LARGER):
    return source.vmops.migrate_disk_and_power_off(None, instance, "127.0.0.1", flavor)


def finish(destination, instance, disk_info):
    moved = {**instance, "flavor": {**instance["flavor"], **LARGER}}
    destination.vmops.finish_migration(None, {}, moved, disk_info, make_network_info(), destination.image, True)
    return moved


def test_a_resized_instance_runs_at_the_destination_with_its_disk_grown(source, destination, instance):
    moved = finish(destination, instance, offer(source, instance))

    vm = destination.vm(moved)
    assert vm["power_state"] == "Running" and vm["VCPUs_max"] == "2"
    root = vbds(destination, vm)["0"]
    assert destination.api("VDI.get_virtual_size", root["VDI"]) == str(2 * GIB)
    original = source.images.images[source.image["id"]][0]
    assert disk_digest(destination, root["VDI"], original["size"]) == original["os_hash_value"]
    assert source.vm(instance, "-orig")["power_state"] == "Halted"
    assert source.vm(instance) is None


def test_confirming_removes_what_was_left_behind(source, destination):
    source.spawn()
    before = source.counts()
    instance = source.spawn()
    finish(destination, instance, offer(source, instance))

    source.vmops.confirm_migration({}, instance, make_network_info())

    assert source.counts() == before


def test_reverting_starts_the_instance_as_it_was(source, destination, instance):
    moved = finish(destination, instance, offer(source, instance))

    destination.vmops.destroy(moved, make_network_info())
    source.driver.finish_revert_migration(instance, [])

    assert source.vm(instance)["power_state"] == "Running"
    assert source.vm(instance, "-orig") is None
    assert destination.vm(moved) is None


def test_a_revert_that_broke_off_is_done_again_with_its_volumes(source, instance):
    connection = {"driver_volume_type": "iscsi", "data": {
        "volume_id": "v", "target_portal": "10.0.0.9:3260", "target_iqn": "iqn.test:reverted", "target_lun": 0}}
    source.simulator.control.iscsi_target("10.0.0.9", "iqn.test:reverted", {"0": GIB})
    mapping = {"block_device_mapping": [{"connection_info": connection, "mount_device": "/dev/xvdc"}]}
    source.driver.attach_volume(connection, instance, "/dev/xvdc")
    offer(source, instance)
    source.simulator.control.fail("VM.set_name_label", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure):
        source.driver.finish_revert_migration(instance, [], mapping)

    source.driver.finish_revert_migration(instance, [], mapping)

    vm = source.vm(instance)
    assert vm["power_state"] == "Running"
    assert sorted(vbds(source, vm)) == ["0", "2"]


def test_a_hard_reboot_takes_the_vm_of_a_move_that_broke_off_back_into_service(source, instance):
    offer(source, instance)

    source.driver.reboot(None, instance, make_network_info(), "HARD")

    assert source.vm(instance)["power_state"] == "Running"
    assert source.vm(instance, "-orig") is None


def test_no_reboot_starts_the_vm_that_an_instance_of_another_flavor_had_before(source, instance):
    offer(source, instance)
    moved = {**instance, "old_flavor": instance["flavor"], "flavor": {**instance["flavor"], **LARGER}}

    with pytest.raises(exception.InstanceNotFound):
        source.driver.reboot(None, moved, make_network_info(), "HARD")

    assert source.vm(instance, "-orig")["power_state"] == "Halted"


def test_the_offer_ends_with_confirm_and_revert(source, destination, instance):
    handle = json.loads(offer(source, instance))["session_ref"]
    source.api("session.get_uuid", handle)
    source.driver.finish_revert_migration(instance, [])
    with pytest.raises(XenAPI.Failure, match="HANDLE_INVALID"):
        source.api("session.get_uuid", handle)


@pytest.mark.parametrize("method", ["VM.set_name_label", "VM.hard_shutdown", "VDI.get_record"])
def test_a_source_that_fails_leaves_the_instance_running_under_its_name(source, instance, method):
    source.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(exception.InstanceFaultRollback) as raised:
        offer(source, instance)
    assert "planted" in str(raised.value.inner_exception)
    assert source.vm(instance)["power_state"] == "Running"
    assert source.vm(instance, "-orig") is None


@pytest.mark.parametrize("method", ["VDI.create", "PUT /import_raw_vdi", "VM.create", "VM.start_on"])
def test_a_destination_that_fails_keeps_nothing(source, destination, instance, method):
    before = destination.counts()
    disk_info = offer(source, instance)
    destination.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])

    with pytest.raises((XenAPI.Failure, exception.MigrationError)):
        finish(destination, instance, disk_info)

    assert destination.counts() == before


def test_a_source_that_breaks_off_is_noticed():
    with pytest.raises(TransferFailed, match="broke off"):
        list(whole_vhd(iter([b"conectix" + bytes(504), bytes(100)])))


def test_a_resize_on_the_same_host_takes_the_disk_as_it_is(source, instance):
    disks = source.disk_count()
    disk_info = offer(source, instance)
    moved = finish(source, instance, disk_info)
    assert source.disk_count() == disks
    assert source.vm(moved)["power_state"] == "Running"

    source.vmops.confirm_migration({}, instance, make_network_info())

    assert source.disk_count() == disks
    assert source.vm(moved)["power_state"] == "Running"


def test_reverting_a_resize_on_the_same_host_keeps_the_disk(source, instance):
    disks = source.disk_count()
    moved = finish(source, instance, offer(source, instance))
    source.vmops.destroy(moved, make_network_info())
    source.driver.finish_revert_migration(instance, [])
    assert source.vm(instance)["power_state"] == "Running"
    assert source.disk_count() == disks


@pytest.mark.parametrize("flavor", [{"root_gb": 0}, {"root_gb": 0.5}])
def test_defect_32_a_smaller_disk_is_refused_before_anything_happens(source, instance, flavor):
    with pytest.raises(exception.ResizeError):
        offer(source, instance, {**LARGER, **flavor})
    assert source.vm(instance)["power_state"] == "Running"


def test_what_another_driver_offers_is_refused_in_one_line(destination, instance):
    with pytest.raises(exception.MigrationError, match="form"):
        finish(destination, instance, {"version": 99})
