import contextlib
import gzip
import hashlib
import io
import random
import subprocess
import tarfile

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi.config_drive import iso_image
from nova_lite.virt.xenapi.images import Images, qemu_img
from tests.fixtures.xen_bench import IMAGE_B

MIB = 1024 * 1024


class ImageStore:
    """One image, served as an image port serves it."""

    def __init__(self, content):
        self.content = content

    def open(self, context, image_id):
        return contextlib.closing(io.BytesIO(self.content))


def read(content, **meta):
    """Return (format, bytes, virtual size) of the disk an image becomes."""
    meta = {"id": "image", "disk_format": "raw", "container_format": "bare", "size": len(content), **meta}
    with Images(ImageStore(content)).open(None, meta) as disk:
        blocks = b"".join(disk.blocks)
        assert len(blocks) == disk.length_b
        return disk.format, blocks, disk.virtual_size_b


def noise(size_b):
    return random.Random(7).randbytes(size_b)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk of 8 MiB with something on it: (raw bytes, dynamic VHD, qcow2)."""
    folder = tmp_path_factory.mktemp("images")
    raw = noise(MIB) + bytes(7 * MIB)
    (folder / "raw").write_bytes(raw)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", str(folder / "raw"),
             str(folder / "vhd"))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(folder / "raw"), str(folder / "qcow2"))
    return raw, (folder / "vhd").read_bytes(), (folder / "qcow2").read_bytes()


def tgz(**members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_raw_image_is_sent_as_it_is(disk):
    assert read(disk[0]) == ("raw", disk[0], len(disk[0]))


def test_an_image_whose_size_nobody_told_is_measured_first(disk):
    assert read(disk[0], size=None) == ("raw", disk[0], len(disk[0]))
    assert read(disk[1], size=None, disk_format="vhd") == ("vhd", disk[1], 8 * MIB)


def test_a_vhd_is_sent_as_it_is_and_tells_its_virtual_size(disk):
    assert read(disk[1], disk_format="vhd") == ("vhd", disk[1], 8 * MIB)


def test_a_vhd_inside_a_gzipped_tar_is_unpacked_while_it_streams(disk):
    packed = tgz(**{"0_vhd": disk[1], "swap_vhd": b"left out"})
    assert read(packed, disk_format="vhd", container_format="ovf") == ("vhd", disk[1], 8 * MIB)


def test_a_raw_disk_inside_a_gzipped_tar_is_unpacked(disk):
    assert read(tgz(disk_raw=disk[0]), container_format="tgz") == ("raw", disk[0], 8 * MIB)


def test_a_chain_of_vhds_is_refused(disk):
    with pytest.raises(exception.ImageUnacceptable, match="chain"):
        read(tgz(**{"0_vhd": disk[1], "1_vhd": disk[1]}), disk_format="vhd")


def test_what_else_lies_in_an_archive_of_vhds_is_left_out(disk):
    packed = tgz(readme=b"no disk", image_vhd=disk[1], swap_vhd=b"left out", manifest_ovf=b"no disk")
    assert read(packed, disk_format="vhd", container_format="ovf") == ("vhd", disk[1], 8 * MIB)


def test_an_archive_of_vhds_without_any_is_refused(disk):
    with pytest.raises(exception.ImageUnacceptable, match="holds no disk"):
        read(tgz(disk_raw=disk[0]), disk_format="vhd", container_format="ovf")


def test_an_archive_of_several_raw_disks_is_refused(disk):
    with pytest.raises(exception.ImageUnacceptable, match="one is expected"):
        read(tgz(disk_raw=disk[0], other_raw=disk[0]), container_format="tgz")


def test_a_qcow2_becomes_a_vhd_with_the_same_content(disk, tmp_path):
    kind, vhd, size_b = read(disk[2], disk_format="qcow2")
    assert (kind, size_b) == ("vhd", 8 * MIB)
    (tmp_path / "vhd").write_bytes(vhd)
    qemu_img("convert", "-f", "vpc", "-O", "raw", str(tmp_path / "vhd"), str(tmp_path / "raw"))
    assert (tmp_path / "raw").read_bytes() == disk[0]


def test_a_qcow2_that_reaches_for_a_file_of_the_host_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(MIB))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(tmp_path / "secret"),
                    str(tmp_path / "evil")], check=True)
    with pytest.raises(exception.ImageUnacceptable, match="another file"):
        read((tmp_path / "evil").read_bytes(), disk_format="qcow2")


def test_an_ami_gets_a_partition_table_in_front():
    _, blocks, size_b = read(noise(1000), disk_format="ami")
    assert blocks[510:512] == b"\x55\xaa" and blocks[450] == 0x83
    assert blocks[63 * 512:63 * 512 + 1000] == noise(1000)
    assert size_b == 65 * 512


@pytest.mark.parametrize("meta", [
    {"checksum": "0" * 32}, {"os_hash_value": "0" * 64}, {"os_hash_value": "0" * 128, "os_hash_algo": "sha512"}])
def test_a_wrong_checksum_is_noticed(meta):
    with pytest.raises(exception.CouldNotFetchImage):
        read(noise(5000), **meta)


def test_a_right_checksum_is_accepted():
    content = noise(5000)
    assert read(content, os_hash_value=hashlib.sha256(content).hexdigest())[1] == content


def test_an_image_that_breaks_off_is_noticed():
    with pytest.raises(exception.CouldNotFetchImage), Images(ImageStore(noise(100))).open(
            None, {"id": "image", "disk_format": "raw", "size": 200}) as disk:
        assert len(b"".join(disk.blocks)) == 100


@pytest.mark.parametrize("content", [noise(5000), gzip.compress(noise(500)), b""])
def test_content_that_is_no_vhd_is_refused(content):
    with pytest.raises(exception.ImageUnacceptable):
        read(content, disk_format="vhd", size=len(content) or None)


def test_an_unknown_format_is_refused():
    with pytest.raises(exception.InvalidDiskFormat):
        read(b"", disk_format="vmdk")


def test_a_config_drive_is_an_iso_with_its_label_and_files():
    pycdlib = pytest.importorskip("pycdlib")
    image = iso_image({"openstack/latest/meta_data.json": b'{"uuid": "u"}', "openstack/content/0000": b"file"})
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    body = io.BytesIO()
    iso.get_file_from_iso_fp(body, joliet_path="/openstack/latest/meta_data.json")
    assert body.getvalue() == b'{"uuid": "u"}'
    assert image[16 * 2048 + 40:16 * 2048 + 48].decode().strip() == "config-2"


def test_a_snapshot_has_the_content_of_the_disk(bench, tmp_path):
    instance, image = bench.spawn(), bench.images.add(b"", status="queued")
    bench.vmops.snapshot(None, instance, image["id"])
    _, content = bench.images.images[image["id"]]
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        (tmp_path / "vhd").write_bytes(archive.extractfile("0.vhd").read())
    qemu_img("convert", "-f", "vpc", "-O", "raw", str(tmp_path / "vhd"), str(tmp_path / "raw"))
    with open(tmp_path / "raw", "rb") as raw:
        assert raw.read(IMAGE_B) == bench.images.images[bench.image["id"]][1]
