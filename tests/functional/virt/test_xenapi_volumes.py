import itertools

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.xensim.iscsi import Target

targets = itertools.count(1)


@pytest.fixture
def instance(bench):
    return bench.spawn()


@pytest.fixture
def connection():
    number = next(targets)
    return {"driver_volume_type": "iscsi", "data": {
        "volume_id": f"vol-{number}", "target_portal": "10.0.0.9:3260", "target_iqn": f"iqn.test:{number}",
        "target_lun": 0}}


def volume_vbds(bench, instance):
    found = [bench.api("VBD.get_record", ref) for ref in bench.vm(instance)["VBDs"]]
    return [vbd for vbd in found if vbd["other_config"].get("osvol")]


def everything(bench):
    return {**bench.counts(), "SR": len(bench.api("SR.get_all")), "PBD": len(bench.api("PBD.get_all"))}


def test_a_volume_becomes_a_disk_of_the_running_instance(bench, instance, connection):
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    vbd, = volume_vbds(bench, instance)
    assert vbd["userdevice"] == "2" and vbd["currently_attached"]


def test_a_detached_volume_leaves_nothing_on_the_host(bench, instance, connection):
    before = everything(bench)
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    bench.driver.detach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before


def test_detaching_what_is_not_attached_is_no_error(bench, instance, connection):
    bench.driver.detach_volume(connection, instance, "/dev/xvdf")


def test_defect_22_destroying_an_instance_lets_its_volumes_go_and_keeps_them(bench, connection):
    bench.spawn()
    before = everything(bench)
    instance = bench.spawn()
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    bench.simulator.control.reset_calls()

    bench.vmops.destroy(instance, [])

    assert everything(bench) == before
    assert bench.calls().count("VDI.destroy") == 1


def test_an_instance_boots_with_its_volumes(bench, connection):
    mapping = {"root_device_name": "/dev/xvda", "swap": None, "ephemerals": [], "block_device_mapping": [
        {"connection_info": connection, "mount_device": "/dev/xvda", "delete_on_termination": False}]}
    instance = bench.spawn(image={}, block_device_info=mapping)
    assert bench.vm(instance)["power_state"] == "Running"
    assert bench.vmops.volumes.is_booted_from_volume(bench.vmops.finder.require(instance))


@pytest.mark.parametrize("method", ["VM.unpause", "VM.start_on", "VIF.create", "VBD.create"])
def test_a_failing_build_lets_its_volumes_go(bench, connection, method):
    mapping = {"block_device_mapping": [
        {"connection_info": connection, "mount_device": "/dev/xvdb", "delete_on_termination": False}]}
    bench.spawn()
    before = everything(bench)
    bench.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure):
        bench.spawn(block_device_info=mapping)
    assert everything(bench) == before


@pytest.mark.parametrize("method", ["PBD.plug", "SR.scan", "VDI.introduce", "VBD.create", "VBD.plug"])
def test_an_attachment_that_fails_is_taken_back(bench, instance, connection, method):
    before = everything(bench)
    bench.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])
    with pytest.raises((exception.StorageError, XenAPI.Failure)):
        bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before


def test_defect_29_a_wrong_chap_password_is_told_without_the_password(bench, instance, connection):
    data = connection["data"]
    bench.simulator.toolstack.iscsi.targets[("10.0.0.9", data["target_iqn"])] = Target(
        {0: 1 << 30}, username="u", password="right")
    data |= {"auth_method": "CHAP", "auth_username": "u", "auth_password": "wrong-secret"}
    with pytest.raises(exception.StorageError) as raised:
        bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert "SR_BACKEND_FAILURE_68" in str(raised.value) and "wrong-secret" not in str(raised.value)

    data["auth_password"] = "right"
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert volume_vbds(bench, instance)


def test_each_lun_is_found_by_its_number(bench, instance, connection):
    bench.simulator.toolstack.iscsi.targets[("10.0.0.9", connection["data"]["target_iqn"])] = Target(
        {0: 1 << 30, 1: 2 << 30})
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    connection["data"]["target_lun"] = 1
    bench.driver.attach_volume(connection, instance, "/dev/xvdd")
    sizes = {vbd["userdevice"]: bench.api("VDI.get_virtual_size", vbd["VDI"])
             for vbd in volume_vbds(bench, instance)}
    assert sizes == {"2": str(1 << 30), "3": str(2 << 30)}


def test_a_volume_of_an_instance_without_vm_is_not_found(bench, connection):
    with pytest.raises(exception.InstanceNotFound):
        bench.vmops.volumes.attach_volume(connection, "nobody", "/dev/xvdc")


def test_a_volume_whose_target_is_away_is_named_by_its_device(bench, instance, connection):
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    target = bench.simulator.toolstack.iscsi.targets.setdefault(
        ("10.0.0.9", connection["data"]["target_iqn"]), Target({0: 1 << 30}))
    target.is_away = True
    vm_ref = bench.vmops.finder.require(instance)
    assert bench.vmops.volumes.find_bad_volumes(vm_ref) == ["/dev/xvdc"]
