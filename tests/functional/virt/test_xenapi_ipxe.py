"""iPXE CDs: what the plugin makes of them, and which guests get them."""

import io
import json
import sys
import tarfile
import uuid

import pycdlib
import pytest
import XenAPI

from nova_lite import exception
from tests.fixtures.xen_bench import MIB, make_network_info, vbds
from tests.functional.virt.test_xenapi_dom0_plugins import Dom0

MENU = "http://boot.example.org/menu.ipxe"
# Keeps what it is to put on the CD as an archive.
MKISOFS = '''#!{python} -SE
import sys, tarfile
with tarfile.open(sys.argv[sys.argv.index("-o") + 1], "w") as tar:
    tar.add(sys.argv[-1], "cd")
'''


def cd(**files):
    iso = pycdlib.PyCdlib()
    iso.new()
    for name, content in files.items():
        iso.add_fp(io.BytesIO(content), len(content), f"/{name.replace('_', '.')};1")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


@pytest.fixture
def dom0(tmp_path):
    dom0 = Dom0(tmp_path)
    program = dom0.bin / "mkisofs"
    program.write_text(MKISOFS.format(python=sys.executable))
    program.chmod(0o755)
    return dom0


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "sr" / "iso" / f"{uuid.uuid4()}.img"
    path.parent.mkdir(parents=True)
    path.write_bytes(cd(ISOLINUX_BIN=b"loader", IPXE_KRN=b"kernel", ISOLINUX_CFG=b"old"))
    return path


def inject(dom0, image, **changes):
    arguments = {"sr_path": str(image.parent.parent), "vdi_uuid": image.stem, "boot_menu_url": MENU,
                 "ip_address": "10.0.0.5", "netmask": "255.255.255.0", "gateway": "10.0.0.1", "dns": "10.0.0.2",
                 "mkisofs_cmd": "mkisofs", **changes}
    return dom0.call("ipxe.py", "inject", params=json.dumps({"args": list(arguments.values()), "kwargs": {}}))


def test_a_cd_is_built_anew_with_the_settings_of_its_guest(dom0, image):
    inject(dom0, image)
    with tarfile.open(image) as tar:
        files = {name.rpartition("/")[2]: tar.extractfile(name).read().decode()
                 for name in tar.getnames() if "." in name}
    assert set(files) == {"isolinux.bin", "ipxe.krn", "isolinux.cfg", "netcfg.ipxe"}
    assert files["ipxe.krn"] == "kernel" and "INITRD netcfg.ipxe" in files["isolinux.cfg"]
    for line in ("set net0/ip 10.0.0.5", "set net0/netmask 255.255.255.0", "set net0/gateway 10.0.0.1",
                 "set dns 10.0.0.2", f"chain {MENU}"):
        assert line in files["netcfg.ipxe"]
    assert [path.name for path in image.parent.iterdir()] == [image.name]


@pytest.mark.parametrize(("changes", "told"), [
    ({"mkisofs_cmd": "no-such-program"}, "CommandNotFound"),
    ({"boot_menu_url": "http://x\nshell"}, "boot_menu_url"),
    ({"gateway": "10.0.0.1\nshell"}, "gateway"),
    ({"vdi_uuid": "../../etc/passwd"}, "vdi_uuid"),
    ({"vdi_uuid": "missing"}, "no file of the repository"),
])
def test_what_cannot_be_is_refused_and_the_cd_stays_as_it_is(dom0, image, changes, told):
    before = image.read_bytes()
    with pytest.raises(RuntimeError, match=told):
        inject(dom0, image, **changes)
    assert image.read_bytes() == before and len(list(image.parent.iterdir())) == 1


def test_a_link_and_a_cd_without_ipxe_are_refused(dom0, image):
    link = image.with_name("link.img")
    link.symlink_to(image)
    with pytest.raises(RuntimeError, match="no file of the repository"):
        inject(dom0, link)
    image.write_bytes(cd(OTHER_BIN=b"x"))
    with pytest.raises(RuntimeError, match=r"isolinux\.bin"):
        inject(dom0, image)
    image.write_bytes(b"no cd")
    with pytest.raises(RuntimeError, match="no CD"):
        inject(dom0, image)


def booted(bench, answer):
    """Spawn an instance from an iPXE CD; returns it and the arguments of the plugin call, answered by `answer`."""
    iso = bench.images.add(b"iso" * MIB, disk_format="iso", properties={"ipxe_boot": "True"})
    session = bench.vmops._session
    original, heard = session.call_plugin_serialized, []

    def call(plugin, function, *args, **kwargs):
        if plugin != "ipxe":
            return original(plugin, function, *args, **kwargs)
        heard.extend(args)
        return answer()

    session.call_plugin_serialized = call
    return bench.spawn(image=iso, network_info=make_network_info()), heard


def test_a_guest_boots_from_a_cd_in_the_repository_of_isos_with_its_settings(make_bench):
    bench = make_bench(ipxe_network_name="public", ipxe_boot_menu_url=MENU, ipxe_mkisofs_cmd="genisoimage")
    instance, arguments = booted(bench, lambda: "")
    disk = vbds(bench, bench.vm(instance))["1"]
    assert disk["type"].lower() == "cd" and disk["bootable"]
    iso = bench.api("VDI.get_record", disk["VDI"])
    assert bench.api("SR.get_name_label", iso["SR"]) == "Local storage ISO"
    guests = bench.vmops.storage.for_guests()
    assert arguments == [f"/var/run/sr-mount/{guests.uuid}", iso["uuid"], MENU, "192.168.1.101", "255.255.255.0",
                         "192.168.1.1", "192.168.1.3", "genisoimage"]
    bench.vmops.destroy(instance, [])
    assert iso["uuid"] not in {vdi["uuid"] for vdi in bench.api("VDI.get_all_records").values()}


def failing(*details):
    def answer():
        raise XenAPI.Failure(list(details))
    return answer


@pytest.mark.parametrize(("options", "answer"), [
    ({}, lambda: pytest.fail("the plugin is called")),
    ({"ipxe_boot_menu_url": MENU, "ipxe_network_name": "other"}, lambda: pytest.fail("the plugin is called")),
    ({"ipxe_boot_menu_url": MENU, "ipxe_network_name": "public"}, failing("XENAPI_MISSING_PLUGIN", "ipxe.py")),
    ({"ipxe_boot_menu_url": MENU, "ipxe_network_name": "public"},
     failing("XENAPI_PLUGIN_FAILURE", "inject", "CommandNotFound", "mkisofs is not installed")),
])
def test_a_cd_that_cannot_be_prepared_is_booted_as_it_is(make_bench, options, answer):
    bench = make_bench(**options)
    instance, _ = booted(bench, answer)
    assert bench.vm(instance)["power_state"] == "Running"


def test_a_cd_that_the_plugin_refuses_fails_the_build(make_bench):
    bench = make_bench(ipxe_boot_menu_url=MENU, ipxe_network_name="public")
    before = bench.counts()
    with pytest.raises(exception.PluginError, match="no CD"):
        booted(bench, failing("XENAPI_PLUGIN_FAILURE", "inject", "PluginError", "the image is no CD"))
    assert bench.counts() == before
