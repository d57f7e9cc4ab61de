"""The records that VMs, disks and their attachments are made from, field by field."""

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import records
from tests.fixtures.xen_bench import MIB, make_instance, vbds

MEMORY_B = str(128 * MIB)


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture
def made(bench, monkeypatch):
    """The records of VM.create."""
    made = []
    call = bench.vmops._session.call_xenapi

    def watch(method, *args):
        if method == "VM.create":
            made.append(args[0])
        return call(method, *args)

    monkeypatch.setattr(bench.vmops._session, "call_xenapi", watch)
    return made


def record(bench, instance, **changes):
    session = bench.vmops._session
    return {
        "name_label": instance["name"], "name_description": "", "user_version": "0", "is_a_template": False,
        "affinity": session.host_ref, "memory_static_min": "0", "memory_static_max": MEMORY_B,
        "memory_dynamic_min": MEMORY_B, "memory_dynamic_max": MEMORY_B, "VCPUs_max": "1", "VCPUs_at_startup": "1",
        "VCPUs_params": {}, "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
        "actions_after_crash": "destroy", "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "",
        "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "dc"}, "domain_type": "hvm",
        "platform": {"acpi": "true", "apic": "true", "pae": "true", "hpet": "true", "viridian": "false",
                     "timeoffset": "0", "vga": "std", "videoram": "8", "device-model": "qemu-upstream-compat",
                     "nx": "true"},
        "PCI_bus": "", "recommendations": "", "blocked_operations": {}, "tags": [], "ha_always_run": False,
        "ha_restart_priority": "", "has_vendor_device": False,
        "other_config": {"nova_uuid": instance["uuid"], "nova_host": session.host_uuid},
        "xenstore_data": {"vm-data/allowvssprovider": "false", "vm-data/hostname": instance["hostname"],
                          "vm-data/auto-disk-config": "False"},
        **changes}


def spawn(bench, made, image=None, **fields):
    instance = bench.spawn(make_instance(metadata={}, **fields), image, network_info=[], power_on=False)
    return instance, made[-1]


def test_a_linux_guest_is_hvm_without_enlightenments(bench, made):
    instance, found = spawn(bench, made)
    assert found == record(bench, instance)


def test_a_windows_guest_is_enlightened_and_its_drivers_find_their_device(bench, made):
    image = {**bench.image, "properties": {"hw_device_id": 2, "hw_firmware_type": "uefi"}}
    instance, found = spawn(bench, made, image, os_type="windows", flavor={"vcpu_weight": 256, "vcpus": 3})
    platform = record(bench, instance)["platform"] | {"viridian": "true", "device_id": "0002"}
    assert found == record(bench, instance, platform=platform, VCPUs_params={"weight": "256", "cap": "0"},
                           VCPUs_max="3", VCPUs_at_startup="3", HVM_boot_params={"order": "dc", "firmware": "uefi"})


@pytest.mark.parametrize(("files", "changes"), [
    (("", ""), {"PV_bootloader": "pygrub"}),
    (("/boot/guest/k", "/boot/guest/r"), {"PV_args": "root=/dev/xvda1", "PV_kernel": "/boot/guest/k",
                                          "PV_ramdisk": "/boot/guest/r"})])
def test_a_paravirtual_guest_has_its_kernel_beside_or_inside_its_image(bench, made, monkeypatch, files, changes):
    monkeypatch.setattr(bench.vmops.host, "_capabilities", ["xen-3.0-x86_64"])
    monkeypatch.setattr(bench.vmops.kernels, "fetch", lambda context, instance, undo: files)
    instance, found = spawn(bench, made, vm_mode="xen")
    platform = record(bench, instance)["platform"] | {"nx": "false"}
    assert found == record(bench, instance, platform=platform, HVM_boot_policy="", HVM_boot_params={},
                           domain_type="pv", **changes)


def test_kernel_files_of_an_hvm_guest_are_named_in_its_record_and_go_with_it(bench, made, monkeypatch):
    removed = []
    monkeypatch.setattr(bench.vmops.kernels, "fetch", lambda *args: ("/boot/guest/k", "/boot/guest/r"))
    monkeypatch.setattr(bench.vmops.kernels, "remove", lambda *files: removed.append(files))
    instance, found = spawn(bench, made, kernel_id="k", ramdisk_id="r")
    assert found == record(bench, instance, PV_kernel="/boot/guest/k", PV_ramdisk="/boot/guest/r")
    bench.vmops.destroy(instance, [])
    assert removed == [("/boot/guest/k", "/boot/guest/r")]


def test_a_host_that_knows_no_device_ids_refuses_an_image_that_needs_one(bench, monkeypatch):
    monkeypatch.setattr(bench.vmops._session, "product_version", (6, 0, 2))
    with pytest.raises(exception.InstanceUnacceptable, match="too old for device id 0002"):
        bench.spawn(image={**bench.image, "properties": {"hw_device_id": "0002"}})


def test_a_rescue_vm_boots_as_its_image_says_and_tells_when_its_rescue_began(bench, made, monkeypatch):
    monkeypatch.setattr(bench.vmops.host, "_capabilities", ["xen-3.0-x86_64"])
    instance = bench.spawn(make_instance(auto_disk_config="False"), network_info=[], power_on=False)
    properties = {"vm_mode": "xen", "auto_disk_config": "True", "hw_firmware_type": "uefi"}
    bench.compute.updates.clear()
    bench.vmops.rescue(None, instance, [], {**bench.image, "properties": properties})
    assert made[0]["domain_type"] == "hvm" and made[0]["xenstore_data"]["vm-data/auto-disk-config"] == "False"
    assert made[1]["domain_type"] == "pv" and made[1]["xenstore_data"]["vm-data/auto-disk-config"] == "True"
    assert not [updates for _, updates in bench.compute.updates if "vm_mode" in updates]
    assert made[1]["xenstore_data"]["vm-data/user-metadata/color"] == '"blue"'
    marks = made[-1]["other_config"]
    assert made[-1]["name_label"] == instance["name"] + "-rescue" and marks["nova_rescued_at"].isdigit()
    assert made[-1]["xenstore_data"]["vm-data/hostname"] == "RESCUE-" + instance["hostname"]


@pytest.mark.parametrize(("memory_mb", "vcpus"), [(128, 1), (130, 3), (512, 8)])
def test_a_guest_takes_as_much_memory_beyond_its_own_as_its_host_says(bench, memory_mb, vcpus):
    sizes = {"memory_mb": memory_mb, "vcpus": vcpus}
    vm = bench.vm(bench.spawn(make_instance(flavor=sizes), network_info=[], power_on=False))
    assert bench.driver.estimate_instance_overhead(sizes) == {"memory_mb": int(vm["memory_overhead"]) // MIB}


def test_the_records_of_disks_and_of_their_attachments():
    assert records.vdi("sr", "label", 5, other_config={"nova_disk_type": "swap"}) == {
        "name_label": "label", "name_description": "swap", "SR": "sr", "virtual_size": "5", "type": "user",
        "sharable": False, "read_only": False, "xenstore_data": {}, "other_config": {"nova_disk_type": "swap"},
        "sm_config": {}, "tags": []}
    plain = {"VM": "vm", "VDI": "vdi", "userdevice": "4", "bootable": False, "mode": "RW", "type": "Disk",
             "unpluggable": True, "empty": False, "other_config": {}, "qos_algorithm_type": "",
             "qos_algorithm_params": {}, "qos_supported_algorithms": []}
    assert records.vbd("vm", "vdi", 4) == plain
    assert records.vbd("vm", "vdi", "autodetect", read_only=True) == plain | {
        "userdevice": "autodetect", "mode": "RO"}
    assert records.vbd("vm", "", 1, kind="CD", unpluggable=False, bootable=True) == plain | {
        "VDI": "OpaqueRef:NULL", "userdevice": "1", "mode": "RO", "type": "CD", "empty": True, "unpluggable": False,
        "bootable": True}


def test_every_disk_tells_whose_it_is_and_what(bench):
    instance = make_instance(flavor={"swap": 64, "ephemeral_gb": 1}, config_drive="True")
    found = {}
    for number, vbd in vbds(bench, bench.vm(bench.spawn(instance, power_on=False))).items():
        vdi = bench.api("VDI.get_record", vbd["VDI"])
        marks = vdi["other_config"]
        assert marks["nova_instance_uuid"] == instance["uuid"] and vdi["name_description"] == marks["nova_disk_type"]
        found[number] = (vdi["name_label"], marks["nova_disk_type"], vbd["bootable"], vbd["mode"], vbd["type"])
    name = instance["name"]
    assert found == {"0": (name, "root", True, "RW", "Disk"), "2": (name, "swap", False, "RW", "Disk"),
                     "3": ("config-2", "configdrive", False, "RO", "CD"),
                     "4": (f"{name} ephemeral", "ephemeral", False, "RW", "Disk")}


@pytest.mark.parametrize(("cache_images", "said", "is_cached"), [
    ("all", None, True), ("all", "False", True), ("some", "True", True), ("some", "true", True), ("some", None, False),
    ("some", "no", False), ("none", "True", False)])
def test_which_images_are_cached(bench, monkeypatch, cache_images, said, is_cached):
    bench.conf.set_override("cache_images", cache_images, "xenserver")
    try:
        image = {**bench.image, "properties": said and {"cache_in_nova": said}}
        assert bench.vmops.disks._is_cached(image) is is_cached
    finally:
        bench.conf.clear_override("cache_images", "xenserver")


def test_a_flavor_without_a_disk_takes_the_image_as_it_is(bench):
    found = vbds(bench, bench.vm(bench.spawn(make_instance(flavor={"root_gb": 0}), power_on=False)))
    assert bench.vmops.disks.virtual_size_b(found["0"]["VDI"]) == 2 * MIB
    iso = bench.images.add(b"iso" * MIB, disk_format="iso")
    assert set(vbds(bench, bench.vm(bench.spawn(make_instance(flavor={"root_gb": 0}), iso, power_on=False)))) == {"1"}


def test_a_cached_image_tells_which_it_is_and_since_when(bench):
    bench.spawn(power_on=False)
    vdi_ref, = bench.api("VDI.get_by_name_label", f"Glance Image {bench.image['id']}")
    marks = bench.api("VDI.get_other_config", vdi_ref)
    assert set(marks) == {"image-id", "cached-time"} and marks["image-id"] == bench.image["id"]


def test_an_installation_cd_and_its_empty_disk(bench):
    iso = bench.images.add(b"iso" * MIB, disk_format="iso")
    found = vbds(bench, bench.vm(bench.spawn(image=iso, power_on=False)))
    assert {number: (vbd["type"], vbd["mode"], vbd["bootable"]) for number, vbd in found.items()} == {
        "0": ("Disk", "RW", False), "1": ("CD", "RO", True)}
    assert bench.api("VDI.get_name_label", found["0"]["VDI"]) == "blank HD"
