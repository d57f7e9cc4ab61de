"""A cells call over 0, 1 and 2 hops and a broadcast over 3 cells, beside a raw oslo.messaging round trip.

One run on one private RabbitMQ: a raw server, a bare relay of three processes that only pass the same messages on (the
floor of oslo.messaging), and the tree api -> west -> rack as three nova-cells daemons. Everything is printed as
multiples of the raw round trip of this run; the workloads take turns in short rounds, so that what else the machine
does hits all of them alike.

    python -m benchmarks.cells_rpc [--calls 1000] [--rounds 10] [--callers 1 8 64] [--concurrency eventlet|threading]
                                   [--reference-wire]

--reference-wire has the cells speak to each other as they do to a neighbour of the reference.
"""

import argparse
import json
import tempfile
import threading

import oslo_messaging

from benchmarks.measure import measure_in_turns, print_table, private_conf
from nova_lite import conf as nova_conf
from nova_lite import context, objects, service
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import Daemon, wait_until
from tests.fixtures.rabbit import rabbit_node

INSTANCE_UUID = "3f0a2c9e-7a55-4f53-9e0a-6a0d4f7e21b1"


def raw_caller(url):
    transport = oslo_messaging.get_rpc_transport(private_conf(), url=url)
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="raw"), timeout=60)
    caller = context.get_admin_context().to_dict()
    message = json.dumps({"context": caller, "instance_uuid": INSTANCE_UUID, "padding": "x" * 900})
    return lambda: client.call({}, "ask", message=message)


def start_raw(directory, node):
    url = node.vhost("raw")
    daemon = Daemon("benchmarks.raw_rpc", log=f"{directory}/raw.log", arguments=["echo", "--url", url]).start()
    return [daemon], raw_caller(url)


def start_relay(directory, node):
    urls = [node.vhost(f"relay-{name}") for name in ("api", "west", "rack")]
    daemons = []
    for index, url in enumerate(urls):
        arguments = ["relay", "--url", url]
        if index < 2:
            arguments += ["--down", urls[index + 1]]
        if index > 0:
            arguments += ["--up", urls[index - 1]]
        daemons.append(Daemon("benchmarks.raw_rpc", log=f"{directory}/relay{index}.log", arguments=arguments).start())
    return daemons, raw_caller(urls[0])


def start_cells(directory, node, concurrency, extra_options):
    databases = lambda name: f"sqlite:///{directory}/{name}.sqlite"  # noqa: E731
    fleet = Fleet(
        f"{directory}/fleet", rabbit=node, new_database=databases, concurrency=concurrency, impatient=False,
        extra_options=extra_options,
    )
    for name, parent in (("api", None), ("west", "api"), ("rack", "west")):
        fleet.add_cell(name, parent=parent)
    return fleet.start()


def cells_callers(fleet):
    """Return {name: (call, daemons that work for it)} for the tree."""
    files = [str(path) for path in fleet.cells["api"].config_files()]
    api = service.build_api(nova_conf.load([], prog="benchmark", config_files=files))
    daemons = [cell.daemon for cell in fleet.cells.values()]

    def actions_get(cell_name):
        def call():
            ctxt = api.context()
            return api.cells_api.actions_get(ctxt, objects.Instance(uuid=INSTANCE_UUID, cell_name=cell_name))

        return call

    def broadcast():
        return api.cells_api.service_get_all(api.context())

    return {
        "cells, 0 hops": (actions_get("api"), daemons[:1]),
        "cells, 1 hop": (actions_get("api!west"), daemons[:2]),
        "cells, 2 hops": (actions_get("api!west!rack"), daemons),
        "cells, broadcast over 3": (broadcast, daemons),
    }


def answers(call):
    """Return whether a call comes back at all, waiting a moment for a daemon that is starting."""
    done = threading.Event()

    def attempt():
        try:
            call()
        except Exception as exc:  # a daemon that is still starting
            print(f"waiting: {type(exc).__name__}", flush=True)
        else:
            done.set()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    return done.is_set()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--concurrency", choices=("eventlet", "threading"), default="eventlet")
    parser.add_argument("--reference-wire", action="store_true")
    options = parser.parse_args()
    extra_options = "[cells]\nlean_messages = false\n" if options.reference_wire else ""
    with tempfile.TemporaryDirectory() as directory, rabbit_node() as node:
        raw_daemons, raw_call = start_raw(directory, node)
        relay_daemons, relay_call = start_relay(directory, node)
        fleet = start_cells(directory, node, options.concurrency, extra_options)
        try:
            workloads = {
                "raw round trip": (raw_call, raw_daemons),
                "bare relay, 2 hops": (relay_call, relay_daemons),
                **cells_callers(fleet),
            }
            for name, (call, _) in workloads.items():
                wait_until(lambda call=call: answers(call), f"{name} does not answer", 60)
            for callers in options.callers:
                samples = measure_in_turns(workloads, calls=options.calls, rounds=options.rounds, callers=callers)
                print_table(f"{callers} caller(s)", samples["raw round trip"], samples)
        finally:
            fleet.stop()
            for daemon in raw_daemons + relay_daemons:
                daemon.kill()


if __name__ == "__main__":
    main()
