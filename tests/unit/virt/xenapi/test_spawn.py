import json

import pytest
import XenAPI

from nova_lite import exception
from tests.fixtures.xen_bench import GIB, IMAGE_B, MIB, disk_digest, make_instance, make_network_info, vbds


def test_a_spawned_instance_runs_with_its_disk_its_interface_and_its_data(bench):
    network_info = make_network_info()
    instance = bench.spawn(network_info=network_info)

    vm = bench.vm(instance)
    assert vm["power_state"] == "Running"
    assert vm["resident_on"] == bench.vmops._session.host_ref
    assert vm["other_config"]["nova_uuid"] == instance["uuid"]
    assert (vm["memory_static_max"], vm["VCPUs_max"], vm["domain_type"]) == (str(128 * MIB), "1", "hvm")

    root = vbds(bench, vm)["0"]
    vdi = bench.api("VDI.get_record", root["VDI"])
    assert vdi["name_label"] == instance["name"] and vdi["virtual_size"] == str(GIB)
    assert vdi["other_config"]["nova_instance_uuid"] == instance["uuid"] and "image-id" not in vdi["other_config"]

    vif = bench.api("VIF.get_record", vm["VIFs"][0])
    assert vif["MAC"] == network_info[0]["address"]

    assert vm["xenstore_data"]["vm-data/hostname"] == instance["hostname"]
    assert json.loads(vm["xenstore_data"]["vm-data/user-metadata/color"]) == "blue"
    location = "vm-data/networking/" + network_info[0]["address"].replace(":", "")
    told = json.loads(vm["xenstore_data"][location])
    assert told["ips"] == [{"ip": "192.168.1.101", "netmask": "255.255.255.0", "enabled": "1",
                            "gateway": "192.168.1.1"}]
    assert told["ip6s"][0]["gateway"] == "fe80::1" and told["ip6s"][0]["netmask"] == 64
    assert told["dns"] == ["192.168.1.3"]
    assert told["routes"] == [{"route": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "192.168.1.254"}]


def test_the_disk_has_the_content_of_the_image(bench):
    instance = bench.spawn()
    root = vbds(bench, bench.vm(instance))["0"]
    assert disk_digest(bench, root["VDI"], IMAGE_B) == bench.image["os_hash_value"]


def test_progress_reaches_100_in_seven_steps(bench):
    bench.spawn()
    assert bench.compute.progress == [14, 29, 43, 57, 71, 86, 100]


def test_the_guest_sends_nothing_before_its_interfaces_are_active(bench):
    states = []
    bench.compute.wait_vifs_active = lambda context, instance, vif_ids, timeout_s: states.append(
        bench.vm(instance)["power_state"])
    bench.spawn()
    assert states == ["Paused"]


def test_a_spawn_from_the_cache_takes_few_calls(bench):
    bench.spawn()
    bench.simulator.control.reset_calls()
    bench.spawn()
    assert len(bench.calls_and_waits()) <= 15, bench.calls_and_waits()


def test_a_first_spawn_takes_few_calls(bench):
    bench.simulator.control.reset_calls()
    bench.spawn()
    assert len(bench.calls_and_waits()) <= 22, bench.calls_and_waits()


def test_destroying_takes_few_calls(bench):
    instance = bench.spawn()
    bench.simulator.control.reset_calls()
    bench.vmops.destroy(instance, make_network_info())
    assert len(bench.calls()) <= 8, bench.calls()


def test_two_instances_share_one_download(bench):
    opened = []
    original = bench.images.open
    bench.images.open = lambda context, image_id: opened.append(image_id) or original(context, image_id)
    bench.spawn()
    bench.spawn()
    assert len(opened) == 1


def test_a_name_that_is_taken_is_refused(bench):
    instance = bench.spawn()
    with pytest.raises(exception.InstanceExists):
        bench.spawn(make_instance(name=instance["name"]))


def test_too_little_memory_is_noticed_before_anything_is_made(bench):
    before = bench.counts()
    with pytest.raises(exception.InsufficientFreeMemory):
        bench.spawn(make_instance(flavor={"memory_mb": 1 << 30}))
    assert bench.counts() == before


def test_a_flavor_smaller_than_the_image_is_refused(bench):
    bench.conf.set_override("cache_images", "none", "xenserver")
    large = bench.images.add(bytes(16 * MIB), disk_format="raw")
    large["size"] = 2 * GIB
    before = bench.counts()
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        bench.spawn(image=large)
    assert bench.counts() == before


def test_a_config_drive_is_attached_read_only(bench):
    pytest.importorskip("pycdlib")
    instance = bench.spawn(make_instance(config_drive="True"))
    drive = vbds(bench, bench.vm(instance))["3"]
    assert (drive["mode"], drive["type"]) == ("RO", "CD")
    disks = bench.disk_count()
    bench.vmops.destroy(instance, [])
    assert bench.disk_count() == disks - 2


def test_an_iso_is_a_cd_beside_an_empty_disk(bench):
    iso = bench.images.add(b"iso" * MIB, disk_format="iso")
    instance = bench.spawn(image=iso)
    found = vbds(bench, bench.vm(instance))
    assert found["1"]["type"] == "CD" and found["0"]["type"] == "Disk"
    before = bench.disk_count()
    bench.vmops.destroy(instance, [])
    assert bench.disk_count() == before - 2


STEPS = ["VM.get_by_name_label", "host.compute_free_memory", "VDI.get_all_records_where", "VDI.clone",
         "VDI.set_name_label", "VDI.set_other_config", "VDI.resize", "VM.create", "VBD.create", "VIF.create",
         "VM.start_on", "VM.unpause"]


@pytest.mark.parametrize("method", STEPS)
def test_defect_1_a_failure_at_any_step_of_spawn_leaves_nothing_behind(bench, method):
    bench.spawn()  # the image is cached now
    before = bench.counts()
    bench.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])

    with pytest.raises(XenAPI.Failure, match="planted"):
        bench.spawn()

    assert bench.counts() == before


@pytest.mark.parametrize("method", ["VDI.create", "task.create", "VDI.set_other_config"])
def test_a_failure_while_an_image_is_fetched_leaves_nothing_behind(bench, method):
    before = bench.counts()
    bench.simulator.control.fail(method, error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure, match="planted"):
        bench.spawn()
    assert bench.counts() == before


def test_an_image_with_a_wrong_checksum_leaves_nothing_behind(bench):
    before = bench.counts()
    with pytest.raises(exception.CouldNotFetchImage):
        bench.spawn(image={**bench.image, "os_hash_value": "0" * 64})
    assert bench.counts() == before


def test_defect_2_a_failing_undo_neither_stops_the_others_nor_hides_the_first_error(bench):
    bench.spawn()
    before = bench.counts()
    bench.simulator.control.fail("VM.unpause", error=["INTERNAL_ERROR", "planted"])
    bench.simulator.control.fail("VM.hard_shutdown", error=["INTERNAL_ERROR", "undo is broken"])

    with pytest.raises(XenAPI.Failure, match="planted"):
        bench.spawn()

    assert bench.counts() == before


def test_a_reference_to_the_reservation_is_not_kept_after_a_failure(bench):
    bench.simulator.control.fail("VM.create", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure):
        bench.spawn()
    assert bench.vmops.spawner._memory._promised == {}
