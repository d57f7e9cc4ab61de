"""What becomes of a guest by what its image, its instance and its host say."""

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.storage import Storage
from tests.fixtures.xen_bench import make_instance


@pytest.fixture
def host_says(bench):
    """Have the host tell of these capabilities."""
    toolstack, host_ref = bench.simulator.toolstack, bench.vmops._session.host_ref
    before = toolstack.db.get("host", host_ref, "capabilities")

    def say(*capabilities):
        with toolstack.lock:
            toolstack.db.set("host", host_ref, capabilities=list(capabilities))
        bench.vmops.host._capabilities = None

    yield say
    say(*before)


def test_a_host_that_boots_no_paravirtual_guests_refuses_them_whatever_its_version(bench, host_says):
    host_says("hvm-3.0-x86_64")
    before = bench.counts()
    with pytest.raises(exception.InstanceUnacceptable, match="paravirtual"):
        bench.spawn(make_instance(vm_mode="pv"))
    assert bench.counts() == before


def test_a_paravirtual_guest_boots_by_pygrub_where_the_host_can(bench, host_says):
    host_says("xen-3.0-x86_64", "hvm-3.0-x86_64")
    instance = bench.spawn(make_instance(vm_mode="xen"), power_on=False)
    vm = bench.vm(instance)
    assert (vm["domain_type"], vm["PV_bootloader"], vm["HVM_boot_policy"]) == ("pv", "pygrub", "")
    assert vm["platform"]["nx"] == "false"


@pytest.mark.parametrize("vm_mode", [None, "hv", "hvm"])
def test_every_other_guest_is_hvm_and_its_mode_is_noted(bench, vm_mode):
    instance = bench.spawn(make_instance(vm_mode=vm_mode), power_on=False)
    vm = bench.vm(instance)
    assert (vm["domain_type"], vm["HVM_boot_policy"], vm["HVM_boot_params"]) == ("hvm", "BIOS order", {"order": "dc"})
    noted = [updates["vm_mode"] for _, updates in bench.compute.updates if "vm_mode" in updates]
    assert noted == ([] if vm_mode == "hvm" else ["hvm"])


def test_firmware_and_device_model_follow_the_image_and_windows_is_enlightened(bench):
    image = {**bench.image, "properties": {"hw_firmware_type": "uefi", "hw_device_id": 2}}
    vm = bench.vm(bench.spawn(make_instance(os_type="windows", flavor={"vcpu_weight": 7}), image, power_on=False))
    assert vm["HVM_boot_params"]["firmware"] == "uefi" and vm["platform"]["device_id"] == "0002"
    assert vm["platform"]["viridian"] == "true" and vm["VCPUs_params"] == {"weight": "7", "cap": "0"}


@pytest.mark.parametrize(("asked", "secureboot"), [("required", "true"), ("optional", None), ("disabled", None)])
def test_a_guest_boots_securely_where_its_image_requires_that(bench, asked, secureboot):
    image = {**bench.image, "properties": {"hw_firmware_type": "uefi", "os_secure_boot": asked}}
    vm = bench.vm(bench.spawn(image=image, power_on=False))
    assert vm["platform"].get("secureboot") == secureboot


@pytest.mark.parametrize("properties", [
    {"hw_firmware_type": "coreboot"}, {"os_secure_boot": "required"},
    {"hw_firmware_type": "bios", "os_secure_boot": "required"}])
def test_firmware_that_cannot_be_is_refused_before_anything_is_made(bench, properties):
    before = bench.counts()
    with pytest.raises(exception.NovaException, match="hw_firmware_type"):
        bench.spawn(image={**bench.image, "properties": properties})
    assert bench.counts() == before


def repository(bench, matching_filter):
    return Storage(bench.vmops._session, matching_filter, keep_s=60).for_guests()


@pytest.mark.parametrize("matching_filter", ["other-config:i18n-key=no-such", "default-sr:false", "nonsense"])
def test_a_repository_that_is_not_there_is_told(bench, matching_filter):
    with pytest.raises(exception.StorageRepositoryNotFound, match="matches none"):
        repository(bench, matching_filter)


def test_guests_disks_go_where_the_operators_mark_is(bench):
    sr = repository(bench, "other-config:i18n-key=local-storage")
    assert bench.api("SR.get_other_config", sr.ref)["i18n-key"] == "local-storage"


def test_a_pool_without_default_repository_has_none_for_guests(bench):
    pool_ref = bench.api("pool.get_all")[0]
    before = bench.api("pool.get_default_SR", pool_ref)
    bench.api("pool.set_default_SR", pool_ref, "OpaqueRef:NULL")
    try:
        with pytest.raises(exception.StorageRepositoryNotFound):
            repository(bench, "default-sr:true")
    finally:
        bench.api("pool.set_default_SR", pool_ref, before)


@pytest.mark.parametrize(("options", "said", "expected"), [
    ({}, None, False), ({"use_agent_default": True}, None, True), ({}, "true", True), ({}, "perhaps", False),
    ({"use_agent_default": True}, "False", False), ({"disable_agent": True, "use_agent_default": True}, "true", False)])
def test_whether_an_agent_is_used_is_said_by_option_image_and_default(make_conf, options, said, expected):
    instance = make_instance(system_metadata={} if said is None else {"image_xenapi_use_agent": said})
    assert instances.wants_agent(instance, make_conf(**options)) is expected


def test_a_kernel_that_is_too_large_is_refused_before_it_is_fetched(make_bench):
    bench = make_bench(max_kernel_ramdisk_size=1000, cache_images="none")
    kernel = bench.images.add(b"k" * 1001, disk_format="aki", container_format="aki")
    with pytest.raises(exception.ImageUnacceptable, match="1001 bytes, 1000 are allowed"):
        bench.spawn(make_instance(kernel_id=kernel["id"], ramdisk_id=kernel["id"], vm_mode="hvm"))


def test_the_system_of_an_image_without_one_is_the_operators_default(make_bench):
    bench = make_bench(default_os_type="plan9")
    assert bench.vmops.snapshots._image_meta(make_instance(os_type=None))["properties"]["os_type"] == "plan9"
    assert bench.vmops.snapshots._image_meta(make_instance())["properties"]["os_type"] == "linux"
