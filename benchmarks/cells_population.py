"""Many instances in a cell's database in a moment: copies of one, for what is measured over thousands."""

import sqlite3
import uuid

from sqlalchemy.engine import make_url

from nova_lite import conf as nova_conf
from nova_lite import objects, service
from nova_lite.objects import vm_states

_TABLES = {"instances": "uuid", "instance_extra": "instance_uuid", "instance_info_caches": "instance_uuid"}


def open_cell(cell):
    """Return the library of a cell of a fleet, for what an API process or a host of it would do."""
    files = [str(path) for path in cell.config_files()]
    return service.build_api(nova_conf.load([], prog="benchmark", config_files=files))


def connect(cell) -> sqlite3.Connection:
    """Return a plain connection to the SQLite database of a cell of a fleet."""
    return sqlite3.connect(make_url(cell.database_url).database, timeout=60, isolation_level=None)


def create_instance(api, **values) -> str:
    """Create an active instance in a cell without telling others of it; returns its uuid."""
    ctxt = api.context()
    flavor = objects.Flavor(id=2, name="m1.small", memory_mb=1024, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
                            flavorid="2", rxtx_factor=1.0, vcpu_weight=None, disabled=False, is_public=True,
                            extra_specs={})
    instance = objects.Instance(
        ctxt, **{"uuid": str(uuid.uuid4()), "user_id": "u", "project_id": "p", "display_name": "vm", "hostname": "vm",
                 "vm_state": vm_states.ACTIVE, "power_state": 1, "memory_mb": 1024, "vcpus": 1, "root_gb": 1,
                 "ephemeral_gb": 0, "flavor": flavor, "image_ref": "image", "host": "host1", "node": "host1",
                 "system_metadata": {}, "metadata": {}, **values})
    instance.create(replicate=False)
    return instance.uuid


def copy_instance(cell, instance_uuid: str, uuids: list[str]) -> None:
    """Give a cell copies of an instance, under other uuids."""
    connection = connect(cell)
    connection.execute("BEGIN IMMEDIATE")
    for table, key in _TABLES.items():
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in ("id", key)]
        names = ", ".join(columns)
        connection.executemany(
            f"INSERT INTO {table} ({key}, {names}) SELECT ?, {names} FROM {table} WHERE {key} = ?",
            [(one, instance_uuid) for one in uuids])
    connection.execute("COMMIT")
    connection.close()
