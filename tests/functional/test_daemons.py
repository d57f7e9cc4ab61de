"""nova-cells and nova-compute as processes: start, signals, what is not there yet, mistakes in the configuration."""

import signal

import pytest

from nova_lite import conf as configuration
from nova_lite import context, exception, rpc
from tests.fixtures.fleet import Fleet
from tests.fixtures.ports import free_port
from tests.fixtures.processes import Daemon, wait_until
from tests.fixtures.rabbit import rabbit_node
from tests.fixtures.services import new_databases

pytestmark = pytest.mark.rabbitmq
CTXT = context.RequestContext(is_admin=True)


@pytest.fixture(params=["eventlet", "threading"])
def fleet(request, tmp_path, rabbit):
    with Fleet(tmp_path / "fleet", rabbit=rabbit, new_database=new_databases(tmp_path),
               concurrency=request.param) as made:
        yield made


@pytest.fixture
def client():
    """A function that gives a client of a topic on a broker."""
    opened = []

    def make(url, topic, **kwargs):
        conf = configuration.load(prog="test", config_files=[], config_dirs=[],
                                  overrides={(None, "transport_url"): url, (None, "host"): "tester"})
        opened.append(rpc.Rpc(conf))
        return opened[-1].client(topic, **kwargs)

    yield make
    for one in opened:
        one.close()


def answers(asked, timeout_s=10):
    try:
        return asked.call(CTXT, "ping", timeout=timeout_s, arg="x")["arg"] == "x"
    except exception.RpcError:
        return False


def start(cell, client):
    cell.daemon.start()
    pinged = client(cell.transport_url, "cells", namespace="baseapi")
    wait_until(lambda: answers(pinged), cell.daemon.log)
    # One topic answers before the others are served.
    wait_until(lambda: " is up" in cell.daemon.log(), cell.daemon.log)
    return pinged


def test_a_cells_daemon_serves_its_topics_until_it_is_told_to_stop(fleet, client):
    cell = fleet.add_cell("api")
    start(cell, client)

    for topic in ("scheduler", "consoleauth"):
        assert answers(client(cell.transport_url, topic, namespace="baseapi"))

    assert cell.daemon.terminate() == 0
    assert not cell.daemon.tracebacks()
    assert "rabbit-secret" not in cell.daemon.log()


def test_a_child_has_no_console_tokens(fleet, client):
    fleet.add_cell("api")
    child = fleet.add_cell("west", parent="api")
    start(child, client)

    assert not answers(client(child.transport_url, "consoleauth", namespace="baseapi"))


def test_a_call_waits_for_a_broker_that_is_frozen_no_longer_than_it_may(fleet, client, rabbit):
    cell = fleet.add_cell("api")
    pinged = start(cell, client)

    rabbit.freeze()
    try:
        assert not answers(pinged, timeout_s=1)
    finally:
        rabbit.thaw()

    wait_until(lambda: answers(pinged), cell.daemon.log)


def test_hangup_reads_the_configuration_again(fleet, client):
    cell = fleet.add_cell("api")
    pinged = start(cell, client)
    cell.config.write_text(cell.config.read_text() + "\n[DEFAULT]\ndebug = true\n")

    cell.daemon.signal(signal.SIGHUP)

    wait_until(lambda: "DEFAULT.debug changed from [None] to [true]" in cell.daemon.log(), cell.daemon.log)
    assert answers(pinged)


def test_a_daemon_waits_for_its_database_with_one_line(fleet, client):
    cell = fleet.add_cell("api")
    cell.config.write_text(cell.config.read_text().replace(cell.database_url, fleet.new_database("empty")))
    cell.daemon.start()
    wait_until(lambda: "waiting for the database" in cell.daemon.log(), cell.daemon.log)

    cell.manage("db", "sync")

    pinged = client(cell.transport_url, "cells", namespace="baseapi")
    wait_until(lambda: answers(pinged), cell.daemon.log)
    assert cell.daemon.log().count("waiting for the database") == 1
    assert cell.daemon.log().count("nova-manage db sync") == 1


def test_a_daemon_that_waits_for_its_broker_can_be_stopped(fleet):
    cell = fleet.add_cell("api")
    text = cell.config.read_text().replace(cell.transport_url, f"rabbit://u:hidden-word@127.0.0.1:{free_port()}/v")
    cell.config.write_text(text)
    cell.daemon.start()
    wait_until(lambda: "waiting for the message broker" in cell.daemon.log(), cell.daemon.log)

    assert cell.daemon.terminate() == 0
    assert cell.daemon.log().count("waiting for the message broker") == 1
    assert "hidden-word" not in cell.daemon.log()
    assert not cell.daemon.tracebacks()


def test_a_compute_daemon_waits_for_its_hypervisor_with_one_line(fleet, client, tmp_path):
    from nova_lite import xensim

    cell = fleet.add_cell("api")
    port = free_port()
    host = fleet.add_host("api", "w1", f"http://127.0.0.1:{port}")
    host.daemon.start()
    wait_until(lambda: "waiting for the hypervisor" in host.daemon.log(), host.daemon.log)

    with xensim.Simulator(hosts=1, state_dir=str(tmp_path / "xenserver"), name="w1") as simulator:
        simulator.start(listen=f"127.0.0.1:{port}")
        asked = client(cell.transport_url, "compute", namespace="baseapi", server="w1")
        wait_until(lambda: answers(asked), host.daemon.log)
        assert host.daemon.log().count("waiting for the hypervisor") == 1
        assert host.daemon.terminate() == 0
    assert not host.daemon.tracebacks()


@pytest.mark.parametrize("concurrency", ["eventlet", "threading"])
def test_a_daemon_outlives_its_broker_and_can_be_stopped_without_it(tmp_path, client, concurrency):
    with rabbit_node() as node, Fleet(
            tmp_path / "fleet", rabbit=node, new_database=new_databases(tmp_path), concurrency=concurrency) as fleet:
        cell = fleet.add_cell("api")
        pinged = start(cell, client)

        node.kill()
        node.restart()
        wait_until(lambda: answers(pinged), cell.daemon.log)
        node.kill()

        assert cell.daemon.terminate() == 0
        assert not cell.daemon.tracebacks()


@pytest.mark.parametrize("module", ["nova_lite.cmd.cells", "nova_lite.cmd.compute"])
@pytest.mark.parametrize("text", ["[DEFAULT]\nconcurrency = fibres\n", "[DEFAULT]\nreport_interval = often\n",
                                  "[database]\nconnection = nonsense\n"])
def test_a_mistake_in_the_configuration_is_one_line_and_a_status(tmp_path, module, text):
    path = tmp_path / "wrong.conf"
    path.write_text(text)
    daemon = Daemon(module, path, log=tmp_path / "log").start()

    assert daemon.process.wait(20) == 2
    assert len(daemon.log().strip().splitlines()) == 1
    assert daemon.log().startswith("nova-")
