"""Images that are not what they say: refused before they cost more than the flavor allows, and nothing stays."""

import gzip
import io
import struct
import subprocess
import tarfile

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi.images import qemu_img
from tests.fixtures.xen_bench import GIB, MIB, make_instance

REFUSALS = (exception.ImageUnacceptable, exception.CouldNotFetchImage, exception.FlavorDiskSmallerThanImage,
            exception.InvalidDiskFormat, XenAPI.Failure, exception.NovaException)


@pytest.fixture(scope="module")
def vhd(tmp_path_factory):
    """A dynamic VHD of 8 MiB with something on it."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "raw").write_bytes(b"x" * MIB + bytes(7 * MIB))
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", str(folder / "raw"),
             str(folder / "vhd"))
    return (folder / "vhd").read_bytes()


def patched(content, at, text):
    return content[:at] + text + content[at + len(text):]


def archive(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                tar.addfile(member)
    return packed.getvalue()


def lying_archive(size_b):
    """A gzipped tar whose only member says it has `size_b` bytes, and has none."""
    member = tarfile.TarInfo("disk.raw")
    member.size = size_b
    return gzip.compress(member.tobuf() + bytes(1024))


def qcow2(tmp_path, *options):
    path = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "1M"], check=True)
    return path.read_bytes()


def images(vhd, tmp_path):
    """Return {what is wrong: (content, description)}."""
    dynamic = {"disk_format": "vhd"}
    tgz = {"disk_format": "vhd", "container_format": "ovf"}
    raw_tgz = {"disk_format": "raw", "container_format": "tgz"}
    (tmp_path / "backing").write_bytes(bytes(MIB))
    huge = struct.pack(">Q", 2000 * GIB)
    return {
        "truncated raw": (b"x" * MIB, {"size": 2 * MIB}),
        "longer than it says": (b"x" * 3 * MIB, {"size": MIB}),
        "wrong checksum": (b"x" * MIB, {"os_hash_value": "0" * 64}),
        "truncated VHD": (vhd[:len(vhd) // 2], {**dynamic, "size": len(vhd)}),
        "no VHD": (b"x" * MIB, dynamic),
        "VHD with a parent": (patched(vhd, 60, struct.pack(">I", 4)), dynamic),
        "VHD larger than the flavor": (patched(patched(vhd, 48, huge), len(vhd) - 512 + 48, huge), dynamic),
        "VHD larger than it says": (patched(vhd, 48, struct.pack(">Q", MIB)) + bytes(64 * MIB), dynamic),
        "tables out of the file": (patched(vhd, 16, struct.pack(">Q", 1 << 60)), dynamic),
        "truncated archive": (archive(("0.vhd", vhd))[:-400], tgz),
        "truncated gzip": (gzip.compress(b"")[:10], tgz),
        "chain of disks": (archive(("0.vhd", vhd), ("1.vhd", vhd)), tgz),
        "symbolic link": (archive(("0.vhd", (tarfile.SYMTYPE, "/etc/passwd"))), tgz),
        "device": (archive(("0.vhd", (tarfile.CHRTYPE, ""))), tgz),
        "archive of nothing": (archive(), tgz),
        "member larger than the flavor": (lying_archive(2000 * GIB), raw_tgz),
        "member larger than the archive": (lying_archive(8 * MIB), raw_tgz),
        "qcow2 on a file of the host": (
            qcow2(tmp_path, "-b", str(tmp_path / "backing"), "-F", "raw"), {"disk_format": "qcow2"}),
        "no qcow2": (b"QFI\xfb" + b"\xff" * MIB, {"disk_format": "qcow2"}),
        "unknown format": (b"x", {"disk_format": "vmdk"}),
    }


NAMES = ("truncated raw", "longer than it says", "wrong checksum", "truncated VHD", "no VHD", "VHD with a parent",
         "VHD larger than the flavor", "VHD larger than it says", "tables out of the file", "truncated archive",
         "truncated gzip", "chain of disks", "symbolic link", "device", "archive of nothing",
         "member larger than the flavor", "member larger than the archive", "qcow2 on a file of the host", "no qcow2",
         "unknown format")
# What can be told before anything is sent.
REFUSED_AT_ONCE = ("no VHD", "VHD with a parent", "VHD larger than the flavor", "VHD larger than it says",
                   "truncated gzip", "symbolic link", "device", "archive of nothing", "member larger than the flavor",
                   "qcow2 on a file of the host", "no qcow2", "unknown format")


@pytest.mark.parametrize("what", NAMES)
def test_an_image_that_lies_is_refused_and_nothing_of_it_stays(bench, vhd, tmp_path, what):
    content, description = images(vhd, tmp_path)[what]
    image = bench.images.add(content, **description)
    before = bench.counts()
    bench.simulator.control.reset_calls()
    with pytest.raises(REFUSALS) as caught:
        bench.spawn(make_instance(), image)
    assert bench.counts() == before
    assert "\n" not in str(caught.value)
    if what in REFUSED_AT_ONCE:
        assert "VDI.create" not in bench.calls()
