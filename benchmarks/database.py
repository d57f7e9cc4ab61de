"""The database's hot paths in a cell with many instances: what lists, healing, periodic tasks and builds wait for.

    python -m benchmarks.database [--instances 100000] [--server sqlite|mariadb|postgresql]

Servers are private ones on loopback. A page of a list is 100 instances with all their parts, as the healing of cells
and `nova-lite server list` read them.
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
import uuid

import sqlalchemy

from nova_lite import conf as nova_conf
from nova_lite.context import RequestContext
from nova_lite.db import models
from nova_lite.db.api import Database
from tests.fixtures.databases import database_maker

TARGET_MS = 50
PAGE = 100
PROJECTS = 100
HOSTS = 1000
BATCH = 5000
BOOTED = datetime.datetime(2026, 1, 1)


def instance_rows(count, flavor_text):
    """Yield {table: rows} in batches; every sixth instance is deleted, every other one was never changed."""
    for start in range(0, count, BATCH):
        rows = {name: [] for name in ("instances", "extra", "caches", "metadata", "system_metadata", "faults")}
        for number in range(start, min(start + BATCH, count)):
            uid = str(uuid.UUID(int=number + 1))
            born = BOOTED + datetime.timedelta(minutes=number)
            gone = number % 6 == 5
            rows["instances"].append({
                "uuid": uid, "project_id": f"project-{number % PROJECTS}", "user_id": "user",
                "display_name": f"machine-{number}", "hostname": f"machine-{number}", "host": f"host-{number % HOSTS}",
                "node": f"host-{number % HOSTS}", "vm_state": "active", "task_state": None, "power_state": 1,
                "memory_mb": 512, "vcpus": 1, "root_gb": 1, "ephemeral_gb": 0, "created_at": born,
                "updated_at": born if number % 2 else None, "launched_at": born, "deleted": number + 1 if gone else 0,
                "deleted_at": born if gone else None, "terminated_at": born if gone else None, "locked": False,
                "auto_disk_config": False, "shutdown_terminate": False, "disable_terminate": False, "cleaned": 0,
                "revision": 1})
            rows["extra"].append({"instance_uuid": uid, "flavor": flavor_text, "created_at": born, "deleted": 0})
            rows["caches"].append({"instance_uuid": uid, "network_info": "[]", "created_at": born, "deleted": 0})
            rows["metadata"].append({"instance_uuid": uid, "key": "role", "value": "web", "created_at": born,
                                     "deleted": 0})
            rows["system_metadata"] += [{"instance_uuid": uid, "key": key, "value": "x", "created_at": born,
                                         "deleted": 0} for key in ("image_os", "image_min_ram", "image_base_image_ref")]
        yield rows


def fill(database, count):
    """Put `count` instances into the tables, ten changed within the last minutes."""
    flavor = json.dumps({"cur": None, "old": None, "new": None})
    tables = {"instances": models.Instance, "extra": models.InstanceExtra, "caches": models.InstanceInfoCache,
              "metadata": models.InstanceMetadata, "system_metadata": models.InstanceSystemMetadata}
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    for rows in instance_rows(count, flavor):
        with database.writer(None) as session:
            for name, model in tables.items():
                session.execute(sqlalchemy.insert(model.__table__), rows[name])
    with database.writer(None) as session:
        for number in range(0, 60, 6):
            session.update_rows(models.Instance, models.Instance.__table__.c.uuid == str(uuid.UUID(int=number + 1)),
                                updated_at=now, touch=False)
    _analyze(database)


def _analyze(database):
    """Let the planner know the tables, as the servers do by themselves in time."""
    with database.store.engines.writer.connect() as connection:
        kind = database.store.engines.url.get_backend_name()
        for table in ("instances", "instance_extra", "instance_metadata", "instance_system_metadata"):
            if kind == "mysql":
                connection.execute(sqlalchemy.text(f"ANALYZE TABLE {table}"))
            elif kind == "postgresql":
                connection.execute(sqlalchemy.text(f"ANALYZE {table}"))
        connection.commit()


def hot_paths(database, count):
    """Yield (what, call, is it held to the target)."""
    admin = RequestContext("admin", "admin", is_admin=True)
    alice = RequestContext("alice", "project-7", is_admin=False)
    live = {"deleted": False}
    recent = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    middle = str(uuid.UUID(int=count // 2 - (count // 2) % 6 + 1))
    listed = database.instance_get_all_by_filters

    yield "list, one project, first page", lambda: listed(alice, live, limit=PAGE), True
    yield "list, all projects, first page", lambda: listed(admin, live, limit=PAGE), True
    yield "list, all projects, page in the middle", lambda: listed(admin, live, limit=PAGE, marker=middle), True
    yield "list, all projects, oldest first", lambda: listed(admin, live, sort_dir="asc", limit=PAGE), True
    yield "list, changed in the last hour", lambda: listed(admin, {"changes-since": recent}, limit=PAGE), True
    yield ("list, one host", lambda: listed(admin, {"host": "host-42", "deleted": False}), True)
    yield "list, by metadata of one project", lambda: listed(
        alice, {**live, "metadata": {"role": "web"}}, limit=PAGE), True
    yield ("heal, recent changes, first page", lambda: listed(
        admin, {"changes-since": recent}, sort_key="deleted", sort_dir="asc", limit=PAGE), True)
    yield ("heal, all, first page", lambda: listed(
        admin, {}, sort_key="deleted", sort_dir="asc", limit=PAGE), True)
    yield ("heal, all, page in the middle", lambda: listed(
        admin, {"deleted": False, "soft_deleted": True}, sort_key="deleted", sort_dir="asc", limit=PAGE,
        marker=middle), True)
    yield "host, its instances", lambda: database.instance_get_all_by_host(admin, "host-42"), True
    yield "host, hung in rebooting", lambda: database.instance_get_all_hung_in_rebooting(
        admin, 60, host="host-42"), True
    yield "host, migrations in progress", lambda: database.migration_get_in_progress_by_host_and_node(
        admin, "host-42", "host-42"), True
    yield "one instance", lambda: database.instance_get_by_uuid(admin, middle), True
    yield "one update", lambda: database.instance_update(
        admin, middle, {"progress": 1}, columns_to_join=()), True
    yield "usage of one project", lambda: database.instance_count_by_project(admin, "project-7"), True
    yield "list, by a pattern of names in one project", lambda: listed(
        alice, {**live, "display_name": "machine-1.*7$"}, limit=PAGE), False


def timed(call, repeats):
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times), max(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--server", choices=["sqlite", "mariadb", "postgresql"], default="sqlite")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, database_maker(options.server, directory) as new_database:
        conf = nova_conf.load(prog="benchmark", config_files=[], config_dirs=[], overrides={
            (None, "state_path"): directory, ("database", "connection"): new_database("benchmark")})
        database = Database(conf)
        database.sync()
        start = time.perf_counter()
        fill(database, options.instances)
        print(f"{options.server}: {options.instances} instances, filled in {time.perf_counter() - start:.0f} s; "
              f"milliseconds, median and longest of {options.repeats}")
        for what, call, held in hot_paths(database, options.instances):
            median, longest = timed(call, options.repeats)
            mark = f"(at most {TARGET_MS})" if held else ""
            print(f"{what:46} {median:8.1f} {longest:8.1f}  {mark}{' MISSED' if held and median > TARGET_MS else ''}",
                  flush=True)
        database.dispose()


if __name__ == "__main__":
    main()
