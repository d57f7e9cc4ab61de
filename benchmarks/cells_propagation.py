"""How long a change in a leaf takes to be seen at the top of three levels: when nothing else happens, and under load.

Three cells as daemons on a private RabbitMQ. A change is a save of an instance through the objects, as a host makes
it; it is seen when a plain reader of the top's database sees it. Beside it the raw reference: as long as the same
reader takes to see what a plain connection wrote into that database. Under load the processor time of each process is
told, per update; that of the process which makes the load is no part of it.

    python -m benchmarks.cells_propagation [--changes 200] [--rate 1000] [--seconds 15] [--instances 200]
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid

from benchmarks.cells_population import connect, copy_instance, create_instance, open_cell
from benchmarks.measure import session_cpu_seconds
from nova_lite import objects
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import rabbit_node

_LOOK_S = 0.002
_LIMIT_S = 60.0


class Reader:
    """Looks at the top's rows until they show what is waited for."""

    def __init__(self, top):
        self._rows = connect(top)

    def seen(self, instance_uuid: str, text: str) -> float:
        """Return when (monotonic s) the instance was launched on what is named."""
        limit_s = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit_s:
            row = self._rows.execute("SELECT launched_on FROM instances WHERE uuid = ?", (instance_uuid,)).fetchone()
            if row[0] == text:
                return time.monotonic()
            time.sleep(_LOOK_S)
        raise SystemExit(f"a change was not seen at the top within {_LIMIT_S:.0f} s")


def raw_delays(top, reader: Reader, instance_uuid: str, count: int) -> list[float]:
    """Return how long (s) the reader takes to see what is written next to it."""
    writer, delays_s = connect(top), []
    for number in range(count):
        start_s = time.monotonic()
        writer.execute("UPDATE instances SET launched_on = ? WHERE uuid = ?", (f"raw{number}", instance_uuid))
        delays_s.append(reader.seen(instance_uuid, f"raw{number}") - start_s)
    return delays_s


def delays(leaf, reader: Reader, instance_uuid: str, count: int, pause_s: float) -> list[tuple[float, float]]:
    """Return (s from the begin of a change's save to the top, s from its end), of changes one after another."""
    found_s = []
    instance = objects.Instance.get_by_uuid(leaf.context(), instance_uuid)
    for number in range(count):
        time.sleep(random.uniform(0, 2 * pause_s))
        start_s = time.monotonic()
        instance.launched_on = f"change{number}-{start_s}"
        instance.save()
        saved_s = time.monotonic()
        seen_s = reader.seen(instance_uuid, instance.launched_on)
        found_s.append((seen_s - start_s, seen_s - saved_s))
    return found_s


class Load:
    """Changes of many instances of a cell, by a process of its own, as long as the block runs; then `told`."""

    def __init__(self, cell, uuids: list[str], rate: float):
        instances = cell.directory / "instances"
        instances.write_text("\n".join(uuids))
        self._command = [sys.executable, "-m", "benchmarks.cells_load", "--instances", instances, "--rate", str(rate)]
        for path in cell.config_files():
            self._command += ["--config-file", path]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        text, _nothing = self._process.communicate(timeout=60)
        self.told = json.loads(text)


class Bill:
    """The processor time of each process since this was made."""

    def __init__(self, pids: dict[str, int]):
        self._pids = pids
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: session_cpu_seconds(pid) for name, pid in self._pids.items()}

    def show(self, updates: int) -> None:
        """Print milliseconds per update."""
        spent = {name: (now_s - self._before[name]) * 1000 / updates for name, now_s in self._now().items()}
        print("CPU ms an update: " + ", ".join(f"{name} {ms:.3f}" for name, ms in spent.items())
              + f"; together {sum(spent.values()):.3f}", flush=True)


def under_load(fleet, node, reader: Reader, first: str, leaf, uuids: list[str], options) -> None:
    """Print how long changes of one instance take while many others are changed, and what it costs."""
    bill = Bill({**{name: cell.daemon.pid for name, cell in fleet.cells.items()}, "RabbitMQ": node.server.process.pid})
    with Load(fleet.cells["rack"], uuids, options.rate) as load:
        found_s, end_s = [], time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            found_s += delays(leaf, reader, first, 1, 0.05)
    wait_until(lambda: leaf.services.db.outbox_count(leaf.context()) == 0, "the outbox is not drained", 600)
    told = load.told
    rate = f"at {told['saves'] / told['seconds']:.0f} updates/s"
    show(rate, [both_s for both_s, _ in found_s], "target: p99 at most 2000 ms at 1000 updates/s")
    show(f"{rate}, without the save", [seen_s for _, seen_s in found_s], "")
    print(f"the load itself: {told['cpu_s'] * 1000 / told['saves']:.3f} CPU ms an update")
    bill.show(told["saves"])


def show(name: str, found_s: list[float], target: str) -> None:
    ordered = sorted(found_s)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000  # noqa: E731
    print(f"{name:34} p50 {at(0.5):8.1f} ms   p99 {at(0.99):8.1f} ms   {target}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--concurrency", choices=("eventlet", "threading"), default="eventlet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, rabbit_node() as node:
        fleet = Fleet(f"{directory}/fleet", rabbit=node, concurrency=options.concurrency, impatient=False,
                      new_database=lambda name: f"sqlite:///{directory}/{name}.sqlite")
        fleet.add_cell("api")
        fleet.add_cell("west", parent="api")
        fleet.add_cell("rack", parent="west")
        first, uuids = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(options.instances)]
        leaf = open_cell(fleet.cells["rack"])
        top = open_cell(fleet.cells["api"])
        create_instance(leaf, uuid=first)
        create_instance(top, uuid=first, cell_name="api!west!rack")
        for name in ("rack", "api"):
            copy_instance(fleet.cells[name], first, uuids)
        with fleet.start():
            for cell in fleet.cells.values():
                wait_until(lambda cell=cell: "is up" in cell.daemon.log(), f"cell {cell.name} does not start", 120)
            reader = Reader(fleet.cells["api"])
            delays(leaf, reader, first, 5, 1.0)
            show("raw: written next to the reader", raw_delays(fleet.cells["api"], reader, first, options.changes), "")
            idle_s = delays(leaf, reader, first, options.changes, 0.05)
            show("idle", [both_s for both_s, _ in idle_s], "target: p99 at most 250 ms")
            under_load(fleet, node, reader, first, leaf, uuids, options)


if __name__ == "__main__":
    main()
