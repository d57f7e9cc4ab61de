"""Guests, their xenstore and agents; plugins in dom0; what survives a restart."""

import base64
import hashlib
import json
import stat

import pytest
import XenAPI
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from nova_lite.xensim import Simulator
from tests.fixtures.processes import wait_until
from tests.fixtures.xensim import logged_in, simulator_process
from tests.unit.xensim.conftest import Client

PLUGIN = """#!/usr/bin/env python3
import subprocess
import sys
import XenAPIPlugin


def greet(session, args):
    return "hello " + args["name"] + " from " + session.xenapi.host.get_name_label(args["host"])


def tool(session, args):
    done = subprocess.run(args["line"].split(), capture_output=True, text=True)
    return "%d|%s|%s" % (done.returncode, done.stdout, done.stderr)


def refuse(session, args):
    raise XenAPIPlugin.Failure("MY_CODE", ["a", "b"])


def stumble(session, args):
    raise ValueError("oops")


def leave(session, args):
    sys.stderr.write("gone")
    sys.exit(3)


def babble(session, args):
    print("not XML")
    sys.exit(0)


def die(session, args):
    import os
    os.kill(os.getpid(), 9)


if __name__ == "__main__":
    XenAPIPlugin.dispatch({f.__name__: f for f in (greet, tool, refuse, stumble, leave, babble, die)})
"""


def details(error):
    return error.value.details


@pytest.fixture
def xensim(tmp_path):
    plugin = tmp_path / "plugins" / "mine.py"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN)
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    (plugin.parent / "notes.txt").write_text("no plugin")
    with Simulator(plugins=str(plugin.parent)) as simulator:
        yield simulator


def plugin(client, function, **arguments):
    return client.api.host.call_plugin(client.host(), "mine.py", function, arguments)


class TestPlugins:
    def test_a_plugin_runs_with_the_callers_session(self, client):
        assert plugin(client, "greet", name="you", host=client.host()) == "hello you from xensim"

    @pytest.mark.parametrize("name", ["other.py", "notes.txt", "../mine.py", "", "mine"])
    def test_only_an_executable_of_that_very_name_is_a_plugin(self, client, name):
        with pytest.raises(XenAPI.Failure) as error:
            client.api.host.call_plugin(client.host(), name, "greet", {})

        assert details(error) == ["XENAPI_MISSING_PLUGIN", name]

    @pytest.mark.parametrize(
        ("function", "expected"),
        [
            ("refuse", ["MY_CODE", "a", "b"]),
            ("stumble", ["XENAPI_PLUGIN_FAILURE", "stumble", "ValueError", "oops"]),
            ("sing", ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", "sing"]),
            ("leave", ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", "gone"]),
            ("die", ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL", "", ""]),
            ("babble", ["XENAPI_PLUGIN_FAILURE", "failed to parse plugin output", "not XML\n"]),
        ],
    )
    def test_each_way_to_fail_has_its_own_error(self, client, function, expected):
        with pytest.raises(XenAPI.Failure) as error:
            plugin(client, function)

        assert details(error)[: len(expected)] == expected

    def test_other_calls_go_on_while_a_plugin_runs(self, xensim, client):
        task = client.api.Async.host.call_plugin(client.host(), "mine.py", "tool", {"line": "sleep 60"})

        assert client.api.host.get_all()
        assert client.api.task.get_status(task) == "pending"

    def test_the_xenstore_tools_read_write_list_and_remove(self, client):
        vm = client.started()
        root = f"/local/domain/{client.api.VM.get_domid(vm)}"

        answers = [
            plugin(client, "tool", line=line)
            for line in (
                f"xenstore-write {root}/vm-data/a/b 5",
                f"xenstore-read {root}/vm-data/a/b",
                f"xenstore-list {root}/vm-data",
                f"xenstore-ls {root}/vm-data",
                f"xenstore-rm {root}/vm-data/a",
                f"xenstore-exists {root}/vm-data/a",
                f"xenstore-read {root}/nothing",
            )
        ]

        assert answers[1:4] == ["0|5\n|", "0|a\n|", '0|a = ""\n b = "5"\n|']
        assert answers[5] == "1||"
        assert answers[6].startswith("1||")


class TestXenstore:
    def test_only_vm_data_reaches_the_domain(self, xensim, client):
        vm = client.vm(xenstore_data={"vm-data/hostname": "bob", "private": "x"})
        client.api.VM.start(vm, False, False)

        tree = xensim.control.xenstore(vm)

        assert tree["vm-data/hostname"] == "bob"
        assert not any("private" in path for path in tree)
        assert tree["memory/static-max"] == str(256 * 1024)

    def test_what_a_guest_writes_below_vm_data_shows_in_the_record(self, xensim, client):
        vm = client.started()

        xensim.control.guest_writes(vm, "vm-data/answer", "42")

        assert client.api.VM.get_xenstore_data(vm) == {"vm-data/answer": "42"}

    def test_what_is_set_on_a_running_vm_reaches_its_domain(self, xensim, client):
        vm = client.started()

        client.api.VM.add_to_xenstore_data(vm, "vm-data/new", "1")

        assert xensim.control.xenstore(vm)["vm-data/new"] == "1"

    def test_devices_appear_and_go(self, xensim, client):
        vm = client.started()
        vbd, vif = client.vbd(vm, client.vdi(), "1"), client.vif(vm, "2", mac="00:16:3e:00:00:01")
        client.api.VBD.plug(vbd)
        client.api.VIF.plug(vif)
        during = xensim.control.xenstore(vm)
        client.api.VBD.unplug(vbd)
        client.api.VIF.unplug(vif)

        assert during["device/vbd/51728/state"] == "4"
        assert during["device/vif/2/mac"] == "00:16:3e:00:00:01"
        assert not any(path.startswith(("device/vbd/", "device/vif/")) for path in xensim.control.xenstore(vm))


class TestGuests:
    def test_a_guest_reports_drivers_system_and_addresses(self, client):
        vm = client.vm()
        client.vif(vm, ipv4_allowed=["10.0.0.5"])
        client.api.VM.start(vm, False, False)

        metrics = client.api.VM_guest_metrics.get_record(client.api.VM.get_guest_metrics(vm))

        assert metrics["PV_drivers_version"]["major"] == "8"
        assert metrics["networks"] == {"0/ip": "10.0.0.5", "0/ipv4/0": "10.0.0.5"}
        assert metrics["can_use_hotplug_vbd"] == "yes"

    def test_an_hvm_guest_without_drivers_cannot_hot_plug_or_suspend(self, xensim, client):
        xensim.control.guest("", ["no-drivers"])
        vm = client.hvm()
        client.api.VM.start(vm, False, False)
        vbd = client.vbd(vm, client.vdi())

        with pytest.raises(XenAPI.Failure) as plugging:
            client.api.VBD.plug(vbd)
        with pytest.raises(XenAPI.Failure) as suspending:
            client.api.VM.suspend(vm)
        allowed = client.api.VM.get_allowed_operations(vm)
        client.api.VM.clean_shutdown(vm)

        assert details(plugging) == ["VM_MISSING_PV_DRIVERS", vm]
        assert details(suspending) == ["VM_LACKS_FEATURE", vm]
        assert "clean_shutdown" not in allowed
        assert client.api.VM.get_power_state(vm) == "Halted"

    def test_a_guest_may_ignore_a_request_to_shut_down(self, xensim, client):
        vm = client.started()
        xensim.control.guest(vm, ["ignores-shutdown"])

        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.clean_shutdown(vm)

        assert details(error) == ["VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm]
        assert client.api.VM.get_power_state(vm) == "Running"

    @pytest.mark.parametrize(("how", "state"), [("shutdown", "Halted"), ("reboot", "Running"), ("crash", "Halted")])
    def test_a_guest_may_stop_by_itself(self, xensim, client, how, state):
        vm = client.started()

        xensim.control.guest_stops(vm, how)

        assert client.api.VM.get_power_state(vm) == state

    def test_a_slow_guest_has_no_drivers_until_it_has_booted(self, xensim, client):
        xensim.control.guest_timing(boot_s=0.2)
        vm = client.started()
        metrics = client.api.VM.get_guest_metrics(vm)
        token = client.events([f"VM_guest_metrics/{metrics}"])["token"]
        before = client.api.VM_guest_metrics.get_PV_drivers_version(metrics)

        client.events([f"VM_guest_metrics/{metrics}"], token, 10)

        assert before == {}
        assert client.api.VM_guest_metrics.get_PV_drivers_version(metrics)["major"] == "8"

    def test_a_reason_not_to_suspend_is_passed_on(self, xensim, client):
        vm = client.started()
        xensim.control.guest_writes(vm, "data/cant_suspend_reason", "nested")
        xensim.control.guest_writes(vm, "data/ts", "1")

        with pytest.raises(XenAPI.Failure) as error:
            client.api.VM.suspend(vm)

        assert details(error) == ["VM_NON_SUSPENDABLE", vm, "nested"]


PRIME = 2**107 - 1


def encrypted(shared, text):
    passphrase = str(shared).encode()
    key = hashlib.md5(passphrase).digest()
    start = hashlib.md5(key + passphrase).digest()
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
    blocks = padder.update(text.encode()) + padder.finalize()
    return base64.b64encode(encryptor.update(blocks) + encryptor.finalize()).decode()


class TestAgent:
    def ask(self, xensim, vm, name, value=""):
        """Put a request where the agent looks, as dom0 does, and return its answer."""
        xensim.control.guest_writes(vm, "data/host/1", json.dumps({"name": name, "value": value}))
        tree = xensim.control.xenstore(vm)
        assert "data/host/1" not in tree
        return json.loads(tree["data/guest/1"])

    def test_a_password_arrives_after_a_key_exchange(self, xensim, client):
        vm, private = client.started(), 123456789
        answer = self.ask(xensim, vm, "keyinit", str(pow(5, private, PRIME)))
        shared = pow(int(answer["message"]), private, PRIME)

        done = self.ask(xensim, vm, "password", encrypted(shared, "s3cret\n"))

        assert answer["returncode"] == "D0"
        assert done["returncode"] == "0"
        assert xensim.control.guest_state(vm)["password"] == "s3cret"

    @pytest.mark.parametrize(
        ("name", "value", "code", "message"),
        [
            ("version", "agent", "0", "1.39.1"),
            ("password", "x", "500", "Password without key exchange"),
            ("juggle", "", "404", "Request not found: juggle"),
            ("resetnetwork", "", "0", ""),
            ("injectfile", "%%%", "500", "Couldn't decode base64 data"),
        ],
    )
    def test_each_request_has_its_answer(self, xensim, client, name, value, code, message):
        assert self.ask(xensim, client.started(), name, value) == {"returncode": code, "message": message}

    def test_a_file_is_injected(self, xensim, client):
        vm = client.started()

        self.ask(xensim, vm, "injectfile", base64.b64encode(b"/etc/motd,hi, you").decode())

        assert base64.b64decode(xensim.control.guest_state(vm)["files"]["/etc/motd"]) == b"hi, you"

    def test_a_guest_without_agent_leaves_requests_alone(self, xensim, client):
        xensim.control.guest("", ["no-agent"])
        vm = client.started()

        xensim.control.guest_writes(vm, "data/host/1", "{}")

        assert xensim.control.xenstore(vm)["data/host/1"] == "{}"


class TestRestart:
    def test_records_and_disks_survive_a_stop(self, tmp_path):
        with Simulator(state_dir=str(tmp_path), hosts=2) as simulator, logged_in(simulator) as session:
            vm = Client(session).started("kept")
            vdi = Client(session).vdi()
            before = session.xenapi.VM.get_record(vm)
            token = session.xenapi.event.inject("pool", session.xenapi.pool.get_all()[0])

        with Simulator(state_dir=str(tmp_path)) as simulator, logged_in(simulator) as session:
            after = session.xenapi.VM.get_record(vm)
            assert len(session.xenapi.host.get_all()) == 2
            assert session.xenapi.VDI.get_uuid(vdi)
            assert after == before
            assert Client(session).events(["VM"])["token"] > token

    def test_records_survive_a_kill(self, tmp_path):
        with simulator_process(tmp_path) as process:
            with logged_in(process) as session:
                vm = Client(session).vm("kept")
            database = tmp_path / "xensim" / "state.sqlite-wal"
            wait_until(lambda: vm.encode() in database.read_bytes(), "the record was never written", interval_s=0.02)
            process.kill()
            process.start()
            with logged_in(process) as session:
                assert session.xenapi.VM.get_name_label(vm) == "kept"
                client = Client(session)
                client.api.VM.start(vm, False, False)
                assert client.api.VM.get_power_state(vm) == "Running"
