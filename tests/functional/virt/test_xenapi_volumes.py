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
    return {**bench.counts(), **{name: len(bench.api(f"{name}.get_all")) for name in ("SR", "PBD", "secret")}}


def test_a_volume_becomes_a_disk_of_the_running_instance(bench, instance, connection):
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    vbd, = volume_vbds(bench, instance)
    assert vbd["userdevice"] == "2" and vbd["currently_attached"]


def test_a_detached_volume_leaves_nothing_on_the_host(bench, instance, connection):
    before = everything(bench)
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    bench.driver.detach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before


def test_a_volume_of_an_instance_that_is_off_is_there_when_it_starts_and_leaves_without_being_unplugged(
        bench, instance, connection):
    before = everything(bench)
    bench.vmops.power_off(instance)
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert not volume_vbds(bench, instance)[0]["currently_attached"]
    bench.vmops.power_on(instance)
    assert volume_vbds(bench, instance)[0]["currently_attached"]
    bench.vmops.power_off(instance)
    bench.simulator.control.reset_calls()
    bench.driver.detach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before and "VBD.unplug" not in bench.calls()


def test_a_device_that_is_taken_is_told_and_the_volume_let_go(bench, instance, connection):
    before = everything(bench)
    with pytest.raises(exception.StorageError, match="DEVICE_ALREADY_EXISTS"):
        bench.driver.attach_volume(connection, instance, "/dev/xvda")
    assert everything(bench) == before


def test_a_guest_without_drivers_takes_no_volume_while_it_runs_and_gives_one_back_after_a_while(
        bench, instance, connection):
    before = everything(bench)
    bench.simulator.control.fail("VBD.plug", error=["VM_MISSING_PV_DRIVERS", "vm"])
    with pytest.raises(exception.StorageError, match="VM_MISSING_PV_DRIVERS"):
        bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    bench.simulator.control.fail("VBD.unplug", error=["VM_MISSING_PV_DRIVERS", "vm"])
    bench.driver.detach_volume(connection, instance, "/dev/xvdc")
    assert everything(bench) == before


def test_a_repository_that_is_known_and_not_plugged_is_plugged_for_its_volume(bench, instance, connection):
    sr_uuid, _ = bench.vmops.volumes.connect_volume(connection)
    for pbd_ref in bench.api("SR.get_PBDs", bench.api("SR.get_by_uuid", sr_uuid)):
        bench.api("PBD.unplug", pbd_ref)
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    assert volume_vbds(bench, instance)[0]["currently_attached"]


def test_volumes_of_an_instance_whose_vm_was_removed_by_hand_go_with_it(bench, instance, connection):
    before = everything(bench)
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    vm_ref = bench.vmops.finder.require(instance)
    bench.api("VM.hard_shutdown", vm_ref)
    bench.api("VM.destroy", vm_ref)
    bench.driver.destroy(instance, [], {"block_device_mapping": [
        {"connection_info": connection, "mount_device": "/dev/xvdc", "delete_on_termination": False}]})
    after = everything(bench)
    assert {name: after[name] for name in ("SR", "PBD", "secret")} \
        == {name: before[name] for name in ("SR", "PBD", "secret")}
    assert after["VDI"] < before["VDI"]  # its root disk went too


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


def test_the_password_of_a_volume_is_in_a_secret_of_its_own_and_goes_with_it(bench, instance, connection):
    data = connection["data"]
    bench.simulator.toolstack.iscsi.targets[("10.0.0.9", data["target_iqn"])] = Target(
        {0: 1 << 30}, username="u", password="right")
    data |= {"auth_method": "CHAP", "auth_username": "u", "auth_password": "right"}
    before = set(bench.api("secret.get_all"))
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")

    configs = [pbd["device_config"] for pbd in bench.api("PBD.get_all_records").values()]
    assert not any("chappassword" in config for config in configs)
    made, = set(bench.api("secret.get_all")) - before
    assert bench.api("secret.get_value", made) == "right"

    bench.driver.detach_volume(connection, instance, "/dev/xvdc")
    assert set(bench.api("secret.get_all")) == before


def test_the_repository_of_a_volume_tells_whose_it_is(bench, instance, connection):
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    vbd, = volume_vbds(bench, instance)
    repository = bench.api("SR.get_record", bench.api("VDI.get_SR", vbd["VDI"]))
    assert repository["name_label"] == f"tempSR-{connection['data']['volume_id']}"
    assert repository["name_description"] == f"Disk-for:{instance['name']}"
    assert repository["sm_config"]["backend-kind"] == "vbd"


def test_a_volume_of_a_repository_that_the_host_manages_is_made_attached_and_removed(bench, instance):
    volumes = bench.vmops.volumes
    before = everything(bench)
    sr_uuid = volumes.create_sr("volumes", {"sr_type": "ext", "name_description": "for volumes", "device": "/dev/sdz"})
    volume = volumes.create_volume_for_sm({"id": 42, "size": 1}, sr_uuid)
    vdi = bench.api("VDI.get_record", bench.api("VDI.get_by_uuid", volume["vdi_uuid"]))
    assert (vdi["name_label"], vdi["virtual_size"]) == ("vol-2a", str(1 << 30))
    assert volumes.is_sr_on_host(sr_uuid)

    connection = {"driver_volume_type": "xensm", "data": {"sr_uuid": sr_uuid, "vdi_uuid": volume["vdi_uuid"],
                                                          "introduce_sr_keys": ["sr_type"], "sr_type": "ext"}}
    bench.driver.attach_volume(connection, instance, "/dev/xvdc")
    with pytest.raises(exception.StorageError, match="attached"):
        volumes.forget_sr(sr_uuid)
    bench.driver.detach_volume(connection, instance, "/dev/xvdc")  # the repository is forgotten with its last user
    assert not volumes.is_sr_on_host(sr_uuid)

    assert volumes.introduce_sr(sr_uuid, "volumes", {"sr_type": "ext", "device": "/dev/sdz"}) == sr_uuid
    volumes.delete_volume_for_sm(volume["vdi_uuid"])
    volumes.delete_volume_for_sm(volume["vdi_uuid"])
    volumes.forget_sr(sr_uuid)
    volumes.forget_sr(sr_uuid)
    assert everything(bench) == before


def test_what_cannot_be_done_with_a_repository_is_told_without_its_parameters(bench, caplog):
    volumes = bench.vmops.volumes
    with pytest.raises(exception.StorageError, match="SR_UNKNOWN_DRIVER"):
        volumes.create_sr("volumes", {"sr_type": "no-such-driver", "password": "very-secret"})
    with pytest.raises(exception.StorageError, match="There is no SR"):
        volumes.create_volume_for_sm({"id": 1, "size": 1}, "4a3f1b3e-0000-4000-8000-000000000000")
    bench.simulator.control.fail("PBD.plug", error=["SR_BACKEND_FAILURE_68", "very-secret"])
    before = everything(bench)
    with pytest.raises(exception.StorageError) as raised:
        volumes.introduce_sr("4a3f1b3e-0000-4000-8000-000000000001", "volumes", {"chappassword": "very-secret"})
    assert "SR_BACKEND_FAILURE_68" in str(raised.value) and "very-secret" not in str(raised.value)
    assert everything(bench) == before and "very-secret" not in caplog.text
