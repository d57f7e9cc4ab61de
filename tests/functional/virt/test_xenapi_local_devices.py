"""Snapshots read from disks that are attached to the machine of the compute service, a guest of its host."""

import io
import tarfile

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import own_vm, records
from nova_lite.virt.xenapi.local_devices import LENT
from tests.fixtures.xen_bench import make_instance

CONTENT = b"what the kernel shows" * 1000


@pytest.fixture
def compute(make_bench, tmp_path, monkeypatch):
    """The reference of the guest that the service under test runs in."""
    bench = make_bench()
    guest = bench.spawn()
    (tmp_path / "uuid").write_text(bench.vm(guest)["uuid"] + "\n")
    monkeypatch.setattr(own_vm, "HYPERVISOR_UUID", str(tmp_path / "uuid"))
    yield bench.vmops.finder.require(guest)
    bench.vmops.destroy(guest, [])


@pytest.fixture
def inside(compute, make_bench, tmp_path):
    """A service inside its host; the kernel's devices are files of a folder, made when a disk is plugged."""
    bench = make_bench(image_handler="vdi_local_dev", independent_compute=False, block_device_creation_timeout=0)
    devices = tmp_path / "dev"
    devices.mkdir()
    bench.vmops.local_devices._folder = str(devices)
    bench.devices = devices
    yield bench


def spawned(bench):
    """An instance whose disk is as small as its image."""
    return bench.spawn(make_instance(flavor={"root_gb": 0}))


def attached_to(bench, vm_ref):
    return {vbd["userdevice"] for vbd in bench.vmops.disks.vbds_of(vm_ref).values()}


def test_a_snapshot_is_the_raw_disk_as_the_kernel_shows_it(inside, compute):
    instance, image = spawned(inside), inside.images.add(b"", status="queued")
    size_b = inside.vmops.disks.virtual_size_b(inside.vmops.disks.root_vdi_of(inside.vmops.finder.require(instance)))
    device = inside.devices / "xvdb"
    device.write_bytes(CONTENT)
    with open(device, "r+b") as file:
        file.truncate(size_b)
    before = attached_to(inside, compute)

    inside.vmops.snapshot(None, instance, image["id"])

    meta, content = inside.images.images[image["id"]]
    assert (meta["disk_format"], meta["container_format"]) == ("raw", "tgz")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        member, = archive.getmembers()
        assert (member.name, member.size) == ("disk.raw", size_b)
        assert archive.extractfile(member).read(len(CONTENT)) == CONTENT
    assert attached_to(inside, compute) == before
    assert not [vdi for vdi in inside.api("VDI.get_all_records").values() if vdi["is_a_snapshot"]]


def test_a_device_that_does_not_appear_is_told_and_its_disk_detached(inside, compute):
    instance, image = spawned(inside), inside.images.add(b"", status="queued")
    before = attached_to(inside, compute)
    with pytest.raises(exception.StorageError, match="Timeout waiting for device xvdb"):
        inside.vmops.snapshot(None, instance, image["id"])
    assert attached_to(inside, compute) == before
    assert not [vdi for vdi in inside.api("VDI.get_all_records").values() if vdi["is_a_snapshot"]]


def test_devices_of_old_kernels_have_other_names(inside):
    inside.conf.set_override("remap_vbd_dev", True, "xenserver")
    inside.conf.set_override("remap_vbd_dev_prefix", "hd", "xenserver")
    (inside.devices / "hdb").write_bytes(CONTENT)
    vdi_ref = inside.vmops.disks.root_vdi_of(inside.vmops.finder.require(spawned(inside)))
    snapshot_ref = inside.api("VDI.snapshot", vdi_ref, {})
    with inside.vmops.local_devices.attached(snapshot_ref) as path:
        assert path == str(inside.devices / "hdb")
    inside.api("VDI.destroy", snapshot_ref)


def test_disks_that_an_earlier_run_left_attached_are_detached_at_start_and_no_others(inside, compute):
    before = attached_to(inside, compute)
    vdi_ref = inside.vmops.disks.root_vdi_of(inside.vmops.finder.require(spawned(inside)))
    snapshot_ref = inside.api("VDI.snapshot", vdi_ref, {})
    inside.api("VBD.plug", inside.api("VBD.create", records.vbd(
        compute, snapshot_ref, "autodetect", other_config=LENT)))
    assert attached_to(inside, compute) > before

    inside.driver.cleanup_host("host")
    inside.driver.init_host("host")

    assert attached_to(inside, compute) == before and inside.api("VDI.get_VBDs", snapshot_ref) == []
    inside.api("VDI.destroy", snapshot_ref)


def test_a_service_outside_of_its_host_is_refused_at_start(make_bench, tmp_path, monkeypatch):
    monkeypatch.setattr(own_vm, "HYPERVISOR_UUID", str(tmp_path / "missing"))
    with pytest.raises(exception.ConfigurationError, match="no guest of XenServer"):
        make_bench(image_handler="vdi_local_dev", independent_compute=False)
