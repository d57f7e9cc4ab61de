"""How long a daemon takes from its start to its first answered RPC, and what it holds in memory then.

The call is sent before the daemon starts and waits in its queue, so nothing is polled. Beside it, in the same run, a
bare oslo.messaging server (the raw reference). nova-cells is measured alone in its tree, and in the middle of three
cells that run, a while after it has asked them all for something.

    python -m benchmarks.startup [--rounds 5] [--concurrency eventlet|threading] [--server sqlite|mariadb|postgresql]
"""

import argparse
import statistics
import tempfile
import time

import oslo_messaging

from benchmarks.measure import private_conf
from tests.fixtures.databases import database_maker
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import Daemon, wait_until
from tests.fixtures.rabbit import rabbit_node
from tests.fixtures.xensim import simulator_process

SETTLING_S = 5


def caller(url, target, method, arguments):
    """Return a function that makes the call with a timeout in seconds."""
    transport = oslo_messaging.get_rpc_transport(private_conf(), url=url)
    client = oslo_messaging.get_rpc_client(transport, target)
    return lambda timeout_s: client.prepare(timeout=timeout_s).call({"is_admin": True}, method, **arguments)


def answers(call):
    try:
        call(1)
    except oslo_messaging.MessagingTimeout:
        return False
    return True


def first_answer(daemon, call, settle):
    """Start the daemon with the call already in its queue; return (seconds to the answer, resident MB)."""
    start = time.perf_counter()
    daemon.start()
    call(60)
    seconds = time.perf_counter() - start
    settle()
    memory = daemon.resident_mb()
    daemon.terminate()
    return seconds, memory


def measure(name, rounds, daemon, *addressed, settle=lambda: None):
    call = caller(*addressed)
    daemon.start()  # declares the queues, which outlive it, and compiles the modules
    wait_until(lambda: answers(call), lambda: f"{name} does not answer\n{daemon.log()}", 60)
    daemon.terminate()
    seconds, memory = zip(*(first_answer(daemon, call, settle) for _ in range(rounds)), strict=True)
    print(f"{name:26} first answer {statistics.median(seconds):5.2f} s   resident {max(memory):6.1f} MB", flush=True)


def measure_among_neighbours(fleet, rounds):
    """Measure the middle one of three cells, the others running."""
    for name, parent in (("top", None), ("middle", "top"), ("leaf", "middle")):
        fleet.add_cell(name, parent=parent)
    others = [fleet.cells[name].daemon for name in ("top", "leaf")]
    for daemon in others:
        daemon.start()
    middle = fleet.cells["middle"]
    ask_all = caller(middle.transport_url, oslo_messaging.Target(topic="cells", version="1.2"), "service_get_all",
                     {"filters": None})

    def settle():
        for _ in range(20):
            ask_all(60)
        time.sleep(SETTLING_S)

    measure(
        "nova-cells, 2 neighbours", rounds, middle.daemon, middle.transport_url,
        oslo_messaging.Target(topic="cells", version="1.1"), "get_cell_info_for_neighbors", {}, settle=settle,
    )  # fmt: skip
    for daemon in others:
        daemon.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", choices=("eventlet", "threading"), default="eventlet")
    parser.add_argument("--server", choices=("sqlite", "mariadb", "postgresql"), default="sqlite", help="Database.")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        rabbit_node() as node,
        simulator_process(directory) as simulator,
        database_maker(options.server, directory) as new_database,
        Fleet(
            f"{directory}/fleet",
            rabbit=node,
            new_database=new_database,
            concurrency=options.concurrency,
        ) as fleet,
    ):
        cell = fleet.add_cell("api")
        host = fleet.add_host("api", "host1", simulator.url)
        raw_url = node.vhost("raw")
        raw = Daemon("benchmarks.raw_rpc", log=f"{directory}/raw.log", arguments=["echo", "--url", raw_url])
        target = oslo_messaging.Target
        measure("raw", options.rounds, raw, raw_url, target(topic="raw"), "ask", {"message": "x"})
        measure(
            "nova-cells", options.rounds, cell.daemon, cell.transport_url,
            target(topic="cells", version="1.1"), "get_cell_info_for_neighbors", {},
        )  # fmt: skip
        measure_among_neighbours(fleet, options.rounds)
        measure(
            "nova-compute", options.rounds, host.daemon, cell.transport_url,
            target(topic="compute", server="host1", version="2.0"), "get_console_topic", {},
        )  # fmt: skip


if __name__ == "__main__":
    main()
