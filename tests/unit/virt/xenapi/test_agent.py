"""What is asked of the agents in guests, in which order, and what is made of their answers."""

import base64
import json

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi.simple_dh import BASE, PRIME, SimpleDH
from tests.fixtures.clock import FakeClock
from tests.fixtures.xen_bench import make_instance

PRIVATE = 1234567


class Agent:
    """Stands where the dom0 plugin is: answers in the agent's name and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.answers = {"key_init": ("D0", str(pow(BASE, PRIVATE, PRIME)) + "\\r\\n"), "version": ("0", "1.39.1\\r\\n")}
        self.on_request = lambda function: None

    def __call__(self, plugin, function, arguments):
        if plugin != "agent":  # of the xenstore plugin nothing is expected
            raise XenAPI.Failure(["XENAPI_MISSING_PLUGIN", plugin])
        self.asked.append((function, arguments))
        self.on_request(function)
        answer = self.answers.get(function, ("0", "done\\r\\n"))
        if callable(answer):
            answer = answer()
        if isinstance(answer, str):
            raise XenAPI.Failure(["XENAPI_PLUGIN_FAILURE", function, "Exception", answer])
        return json.dumps({"returncode": answer[0], "message": answer[1]})

    @property
    def functions(self):
        return [function for function, _ in self.asked]

    def arguments(self, function):
        return next(arguments for name, arguments in reversed(self.asked) if name == function)


@pytest.fixture(scope="module")
def options():
    return {"use_agent_default": True, "agent_version_timeout": 5}


@pytest.fixture
def bench(shared_bench, monkeypatch):
    agent = Agent()
    monkeypatch.setattr(shared_bench.vmops._session, "call_plugin", agent)
    monkeypatch.setattr(shared_bench, "agent", agent, raising=False)
    return shared_bench


@pytest.fixture(scope="module")
def instance(lasting_bench):
    """An instance whose agent set it up when it booted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lasting_bench.vmops._session, "call_plugin", Agent())
        return lasting_bench.spawn(network_info=[])


@pytest.fixture
def clock(bench, monkeypatch):
    monkeypatch.setattr(bench.vmops._session, "clock", FakeClock())
    return bench.vmops._session.clock


def test_a_new_guest_is_set_up_in_this_order(bench):
    bench.compute.agent_build_get_by_triple = lambda context, *triple: {
        "version": "1.40", "url": "https://example.org/a.tgz", "md5hash": "0" * 32, "triple": triple}
    bench.spawn(make_instance(key_data="ssh-rsa AAAA me\n"), admin_password="s3cret", network_info=[],
                injected_files=[("/etc/motd", b"hello")])
    assert bench.agent.functions == ["version", "inject_file", "inject_file", "key_init", "password", "resetnetwork",
                                     "agentupdate"]
    key, file = (arguments for function, arguments in bench.agent.asked if function == "inject_file")
    assert base64.b64decode(key["b64_path"]) == b"/root/.ssh/authorized_keys"
    lines = base64.b64decode(key["b64_contents"]).decode().strip().splitlines()
    assert lines[0].startswith("#") and lines[1:] == ["ssh-rsa AAAA me"]
    assert (base64.b64decode(file["b64_path"]), base64.b64decode(file["b64_contents"])) == (b"/etc/motd", b"hello")
    update = bench.agent.arguments("agentupdate")
    assert (update["url"], update["md5sum"]) == ("https://example.org/a.tgz", "0" * 32)
    ids = [arguments["id"] for _, arguments in bench.agent.asked]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("fields", "left_out"), [
    ({"os_type": "windows"}, ["key"]), ({"key_data": None}, ["key"]),
    ({"system_metadata": {"image_xenapi_skip_agent_inject_ssh": "True"}}, ["key"]),
    ({"system_metadata": {"image_xenapi_skip_agent_inject_files_at_boot": "true"}}, ["file"])])
def test_what_an_image_or_its_system_does_not_want_is_left_out(bench, fields, left_out):
    bench.spawn(make_instance(**{"key_data": "ssh-ed25519 AAAA", **fields}), network_info=[],
                injected_files=[("/etc/motd", "hello")])
    written = [base64.b64decode(arguments["b64_path"]) for function, arguments in bench.agent.asked
               if function == "inject_file"]
    wanted = {"key": b"/root/.ssh/authorized_keys", "file": b"/etc/motd"}
    assert written == [path for name, path in wanted.items() if name not in left_out]


@pytest.mark.parametrize("newest", [None, {"version": "1.39.1"}, {"version": "1.39"}, {"version": "no number"}])
def test_an_agent_that_is_new_enough_is_left_alone_and_a_bad_record_fails_no_build(bench, newest):
    build = newest and {**newest, "url": "https://example.org", "md5hash": "0"}
    bench.compute.agent_build_get_by_triple = lambda context, *triple: build
    instance = bench.spawn(network_info=[])
    assert "agentupdate" not in bench.agent.functions and bench.vm(instance)["power_state"] == "Running"


def test_a_failure_of_any_request_is_kept_as_a_fault_and_the_next_one_follows(bench):
    bench.agent.answers |= {"inject_file": ("500", "no"), "password": ("500", "no"), "resetnetwork": ("404", "no")}
    bench.spawn(make_instance(key_data="ssh-rsa A"), admin_password="s3cret", network_info=[],
                injected_files=[("/a", "b")])
    assert len(bench.compute.faults) == 4 and bench.agent.functions[-1] == "resetnetwork"


def test_the_password_is_sealed_with_the_key_of_this_exchange(bench, instance):
    for password in ("first", "sécond\n"):
        assert bench.vmops.set_admin_password(instance, password) == "done"
        public = int(bench.agent.arguments("key_init")["pub"])
        guest = SimpleDH()
        guest._private = PRIVATE
        guest.compute_shared(public)
        assert guest.decrypt(bench.agent.arguments("password")["enc_pass"]) == password + "\n"
    assert bench.agent.functions == ["key_init", "password"] * 2
    assert len({arguments["pub"] for function, arguments in bench.agent.asked if function == "key_init"}) == 2


@pytest.mark.parametrize(("function", "answer", "error", "text"), [
    ("key_init", ("0", "5"), exception.AgentError, "key_init with 0"),
    ("key_init", ("D0", str(PRIME - 1)), exception.AgentError, "outside the group"),
    ("key_init", ("D0", "1"), exception.AgentError, "outside the group"),
    ("key_init", ("D0", "none"), exception.AgentError, "no public key"),
    ("key_init", "TIMEOUT: No response from agent within 30 seconds.", exception.AgentTimeout, "key_init"),
    ("password", ("500", "Invalid password data received"), exception.AgentError, "Invalid password data received"),
    ("password", "NOT IMPLEMENTED: no", exception.AgentNotImplemented, "password"),
    ("password", "Traceback\nOSError: broken", exception.AgentError, "OSError: broken")])
def test_a_password_that_was_not_set_is_told(bench, instance, function, answer, error, text):
    bench.agent.answers[function] = answer
    with pytest.raises(error, match=text):
        bench.vmops.set_admin_password(instance, "s3cret")


def test_every_request_has_its_timeout(bench, instance):
    bench.vmops.reset_network(instance)
    bench.vmops.get_agent_version(instance)
    assert bench.agent.arguments("resetnetwork")["timeout"] == "60"
    request = bench.agent.arguments("version")
    assert request["timeout"] == "30" and request["dom_id"] == bench.vm(instance)["domid"]


@pytest.mark.parametrize("code", ["0", "500"])
def test_a_guest_is_told_its_name_while_it_sets_up_its_network_and_then_no_more(bench, instance, code):
    told = []
    bench.agent.answers["resetnetwork"] = (code, "")
    bench.agent.on_request = lambda function: told.append(bench.vm(instance)["xenstore_data"].get("vm-data/hostname"))
    assert "vm-data/hostname" not in bench.vm(instance)["xenstore_data"], "it may have another one by now"
    bench.vmops.reset_network(instance)
    assert told == [instance["hostname"]] and "vm-data/hostname" not in bench.vm(instance)["xenstore_data"]


def test_a_guest_whose_agent_is_silent_keeps_its_name_until_it_boots(bench, clock):
    bench.agent.answers["version"] = "TIMEOUT: No response"
    instance = bench.spawn(network_info=[])
    assert bench.vm(instance)["xenstore_data"]["vm-data/hostname"] == instance["hostname"]


def test_a_network_that_was_not_set_up_is_told(bench, instance):
    bench.agent.answers["resetnetwork"] = "TIMEOUT: No response from agent within 60 seconds."
    with pytest.raises(exception.AgentTimeout):
        bench.vmops.reset_network(instance)


def test_the_wait_for_a_booting_agent_looks_once_a_second_and_ends(bench, instance, clock):
    bench.agent.answers["version"] = "TIMEOUT: No response"
    began = clock.monotonic()
    assert bench.vmops.get_agent_version(instance) is None
    assert clock.monotonic() - began == 5 and bench.agent.functions == ["version"] * 6


def test_a_guest_that_reboots_meanwhile_is_asked_again_in_its_new_domain(bench, instance, clock):
    old = bench.vm(instance)["domid"]

    def reboot():
        if bench.vm(instance)["domid"] != old:
            return "0", "1.39.1"
        bench.vmops.reboot(instance, "HARD")
        return f"REBOOT: dom_id {old} no longer present"

    bench.agent.answers["version"] = reboot
    assert bench.vmops.get_agent_version(instance) == "1.39.1"
    new = bench.vm(instance)["domid"]
    assert [arguments["dom_id"] for _, arguments in bench.agent.asked] == [old, new] and old != new


@pytest.mark.parametrize("answer", [("404", "x"), "NOT IMPLEMENTED: Agent does not support file injection."])
def test_a_file_that_the_agent_does_not_take_is_not_implemented(bench, instance, answer):
    bench.agent.answers["inject_file"] = answer
    with pytest.raises(NotImplementedError):
        bench.vmops.inject_file(instance, "/etc/motd", "hello")


def test_an_update_that_is_refused_is_none(bench, instance):
    assert bench.vmops.agent_update(instance, "https://x", "0") == "done"
    bench.agent.answers["agentupdate"] = ("500", "no")
    assert bench.vmops.agent_update(instance, "https://x", "0") is None


def test_an_instance_that_was_resized_keeps_the_name_it_gave_itself(bench):
    instance = bench.spawn(network_info=[])
    disk_info = bench.vmops.migrate_disk_and_power_off(None, instance, "127.0.0.1", instance["flavor"])
    bench.vmops.finish_migration(None, {}, instance, disk_info, [], bench.image, False)
    assert "vm-data/hostname" not in bench.vm(instance)["xenstore_data"]
