"""Images and disks moved by the host's own plugins, through the driver."""

import dataclasses
import io
import tarfile
import uuid

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import direct_vhd
from nova_lite.virt.xenapi.images import qemu_img
from nova_lite.xensim import Simulator
from tests.fixtures.vhd_util import ImageService, install_plugins
from tests.fixtures.xen_bench import GIB, IMAGE_B, content_of_image, disk_digest, make_instance, make_network_info, vbds


class Site:
    """A host with all plugins and an image service it can reach."""

    def __init__(self, directory):
        self.directory = directory
        self.received = directory / "images"
        plugins = install_plugins(directory, self.received)
        self.simulator = Simulator(state_dir=str(directory / "state"), name="direct", plugins=str(plugins))
        self.simulator.start()
        self.images = ImageService()

    def close(self):
        self.images.close()
        self.simulator.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("direct"))
    yield made
    made.close()


@pytest.fixture
def direct(site, make_bench):
    bench = make_bench(at=site.simulator, image_handler="direct_vhd", sr_base_path=str(site.directory / "state" / "sr"))
    bench.conf.set_override("glance_api_servers", [site.images.url])
    bench.vmops.direct_vhd._servers = iter([site.images.url] * 100)
    yield bench
    bench.conf.clear_override("glance_api_servers")


@pytest.fixture
def snapshot(direct, site):
    """An instance and the image the host made of it."""
    instance, image_id = direct.spawn(), str(uuid.uuid4())
    site.images.images[image_id] = {"status": "queued"}
    direct.vmops.snapshot(None, instance, image_id)
    return instance, image_id


def vhd_meta(image_id):
    return {"id": image_id, "disk_format": "vhd", "container_format": "ovf", "properties": {}}


def test_the_host_sends_a_snapshot_and_fetches_it_again(direct, site, snapshot):
    instance, image_id = snapshot
    assert site.images.images[image_id]["status"] == "active"
    assert site.images.images[image_id]["properties"]["os_type"] == "linux"

    copy = direct.spawn(image=vhd_meta(image_id))

    assert direct.vm(copy)["power_state"] == "Running"
    assert direct.images.images.keys() == {direct.image["id"]}, "nothing went through the compute service"
    root = vbds(direct, direct.vm(copy))["0"]["VDI"]
    assert disk_digest(direct, root, IMAGE_B) == direct.image["os_hash_value"]


def test_an_image_that_is_gone_is_told_and_leaves_nothing(direct):
    instance = direct.spawn()
    before = direct.counts()
    with pytest.raises(exception.ImageNotFound):
        direct.vmops.snapshot(None, instance, str(uuid.uuid4()))
    with pytest.raises(exception.CouldNotFetchImage):
        direct.spawn(image=vhd_meta(str(uuid.uuid4())))
    assert direct.counts() == before


def packed(directory, content):
    """Return the archive of one VHD with this content."""
    raw, vhd = directory / "raw", directory / "0.vhd"
    raw.write_bytes(content)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", str(raw), str(vhd))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(vhd, arcname=vhd.name)
    return archive.getvalue()


@pytest.mark.parametrize("knows_limits", [True, False])
def test_an_image_much_larger_than_the_flavor_is_refused_by_the_plugin_or_after_it(
        direct, site, tmp_path, monkeypatch, knows_limits):
    site.images.images["large"] = {"status": "active", "content": packed(tmp_path, content_of_image())}
    monkeypatch.setattr(direct_vhd, "ALLOWANCE_B", IMAGE_B // 2 - GIB)
    session = direct.vmops._session
    monkeypatch.setattr(session, "wire", dataclasses.replace(session.wire, knows_limits=knows_limits))
    before = direct.counts()
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        direct.spawn(image=vhd_meta("large"))
    assert direct.counts() == before


def test_an_image_service_that_is_busy_is_asked_again(direct, site, snapshot):
    direct.conf.set_override("glance_num_retries", 1)
    try:
        direct.vmops._session.clock.sleep = lambda seconds: None
        site.images.answers.append(503)
        assert direct.spawn(image=vhd_meta(snapshot[1]))
    finally:
        direct.conf.clear_override("glance_num_retries")


def test_without_the_plugins_the_image_is_streamed(direct):
    direct.vmops._session.plugin_version = None
    assert direct.vm(direct.spawn())["power_state"] == "Running"


def test_disks_that_another_host_sent_are_taken_in(direct, site):
    instance = make_instance()
    folder = site.received / f"instance{instance['uuid']}"
    folder.mkdir(parents=True)
    raw = folder.parent / "raw"
    raw.write_bytes(direct.images.images[direct.image["id"]][1])
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", str(raw),
             str(folder / "0.vhd"))

    direct.driver.finish_migration(None, {}, instance, {}, make_network_info(), direct.image, True)

    root = vbds(direct, direct.vm(instance))["0"]["VDI"]
    assert disk_digest(direct, root, IMAGE_B) == direct.image["os_hash_value"]
    assert not folder.exists()


def test_disks_that_have_not_come_are_an_error(direct):
    with pytest.raises(exception.MigrationError, match="have come"):
        direct.driver.finish_migration(None, {}, make_instance(), {"base_copy": "a", "cow": "b"}, make_network_info(),
                                       direct.image, False)
