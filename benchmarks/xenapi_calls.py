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

TARGETS = {
    "spawn, cold": 22,
    "spawn, cached image": 15,
    "pause": 2,
    "unpause": 2,
    "suspend": 2,
    "resume": 2,
    "reboot, soft": 2,
    "reboot, hard": 2,
    "rescue and unrescue": 35,
    "resize": 45,
    "snapshot": 12,
    "destroy": 8,
    "power sync": 0,
    "bandwidth": 1,
    "get_available_resource": 4,
}


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
    """Run the action; return {method: calls} without the long poll's and logins; HTTP transfers are calls too."""
    bench.simulator.control.reset_calls()
    action()
    return collections.Counter(bench.calls_and_waits())


def requested(bench, action):
    """Run the action; return {method: calls} as counted does, and HTTP requests for small documents beside them."""
    transfers = bench.driver.vmops.metrics._transfers
    documents = collections.Counter()
    get = transfers.get
    transfers.get = lambda path, query: documents.update([f"GET {path}"]) or get(path, query)
    try:
        return counted(bench, action) + documents
    finally:
        transfers.get = get


def power_states(bench, instances):
    """Ask what the manager's synchronisation asks: the power state of every instance."""
    bench.driver.list_instance_uuids()
    for instance in instances:
        bench.driver.get_info(instance)


def rescue_and_unrescue(bench, instance, network_info):
    bench.driver.rescue(None, instance, network_info, bench.image, "password")
    bench.driver.unrescue(instance, network_info)


def resize(bench, instance, network_info):
    """From one simulated host to the same one: the disk grows, the resize is confirmed."""
    larger = {**instance["flavor"], "root_gb": 2, "memory_mb": 256}
    disk_info = bench.driver.migrate_disk_and_power_off(None, instance, "127.0.0.1", larger, network_info)
    moved = {**instance, "flavor": larger, "root_gb": 2}
    bench.driver.finish_migration(None, {}, moved, disk_info, network_info, bench.image, True)
    bench.driver.confirm_migration({}, moved, network_info)


def snapshot(bench, instance):
    image = bench.images.add(b"", status="queued")
    bench.driver.snapshot(None, instance, image["id"], lambda **states: None)


def measured(bench, vms):
    """Yield (what, {method: calls})."""
    driver, network_info = bench.driver, make_network_info()
    first, second = make_instance(), make_instance()
    yield "spawn, cold", counted(bench, lambda: bench.spawn(first, network_info=network_info))
    yield "spawn, cached image", counted(bench, lambda: bench.spawn(second))
    for name in ("pause", "unpause", "suspend"):
        yield name, counted(bench, lambda name=name: getattr(driver, name)(first))
    yield "resume", counted(bench, lambda: driver.resume(first, network_info))
    yield "reboot, soft", counted(bench, lambda: driver.reboot(None, first, network_info, "SOFT"))
    yield "reboot, hard", counted(bench, lambda: driver.reboot(None, first, network_info, "HARD"))
    yield "rescue and unrescue", counted(bench, lambda: rescue_and_unrescue(bench, first, network_info))
    yield "resize (disk, finish, confirm)", counted(bench, lambda: resize(bench, first, network_info))
    yield "destroy", counted(bench, lambda: driver.destroy(first, network_info))
    instances = [second, *(bench.spawn() for _ in range(vms - 1))]
    yield f"snapshot, {vms} VMs", counted(bench, lambda: snapshot(bench, second))
    yield f"power sync of {vms} VMs", counted(bench, lambda: power_states(bench, instances))
    driver.get_all_bw_counters(instances)
    yield f"bandwidth of {vms} VMs", requested(bench, lambda: driver.get_all_bw_counters(instances))
    resources = counted(bench, lambda: driver.get_available_resource(driver.get_available_nodes()[0]))
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
