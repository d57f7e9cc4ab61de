import io
import tarfile

import pytest
import XenAPI

from nova_lite import exception


@pytest.fixture
def instance(bench):
    return bench.spawn()


@pytest.fixture
def empty_image(bench):
    return bench.images.add(b"", status="queued")["id"]


def test_a_snapshot_is_an_image_of_one_vhd_and_tells_how_far_it_is(bench, instance, empty_image):
    states = []
    bench.vmops.snapshot(None, instance, empty_image, lambda **change: states.append(change["task_state"]))
    meta, content = bench.images.images[empty_image]
    assert meta["disk_format"] == "vhd" and meta["container_format"] == "ovf"
    assert states == ["image_pending_upload", "image_uploading"]
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        assert archive.getnames() == ["0.vhd"]


def test_an_instance_can_be_made_from_a_snapshot(bench, instance, empty_image):
    bench.vmops.snapshot(None, instance, empty_image)
    meta = {**bench.images.show(None, empty_image), "os_hash_value": None}
    copy = bench.spawn(image=meta)
    assert bench.vm(copy)["power_state"] == "Running"


def test_a_snapshot_leaves_nothing_on_the_host(bench, instance, empty_image):
    before = bench.counts()
    bench.vmops.snapshot(None, instance, empty_image)
    for record in bench.api("VDI.get_all_records").values():
        assert not record["is_a_snapshot"]
    assert bench.counts()["VM"] == before["VM"]


def test_defect_4_a_snapshot_that_fails_leaves_nothing_on_the_host(bench, instance, empty_image):
    bench.simulator.control.fail("VDI.set_name_label", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure, match="planted"):
        bench.vmops.snapshot(None, instance, empty_image)
    assert not [record for record in bench.api("VDI.get_all_records").values() if record["is_a_snapshot"]]


def test_an_upload_that_fails_is_told_and_leaves_nothing_on_the_host(bench, instance, empty_image):
    def refuse(*args):
        raise ConnectionError("the image service is away")
    bench.images.update = refuse
    with pytest.raises(exception.CouldNotUploadImage):
        bench.vmops.snapshot(None, instance, empty_image)
    assert not [record for record in bench.api("VDI.get_all_records").values() if record["is_a_snapshot"]]
