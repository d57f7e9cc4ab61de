"""Programs written for XenServer by people who know nothing of the simulator work on it unchanged."""

import pytest

from tests.fixtures.xensim import simulator_process


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    with simulator_process(tmp_path_factory.mktemp("simulator")) as process:
        yield process


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["auto", "xml-rpc"])
def test_xen_orchestras_client_boots_a_machine_and_sees_its_events(simulator, node_client, transport):
    """xen-api of the npm registry: JSON-RPC first, XML-RPC on demand; disks over HTTP; a cache fed by event.from."""
    steps = node_client("xen_api.mjs", simulator.url, transport).splitlines()

    assert steps[1:] == ["created", "disk transferred", "booted", "changed", "destroyed"]


@pytest.mark.timeout(600)
def test_ansible_builds_and_removes_a_machine(simulator, ansible_client):
    """community.general.xenserver_guest and its sisters, from the ansible package of PyPI."""
    simulator.control.reset_calls()

    ansible_client("ansible_guest.yml", url=simulator.url)

    calls = simulator.control.counts()
    assert calls["VM.provision"] == calls["VM.start"] == calls["VM.clean_shutdown"] == calls["VM.destroy"] == 1
