"""nova-lite xen …: looking at a host, running it in, clearing it up."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
import XenAPI

from nova_lite.client.app import NovaLite
from nova_lite.virt.xenapi.acceptance import Acceptance
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.xensim import Simulator
from tests.fixtures.clock import FakeClock
from tests.fixtures.processes import REPOSITORY, wait_until
from tests.fixtures.services import make_conf, make_database
from tests.fixtures.xen_bench import PLUGINS
from tests.fixtures.xen_probe import XenProbe


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    simulator = Simulator(state_dir=str(tmp_path_factory.mktemp("host")), name="commands", plugins=str(PLUGINS))
    simulator.start()
    simulator.control.failed_login_delay(0)
    yield simulator
    simulator.stop()


@pytest.fixture
def probe(host):
    return XenProbe(host.url)


@pytest.fixture
def config(tmp_path):
    """The configuration file of a cell with an empty database."""
    conf = make_conf(tmp_path)
    database = make_database(conf)
    path = tmp_path / "cell.conf"
    path.write_text(f"[DEFAULT]\nstate_path = {conf.state_path}\ntransport_url = {conf.transport_url}\n"
                    f"concurrency = threading\n[database]\nconnection = {conf.database.connection}\n")
    yield path
    database.dispose()


@pytest.fixture
def run(host, config, monkeypatch, tmp_path):
    monkeypatch.setenv("NOVA_LITE_XEN_PASSWORD", host.password)

    def call(*words, url=None):
        """Return (exit status, rows or None, what was said)."""
        out, said = io.StringIO(), io.StringIO()
        program = NovaLite(stdout=out, stderr=said)
        status = program.run(["--config-file", str(config), *words, "--url", url or host.url, "-f", "json"])
        text = out.getvalue()
        return status, json.loads(text) if text.startswith("[") else None, said.getvalue()

    return call


# --- check ---

def test_a_host_that_can_be_used_passes_every_check(run, host, probe):
    before = probe.counts()
    status, rows, said = run("xen", "check")
    assert [row for row in rows if row["Result"] == "failed"] == [] and status == 0, said
    assert {row["Check"] for row in rows} == {
        "transport", "version", "host", "capabilities", "clock", "memory", "storage", "networks", "events", "metrics",
        "plugins", "limits"}
    assert [row for row in rows if row["Result"] == "failed"] == []
    assert probe.counts() == before


def test_a_check_tells_what_is_missing_and_ends_with_status_1(run, host, probe):
    pool = probe.api.pool.get_all()[0]
    default = probe.api.pool.get_default_SR(pool)
    probe.api.pool.set_default_SR(pool, "OpaqueRef:NULL")
    try:
        status, rows, _ = run("xen", "check")
    finally:
        probe.api.pool.set_default_SR(pool, default)
    assert status == 1
    assert [row["Check"] for row in rows if row["Result"] == "failed"] == ["storage"]


def test_a_check_tells_which_options_do_not_go_with_the_host(host, make_conf, request):
    conf = make_conf(connection_url=host.url, image_handler="direct_vhd")
    conf.set_override("firewall_driver", "IptablesFirewallDriver")
    request.addfinalizer(lambda: conf.clear_override("firewall_driver"))
    session = XenAPISession(host.url, host.username, host.password)
    with host.toolstack.lock:
        software = dict(host.toolstack.db.get("host", session.host_ref, "software_version"))
        host.toolstack.db.set("host", session.host_ref, software_version={**software, "network_backend": "bridge"})
        host.toolstack.db.set("pool", host.toolstack.pool_ref, tls_verification_enabled=False)
    warnings = {finding.check: finding.detail for finding in Acceptance(session, conf).run()
                if finding.result == "warning" and finding.check in ("networks", "transport")}
    with host.toolstack.lock:
        host.toolstack.db.set("host", session.host_ref, software_version=software)
        host.toolstack.db.set("pool", host.toolstack.pool_ref, tls_verification_enabled=True)
    session.close()
    assert "own addresses" in warnings["networks"] and "do not verify each other" in warnings["transport"]


def test_a_host_that_goes_away_ends_the_check(host, make_conf):
    clock = FakeClock()
    session = XenAPISession(host.url, host.username, host.password, clock=clock)
    host.control.kill_toolstack()
    try:
        found = Acceptance(session, make_conf(connection_url=host.url)).run()
    finally:
        host.control.start_toolstack()
        session.close()
    assert [finding.result for finding in found] == ["warning", "failed"]
    assert found[-1].detail.endswith("nothing else was checked")


def test_a_host_that_cannot_be_reached_or_refuses_us_is_one_line(run, monkeypatch):
    status, rows, said = run("xen", "check", url="http://127.0.0.1:9")
    assert status == 1 and rows is None and len(said.strip().splitlines()) == 1 and "127.0.0.1:9" in said
    monkeypatch.setenv("NOVA_LITE_XEN_PASSWORD", "wrong-word")
    status, _, said = run("xen", "check")
    assert status == 1 and "SESSION_AUTHENTICATION_FAILED" in said and "wrong-word" not in said


def test_a_pinned_certificate_is_accepted_and_a_changed_one_refused_in_one_line(run, tmp_path):
    import hashlib
    import socket
    import ssl

    simulator = Simulator(state_dir=str(tmp_path / "tls"))
    simulator.start(tls=True)
    try:
        name, port = simulator.url.removeprefix("https://").rstrip("/").split(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((name, int(port))) as raw, context.wrap_socket(raw) as shown:
            fingerprint = hashlib.sha256(shown.getpeercert(True)).hexdigest()
        status, rows, _ = run("xen", "check", "--fingerprint", fingerprint.upper(), url=simulator.url)
        assert "pinned" in rows[0]["Detail"] and rows[0]["Result"] == "ok"
        for options, reason in (((), "certificate"), (("--fingerprint", "0" * 64), "not the pinned one")):
            status, rows, said = run("xen", "check", *options, url=simulator.url)
            assert status == 1 and rows is None and reason in said
            assert len(said.strip().splitlines()) == 1
    finally:
        simulator.stop()


# --- burnin ---

def test_a_burn_in_does_everything_once_and_leaves_nothing(run, probe):
    before = probe.counts()
    status, rows, _ = run("xen", "burnin", "--machines", "2")
    assert status == 0, rows
    assert [row["Step"] for row in rows if row["Result"] == "skipped"] == ["live migration and back"]
    assert {"check disk", "snapshot", "rescue and back", "clean up"} <= {row["Step"] for row in rows}
    assert probe.counts() == before
    assert not [vdi for vdi in probe.api.VDI.get_all_records().values() if "Glance Image" in vdi["name_label"]]


def test_a_step_that_fails_is_told_and_all_is_removed(run, host, probe):
    before = probe.counts()
    host.control.fail("VM.pause", error=["INTERNAL_ERROR", "planted"])
    try:
        status, rows, _ = run("xen", "burnin", "--machines", "1")
    finally:
        host.control.clear()
    assert status == 1
    failed = [row for row in rows if row["Result"] == "failed"]
    assert failed[0]["Step"] == "pause" and "planted" in failed[0]["Detail"]
    assert probe.counts() == before


@contextlib.contextmanager
def burn_in_under_way(host, config, probe):
    """A burn-in in a process of its own, which waits for its first machine to start."""
    host.control.guest_timing(start_s=3)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "nova_lite.cmd.shell", "--config-file", str(config), "xen", "burnin", "--url",
             host.url, "-f", "json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env={**os.environ, "NOVA_LITE_XEN_PASSWORD": host.password},
            # Where the tests run in the background, Ctrl-C is ignored, and by their processes too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        wait_until(lambda: any(vm["name_label"].startswith("nova-lite-burnin")
                               for vm in probe.api.VM.get_all_records().values()), "no machine was made")
        yield process
        process.kill()
        process.communicate()
    finally:
        host.control.guest_timing()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_burn_in_that_is_interrupted_removes_what_it_made(host, config, probe, number):
    before = probe.counts()
    with burn_in_under_way(host, config, probe) as process:
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert {"interrupted", "clean up"} <= {row["Step"] for row in json.loads(out)}
    assert probe.counts() == before


def test_what_a_burn_in_that_was_killed_has_left_is_removed_on_request(host, config, probe, run):
    before, disks = probe.counts(), set(probe.api.VDI.get_all())
    with burn_in_under_way(host, config, probe) as process:
        process.kill()
        process.wait(60)
    wait_until(lambda: not any(vm["current_operations"] for vm in probe.api.VM.get_all_records().values()), "it starts")
    assert probe.counts() != before
    status, rows, said = run("xen", "burnin", "--clean-up")
    assert status == 0 and [row["Step"] for row in rows] == ["connect", "clean up"], said
    assert probe.counts() == before
    left = [probe.api.VDI.get_record(ref) for ref in set(probe.api.VDI.get_all()) - disks]
    assert not [vdi for vdi in left if vdi["managed"]]


# --- orphans ---

def make_vm(probe, instance_uuid, name="instance-00000001"):
    template = next(ref for ref, vm in probe.api.VM.get_all_records().items() if vm["is_a_template"])
    ref = probe.api.VM.clone(template, name)
    probe.api.VM.set_is_a_template(ref, False)
    probe.api.VM.set_other_config(ref, {"nova_uuid": instance_uuid})
    return ref


def make_disk(probe, marks):
    sr = probe.api.pool.get_default_SR(probe.api.pool.get_all()[0])
    return probe.api.VDI.create({
        "name_label": "instance-00000001", "name_description": "", "SR": sr, "virtual_size": str(1 << 21),
        "type": "user", "sharable": False, "read_only": False, "other_config": marks, "xenstore_data": {},
        "sm_config": {}, "tags": []})


def make_repository(probe, volume_id):
    """Introduce a repository as attaching a volume does, without getting any further."""
    return probe.api.SR.introduce(str(uuid.uuid4()), f"tempSR-{volume_id}", "", "iscsi", "", False, {})


@pytest.fixture
def orphans(probe):
    """A volume's repository, a machine, a disk, a half import and a task that nobody claims."""
    owner = str(uuid.uuid4())
    for ref in probe.api.task.get_all():  # what other tests have had the host do
        probe.api.task.destroy(ref)
    made = [("SR", make_repository(probe, str(uuid.uuid4()))), ("VM", make_vm(probe, owner)),
            ("VDI", make_disk(probe, {"nova_instance_uuid": owner})),
            ("VDI", make_disk(probe, {"nova_import_started": str(int(time.time()))})),
            ("task", probe.api.task.create("nova_lite-import", "disk import"))]
    yield made
    for kind, ref in made:
        with contextlib.suppress(XenAPI.Failure):
            getattr(probe.api, kind).destroy(ref) if kind != "SR" else probe.api.SR.forget(ref)


def test_orphans_are_listed_and_nothing_is_removed_unasked(run, probe, orphans):
    before = probe.counts()
    status, rows, _ = run("xen", "orphans", "--older-than", "0s")
    assert status == 0
    assert sorted(row["Kind"] for row in rows) == ["SR", "VDI", "VDI", "VM", "task"]
    assert probe.counts() == before


def test_what_may_be_work_in_flight_is_left_out(run, probe, orphans):
    _, rows, _ = run("xen", "orphans", "--older-than", "1h")
    assert {row["Why"] for row in rows} == {"no record of its instance", "no VM and no record has its volume"}
    assert "task" not in {row["Kind"] for row in rows}


def test_a_cell_that_knows_nothing_of_the_pool_removes_nothing(run, probe, orphans):
    before = probe.counts()
    status, _, said = run("xen", "orphans", "--older-than", "0s", "--remove")
    assert status == 1 and "is it the right one?" in said
    assert probe.counts() == before


def test_orphans_are_removed_when_that_is_asked(run, probe, orphans):
    status, rows, _ = run("xen", "orphans", "--older-than", "0s", "--remove", "--strangers-too")
    assert status == 0 and {row["Outcome"] for row in rows} == {"removed"}
    assert all(ref not in getattr(probe.api, kind).get_all() for kind, ref in orphans)


def test_what_a_record_claims_is_no_orphan(run, probe, config, host):
    from nova_lite import conf as nova_conf
    from nova_lite import objects, service

    api = service.build_api(nova_conf.load(prog="test", config_files=[str(config)], config_dirs=[]))
    try:
        context = api.context(user_id="u", project_id="p", is_admin=True)
        instance = objects.Instance(context, user_id="u", project_id="p", vm_state="active", task_state=None)
        instance.create()
        vm_ref = make_vm(probe, instance.uuid)
        rescue_ref = make_vm(probe, instance.uuid, "instance-00000001-rescue")
        volume_id = str(uuid.uuid4())
        objects.BlockDeviceMapping(context, instance_uuid=instance.uuid, source_type="volume",
                                   destination_type="volume", volume_id=volume_id, device_name="/dev/vdb").create()
        sr_ref = make_repository(probe, volume_id)
        _, rows, _ = run("xen", "orphans", "--older-than", "0s")
        assert [(row["Name"], row["Why"]) for row in rows] == [
            ("instance-00000001-rescue", "its instance is not in rescue")]
    finally:
        api.close()
        probe.api.VM.destroy(vm_ref)
        probe.api.VM.destroy(rescue_ref)
        probe.api.SR.forget(sr_ref)


def test_an_age_that_is_none_is_wrong_usage(run):
    status, _, _ = run("xen", "orphans", "--older-than", "soon")
    assert status == 2
