"""What every image service has to do; on a directory, and on the image service of OpenStack."""

import hashlib
import io
import uuid

import pytest

from nova_lite import conf as nova_conf
from nova_lite import context, exception, image
from tests.fixtures.glance import glance_service

ADMIN = context.get_admin_context()
ALICE = context.RequestContext("alice", "red")
BOB = context.RequestContext("bob", "blue")


@pytest.fixture(scope="module")
def glance(tmp_path_factory):
    with glance_service(tmp_path_factory.mktemp("glance")) as url:
        yield url


@pytest.fixture(params=["local", "glance"])
def images(request, tmp_path):
    chosen = {("image", "backend"): request.param, ("image", "store_path"): str(tmp_path)}
    if request.param == "glance":
        chosen["openstack", "image_endpoint"] = f"{request.getfixturevalue('glance')}/v2"
    return image.load(nova_conf.load(prog="test", config_files=[], config_dirs=[], overrides=chosen))


def test_what_was_uploaded_is_read_back(images):
    content = bytes(range(256)) * 12_000
    made = images.create(ALICE, {"name": "disk", "disk_format": "raw", "container_format": "bare", "min_ram": 64,
                                 "properties": {"os_type": "linux"}}, io.BytesIO(content))

    with images.open(ALICE, made["id"]) as stream:
        assert stream.read(1000) == content[:1000]
        assert stream.read() == content[1000:]
    shown = images.show(ALICE, made["id"])
    assert (shown["name"], shown["status"], shown["size"], shown["min_ram"]) == ("disk", "active", len(content), 64)
    assert (shown["disk_format"], shown["container_format"], shown["owner"]) == ("raw", "bare", "red")
    assert shown["properties"]["os_type"] == "linux"
    assert shown["os_hash_value"] == getattr(hashlib, shown["os_hash_algo"])(content).hexdigest()


def test_an_image_without_content_is_queued_until_it_comes(images):
    made = images.create(ALICE, {"name": "snapshot", "properties": {"a": "1", "base_image_ref": "x"}})
    assert made["status"] == "queued"
    with pytest.raises(exception.ImageNotActive):
        images.open(ALICE, made["id"])

    updated = images.update(ALICE, made["id"], {"disk_format": "raw", "container_format": "bare",
                                                "properties": {"b": "2"}}, [b"ab", b"c"])

    assert (updated["status"], updated["size"], updated["name"]) == ("active", 3, "snapshot")
    assert {**updated["properties"], "a": "1", "b": "2"} == updated["properties"]


def test_others_see_what_is_public_and_nothing_else(images):
    own = images.create(ALICE, {"name": "own"}, [b"x"])
    public = images.create(ALICE, {"name": "public", "is_public": True}, [b"x"])

    seen = {one["id"] for one in images.detail(BOB)}
    assert public["id"] in seen and own["id"] not in seen
    assert {own["id"], public["id"]} <= {one["id"] for one in images.detail(ADMIN)}
    with pytest.raises(exception.ImageNotFound):
        images.show(BOB, own["id"])
    for change in (lambda: images.update(BOB, public["id"], {"name": "mine"}),
                   lambda: images.delete(BOB, public["id"])):
        with pytest.raises(exception.ImageNotAuthorized):
            change()


def test_lists_are_filtered_and_sorted(images):
    mark = uuid.uuid4().hex
    made = [images.create(ALICE, {"name": name, "properties": {"mark": mark, "kind": name}}, [b"x"])["id"]
            for name in ("b", "a", "c")]

    by_name = images.detail(ALICE, {"property-mark": mark}, sort_key="name", sort_dir="asc")
    assert [one["name"] for one in by_name] == ["a", "b", "c"]
    assert [one["id"] for one in images.detail(ALICE, {"property-mark": mark, "property-kind": "b"})] == made[:1]
    assert [one["id"] for one in images.detail(ALICE, {"property-mark": mark, "name": "c"})] == made[2:]


def test_an_id_may_be_chosen_once(images):
    chosen = str(uuid.uuid4())
    assert images.create(ALICE, {"id": chosen, "name": "x"})["id"] == chosen
    with pytest.raises(exception.Duplicate):
        images.create(ALICE, {"id": chosen, "name": "x"})


def test_a_deleted_image_is_gone(images):
    made = images.create(ALICE, {"name": "x"}, [b"x"])
    images.delete(ALICE, made["id"])

    for use in (images.show, images.open, images.delete):
        with pytest.raises(exception.ImageNotFound):
            use(ALICE, made["id"])


@pytest.mark.parametrize("image_id", [
    "nothing", "00000000-0000-4000-8000-000000000001", "../../v2/images", "a b", "x?y=z", "%2e%2e"])
def test_what_is_no_image_is_not_found(images, image_id):
    with pytest.raises(exception.ImageNotFound):
        images.show(ADMIN, image_id)


def test_a_broken_upload_leaves_nothing_behind(images):
    name = uuid.uuid4().hex

    def content():
        yield b"some"
        raise OSError("the disk is gone")

    with pytest.raises((OSError, exception.NovaException)):
        images.create(ALICE, {"name": name}, content())

    assert [one for one in images.detail(ADMIN) if one["name"] == name] == []


def test_content_that_is_not_what_it_is_said_to_be_is_refused(glance):
    images = image.load(nova_conf.load(prog="test", config_files=[], config_dirs=[], overrides={
        ("image", "backend"): "glance", ("openstack", "image_endpoint"): f"{glance}/v2"}))

    with pytest.raises(exception.ImageUnacceptable, match="disk_format"):
        images.create(ALICE, {"name": "x", "disk_format": "vhd", "container_format": "bare"}, [b"no disk at all"])
