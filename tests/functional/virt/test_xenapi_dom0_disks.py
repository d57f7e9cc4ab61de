"""The plugins that move disks, run by the simulator against its repositories and a real image service."""

import hashlib
import io
import json
import tarfile
import uuid

import pytest
import XenAPI

from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.xensim import Simulator
from tests.fixtures.vhd_util import ImageService, install_plugins
from tests.fixtures.xen_bench import MIB
from tests.fixtures.xen_client import Client


class Dom0:
    """A host with all plugins, its local repository, and a way to run plugins."""

    def __init__(self, directory):
        self.images_folder = directory / "images"
        self.plugins = plugins = install_plugins(directory, self.images_folder)
        self.simulator = Simulator(state_dir=str(directory / "state"), name="disks", plugins=str(plugins))
        self.simulator.start()
        self.session = XenAPISession(self.simulator.url, "root", self.simulator.password)
        self.api = self.session.call_xenapi
        self.sr_ref = next(iter(self.api("pool.get_all_records").values()))["default_SR"]
        self.sr_path = directory / "state" / "sr" / self.api("SR.get_uuid", self.sr_ref)

    def close(self):
        self.session.close()
        self.simulator.stop()

    def run(self, plugin, function, **kwargs):
        return self.session.call_plugin_serialized(plugin, function, **kwargs)

    def disk(self, size_b=4 * MIB):
        return self.api("VDI.create", {
            "name_label": "disk", "name_description": "", "SR": self.sr_ref, "virtual_size": str(size_b),
            "type": "user", "sharable": False, "read_only": False, "other_config": {}, "xenstore_data": {},
            "sm_config": {}, "tags": []})

    def uuid_of(self, vdi_ref):
        return self.api("VDI.get_uuid", vdi_ref)

    def write(self, vdi_ref, content):
        assert self._transfer("PUT", "import_raw_vdi", vdi_ref, content).status == 200

    def read(self, vdi_uuid):
        return self._transfer("GET", "export_raw_vdi", vdi_uuid).body

    def _transfer(self, verb, handler, vdi, content=None):
        with self.session.http_connection() as connection:
            handle = self.session.http_handle()
            connection.request(verb, f"/{handler}?session_id={handle}&vdi={vdi}&format=raw", content)
            response = connection.getresponse()
            response.body = response.read()
            return response

    def chain(self, vdi_ref):
        """Return the uuids of a disk and its parents, leaf first."""
        uuids, parent = [self.uuid_of(vdi_ref)], self.api("VDI.get_sm_config", vdi_ref).get("vhd-parent")
        while parent:
            uuids.append(parent)
            parent = self.api("VDI.get_sm_config", self.api("VDI.get_by_uuid", parent)).get("vhd-parent")
        return uuids

    def introduce(self, vdi_uuid):
        """Take a file that a plugin put into the repository into the host's books, parents first."""
        self.api("SR.scan", self.sr_ref)
        return self.api("VDI.introduce", vdi_uuid, "arrived", "", self.sr_ref, "user", False, False, {}, vdi_uuid, {},
                        {})

    def files(self):
        return {path.name for path in self.sr_path.iterdir()}


@pytest.fixture(scope="module")
def dom0(tmp_path_factory):
    made = Dom0(tmp_path_factory.mktemp("dom0"))
    yield made
    made.close()


@pytest.fixture
def images():
    service = ImageService()
    yield service
    service.close()


@pytest.fixture
def chain(dom0):
    """A disk of two links whose content is told by both."""
    vdi_ref = dom0.disk()
    dom0.write(vdi_ref, b"old" * 1000 + bytes(4 * MIB - 3000))
    clone_ref = dom0.api("VDI.clone", vdi_ref, {})
    dom0.write(clone_ref, b"new" * 1000 + bytes(4 * MIB - 3000))
    return dom0.chain(clone_ref)


def stack():
    return [str(uuid.uuid4()) for _ in range(16)]


def archive(*members):
    """Return a gzipped tar of (name, content)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("version", [1, 2])
def test_a_chain_goes_to_the_image_service_and_comes_back_as_it_was(dom0, images, chain, version):
    image_id = str(uuid.uuid4())
    images.images[image_id] = {"status": "queued"}
    dom0.run("glance", "upload_vhd2", vdi_uuids=chain, image_id=image_id, endpoint=images.url,
             sr_path=str(dom0.sr_path), extra_headers={"X-Auth-Token": "t"}, properties={"os_type": "linux"},
             api_version=version)

    image = images.images[image_id]
    with tarfile.open(fileobj=io.BytesIO(image["content"]), mode="r:gz") as tar:
        assert tar.getnames() == [f"{number}.vhd" for number in range(len(chain))]
    if version == 2:
        assert image["properties"]["disk_format"] == "vhd" and image["properties"]["os_type"] == "linux"
    else:
        assert image["headers"]["x-image-meta-property-os-type"] == "linux"

    image["answer_headers"] = {"etag": hashlib.md5(image["content"]).hexdigest()}
    uuids = stack()
    found = dom0.run("glance", "download_vhd2", image_id=image_id, endpoint=images.url, uuid_stack=list(uuids),
                     sr_path=str(dom0.sr_path), api_version=version)
    leaf = found["root"]["uuid"]
    for name in reversed(uuids[-len(chain):-1]):
        dom0.introduce(name)
    dom0.introduce(leaf)
    assert dom0.read(leaf)[:3000] == b"new" * 1000
    assert all("x-auth-token" not in map(str.lower, headers) or method != "GET"
               for method, path, headers in images.requests if path.endswith("/file"))


def test_the_earlier_forms_are_served_too(dom0, images, chain):
    image_id = str(uuid.uuid4())
    images.images[image_id] = {"status": "queued"}
    place = {"glance_host": "127.0.0.1", "glance_port": int(images.url.rpartition(":")[2])}
    place["sr_path"] = str(dom0.sr_path)
    dom0.run("glance", "upload_vhd", vdi_uuids={"snap": chain[0], "image": chain[1], "base": None}, image_id=image_id,
             auth_token="t", properties={}, **place)
    found = dom0.run("glance", "download_vhd", image_id=image_id, uuid_stack=stack(), **place)
    assert [disk["vdi_type"] for disk in found] == ["os"]


def download(dom0, images, content, **more):
    image_id = str(uuid.uuid4())
    images.images[image_id] = {"status": "active", "content": content, **more.pop("image", {})}
    return dom0.run("glance", "download_vhd2", image_id=image_id, endpoint=images.url, uuid_stack=stack(),
                    sr_path=str(dom0.sr_path), api_version=2, **more)


def vhd(dom0):
    return (dom0.sr_path / (dom0.uuid_of(dom0.disk()) + ".vhd")).read_bytes()


@pytest.mark.parametrize("what", ["truncated", "checksum", "gap", "no vhd", "no disk", "twice", "future", "too large"])
def test_a_bad_image_leaves_nothing_in_the_repository(dom0, images, what):
    good = vhd(dom0)
    future = bytearray(good)
    future[-512 + 24:-512 + 28] = b"\xff\xff\xff\xff"
    content = {
        "truncated": archive(("0.vhd", good))[:100], "checksum": archive(("0.vhd", good)),
        "gap": archive(("0.vhd", good), ("2.vhd", good)), "no vhd": archive(("0.vhd", b"x" * 2048)),
        "no disk": archive(("readme", b"x")), "twice": archive(("0.vhd", good), ("a/0.vhd", good)),
        "future": archive(("0.vhd", bytes(future))), "too large": archive(("0.vhd", good)),
    }[what]
    before = dom0.files()
    more = {"largest_b": 1000} if what == "too large" else {}
    if what == "checksum":
        more["image"] = {"answer_headers": {"etag": "0" * 32}}
    with pytest.raises(XenAPI.Failure) as caught:
        download(dom0, images, content, **more)
    kind = {"truncated": "RetryableError", "checksum": "RetryableError", "too large": "ImageTooLarge"}.get(
        what, "PluginError")
    assert caught.value.details[2] == kind
    assert dom0.files() == before


def test_members_of_an_archive_cannot_reach_beyond_the_staging_area(dom0, images, tmp_path):
    good = vhd(dom0)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        link = tarfile.TarInfo("0.vhd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        member = tarfile.TarInfo("../../../../" + str(tmp_path / "1.vhd"))
        member.size = len(good)
        tar.addfile(member, io.BytesIO(good))
    leaf = download(dom0, images, packed.getvalue())["root"]["uuid"]
    assert (dom0.sr_path / f"{leaf}.vhd").read_bytes() == good
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "kind"), [(403, "PluginError"), (404, "ImageNotFound"), (503, "RetryableError")])
def test_a_refusal_of_the_image_service_is_told_with_its_kind(dom0, images, chain, status, kind):
    images.answers = [status]
    with pytest.raises(XenAPI.Failure) as caught:
        dom0.run("glance", "upload_vhd2", vdi_uuids=chain, image_id="image", endpoint=images.url,
                 sr_path=str(dom0.sr_path), properties={}, api_version=1)
    assert caught.value.details[2] == kind


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_does_not_give_an_image_is_not_the_last_one(dom0, images, status):
    images.answers = [status]
    with pytest.raises(XenAPI.Failure) as caught:
        download(dom0, images, b"")
    assert caught.value.details[2] == "RetryableError"


def test_an_instance_moves_by_the_migration_plugin(dom0, chain):
    instance_uuid = str(uuid.uuid4())
    for number, vdi_uuid in enumerate(chain):
        dom0.run("migration", "transfer_vhd", instance_uuid=instance_uuid, host="127.0.0.1", vdi_uuid=vdi_uuid,
                 sr_path=str(dom0.sr_path), seq_num=number)
    uuids = stack()
    moved = dom0.run("migration", "move_vhds_into_sr", instance_uuid=instance_uuid, sr_path=str(dom0.sr_path),
                     uuid_stack=list(uuids))
    leaf = moved["root"]["uuid"]
    for name in reversed(uuids[-len(chain):-1]):
        dom0.introduce(name)
    dom0.introduce(leaf)
    assert dom0.read(leaf)[:3000] == b"new" * 1000
    assert list(dom0.images_folder.iterdir()) == []


def test_an_instance_moves_by_the_earlier_form_too(dom0, chain):
    instance_uuid, (cow, base) = str(uuid.uuid4()), chain
    for vdi_uuid in (cow, base):
        dom0.run("migration", "transfer_vhd", instance_uuid=instance_uuid, host="127.0.0.1", vdi_uuid=vdi_uuid,
                 sr_path=str(dom0.sr_path))
    new_cow, new_base = stack()[:2]
    assert dom0.run("migration", "move_vhds_into_sr", instance_uuid=instance_uuid, sr_path=str(dom0.sr_path),
                    old_base_copy_uuid=base, new_base_copy_uuid=new_base, old_cow_uuid=cow, new_cow_uuid=new_cow) == ""
    dom0.introduce(new_base)
    dom0.introduce(new_cow)
    assert dom0.read(new_cow)[:3000] == b"new" * 1000


@pytest.mark.parametrize("bad", [{"host": "-oProxyCommand=id"}, {"vdi_uuid": "../../etc/passwd"},
                                 {"instance_uuid": "a/b"}, {"vdi_uuid": "name\n"}, {"sr_path": "relative"},
                                 {"host": "a;b"}])
def test_arguments_that_would_reach_elsewhere_are_refused(dom0, chain, bad):
    good = {"instance_uuid": "i", "host": "127.0.0.1", "vdi_uuid": chain[0], "sr_path": str(dom0.sr_path), "seq_num": 0}
    with pytest.raises(XenAPI.Failure) as caught:
        dom0.run("migration", "transfer_vhd", **{**good, **bad})
    assert caught.value.details[2] == "ArgumentError"


def test_a_chain_is_copied_inside_its_repository(dom0, chain):
    found = dom0.run("workarounds", "safe_copy_vdis", sr_path=str(dom0.sr_path), vdi_uuids=chain, uuid_stack=stack())
    assert (dom0.sr_path / "{}.vhd".format(found["root"]["uuid"])).exists()


def test_bandwidth_is_counted_from_the_guests_side(dom0):
    assert dom0.session.call_plugin("bandwidth", "fetch_all_bandwidth", {}) == "{}"
    counters = dom0.plugins / "counters"
    counters.write_text("Inter-|\n face |\n  eth0: 1 0 0 0 0 0 0 0 2 0\nvif3.0: 10 1 0 0 0 0 0 0 20 2 0\n")
    plugin = dom0.plugins / "bandwidth.py"
    plugin.write_text(plugin.read_text().replace("/proc/net/dev", str(counters)))
    assert dom0.session.call_plugin("bandwidth", "fetch_all_bandwidth", {}) \
        == '{"3": {"0": {"bw_in": 20, "bw_out": 10}}}'


def test_a_host_is_rebooted_after_its_guests_were_shut_down(dom0):
    dom0.simulator.control.fail("host.reboot", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure, match="planted"):
        dom0.session.call_plugin("xenhost", "host_reboot", {})
    calls = dom0.simulator.control.calls()
    assert calls.index("host.disable") < calls.index("host.reboot")
    dom0.session.call_plugin("xenhost", "set_host_enabled", {"enabled": "true"})


def test_a_guest_that_does_not_shut_down_by_itself_is_switched_off_before_its_host(dom0):
    client = Client(XenAPI.Session(dom0.simulator.url))
    client.session.login_with_password("root", dom0.simulator.password)
    vm_ref = client.started()
    dom0.simulator.control.fail("VM.clean_shutdown", error=["VM_LACKS_FEATURE", vm_ref])
    dom0.simulator.control.fail("host.shutdown", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure, match="planted"):
        dom0.session.call_plugin("xenhost", "host_shutdown", {})
    assert client.api.VM.get_power_state(vm_ref) == "Halted"
    dom0.session.call_plugin("xenhost", "set_host_enabled", {"enabled": "true"})
    client.session.logout()


def test_the_host_plugin_answers_and_refuses(dom0):
    run = dom0.session.call_plugin
    assert '"status": "disabled"' in run("xenhost", "set_host_enabled", {"enabled": "false"})
    assert '"status": "enabled"' in run("xenhost", "set_host_enabled", {"enabled": "true"})
    plugin = dom0.plugins / "xenhost.py"
    plugin.write_text(plugin.read_text().replace("/etc/nova_lite_xenhost.json", str(dom0.plugins / "settings")))
    run("xenhost", "set_config", {"params": '{"key": "rack", "value": "7"}'})
    facts = json.loads(run("xenhost", "host_data", {}))
    assert facts["host_uuid"] == dom0.session.host_uuid and facts["host_cpu_info"]["cpu_count"] > 0
    assert 0 < facts["host_memory"]["free-computed"] < facts["host_memory"]["total"] and facts["rack"] == "7"
    with pytest.raises(XenAPI.Failure, match="HOST_IS_LIVE"):
        run("xenhost", "host_start", {})
    with pytest.raises(XenAPI.Failure, match="PluginError"):
        run("xenhost", "set_host_enabled", {})
    with pytest.raises(XenAPI.Failure, match="Argument vdi-ref is required"):
        run("glance", "copy_kernel_vdi", {})
    assert run("glance", "create_kernel_ramdisk", {"cached-image": "none", "new-image-uuid": "new"}) == ""
    assert run("glance", "remove_kernel_ramdisk", {"kernel-file": "/boot/guest/none"}) == "ok"
    for plugin, function, arguments in (
            ("xenhost", "set_host_enabled", {"enabled": "perhaps"}),
            ("xenhost", "iptables_config", {"cmd_args": '["sh", "-c", "id"]'}),
            ("netwrap", "run_command", {"cmd": '["sh", "-c", "id"]'}),
            ("xenhost", "network_config", {"params": '{"args": [{"cmd": "reboot", "args": {}}]}'}),
            ("partition_utils", "mkfs", {"params": '{"args": ["/dev/../etc", 1, "swap"]}'})):
        with pytest.raises(XenAPI.Failure) as caught:
            run(plugin, function, arguments)
        assert caught.value.details[2] in ("ArgumentError", "PluginError"), (plugin, function)
