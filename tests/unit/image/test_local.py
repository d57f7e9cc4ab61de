"""The image store in a directory."""

import hashlib
import io

import pytest

from nova_lite import context, exception, image
from tests.fixtures.services import load_conf

ADMIN = context.get_admin_context()
ALICE = context.RequestContext("alice", "red")
BOB = context.RequestContext("bob", "blue")


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def images(store_path):
    return image.load(load_conf({("image", "store_path"): str(store_path)}))


def test_what_was_uploaded_is_read_back(images):
    made = images.create(ALICE, {"name": "disk", "disk_format": "vhd", "properties": {"os_type": "linux"}},
                         io.BytesIO(b"x" * 3_000_000))

    with images.open(ALICE, made["id"]) as content:
        assert content.read() == b"x" * 3_000_000
    shown = images.show(ALICE, made["id"])
    assert shown == made
    assert (shown["status"], shown["size"], shown["properties"]) == ("active", 3_000_000, {"os_type": "linux"})
    assert shown["os_hash_value"] == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_an_image_without_content_is_queued_until_it_comes(images):
    made = images.create(ALICE, {"name": "snapshot", "properties": {"a": "1"}})

    with pytest.raises(exception.ImageNotActive):
        images.open(ALICE, made["id"])

    updated = images.update(ALICE, made["id"], {"disk_format": "vhd", "properties": {"b": "2"}}, [b"ab", b"c"])
    assert (updated["status"], updated["size"], updated["name"]) == ("active", 3, "snapshot")
    assert updated["properties"] == {"a": "1", "b": "2"}


def test_a_reader_keeps_the_content_it_opened(images):
    made = images.create(ALICE, {}, [b"old"])
    with images.open(ALICE, made["id"]) as content:
        images.update(ALICE, made["id"], {}, [b"new"])

        assert content.read() == b"old"
    with images.open(ALICE, made["id"]) as content:
        assert content.read() == b"new"


def test_a_broken_upload_leaves_nothing_behind(images, store_path):
    def upload():
        yield b"half"
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        images.create(ALICE, {"id": "broken"}, upload())

    with pytest.raises(exception.ImageNotFound):
        images.show(ALICE, "broken")
    assert list(store_path.iterdir()) == []


def test_a_project_sees_its_own_and_public_images_only(images):
    own = images.create(ALICE, {"name": "own"}, [b"1"])
    public = images.create(ADMIN, {"name": "public", "is_public": True, "owner": "yellow"}, [b"2"])

    assert {found["id"] for found in images.detail(BOB)} == {public["id"]}
    with pytest.raises(exception.ImageNotFound):
        images.show(BOB, own["id"])
    with pytest.raises(exception.ImageNotAuthorized):
        images.delete(BOB, public["id"])


def test_images_are_found_by_property_newest_first(images):
    for number in range(3):
        images.create(ALICE, {"name": f"b{number}", "properties": {"backup_type": "daily"}}, [b""])
    images.create(ALICE, {"name": "other"}, [b""])

    found = images.detail(ALICE, filters={"property-backup_type": "daily"}, sort_key="created_at", sort_dir="desc")

    assert [entry["name"] for entry in found] == ["b2", "b1", "b0"]


def test_a_deleted_image_and_its_content_are_gone(images, store_path):
    made = images.create(ALICE, {}, [b"1"])

    images.delete(ALICE, made["id"])

    with pytest.raises(exception.ImageNotFound):
        images.show(ALICE, made["id"])
    assert list(store_path.iterdir()) == []


@pytest.mark.parametrize("image_id", ["../../etc/passwd", "", ".hidden", "a/b", "nul\0", None])
def test_an_id_is_never_a_path(images, image_id):
    with pytest.raises(exception.ImageNotFound):
        images.show(ADMIN, image_id)


def test_the_owner_and_the_size_cannot_be_forged(images):
    made = images.create(ALICE, {}, [b"1"])

    updated = images.update(ALICE, made["id"], {"owner": "blue", "size": 99, "id": "x", "content": "/etc/passwd"})

    assert (updated["owner"], updated["size"], updated["id"]) == ("red", 1, made["id"])
