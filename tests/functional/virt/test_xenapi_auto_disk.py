"""Partitions that follow the size of their disks, in disks that are brought here and sent back."""

import shutil
import struct
import subprocess
import urllib.request

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi.auto_disk import SECTOR_B, only_partition
from nova_lite.virt.xenapi.images import qemu_img
from nova_lite.virt.xenapi.requirements import check_host
from tests.fixtures.xen_bench import GIB, MIB, make_instance, make_network_info, vbds

FIRST_SECTOR = 2048

pytestmark = pytest.mark.skipif(not shutil.which("mkfs.ext4", path="/usr/sbin:/sbin"), reason="needs e2fsprogs")


def tool(name, *arguments):
    program = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk of 32 MiB with one ext4 partition that holds a file."""
    folder = tmp_path_factory.mktemp("disk")
    partition, content = folder / "partition", folder / "content"
    content.mkdir()
    (content / "hello").write_text("still here")
    sectors = 32 * MIB // SECTOR_B - FIRST_SECTOR
    with open(partition, "wb") as area:
        area.truncate(sectors * SECTOR_B)
    tool("mkfs.ext4", "-q", "-F", "-d", str(content), str(partition))
    entry = struct.pack("<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), FIRST_SECTOR, sectors)
    head = (bytes(446) + entry + bytes(48) + b"\x55\xaa").ljust(FIRST_SECTOR * SECTOR_B, b"\0")
    return head + partition.read_bytes()


@pytest.fixture
def near(make_bench):
    return make_bench(independent_compute=False)


def export(bench, instance, format):
    """Return the open stream of the root disk."""
    root = vbds(bench, bench.vm(instance))["0"]["VDI"]
    handle = bench.vmops._session.get_session_id()
    return urllib.request.urlopen(
        f"{bench.simulator.url}/export_raw_vdi?session_id={handle}&vdi={root}&format={format}")


def partition_of(bench, instance, tmp_path):
    with export(bench, instance, "raw") as stream:
        (tmp_path / "head").write_bytes(stream.read(SECTOR_B))
    return only_partition(tmp_path / "head")


def inside(bench, instance, tmp_path):
    """Bring the root disk here; returns (size of the file system, what the file says)."""
    vhd, whole, area = (str(tmp_path / name) for name in ("vhd", "whole", "area"))
    with export(bench, instance, "vhd") as stream, open(vhd, "wb") as target:
        shutil.copyfileobj(stream, target, MIB)
    qemu_img("convert", "-f", "vpc", "-O", "raw", vhd, whole)
    tool("dd", f"if={whole}", f"of={area}", "bs=1M", "skip=1", "conv=sparse")
    told = dict(line.split(":", 1) for line in tool("dumpe2fs", "-h", area).splitlines() if ":" in line)
    assert "has_journal" in told["Filesystem features"]
    return int(told["Block count"]) * int(told["Block size"]), tool("debugfs", "-R", "cat /hello", area)


def boot(bench, disk, **flavor):
    instance = make_instance(auto_disk_config=True, flavor=flavor)
    bench.spawn(instance, image=bench.images.add(disk))
    return instance


def test_partition_and_file_system_grow_with_the_disk(near, disk, tmp_path):
    instance = boot(near, disk)
    partition, (size_b, text) = partition_of(near, instance, tmp_path), inside(near, instance, tmp_path)
    assert (partition.start + partition.sectors) * SECTOR_B == GIB
    assert size_b > 0.99 * (GIB - FIRST_SECTOR * SECTOR_B) and text == "still here"


def test_a_service_anywhere_leaves_the_partition_to_the_guest(bench, disk, tmp_path):
    partition = partition_of(bench, boot(bench, disk), tmp_path)
    assert (partition.start + partition.sectors) * SECTOR_B == 32 * MIB


def test_a_disk_as_large_as_its_image_is_not_brought_here(near, disk, tmp_path):
    near.simulator.control.reset_calls()
    instance = boot(near, disk, root_gb=0)
    assert not [call for call in near.simulator.control.calls() if "export" in call]
    partition = partition_of(near, instance, tmp_path)
    assert (partition.start + partition.sectors) * SECTOR_B == 32 * MIB


def test_a_disk_that_is_not_of_one_partition_is_left_as_it_is(near):
    instance = make_instance(auto_disk_config=True)
    near.spawn(instance)
    assert near.vm(instance)["power_state"] == "Running"


def test_a_resize_to_a_smaller_disk_shrinks_what_is_in_it(near, disk, tmp_path):
    instance = boot(near, disk, root_gb=2)
    before = near.disk_count()
    smaller = {**instance["flavor"], "root_gb": 1}
    disk_info = near.driver.migrate_disk_and_power_off(None, instance, "127.0.0.1", smaller, make_network_info())
    moved = {**instance, "flavor": smaller, "root_gb": 1}
    near.driver.finish_migration(None, {}, moved, disk_info, make_network_info(), near.image, True)
    near.driver.confirm_migration({}, moved, make_network_info())

    partition, (size_b, text) = partition_of(near, moved, tmp_path), inside(near, moved, tmp_path)
    assert (partition.start + partition.sectors) * SECTOR_B == GIB
    assert size_b <= GIB and text == "still here"
    assert near.disk_count() == before


def test_a_reverted_shrink_leaves_the_larger_disk(near, disk):
    instance = boot(near, disk, root_gb=2)
    before = near.disk_count()
    smaller = {**instance["flavor"], "root_gb": 1}
    near.driver.migrate_disk_and_power_off(None, instance, "127.0.0.1", smaller, make_network_info())
    near.driver.finish_revert_migration(instance, make_network_info())
    assert near.disk_count() == before
    root = vbds(near, near.vm(instance))
    assert set(root) == {"0"} and near.api("VDI.get_virtual_size", root["0"]["VDI"]) == str(2 * GIB)


def test_a_disk_that_cannot_shrink_is_told_and_the_instance_goes_on(near):
    instance = make_instance(auto_disk_config=True, flavor={"root_gb": 2})
    near.spawn(instance)
    with pytest.raises(exception.InstanceFaultRollback, match="partition"):
        near.driver.migrate_disk_and_power_off(None, instance, "127.0.0.1", {**instance["flavor"], "root_gb": 1},
                                               make_network_info())
    assert near.vm(instance)["power_state"] == "Running"


def test_a_service_that_has_to_be_a_guest_of_its_host_is_checked(bench, tmp_path):
    own = tmp_path / "uuid"
    with pytest.raises(exception.ConfigurationError, match="no guest of XenServer"):
        check_host(bench.vmops._session, str(own))
    own.write_text(bench.vm(bench.spawn())["uuid"])
    check_host(bench.vmops._session, str(own))
    own.write_text("another")
    with pytest.raises(exception.ConfigurationError, match="does not know"):
        check_host(bench.vmops._session, str(own))


def in_guest(bench, instance, tmp_path, *commands):
    """Return what debugfs tells of the file system in the instance's root disk."""
    with export(bench, instance, "raw") as stream:
        content = stream.read()
    start = struct.unpack_from("<I", content, 446 + 8)[0] * SECTOR_B
    (tmp_path / "partition").write_bytes(content[start:start + 31 * MIB])
    return [tool("debugfs", "-R", command, str(tmp_path / "partition")) for command in commands]


@pytest.fixture
def injecting(make_bench):
    bench = make_bench(independent_compute=False)
    bench.conf.set_override("flat_injected", True)
    yield bench
    bench.conf.clear_override("flat_injected")


def injected_network_info():
    network_info = make_network_info()
    network_info[0]["network"]["meta"]["injected"] = True
    return network_info


def test_key_network_and_metadata_are_written_into_the_disk(injecting, disk, tmp_path):
    image = injecting.images.add(disk)
    instance = injecting.spawn(make_instance(key_data="ssh-rsa AAAA user", flavor={"root_gb": 0}), image,
                               injected_network_info())
    keys, network, metadata, kept, modes = in_guest(
        injecting, instance, tmp_path, "cat /root/.ssh/authorized_keys", "cat /etc/network/interfaces", "cat /meta.js",
        "cat /hello", "ls -l /root/.ssh")
    assert keys.endswith("\nssh-rsa AAAA user\n") and "100600" in modes and kept == "still here"
    assert metadata == '{"color": "blue"}'
    for line in ("iface eth0 inet static", "address 192.168.1.101", "netmask 255.255.255.0", "gateway 192.168.1.1",
                 "dns-nameservers 192.168.1.3", "iface eth0 inet6 static", "netmask 64"):
        assert line in network


def test_nothing_is_written_where_an_agent_is_or_no_linux(injecting, disk, make_conf, tmp_path):
    injecting.conf.set_override("agent_path", "hello", "xenserver")
    for image in (injecting.images.add(disk), injecting.image):
        instance = injecting.spawn(make_instance(key_data="ssh-rsa AAAA user", flavor={"root_gb": 0}), image)
        with export(injecting, instance, "raw") as stream:
            assert stream.read(len(injecting.images.images[image["id"]][1])) == injecting.images.images[image["id"]][1]
