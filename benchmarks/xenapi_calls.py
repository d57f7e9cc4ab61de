"""XenAPI calls, by method, that the driver makes: counted by the simulator, whatever the machine is like.

    python -m benchmarks.xenapi_calls [--vms 100] [--by-method]
"""

import argparse
import collections
import contextlib
import tempfile

from nova_lite import conf as nova_conf
from nova_lite.xensim import Simulator
from tests.fixtures.xen_bench import PLUGINS, Bench, Compute, ImageStore, make_instance, make_network_info

TARGETS = {"spawn, cached image": 25, "destroy": 10, "power sync": 0}


@contextlib.contextmanager
def driver_bench():
    """A driver against a simulated host of its own."""
    with tempfile.TemporaryDirectory() as directory:
        simulator = Simulator(state_dir=f"{directory}/xensim", plugins=str(PLUGINS))
        simulator.start()
        options = {
            "connection_url": simulator.url,
            "connection_username": simulator.username,
            "connection_password": simulator.password,
        }
        overrides = {("xenserver", name): value for name, value in options.items()}
        overrides[None, "state_path"] = directory
        conf = nova_conf.load(prog="benchmark", config_files=[], config_dirs=[], overrides=overrides)
        bench = Bench(simulator, conf, Compute(), ImageStore())
        try:
            yield bench
        finally:
            bench.close()
            simulator.stop()


def counted(bench, action):
    """Run the action; return {method: calls} without the event poll's and logins."""
    bench.simulator.control.reset_calls()
    action()
    return collections.Counter(bench.calls())


def power_states(bench, instances):
    """Ask what the manager's synchronisation asks: the power state of every instance."""
    bench.driver.list_instance_uuids()
    for instance in instances:
        bench.driver.get_info(instance)


def measured(bench, vms):
    """Yield (what, {method: calls})."""
    network_info = make_network_info()
    first, second = make_instance(), make_instance()
    yield "spawn, cold", counted(bench, lambda: bench.spawn(first, network_info=network_info))
    yield "spawn, cached image", counted(bench, lambda: bench.spawn(second))
    for name in ("pause", "unpause"):
        yield name, counted(bench, lambda name=name: getattr(bench.driver, name)(first))
    yield "reboot, soft", counted(bench, lambda: bench.driver.reboot(None, first, network_info, "SOFT"))
    yield "reboot, hard", counted(bench, lambda: bench.driver.reboot(None, first, network_info, "HARD"))
    yield "destroy", counted(bench, lambda: bench.driver.destroy(first, network_info))
    instances = [second, *(bench.spawn() for _ in range(vms - 1))]
    yield f"power sync of {vms} VMs", counted(bench, lambda: power_states(bench, instances))
    resources = counted(bench, lambda: bench.driver.get_available_resource(bench.driver.get_available_nodes()[0]))
    yield f"get_available_resource, {vms} VMs", resources


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--by-method", action="store_true")
    options = parser.parse_args()
    with driver_bench() as bench:
        for what, calls in measured(bench, options.vms):
            target = next((f"  (at most {limit})" for name, limit in TARGETS.items() if what.startswith(name)), "")
            print(f"{what:36} {calls.total():4}{target}", flush=True)
            if options.by_method:
                for method, count in calls.most_common():
                    print(f"    {method:32} {count:4}")


if __name__ == "__main__":
    main()
