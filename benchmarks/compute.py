"""What the compute manager costs beside its driver: processor time and database round trips of actions and passes.

    python -m benchmarks.compute [--instances 1000] [--boots 100] [--server sqlite|mariadb|postgresql] [--statements]
                                 [--no-daemon]

The hypervisor is the fake driver, which takes no time; messages are delivered by calls of the manager's methods; the
database is a private one. A round trip is a statement sent to the database; begin and commit are counted apart. At the
end the daemon itself boots instances at once on a simulated host, and its memory is measured (compute_boots).
"""

import argparse
import collections
import contextlib
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy

from benchmarks import compute_boots
from nova_lite import concurrency
from nova_lite.objects import power_state, task_states, vm_states

ACTIONS = {  # (what the API sets, its state before)
    "pause_instance": (task_states.PAUSING, vm_states.ACTIVE),
    "unpause_instance": (task_states.UNPAUSING, vm_states.PAUSED),
    "reboot_instance": (task_states.REBOOTING, vm_states.ACTIVE),
    "stop_instance": (task_states.POWERING_OFF, vm_states.ACTIVE),
    "start_instance": (task_states.POWERING_ON, vm_states.STOPPED),
}
LIMITS = {"run_instance": (50, 25), "pause_instance": (15, 8), "reboot_instance": (15, 8)}


class Counter:
    """Statements and transactions of a database since the last `reset`."""

    def __init__(self, database):
        self.reset()
        engines = {id(engine): engine for engine in (database.store.engines.writer, database.store.engines.reader)}
        for engine in engines.values():
            sqlalchemy.event.listen(engine, "before_cursor_execute", self._statement)
            sqlalchemy.event.listen(engine, "begin", self._begin)

    def reset(self):
        self.statements, self.transactions = [], 0

    def _statement(self, connection, cursor, statement, parameters, context, many):
        if not statement.startswith("BEGIN"):
            self.statements.append(" ".join(statement.split()))

    def _begin(self, connection):
        self.transactions += 1


def measured(world, counter, method, repeats, show):
    """Print processor time and round trips of one action."""
    act = getattr(world.compute, method)
    cpu_s = 0.0
    for _ in range(repeats):
        if method == "run_instance":
            instance, arguments = world.create(), {"is_first_time": True}
        else:
            instance, arguments = world.boot(), {}
            task, vm_state = ACTIONS[method]
            instance = world.busy(instance, task, vm_state=vm_state)
        message = instance.to_legacy_dict()
        counter.reset()
        started = time.thread_time()
        act(world.context, instance=message, **arguments)
        cpu_s += time.thread_time() - started
        statements, transactions = list(counter.statements), counter.transactions
        world.compute.terminate_instance(world.context, instance=world.reload(instance))
    limits = LIMITS.get(method)
    aim = f"(at most {limits[0]} ms, {limits[1]})" if limits else ""
    print(f"{method:28} {cpu_s / repeats * 1000:8.1f} ms CPU {len(statements):4} round trips in "
          f"{transactions:2} transactions {aim}", flush=True)
    if show:
        for statement, count in collections.Counter(each[:150] for each in statements).items():
            print(f"      {count} × {statement}")


def boots_at_once(world, count):
    """Boot `count` instances at the same time, as the threads of the RPC server do."""
    instances = [world.create() for _ in range(count)]
    messages = [instance.to_legacy_dict() for instance in instances]
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda message: world.compute.run_instance(world.context, instance=message), messages))
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    states = collections.Counter(world.reload(instance).vm_state for instance in instances)
    print(f"{count} boots at once: {took_s:.2f} s, {cpu_s / count * 1000:.1f} ms CPU each, {dict(states)}", flush=True)
    for instance in instances:
        world.compute.terminate_instance(world.context, instance=world.reload(instance))


def passes(world, counter, count):
    """Time what is done periodically for all instances of a host."""
    for _ in range(count):
        instance = world.create(vm_state=vm_states.ACTIVE, task_state=None, host="here", node="here-node",
                                power_state=power_state.RUNNING)
        world.compute.driver.instances[instance.name] = type(
            "Guest", (), {"uuid": instance.uuid, "name": instance.name, "state": power_state.RUNNING})()
    for name, call in (("power-state sync", lambda: world.compute._sync.sync_all(world.context)),
                       ("resource update", lambda: world.compute.update_available_resource(world.context))):
        counter.reset()
        started = time.perf_counter()
        call()
        print(f"{name} of {count} instances: {time.perf_counter() - started:.2f} s, {len(counter.statements)} round "
              f"trips (at most 1 s)", flush=True)


@contextlib.contextmanager
def a_world(options, directory):
    from tests.fixtures import mariadb, postgres
    from tests.unit.compute.world import World

    servers = {"mariadb": mariadb.mariadb_server, "postgresql": postgres.postgres_server}
    with contextlib.ExitStack() as stack:
        grouped = {}
        if options.server != "sqlite":
            server = stack.enter_context(servers[options.server]())
            grouped["database", "connection"] = server.database(f"bench_{uuid.uuid4().hex[:8]}")
        world = World(directory, cidr="10.1.0.0/16", grouped=grouped, quota_instances=-1)
        stack.callback(world.close)
        yield world


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--boots", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--server", choices=["sqlite", "mariadb", "postgresql"], default="sqlite")
    parser.add_argument("--statements", action="store_true", help="Show the statements of each action.")
    parser.add_argument("--no-daemon", action="store_true", help="Leave the daemon's boots out.")
    options = parser.parse_args()
    concurrency.setup("threading")
    with tempfile.TemporaryDirectory() as directory, a_world(options, directory) as world:
        counter = Counter(world.db)
        for method in ("run_instance", *ACTIONS):
            measured(world, counter, method, options.repeats, options.statements)
        boots_at_once(world, options.boots)
        passes(world, counter, options.instances)
    if not options.no_daemon:
        compute_boots.measure(options.boots)


if __name__ == "__main__":
    main()
