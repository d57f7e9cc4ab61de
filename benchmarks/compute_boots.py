"""What nova-compute, a daemon on RabbitMQ, holds in memory and how long it takes while many instances boot at once.

    python -m benchmarks.compute_boots [--boots 100] [--concurrency eventlet|threading]

The builds are asked for by messages, all at once; the host is nova-lite-xensim, a process too, whose own processor
time is the bound: it computes on one processor, whoever asks. A first boot, which fills the image cache, is not
counted.
"""

import argparse
import contextlib
import os
import pathlib
import tempfile
import time
import uuid

from nova_lite import conf as configuration
from nova_lite import exception, objects, service
from nova_lite.compute import rpcapi
from nova_lite.objects import task_states, vm_states
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import rabbit_node
from tests.fixtures.xensim import simulator_process

IMAGE_BYTES = 4 * 1024 * 1024
MEMORY_LIMIT_MB = 120
PATIENCE_S = 600


class Host:
    """A cell of one host, and what is asked of it by messages."""

    def __init__(self, fleet, simulator_url):
        cell = fleet.add_cell("api")
        cell.config.write_text(cell.config.read_text().replace("cell_type = api", "cell_type = compute"))
        cell.client("network", "create", "net", "--cidr", "10.1.0.0/16", "--bridge", "xenbr0")
        self.daemon = fleet.add_host("api", "h1", simulator_url).daemon
        files = [str(path) for path in cell.config_files()]
        self.api = service.build_api(configuration.load([], prog="bench", config_files=files, config_dirs=[]))
        self.computes = rpcapi.ComputeAPI(self.api.services)
        self.image = self.api.services.image_api.create(
            self.context(), {"name": "image", "disk_format": "raw", "container_format": "bare"},
            [os.urandom(IMAGE_BYTES)])
        self.flavor = objects.Flavor.get_by_flavor_id(self.context(), "1")
        self.daemon.start()
        wait_until(self._answers, self.daemon.log)

    def _answers(self):
        with contextlib.suppress(exception.NovaException):
            return self.computes.get_console_topic(self.context(), "h1")
        return None

    def context(self):
        return self.api.context(user_id="user", project_id="project", is_admin=True, roles=["admin"])

    def boot(self, count):
        """Have `count` instances built at once; return the seconds until the last of them is built."""
        instances = [self._row() for _ in range(count)]
        start = time.perf_counter()
        for instance in instances:
            self.computes.run_instance(self.context(), instance, "h1", {}, {}, None, [], None, True, None)
        wait_until(lambda: self._unbuilt(instances) == 0, self.daemon.log, PATIENCE_S, interval_s=0.25)
        return time.perf_counter() - start

    def _row(self):
        size = {name: self.flavor[name] for name in ("memory_mb", "vcpus", "root_gb", "ephemeral_gb")}
        instance = objects.Instance(
            self.context(), uuid=str(uuid.uuid4()), user_id="user", project_id="project", display_name="machine",
            hostname="machine", vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING,
            image_ref=self.image["id"], instance_type_id=self.flavor.id, flavor=self.flavor, metadata={},
            system_metadata={}, **size)
        instance.create()
        return instance

    def _unbuilt(self, instances):
        waited_for = {instance.uuid for instance in instances}
        rows = self.api.services.db.instance_get_all_by_filters(self.context(), {"uuid": list(waited_for)})
        failed = [row["uuid"] for row in rows if row["vm_state"] == vm_states.ERROR]
        assert not failed, f"{len(failed)} builds failed:\n{self.daemon.log()[-4000:]}"
        return sum(row["vm_state"] != vm_states.ACTIVE for row in rows)


@contextlib.contextmanager
def a_host(concurrency):
    """Run a broker, a simulator and a host; yield host and simulator."""
    with (
        tempfile.TemporaryDirectory() as directory,
        rabbit_node(vhosts=1) as node,
        simulator_process(directory, arguments=["--memory-mib", "262144"]) as simulator,
        Fleet(pathlib.Path(directory) / "fleet", rabbit=node, concurrency=concurrency,
              new_database=lambda name: f"sqlite:///{directory}/{name}.sqlite") as fleet,
    ):
        host = Host(fleet, simulator.url)
        yield host, simulator
        host.api.services.rpc.close()


def measure(boots, concurrency="eventlet"):
    """Print time, processor time and memory of `boots` builds at once."""
    with a_host(concurrency) as (host, simulator):
        host.boot(1)
        idle_mb = host.daemon.resident_mb()
        cpu_s = host.daemon.cpu_seconds(), simulator.cpu_seconds()
        took_s = host.boot(boots)
        own_s, simulator_s = host.daemon.cpu_seconds() - cpu_s[0], simulator.cpu_seconds() - cpu_s[1]
        print(f"{boots} boots at once by nova-compute ({concurrency}): {took_s:.1f} s, own processor time "
              f"{own_s / boots * 1000:.0f} ms each, the simulator's {simulator_s / boots * 1000:.0f} ms each "
              f"({took_s / simulator_s:.2f} x its bound of {simulator_s:.1f} s); memory {idle_mb:.0f} MB after one "
              f"boot, {host.daemon.peak_resident_mb():.0f} MB at most (at most {MEMORY_LIMIT_MB})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boots", type=int, default=100)
    parser.add_argument("--concurrency", choices=("eventlet", "threading"), default="eventlet")
    options = parser.parse_args()
    measure(options.boots, options.concurrency)


if __name__ == "__main__":
    main()
