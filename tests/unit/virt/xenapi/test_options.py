"""What the options of guests, images and sessions do, each seen where it makes a difference."""

import gzip
import re
import types

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import vmops as vmops_module
from nova_lite.virt.xenapi.session import REPEATABLE, XenAPISession
from nova_lite.virt.xenapi.simple_dh import SimpleDH
from tests.fixtures.clock import FakeClock
from tests.fixtures.xen_bench import make_instance, make_network_info, vbds


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture
def option(bench):
    """Set an option for this test."""
    used = []

    def put(name, value, group=None):
        bench.conf.set_override(name, value, group)
        used.append((name, group))

    yield put
    for name, group in used:
        bench.conf.clear_override(name, group)


@pytest.fixture
def calls(bench, monkeypatch):
    """(method, seconds) of every task that was waited for."""
    calls = []
    call = bench.vmops._session.call_task

    def watch(method, *args, timeout_s=None, **rest):
        calls.append((method, timeout_s))
        return call(method, *args, timeout_s=timeout_s, **rest)

    monkeypatch.setattr(bench.vmops._session, "call_task", watch)
    return calls


def never_active(context, instance, vif_ids, timeout_s):
    raise TimeoutError(f"not within {timeout_s} s")


def test_interfaces_that_do_not_become_active_fail_the_build_where_that_is_fatal(bench, option):
    option("vif_plugging_timeout", 7)
    bench.compute.wait_vifs_active = never_active
    before = bench.counts()
    with pytest.raises(TimeoutError, match="7 s"):
        bench.spawn()
    assert {**bench.counts(), "VDI": 0} == {**before, "VDI": 0}
    option("vif_plugging_is_fatal", False)
    assert bench.vm(bench.spawn())["power_state"] == "Running"


@pytest.mark.parametrize(("seconds", "count", "power_on"), [(0, 1, True), (7, 0, True), (7, 1, False)])
def test_nobody_waits_for_interfaces_without_time_interfaces_or_power(bench, option, seconds, count, power_on):
    option("vif_plugging_timeout", seconds)
    bench.compute.wait_vifs_active = never_active
    bench.spawn(network_info=make_network_info(count), power_on=power_on)


def test_a_rescue_does_not_wait_for_interfaces(bench):
    instance = bench.spawn(network_info=[])
    bench.compute.wait_vifs_active = never_active
    bench.vmops.rescue(None, instance, make_network_info(), bench.image)


def test_without_copy_on_write_images_are_copied_whole(bench, option, calls):
    option("use_cow_images", False)
    bench.spawn(network_info=[], power_on=False)
    assert [method for method, _ in calls] == ["VDI.copy"]


def test_a_start_has_the_time_it_is_given(bench, option, calls):
    option("running_timeout", 77, "xenserver")
    bench.spawn(network_info=[])
    assert ("VM.start_on", 77) in calls


def test_an_image_that_cannot_be_fetched_is_tried_as_often_as_that_is_asked_for(bench, option, monkeypatch):
    option("glance_num_retries", 6)
    clock, opened = FakeClock(), []

    def refuse(context, image_id):
        opened.append(image_id)
        raise ConnectionError("the image service is away")

    monkeypatch.setattr(bench.images, "open", refuse)
    monkeypatch.setattr(bench.vmops._session, "clock", clock)
    began = clock.monotonic()
    with pytest.raises(exception.CouldNotFetchImage):
        bench.spawn(image=bench.images.add(b"never read"))
    assert len(opened) == 7 and clock.monotonic() - began == 0.5 + 1 + 2 + 4 + 8 + 15


def test_a_snapshot_is_packed_as_small_as_that_is_asked_for(bench, option):
    instance, sizes = bench.spawn(network_info=[]), {}
    for level in (1, 9):
        option("image_compression_level", level, "xenserver")
        image_id = bench.images.add(b"", status="queued")["id"]
        bench.vmops.snapshot(None, instance, image_id)
        packed = bench.images.images[image_id][1]
        sizes[level] = len(packed)
        # Tells how it was packed: 2 as small, 4 as fast as can be.
        assert packed[8] in {1: (0, 4), 9: (0, 2)}[level] and gzip.decompress(packed)
    assert sizes[9] <= sizes[1]


@pytest.mark.parametrize("image_format", [None, ""])
def test_ephemeral_disks_stay_empty_where_no_file_system_is_named(bench, option, image_format, monkeypatch):
    option("default_ephemeral_format", image_format)
    monkeypatch.setattr(bench.vmops.disks, "import_disk", None)  # what makes formatted ones
    found = vbds(bench, bench.vm(bench.spawn(make_instance(flavor={"ephemeral_gb": 2}), power_on=False)))
    assert bench.vmops.disks.virtual_size_b(found["4"]["VDI"]) == 2 << 30


@pytest.mark.parametrize("digest", ["md5", "sha256"])
def test_the_key_of_passwords_is_made_by_the_digest_that_is_asked_for(bench, option, monkeypatch, digest):
    option("agent_key_digest", digest, "xenserver")
    option("use_agent_default", True, "xenserver")
    instance, sent = bench.spawn(network_info=[], power_on=False), {}

    def agent(plugin, function, arguments):
        sent[function] = arguments
        return '{"returncode": "D0", "message": "125"}' if function == "key_init" else '{"returncode": "0"}'

    monkeypatch.setattr(bench.vmops._session, "call_plugin", agent)
    bench.vmops.set_admin_password(instance, "s3cret")
    guest = SimpleDH()
    guest._private, guest._digest = 3, digest
    guest.compute_shared(int(sent["key_init"]["pub"]))
    assert guest.decrypt(sent["password"]["enc_pass"]) == "s3cret\n"


def test_a_console_is_where_proxies_of_ours_are_sent(bench, option):
    option("vncserver_proxyclient_address", "10.1.2.3")
    console = bench.vmops.get_vnc_console(bench.spawn(network_info=[]))
    assert console["host"] == "10.1.2.3" and isinstance(console["port"], int)
    assert re.fullmatch(r"/console\?ref=OpaqueRef:[\w-]+&session_id=OpaqueRef:[\w-]+", console["internal_access_path"])


def test_names_of_vms_follow_the_template_and_two_arguments_make_vmops(bench, option):
    option("instance_name_template", "vm-%(hostname)s")
    session = bench.vmops._session
    parts = vmops_module.VMOps(session, session.product_version, conf=bench.conf)
    assert parts.finder.name({"id": 1, "uuid": "u", "hostname": "web"}) == "vm-web"
    alone = vmops_module.VMOps(session, session.product_version)
    assert alone.finder.name({"id": 31}) == "instance-0000001f"
    assert set(alone.list_instances()) == set(bench.vmops.list_instances())
    with pytest.raises(NotImplementedError):
        alone.poll_unconfirmed_resizes(1)


def test_a_session_tells_the_host_who_it_is_of(bench):
    session = bench.vmops._session
    assert session.call_xenapi("session.get_originator", session.get_session_id()) == "nova_lite"


@pytest.mark.parametrize(("said", "platform", "relaxed"), [
    ("TRUE", "1.0", True), ("no", "9.9", False), ("", "2.1.0", True), ("", "2.1", True), ("", "2.0.9", False),
    ("", "10.0", True)])
def test_whether_disks_may_move_with_volumes_is_said_by_the_host_or_by_its_version(said, platform, relaxed):
    asked = []
    session = types.SimpleNamespace(_xsm_sr_check_relaxed=None, _software={"platform_version": platform},
                                    call_plugin=lambda *call: asked.append(call) or said)
    assert XenAPISession.is_xsm_sr_check_relaxed(session) is relaxed
    assert XenAPISession.is_xsm_sr_check_relaxed(session) is relaxed
    assert asked == [("config_file", "get_val", {"key": "relax-xsm-sr-check"})]


def test_only_calls_that_may_run_twice_are_repeated():
    for method in ("VM.get_record", "host.get_all", "SR.scan", "VM.set_name_label", "VDI.set_name_label",
                   "VM.remove_from_other_config", "VM.add_to_other_config", "VBD.plug", "VBD.unplug", "VM.destroy",
                   "event.from", "host.compute_free_memory", "VM.assert_can_migrate"):
        assert REPEATABLE.search(method), method
    for method in ("VM.create", "VDI.create", "VDI.copy", "VDI.clone", "VDI.snapshot", "VM.snapshot", "VM.start_on",
                   "VM.migrate_send", "VM.clone", "host.call_plugin", "VM.hard_reboot", "Async.SR.scan",
                   "Async.VM.start_on", "Async.VDI.destroy", "SR.introduce", "VDI.introduce", "task.create"):
        assert not REPEATABLE.search(method), method
