"""How long a cell's scheduler takes to choose among its children: filters, weights, debit, and the message that goes.

The scheduler, its filters and weighers are those of `nova-cells`; the children are known by their reports alone, and
messages go to a simulated network that drops them. Beside it the raw reference: choosing the child with the most room
in a loop over the same reports, which is the least that any scheduler has to do.

    python -m benchmarks.cells_scheduling [--cells 100] [--flavors 50] [--passes 300]
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

from nova_lite import concurrency

concurrency.setup("threading")

from nova_lite import objects  # noqa: E402
from nova_lite.cells import messages, routing  # noqa: E402
from nova_lite.db.api import Database  # noqa: E402
from nova_lite.simulate.cell import SimulatedCell  # noqa: E402
from nova_lite.simulate.network import Network  # noqa: E402
from nova_lite.simulate.world import World  # noqa: E402

_STEP_MB = 512


def make_database(conf, clock):
    database = Database(conf, clock)
    database.sync()
    return database


def report(flavors: int, units: int) -> dict:
    """Return the capacities of a cell that has room for so many of the largest flavor, for every flavor's size."""
    sizes_mb = [(number + 1) * _STEP_MB for number in range(flavors)]
    total_mb = units * sizes_mb[-1]
    free = {"total_mb": total_mb, "units_by_mb": {str(size_mb): total_mb // size_mb for size_mb in sizes_mb}}
    disk = {"total_mb": total_mb * 4, "units_by_mb": {str(size_mb * 4): total_mb // size_mb for size_mb in sizes_mb}}
    return {"ram_free": free, "disk_free": disk}


def make_parent(directory: Path, cells: int, flavors: int) -> SimulatedCell:
    world = World(1)
    network = Network(world)
    network.faults = lambda source, target: []
    parent = SimulatedCell(world, network, "top", directory, is_top=True, make_database=make_database,
                           compute_api=lambda cell: None)
    names = [f"cell{number}" for number in range(cells)]
    for name in names:
        parent.meet(name, is_parent=False)
    parent.start()
    for number, name in enumerate(names):
        parent.runner.state_manager.heard_from(name, routing.UP, 1)
        parent.runner.state_manager.update_cell_capacities(name, report(flavors, 1000 + number))
    return parent


def request(parent: SimulatedCell, number: int):
    """Return a message that orders an instance, and its arguments."""
    ctxt = parent.context()
    flavor = objects.Flavor(id=2, name="m", memory_mb=_STEP_MB * 4, vcpus=1, root_gb=8, ephemeral_gb=0, swap=0,
                            flavorid="2", rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True,
                            extra_specs={})
    instance = objects.Instance(ctxt, uuid=f"00000000-0000-4000-8000-{number:012d}", user_id="u", project_id="p",
                                memory_mb=flavor.memory_mb, vcpus=1, root_gb=8, ephemeral_gb=0, flavor=flavor,
                                system_metadata={}, metadata={})
    kwargs = {"instances": [instance], "image": {}, "filter_properties": {"instance_type": flavor}}
    message = messages.TargetedMessage(parent.runner, ctxt, "build_instances", {"build_inst_kwargs": kwargs},
                                       routing.DOWN, parent.runner.state_manager.get_my_state())
    return message, kwargs


def roomiest(children, size_mb: int):
    """Return the child with room for most instances of a size: the raw reference."""
    return max(children, key=lambda child: child.capacities["ram_free"]["units_by_mb"][str(size_mb)])


def measure(act, arguments) -> list[float]:
    times_s = []
    for each in arguments:
        start_s = time.perf_counter()
        act(*each)
        times_s.append(time.perf_counter() - start_s)
    return times_s


def show(name: str, times_s: list[float], reference_s: float) -> None:
    p50_s = statistics.median(times_s)
    p95_s = sorted(times_s)[int(len(times_s) * 0.95)]
    print(f"{name:36} {p50_s * 1000:9.3f} {p95_s * 1000:9.3f} {p50_s / reference_s:8.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--flavors", type=int, default=50)
    parser.add_argument("--passes", type=int, default=300)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        parent = make_parent(Path(directory), options.cells, options.flavors)
        children = parent.runner.state_manager.get_child_cells()
        scheduler = parent.runner.scheduler
        reference = measure(roomiest, [(children, _STEP_MB * 4)] * options.passes)
        passes = measure(scheduler.build_instances,
                         [request(parent, number) for number in range(options.passes + 20)])[20:]
        chosen = parent.network.counts["sent"]
        print(f"{options.cells} cells, {options.flavors} flavors, {chosen} orders sent; target: p50 at most 5 ms")
        print(f"{'':36} {'p50 ms':>9} {'p95 ms':>9} {'x raw':>8}")
        raw_s = statistics.median(reference)
        show("raw: the child with most room", reference, raw_s)
        show("a scheduling pass, order sent", passes, raw_s)
        parent.world.kill("top")
        parent.db.dispose()


if __name__ == "__main__":
    main()
