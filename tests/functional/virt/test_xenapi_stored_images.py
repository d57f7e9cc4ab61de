"""Images of the local store on their way to a disk: sent as they lie there, refused when they are not what came in."""

import datetime
import hashlib
import io
import os
import tarfile

import pytest

from nova_lite import context, exception
from nova_lite.image.local import LocalImageAPI
from nova_lite.virt.xenapi.images import Images, qemu_img
from tests.fixtures import tampering
from tests.fixtures.clock import FakeClock
from tests.fixtures.services import load_conf
from tests.fixtures.xen_bench import MIB, Bench, Compute, content_of_image, disk_digest, make_instance, vbds

ADMIN = context.get_admin_context()
HOUR_S = 3600


class Store(LocalImageAPI):
    """The local store, filled as the bench fills one."""

    def add(self, content, **meta):
        return self.create(ADMIN, {"disk_format": "raw", "container_format": "bare", "is_public": True, **meta},
                           io.BytesIO(content))


@pytest.fixture
def clock():
    return FakeClock(datetime.datetime.now(datetime.UTC))


@pytest.fixture
def store(tmp_path, clock):
    return Store(load_conf({("image", "store_path"): str(tmp_path / "images")}), clock)


@pytest.fixture
def bench(simulator, make_conf, store):
    bench = Bench(simulator, make_conf(cache_images="none"), Compute(), store)
    yield bench
    bench.close()


@pytest.fixture
def path(bench, tmp_path):
    """The file of the bench's image."""
    found, = (tmp_path / "images").glob("*.data")
    return found


def build(bench, image):
    instance = make_instance()
    bench.vmops.spawn(ADMIN, instance, image, [])
    return instance


def root_digest(bench, instance, size_b):
    root = vbds(bench, bench.vm(instance))["0"]
    return disk_digest(bench, root["VDI"], size_b)


def overwrite(path):
    tampering.overwrite(path, b"something else", MIB // 2)


def replace(path):
    tampering.replace(path, content_of_image()[::-1])


def replace_by_link(path):
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def record_of_what_was(path):
    """The file is another one, and what was recorded of the first lies beside it."""
    replace(path)
    os.utime(path.with_name(path.name + ".verified"))


CHANGES = {
    "overwritten": overwrite,
    "overwritten and dated back": lambda path: tampering.overwrite_secretly(path, b"something else", MIB // 2),
    "truncated": lambda path: os.truncate(path, MIB // 2),
    "grown": lambda path: os.truncate(path, 2 * MIB),
    "replaced": replace,
    "a link": replace_by_link,
    "another than was recorded": record_of_what_was,
}
LIES = {
    "larger": {"size": 2 * MIB},
    "smaller": {"size": MIB // 2},
    "another checksum": {"os_hash_value": "0" * 64},
    "another checksum of another kind": {"os_hash_algo": "sha512", "os_hash_value": "0" * 128},
    "a checksum nobody can compute": {"os_hash_algo": "shake_128", "os_hash_value": "0" * 64},
}


def assert_refused(bench, image):
    before = bench.counts()
    with pytest.raises((exception.CouldNotFetchImage, exception.ImageUnacceptable)):
        build(bench, image)
    assert bench.counts() == before


@pytest.mark.parametrize("age_s", [0, HOUR_S])
def test_an_image_of_the_store_becomes_the_disk(bench, clock, age_s):
    clock.advance(age_s)
    instance = build(bench, bench.image)
    assert root_digest(bench, instance, MIB) == bench.image["os_hash_value"]


@pytest.mark.parametrize("age_s", [0, HOUR_S])
@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_was_changed_in_the_store_is_refused(bench, path, clock, change, age_s):
    CHANGES[change](path)
    clock.advance(age_s)
    assert_refused(bench, bench.image)


@pytest.mark.parametrize("lie", LIES)
def test_an_image_that_is_said_to_be_another_is_refused(bench, lie):
    assert_refused(bench, {**bench.image, **LIES[lie]})


def test_another_right_checksum_is_accepted(bench):
    value = hashlib.sha512(content_of_image()).hexdigest().upper()
    instance = build(bench, {**bench.image, "os_hash_algo": "sha512", "os_hash_value": value})
    assert root_digest(bench, instance, MIB) == bench.image["os_hash_value"]


def test_without_any_checksum_told_that_of_the_store_counts(bench, path):
    told = {**bench.image, "os_hash_algo": None, "os_hash_value": None, "size": None}
    assert root_digest(bench, build(bench, told), MIB) == bench.image["os_hash_value"]
    overwrite(path)
    assert_refused(bench, told)


def test_an_image_that_was_touched_is_verified_again_on_its_way(bench, path, clock, store):
    os.utime(path)
    clock.advance(HOUR_S)

    build(bench, bench.image)

    with store.open(ADMIN, bench.image["id"]) as content:
        assert content.is_verified()


@pytest.mark.parametrize("is_touched", [False, True])
@pytest.mark.parametrize("change", ["overwritten", "overwritten and dated back", "truncated", "grown", "replaced"])
def test_an_image_that_changes_while_it_is_sent_is_refused(bench, path, clock, store, change, is_touched):
    if is_touched:
        os.utime(path)
    clock.advance(HOUR_S)
    with pytest.raises(exception.CouldNotFetchImage), Images(store).open(ADMIN, bench.image) as disk:
        for _ in disk.blocks:
            CHANGES[change](path)
            break


@pytest.fixture(scope="module")
def vhd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vhd")
    (folder / "raw").write_bytes(b"x" * MIB + bytes(7 * MIB))
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", str(folder / "raw"),
             str(folder / "vhd"))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(folder / "raw"), str(folder / "qcow2"))
    return (folder / "vhd").read_bytes(), (folder / "qcow2").read_bytes()


def tgz(name, content):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("is_touched", [False, True])
@pytest.mark.parametrize("kind", ["vhd", "qcow2", "packed vhd", "packed raw", "ami"])
def test_every_kind_of_image_comes_out_of_the_store(store, vhd, clock, tmp_path, kind, is_touched):
    raw = b"x" * MIB + bytes(7 * MIB)
    content, meta, expected = {
        "vhd": (vhd[0], {"disk_format": "vhd"}, vhd[0]),
        "qcow2": (vhd[1], {"disk_format": "qcow2"}, None),
        "packed vhd": (tgz("0.vhd", vhd[0]), {"disk_format": "vhd", "container_format": "ovf"}, vhd[0]),
        "packed raw": (tgz("disk.raw", raw), {"container_format": "tgz"}, raw),
        "ami": (raw, {"disk_format": "ami"}, None),
    }[kind]
    image = store.add(content, **meta)
    for path in (tmp_path / "images").glob("*.data") if is_touched else ():
        os.utime(path)
    clock.advance(HOUR_S)

    with Images(store).open(ADMIN, image) as disk:
        blocks = b"".join(disk.blocks)

    assert len(blocks) == disk.length_b
    assert expected in (None, blocks)
