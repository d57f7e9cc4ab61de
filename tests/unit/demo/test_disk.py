"""The demo's image."""

import shutil
import struct

import pytest

from nova_lite.demo import disk


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "disk.raw"
    disk.make_disk(path)
    return path


def test_the_disk_has_a_partition_that_fills_it(raw):
    head = raw.read_bytes()[:512]
    kind, first, sectors = head[446 + 4], *struct.unpack_from("<II", head, 446 + 8)

    assert head[510:] == b"\x55\xaa"
    assert (kind, first * 512, (first + sectors) * 512) == (0x83, 1024 * 1024, disk.DISK_B)


def test_the_partition_looks_like_a_file_system(raw):
    superblock = raw.read_bytes()[1024 * 1024 + 1024 :][:1024]

    assert superblock[56:58] == b"\x53\xef"
    assert struct.unpack_from("<I", superblock, 4) == ((disk.DISK_B - 1024 * 1024) // 4096,)


def test_no_two_written_blocks_are_equal(raw):
    content = raw.read_bytes()
    written = [content[at : at + 4096] for at in range(0, len(content), 4096) if any(content[at : at + 4096])]

    assert len(written) > 100
    assert len(set(written)) == len(written)


def test_a_file_says_its_own_format(tmp_path, raw):
    fixed_vhd = tmp_path / "fixed"
    fixed_vhd.write_bytes(bytes(1024) + b"conectix".ljust(512, b"\0"))
    qcow2 = tmp_path / "cow"
    qcow2.write_bytes(b"QFI\xfb\0\0\0\3")

    assert [disk.format_of(path) for path in (raw, fixed_vhd, qcow2)] == ["raw", "vhd", "qcow2"]


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_the_vhd_holds_the_raw_disk(tmp_path):
    image = disk.demo_image(tmp_path)
    back = tmp_path / "back.raw"
    disk.convert(image.path, back, "vpc", "raw")

    assert disk.format_of(image.path) == "vhd"
    assert image.path.stat().st_size < disk.DISK_B
    with back.open("rb") as stream:
        assert disk.digest_of(disk.chunks_of(stream), disk.DISK_B) == image.digest


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_a_users_qcow2_image_is_read_through(tmp_path, raw):
    cow = tmp_path / "mine.img"
    disk.convert(raw, cow, "raw", "qcow2")

    image = disk.users_image(cow, tmp_path)

    assert image.disk_format == "qcow2"
    assert image.digest == disk.Image(raw, "raw", raw).digest


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(disk.ImageError, match="no image file .*/nothing.vhd"):
        disk.users_image(tmp_path / "nothing.vhd", tmp_path)


def test_an_empty_image_is_refused(tmp_path):
    (tmp_path / "empty").touch()

    with pytest.raises(disk.ImageError, match="is empty"):
        disk.users_image(tmp_path / "empty", tmp_path)


def test_a_digest_of_too_few_bytes_is_refused():
    with pytest.raises(disk.ImageError, match="only 3 of 4 bytes"):
        disk.digest_of([b"abc"], 4)


def test_a_digest_stops_at_the_length():
    assert disk.digest_of([b"ab", b"cd", b"ef"], 3) == disk.digest_of([b"abc"], 3)
