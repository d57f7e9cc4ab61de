import base64

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi.agent import files_to_inject
from tests.fixtures.xen_bench import make_instance


@pytest.fixture
def with_agent(make_bench):
    """A driver that uses the agents of guests."""
    return make_bench(use_agent_default=True, agent_version_timeout=5, agent_timeout=5, agent_resetnetwork_timeout=5)


def inside(bench, instance):
    """What was done to the guest through its agent."""
    return bench.simulator.control.guest_state(bench.vmops.finder.require(instance))


def test_a_new_guest_gets_its_key_its_files_its_password_and_its_network(with_agent):
    instance = with_agent.spawn(make_instance(key_data="ssh-rsa AAAA"), admin_password="s3cret",
                                injected_files=[("/etc/motd", b"hello")])
    guest = inside(with_agent, instance)
    assert guest["password"] == "s3cret"
    assert base64.b64decode(guest["files"]["/etc/motd"]) == b"hello"
    assert b"ssh-rsa AAAA" in base64.b64decode(next(
        content for path, content in guest["files"].items() if path.endswith("authorized_keys")))
    assert guest["network_resets"] == 1
    assert with_agent.compute.faults == []


def test_defect_26_the_password_is_set_whatever_openssl_is_installed(with_agent):
    instance = with_agent.spawn()
    with_agent.driver.set_admin_password(instance, "pässwörd")
    assert inside(with_agent, instance)["password"] == "pässwörd"


def test_the_version_is_told_and_an_older_agent_is_updated(with_agent):
    with_agent.compute.agent_build_get_by_triple = lambda *triple: {
        "version": "2.0", "url": "https://example.org/agent.tgz", "md5hash": "0" * 32}
    instance = with_agent.spawn()
    assert with_agent.vmops.get_agent_version(instance) == "1.39.1"
    assert any("https://example.org/agent.tgz" in update for update in inside(with_agent, instance)["updates"])


def test_a_file_is_written_on_request(with_agent):
    instance = with_agent.spawn()
    with_agent.driver.inject_file(instance, "/etc/issue", "welcome")
    assert base64.b64decode(inside(with_agent, instance)["files"]["/etc/issue"]) == b"welcome"


def test_an_agent_that_refuses_a_file_fails_no_build_and_is_told(with_agent):
    def refuse(*args):
        raise exception.AgentError(method="inject_file")
    with_agent.vmops.agents.inject_file = refuse
    instance = with_agent.spawn(injected_files=[("/etc/motd", b"hello")])
    assert with_agent.vm(instance)["power_state"] == "Running"
    assert len(with_agent.compute.faults) == 1


def test_without_an_agent_the_build_goes_on_and_requests_are_refused(bench):
    instance = bench.spawn(admin_password="s3cret")
    for call in (lambda: bench.driver.set_admin_password(instance, "x"),
                 lambda: bench.driver.inject_file(instance, "/a", "b"), lambda: bench.driver.reset_network(instance)):
        with pytest.raises(NotImplementedError):
            call()


def test_an_image_can_ask_for_the_agent(make_bench):
    bench = make_bench(agent_version_timeout=5, agent_timeout=5)
    instance = bench.spawn(make_instance(system_metadata={"image_xenapi_use_agent": "true"}), admin_password="s3cret")
    assert inside(bench, instance)["password"] == "s3cret"


def test_a_guest_whose_agent_is_silent_boots_all_the_same(make_bench, simulator):
    bench = make_bench(use_agent_default=True, agent_version_timeout=0, agent_timeout=1)
    simulator.control.guest("", ["no-agent"])
    try:
        instance = bench.spawn(admin_password="s3cret")
        assert bench.vm(instance)["power_state"] == "Running"
        assert bench.vmops.get_agent_version(instance) is None
        with pytest.raises(exception.AgentTimeout):
            bench.driver.set_admin_password(instance, "x")
    finally:
        simulator.control.guest("", [])


def test_passwords_and_files_are_in_no_log(with_agent, caplog):
    caplog.set_level("DEBUG")
    instance = with_agent.spawn(admin_password="s3cret-word", injected_files=[("/etc/motd", b"secret-content")])
    with_agent.driver.set_admin_password(instance, "s3cret-word")
    assert "s3cret-word" not in caplog.text and "secret-content" not in caplog.text


def test_injected_files_are_read_in_all_their_forms():
    assert files_to_inject('[["/a", "b"]]') == [("/a", "b")]
    assert files_to_inject([["/a", b"b"]]) == [("/a", b"b")]
    assert files_to_inject("no json") == [] == files_to_inject(None)


def test_the_xenstore_of_a_running_guest_is_written_and_read(bench):
    instance = bench.spawn()
    vmops = bench.vmops
    vmops.write_to_xenstore(instance, "vm-data/a", {"x": 1})
    assert vmops.read_from_xenstore(instance, "vm-data/a") == {"x": 1}
    vmops.add_to_xenstore(instance, "vm-data/a", "y", 2)
    assert vmops.list_from_xenstore(instance, "vm-data/a") in (None, {})
    assert vmops.read_from_xenstore(instance, "vm-data/a") == {"x": 1, "y": 2}
    assert vmops.read_from_xenstore(instance, "vm-data/none") is None
    vmops.write_to_xenstore(instance, "vm-data/t/k", "v")
    assert vmops.list_from_xenstore(instance, "vm-data/t") == {"k": "v"}
    vmops.remove_from_xenstore(instance, "vm-data/t", "k")
    assert vmops.list_from_xenstore(instance, "vm-data/t") is None
    vmops.clear_xenstore(instance, "vm-data/a")
    assert vmops.read_from_xenstore(instance, "vm-data/a") is None


def test_a_console_log_that_is_not_kept_is_not_available(bench):
    with pytest.raises(exception.ConsoleNotAvailable):
        bench.vmops.get_console_output(bench.spawn())


def test_the_uptime_is_told(bench):
    assert "up" in bench.driver.get_host_uptime("host")
