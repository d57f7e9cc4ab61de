"""What a driver costs and notices while it serves a simulated host in a process of its own.

    python -m benchmarks.xenapi_service [--builds 20] [--idle-s 360]

Builds at once: sessions open at most, own processor time of each. A guest that stops by itself: how long until it is
seen. An idle host: calls a minute in the busiest five minutes, the long poll included, with all that the compute
service asks now and then.
"""

import argparse
import concurrent.futures
import contextlib
import pathlib
import statistics
import tempfile
import time

from nova_lite import conf as nova_conf
from nova_lite.objects import power_state
from tests.fixtures.xen_bench import Bench, Compute, ImageStore
from tests.fixtures.xensim import simulator_process

STOPS = 20
WINDOW_S = 300


@contextlib.contextmanager
def driver_bench():
    with tempfile.TemporaryDirectory() as name, simulator_process(name) as simulator:
        options = {
            "connection_url": simulator.url,
            "connection_username": simulator.username,
            "connection_password": simulator.password,
        }
        overrides = {("xenserver", key): value for key, value in options.items()}
        overrides[None, "state_path"] = str(pathlib.Path(name))
        conf = nova_conf.load(prog="benchmark", config_files=[], config_dirs=[], overrides=overrides)
        bench = Bench(simulator, conf, Compute(), ImageStore())
        try:
            yield bench
        finally:
            bench.close()


def build_at_once(bench, builds):
    """Return (instances, elapsed seconds, own processor seconds of each, logins meanwhile)."""
    bench.spawn()  # the image is cached
    bench.simulator.control.reset_calls()
    cpu_s, start = time.process_time(), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(builds) as pool:
        instances = list(pool.map(lambda _: bench.spawn(), range(builds)))
    elapsed_s = time.perf_counter() - start
    logins = bench.simulator.control.counts().get("session.login_with_password", 0)
    return instances, elapsed_s, (time.process_time() - cpu_s) / builds, logins


def seen_after(bench, instance):
    """Let the guest shut down by itself; return the seconds until the driver knows."""
    vm_ref = bench.vmops.finder.require(instance)
    bench.simulator.control.guest_stops(vm_ref)
    start = time.perf_counter()
    while bench.driver.get_info(instance)["state"] != power_state.SHUTDOWN:
        time.sleep(0.001)
    return time.perf_counter() - start


def idle_calls(bench, seconds):
    """Ask what an idle compute service asks; return (when each call came, {name: how many})."""
    options = bench.conf
    asked = {
        options.update_resources_interval or 60: lambda: bench.driver.get_available_resource(
            bench.driver.get_available_nodes()[0]),
        options.host_state_interval: lambda: bench.driver.get_host_stats(refresh=True),
        600: bench.driver.get_power_states,
    }
    bench.driver.get_available_resource(None)
    bench.simulator.control.reset_calls()
    begin, came_at = time.monotonic(), []
    due = dict.fromkeys(asked, begin)
    while (now := time.monotonic()) - begin < seconds:
        for interval_s, ask in asked.items():
            if now >= due[interval_s]:
                due[interval_s] += interval_s
                ask()
        time.sleep(0.5)
        came_at += [now] * (len(bench.simulator.control.calls()) - len(came_at))
    return came_at, bench.simulator.control.counts()


def per_minute_when_busiest(came_at, seconds):
    """Return the calls a minute in the busiest window of WINDOW_S, or in all the time where that is shorter."""
    window_s = min(WINDOW_S, seconds)
    return max((sum(start <= at < start + window_s for at in came_at) for start in came_at), default=0) * 60 / window_s


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", type=int, default=20)
    parser.add_argument("--idle-s", type=int, default=360, help="a multiple of host_state_interval")
    options = parser.parse_args()
    with driver_bench() as bench:
        instances, elapsed_s, cpu_s, logins = build_at_once(bench, options.builds)
        print(f"{options.builds} builds at once: {elapsed_s:.2f} s, own processor time {cpu_s * 1000:.0f} ms each "
              f"(at most 50), {logins} logins (at most {2 * bench.conf.xenserver.connection_concurrent})", flush=True)
        seen_s = [seen_after(bench, instance) for instance in instances[:STOPS]]
        print(f"a guest that stops by itself is seen after {statistics.median(seen_s):.3f} s, "
              f"at most {max(seen_s):.3f} s (at most 1)", flush=True)
        if options.idle_s:
            came_at, counts = idle_calls(bench, options.idle_s)
            print(f"an idle host is asked {60 * len(came_at) / options.idle_s:.1f} times a minute, "
                  f"{per_minute_when_busiest(came_at, options.idle_s):.1f} in the busiest {WINDOW_S} s (at most 2): "
                  f"{', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}")


if __name__ == "__main__":
    main()
