"""What every benchmark shares: a private configuration, callers, percentiles, a table of ratios."""

import concurrent.futures
import contextlib
import os
import pathlib
import statistics
import time
from dataclasses import dataclass

import oslo_messaging
from oslo_config import cfg


def session_cpu_seconds(session):
    """Return the processor time of all processes of a session (the id of its first one), user and system."""
    ticks = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[3]) == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def private_conf():
    """Return a configuration in which a raw oslo.messaging transport works without any global state."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    conf.register_opts([cfg.BoolOpt("tracing_enabled", default=False)], group="oslo_messaging_tracing")
    conf.register_opts([cfg.BoolOpt("metrics_enabled", default=False)], group="oslo_messaging_metrics")
    oslo_messaging.set_transport_defaults(control_exchange="nova")
    return conf


@dataclass
class Sample:
    """The figures of one run: latencies of single calls, the whole time, the servers' processor time."""

    latencies_s: list
    elapsed_s: float
    cpu_s: float

    def __add__(self, other):
        return Sample(self.latencies_s + other.latencies_s, self.elapsed_s + other.elapsed_s, self.cpu_s + other.cpu_s)

    @property
    def p50_ms(self):
        return statistics.median(self.latencies_s) * 1000

    @property
    def p95_ms(self):
        return sorted(self.latencies_s)[int(len(self.latencies_s) * 0.95)] * 1000

    @property
    def throughput(self):
        return len(self.latencies_s) / self.elapsed_s

    @property
    def cpu_s_per_1000(self):
        return self.cpu_s / len(self.latencies_s) * 1000


def measure(call, *, calls, callers, servers, warm_up=20):
    """Run `call` `calls` times from `callers` threads; `servers` are daemons whose processor time is counted."""
    for _ in range(warm_up):
        call()

    def one():
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    cpu_before = sum(server.cpu_seconds() for server in servers)
    start = time.perf_counter()
    if callers == 1:
        latencies = [one() for _ in range(calls)]
    else:
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            latencies = list(pool.map(lambda _: one(), range(calls)))
    elapsed = time.perf_counter() - start
    return Sample(latencies, elapsed, sum(server.cpu_seconds() for server in servers) - cpu_before)


def measure_in_turns(workloads, *, calls, rounds, callers):
    """Measure {name: (call, servers)} in `rounds` rounds of short runs, one after the other; return {name: Sample}."""
    each = max(calls // rounds, callers)
    runs = {name: [] for name in workloads}
    for _ in range(rounds):
        for name, (call, servers) in workloads.items():
            runs[name].append(measure(call, calls=each, callers=callers, servers=servers, warm_up=3))
    return {name: sum(found[1:], found[0]) for name, found in runs.items()}


def print_table(title, reference, samples):
    """Print each sample beside the reference: milliseconds, calls a second, CPU seconds per 1,000 calls, ratios."""
    print(f"\n{title}")
    heads = f"{'p50 ms':>8} {'x raw':>6} {'p95 ms':>8} {'calls/s':>8} {'raw ÷':>6} {'CPU s/1000':>11} {'x raw':>6}"
    print(f"{'':28} {heads}")
    for name, sample in samples.items():
        print(
            f"{name:28} {sample.p50_ms:8.2f} {sample.p50_ms / reference.p50_ms:6.2f} {sample.p95_ms:8.2f} "
            f"{sample.throughput:8.0f} {reference.throughput / sample.throughput:6.2f} "
            f"{sample.cpu_s_per_1000:11.3f} {sample.cpu_s_per_1000 / reference.cpu_s_per_1000:6.2f}",
            flush=True,
        )
