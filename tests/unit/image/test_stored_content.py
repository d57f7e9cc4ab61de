"""Content of the local store: what is known of it without reading it."""

import datetime
import json
import os

import pytest

from nova_lite import context, exception
from nova_lite.image.local import LocalImageAPI
from tests.fixtures import tampering
from tests.fixtures.clock import FakeClock
from tests.fixtures.services import load_conf

ADMIN = context.get_admin_context()
CONTENT = b"what was uploaded"


@pytest.fixture
def clock():
    """A clock that shows the time of the files, until it is moved."""
    return FakeClock(datetime.datetime.now(datetime.UTC))


@pytest.fixture
def images(tmp_path, clock):
    return LocalImageAPI(load_conf({("image", "store_path"): str(tmp_path)}), clock)


@pytest.fixture
def image_id(images):
    return images.create(ADMIN, {}, [CONTENT])["id"]


@pytest.fixture
def path(tmp_path, image_id):
    found, = tmp_path.glob("*.data")
    return found


def forge(**changes):
    def act(path):
        record = path.with_name(path.name + ".verified")
        record.write_text(json.dumps({**json.loads(record.read_text()), **changes}))
    return act


def garble(path):
    path.with_name(path.name + ".verified").write_bytes(b"\xff" * 10_000)


CHANGES = {
    "overwritten": lambda path: tampering.overwrite(path, b"WHAT"),
    "overwritten and dated back": lambda path: tampering.overwrite_secretly(path, b"WHAT"),
    "truncated": lambda path: os.truncate(path, 3),
    "grown": lambda path: os.truncate(path, 1000),
    "replaced": lambda path: tampering.replace(path, CONTENT.upper()),
    "only touched": os.utime,
    "linked elsewhere": lambda path: os.link(path, path.with_name("link")),
    "recorded with another checksum": forge(value="0" * 64),
    "recorded with another inode": forge(inode=1),
    "recorded in no known form": garble,
    "not recorded": lambda path: path.with_name(path.name + ".verified").unlink(),
}


def test_a_content_is_verified_as_it_comes_in(images, image_id):
    with images.open(ADMIN, image_id) as content:
        assert content.is_verified() and content.is_unchanged()
        assert content.checksum == ("sha256", images.show(ADMIN, image_id)["os_hash_value"])
        assert content.read() == CONTENT


@pytest.mark.parametrize("change", CHANGES)
def test_a_content_is_not_verified_any_more_once_it_is(images, image_id, path, change):
    CHANGES[change](path)

    with images.open(ADMIN, image_id) as content:
        assert not content.is_verified()


@pytest.mark.parametrize("change", ["overwritten", "overwritten and dated back", "truncated", "grown", "replaced"])
def test_a_change_shows_while_the_content_is_open(images, image_id, path, change):
    with images.open(ADMIN, image_id) as content:
        CHANGES[change](path)

        assert not content.is_unchanged() and not content.is_verified()


def test_who_hashed_a_content_has_it_recorded_again(images, image_id, path):
    os.utime(path)
    with images.open(ADMIN, image_id) as content:
        content.note_verified()

    with images.open(ADMIN, image_id) as content:
        assert content.is_verified()


def test_nothing_is_recorded_of_a_content_that_changed_while_it_was_hashed(images, image_id, path):
    with images.open(ADMIN, image_id) as content:
        tampering.overwrite(path, b"WHAT")
        content.note_verified()

    with images.open(ADMIN, image_id) as content:
        assert not content.is_verified()


def test_a_content_settles_when_its_last_change_is_past(images, image_id, clock):
    clock.advance(-3600)
    with images.open(ADMIN, image_id) as content:
        assert not content.is_settled
    clock.advance(2 * 3600)
    with images.open(ADMIN, image_id) as content:
        assert content.is_settled


def test_the_record_goes_with_the_content(images, image_id, tmp_path):
    images.update(ADMIN, image_id, {}, [b"new"])
    assert len(list(tmp_path.glob("*.verified"))) == 1

    images.delete(ADMIN, image_id)
    assert list(tmp_path.iterdir()) == []


def link(path, target):
    path.symlink_to(target)


def pipe(path, target):
    os.mkfifo(path)


def folder(path, target):
    path.mkdir()


@pytest.mark.parametrize("make", [link, pipe, folder])
def test_what_is_no_file_is_no_content(images, image_id, path, tmp_path, make):
    target = tmp_path / "elsewhere"
    path.rename(target)
    make(path, target)

    with pytest.raises(exception.ImageUnacceptable, match="no regular file"):
        images.open(ADMIN, image_id)
