"""nova-lite-xensim: a simulated XenServer pool on sockets of its own, and its control from the shell.

nova-lite-xensim --listen 127.0.0.1:8080 --hosts 2 --state DIR
nova-lite-xensim fault fail VM.start HOST_NOT_ENOUGH_FREE_MEMORY 4294967296 0 --url http://127.0.0.1:8080
nova-lite-xensim coverage
"""

import argparse
import logging
import signal
import sys
import threading

from nova_lite.cmd import xensim_faults


def serve(options: argparse.Namespace) -> int:
    """Run the simulator until SIGTERM or SIGINT."""
    from nova_lite.xensim import HostPlan, Simulator

    plan = HostPlan(memory_mib=options.memory_mib, cpus=options.cpus, local_sr_type=options.sr_type)
    simulator = Simulator(
        hosts=options.hosts,
        state_dir=options.state,
        name=options.name,
        password=options.password,
        plan=plan,
        plugins=options.plugins,
        extensions=options.extensions,
    )
    wanted = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wanted.set())
    try:
        simulator.start(options.listen, tls=options.tls)
    except OSError as error:
        print(f"nova-lite-xensim: cannot listen on {options.listen}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"listening on {' '.join(simulator.urls)}", flush=True)
    wanted.wait()
    simulator.stop()
    return 0


def coverage(_options: argparse.Namespace) -> int:
    """Print which calls the simulator knows how to do, and which it refuses with NOT_IMPLEMENTED."""
    import tempfile

    from nova_lite.xensim.control import Control
    from nova_lite.xensim.toolstack import Toolstack

    with tempfile.TemporaryDirectory() as directory:
        toolstack = Toolstack(directory, username="", password="")
        calls = Control(toolstack).coverage()
        toolstack.stop()
    for name in calls["missing"]:
        print(f"not simulated  {name}")
    print(f"{len(calls['simulated'])} calls simulated, {len(calls['missing'])} answered NOT_IMPLEMENTED")
    return 0


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="nova-lite-xensim", description="A simulated XenServer pool.")
    main_parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="or a Unix socket's path")
    main_parser.add_argument("--hosts", type=int, default=1, metavar="N", help="hosts in the pool")
    main_parser.add_argument("--state", metavar="DIR", help="directory of disks and records; default: a temporary one")
    main_parser.add_argument("--name", default="xensim", help="name of the first host")
    main_parser.add_argument("--password", default="xensim", help="password of root")
    main_parser.add_argument("--plugins", metavar="DIR", help="stands for /etc/xapi.d/plugins of every host")
    main_parser.add_argument("--extensions", metavar="DIR", help="stands for /etc/xapi.d/extensions of every host")
    main_parser.add_argument("--tls", action="store_true", help="serve HTTPS with a generated certificate")
    main_parser.add_argument("--memory-mib", type=int, default=64 * 1024, help="memory of each host")
    main_parser.add_argument("--cpus", type=int, default=16, help="processors of each host")
    main_parser.add_argument("--sr-type", default="ext", choices=("ext", "lvm"), help="type of the local storage")
    main_parser.add_argument("--verbose", action="store_true", help="log more")
    main_parser.set_defaults(run=serve)
    commands = main_parser.add_subparsers(title="commands", metavar="")
    xensim_faults.add_commands(commands)
    commands.add_parser("coverage", help="print which calls are simulated").set_defaults(run=coverage)
    return main_parser


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); return the exit status."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if getattr(options, "verbose", False) else logging.WARNING)
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
