"""Options of [xenserver] that change how the driver works, each by what it changes."""

import os
import stat
import sys

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import local_disks, plugins
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.xensim import Simulator
from tests.fixtures.xen_bench import make_instance, vbds

# As the reference's plugins are written: arguments and results are pickles.
LEGACY = '''#!/usr/bin/env python3
import pickle
import XenAPIPlugin

def get_version(session, args):
    return pickle.dumps("{version}", 0).decode()

def echo(session, args):
    given = pickle.loads(args["params"].encode("latin-1"))
    return pickle.dumps([given["args"], given["kwargs"]], 0).decode("latin-1")

def lie(session, args):
    return "cos\\nsystem\\n(S'touch {marker}'\\ntR."

XenAPIPlugin.dispatch({{"get_version": get_version, "echo": echo, "lie": lie}})
'''


@pytest.fixture(scope="module")
def legacy_host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    (folder / "plugins").mkdir()
    for version, name in (("2.1", "dom0_plugin_version.py"), ("2.1", "mirror.py")):
        program = folder / "plugins" / name
        program.write_text(LEGACY.format(version=version, marker=folder / "marker"))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with Simulator(state_dir=str(folder / "state"), plugins=str(folder / "plugins")) as simulator:
        yield simulator, folder


@pytest.fixture
def legacy_session(legacy_host):
    simulator, _ = legacy_host
    session = XenAPISession(simulator.url, simulator.username, simulator.password, plugin_wire="legacy")
    yield session
    session.close()


def test_plugins_of_the_reference_are_spoken_to_in_pickles(legacy_session):
    assert legacy_session.plugin_version == "2.1"
    args, kwargs = legacy_session.call_plugin_serialized("mirror", "echo", 1, "zwei ä", [None, 2.5], key={"a": True})
    assert list(args) == [1, "zwei ä", [None, 2.5]] and kwargs == {"key": {"a": True}}


def test_defect_17_a_pickle_that_names_a_class_is_refused_and_runs_nothing(legacy_host, legacy_session):
    with pytest.raises(ValueError, match=r"object of os\.system"):
        legacy_session.call_plugin_serialized("mirror", "lie")
    assert not (legacy_host[1] / "marker").exists()


@pytest.mark.parametrize("text", ["no pickle", "(lp0\nI1", "I1\n", "\x80\x05."])
def test_defect_17_what_is_no_value_is_an_error_of_one_kind(text):
    with pytest.raises(ValueError, match="no value"):
        plugins.loads(text, plugins.WIRES["legacy"])


def test_plugins_of_the_other_kind_count_as_none(legacy_host, simulator):
    session = XenAPISession(legacy_host[0].url, simulator.username, simulator.password)
    assert session.plugin_version is None
    session.close()


def test_consoles_are_reached_under_the_public_name_of_the_host(make_bench):
    bench = make_bench(console_public_hostname="consoles.example.org")
    assert bench.driver.get_console_pool_info("xvp")["address"] == "consoles.example.org"


def test_without_generated_swap_a_guest_has_none(make_bench):
    bench = make_bench(generate_swap=False)
    instance = bench.spawn(make_instance(flavor={"swap": 64}))
    assert set(vbds(bench, bench.vm(instance))) == {"0"}


def test_the_swap_of_windows_is_a_file_system_for_its_page_file(bench, tmp_path, monkeypatch):
    """mkfs.vfat is not everywhere: a program in its place writes down what it was asked for, where it was told to."""
    program = tmp_path / "mkfs.vfat"
    program.write_text(f"#!{sys.executable}\nimport sys\n"
                       "with open(sys.argv[-2], 'r+b') as disk:\n"
                       "    disk.seek(int(sys.argv[sys.argv.index('--offset') + 1]) * 512)\n"
                       "    disk.write(b'FAT of ' + sys.argv[-1].encode())\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    instance = bench.spawn(make_instance(os_type="windows", flavor={"swap": 8}))

    swap = vbds(bench, bench.vm(instance))["2"]["VDI"]
    path = tmp_path / "swap.vhd"
    session = bench.vmops._session
    with session.http_connection() as connection:
        connection.request("GET", f"/export_raw_vdi?session_id={session.http_handle()}&vdi={swap}&format=raw")
        content = connection.getresponse().read()
    path.write_bytes(content)
    start = local_disks.FIRST_SECTOR * 512
    assert content[446 + 4] == local_disks.FAT32
    assert content[start:start + 11] == b"FAT of 7168"


class Keeper:
    """An operator's own upload handler."""

    def __init__(self):
        self.kept = []

    def upload_image(self, context, session, instance, image_id, vdi_uuids):
        self.kept.append((instance["uuid"], image_id,
                          [session.call_xenapi("VDI.get_by_uuid", uuid) for uuid in vdi_uuids]))


def test_snapshots_go_to_the_handler_the_operator_names(make_bench):
    bench = make_bench(image_upload_handler=f"{__name__}.Keeper")
    instance, image = bench.spawn(), bench.images.add(b"", status="queued")
    before = bench.counts()
    bench.vmops.snapshot(None, instance, image["id"])
    (uuid, image_id, chain), = bench.vmops.snapshots._handler.kept
    assert (uuid, image_id) == (instance["uuid"], image["id"]) and chain
    assert bench.images.show(None, image["id"])["size"] == 0
    assert bench.counts()["VM"] == before["VM"]


@pytest.mark.parametrize("path", ["no.such.Handler", "collections.Counter"])
def test_a_handler_that_is_none_is_refused_in_one_line(make_bench, path):
    with pytest.raises(exception.ConfigurationError, match="image_upload_handler"):
        make_bench(image_upload_handler=path)


def test_the_reference_names_of_handlers_are_ways_of_ours(make_bench):
    bench = make_bench(image_upload_handler="nova.virt.xenapi.image.glance.GlanceStore")
    assert bench.vmops.snapshots._way == "direct_vhd" and bench.vmops.snapshots._handler is None
