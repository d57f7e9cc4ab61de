"""How long it takes until the top has put right what it has wrong of many instances of a child, and what memory.

Two cells as daemons on a private RabbitMQ. Every instance is another one at the top than in its cell: other states,
and no revision applied. Nothing tells of it; the periodic comparison of the child has to find and repair it all.

    python -m benchmarks.cells_healing [--instances 10000]
"""

import argparse
import tempfile
import time
import uuid

from benchmarks.cells_population import connect, copy_instance, create_instance, open_cell
from tests.fixtures.fleet import Fleet
from tests.fixtures.rabbit import rabbit_node

_DIVERGED = "vm_state = 'error', power_state = 4, progress = 7"
_LIMIT_S = 600
_LOOK_S = 0.2
_SETTLED_S = 5.0


def populate(fleet, count: int) -> None:
    """Give both cells the same instances, and the top a wrong idea of each."""
    uuids = [str(uuid.uuid4()) for _ in range(count - 1)]
    first = str(uuid.uuid4())
    for name, values in (("rack", {}), ("api", {"cell_name": "api!rack"})):
        api = open_cell(fleet.cells[name])
        create_instance(api, uuid=first, **values)
        api.close()
        copy_instance(fleet.cells[name], first, uuids)
    connect(fleet.cells["api"]).execute(f"UPDATE instances SET {_DIVERGED}")


def wait_for_all(top, daemons, memory_mb: dict) -> tuple[float, float]:
    """Return when (monotonic s) the first and the last instance was healed; note the most memory of each daemon."""
    begun_s, limit_s = None, time.monotonic() + _LIMIT_S
    total = top.execute("SELECT count(*) FROM instances").fetchone()[0]
    while time.monotonic() < limit_s:
        wrong = top.execute("SELECT count(*) FROM instances WHERE vm_state = 'error'").fetchone()[0]
        for daemon in daemons:
            memory_mb[daemon] = max(memory_mb[daemon], daemon.resident_mb())
        if wrong < total and begun_s is None:
            begun_s = time.monotonic()
        if not wrong:
            return begun_s, time.monotonic()
        time.sleep(_LOOK_S)
    raise SystemExit(f"{wrong} of {total} instances are still wrong after {_LIMIT_S} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--concurrency", choices=("eventlet", "threading"), default="eventlet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, rabbit_node() as node:
        fleet = Fleet(f"{directory}/fleet", rabbit=node, concurrency=options.concurrency, impatient=False,
                      new_database=lambda name: f"sqlite:///{directory}/{name}.sqlite")
        fleet.add_cell("api")
        fleet.add_cell("rack", parent="api")
        populate(fleet, options.instances)
        started_s = time.monotonic()
        with fleet.start():
            time.sleep(_SETTLED_S)
            daemons = {cell.daemon: cell.name for cell in fleet.cells.values()}
            before_mb = {daemon: daemon.resident_mb() for daemon in daemons}
            most_mb = dict(before_mb)
            begun_s, ended_s = wait_for_all(connect(fleet.cells["api"]), daemons, most_mb)
            print(f"{options.instances} instances healed in {ended_s - begun_s:.1f} s "
                  f"({ended_s - started_s:.1f} s since the daemons were started); target: 60 s")
            for daemon, name in daemons.items():
                print(f"{name:6} memory {before_mb[daemon]:.0f} MB before, {most_mb[daemon]:.0f} MB at most, "
                      f"grown by {most_mb[daemon] - before_mb[daemon]:.0f} MB (target: 50); "
                      f"CPU {daemon.cpu_seconds():.1f} s")


if __name__ == "__main__":
    main()
