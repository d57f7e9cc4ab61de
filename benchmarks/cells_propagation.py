"""How long a change in a leaf takes to be seen at the top of three levels: when nothing else happens, and under load.

Three cells as daemons on a private RabbitMQ. A change is a save of an instance through the objects, as a host makes
it; it is seen when a plain reader of the top's database sees it. Beside it the raw reference: as long as the same
reader takes to see what a plain connection wrote into that database.

    python -m benchmarks.cells_propagation [--changes 200] [--rate 1000] [--seconds 15] [--instances 200]
"""

import argparse
import contextlib
import random
import tempfile
import threading
import time
import uuid

from benchmarks.cells_population import connect, copy_instance, create_instance, open_cell
from nova_lite import objects
from tests.fixtures.fleet import Fleet
from tests.fixtures.processes import wait_until
from tests.fixtures.rabbit import rabbit_node

_LOOK_S = 0.001
_LIMIT_S = 60.0
_SAVES_A_TRANSACTION = 10


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


def delays(leaf, reader: Reader, instance_uuid: str, count: int, pause_s: float) -> list[float]:
    """Return how long (s) changes take from the begin of their save to the top, one after another."""
    found_s = []
    instance = objects.Instance.get_by_uuid(leaf.context(), instance_uuid)
    for number in range(count):
        time.sleep(random.uniform(0, 2 * pause_s))
        start_s = time.monotonic()
        instance.launched_on = f"change{number}-{start_s}"
        instance.save()
        found_s.append(reader.seen(instance_uuid, instance.launched_on) - start_s)
    return found_s


@contextlib.contextmanager
def load(leaf, uuids: list[str], rate: float):
    """Save changes of these instances while the block runs, at most so many a second; yields a list of counts."""
    stop, done = threading.Event(), [0, time.monotonic()]

    def work():
        ctxt = leaf.context()
        rows = [objects.Instance.get_by_uuid(ctxt, one) for one in uuids]
        begun_s = time.monotonic()
        while not stop.is_set():
            with leaf.services.db.writer(ctxt):
                for instance in random.sample(rows, _SAVES_A_TRANSACTION):
                    instance.progress = (instance.progress or 0) % 100 + 1
                    instance.save()
            done[0] += _SAVES_A_TRANSACTION
            done[1] = time.monotonic() - begun_s
            stop.wait(max(0.0, done[0] / rate - done[1]))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


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
            show("idle", delays(leaf, reader, first, options.changes, 0.05), "target: p99 at most 250 ms")
            with load(leaf, uuids, options.rate) as done:
                found_s, end_s = [], time.monotonic() + options.seconds
                while time.monotonic() < end_s:
                    found_s += delays(leaf, reader, first, 1, 0.05)
            show(f"at {done[0] / done[1]:.0f} updates/s", found_s, "target: p99 at most 2000 ms at 1000 updates/s")
            for cell in fleet.cells.values():
                print(f"{cell.name:6} CPU {cell.daemon.cpu_seconds():.1f} s")


if __name__ == "__main__":
    main()
