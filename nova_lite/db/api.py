"""The database of a cell, as one object: an index of the operations of all subjects.

Operations take a context first, run in a transaction of their own (or in the one this thread has open) and return
plain dicts: the columns of a row, and what the module of the subject says it joins. Times are naive UTC.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nova_lite.concurrency import Clock
from nova_lite.db import operations, revision
from nova_lite.db.actions import Actions
from nova_lite.db.aggregates import AgentBuilds, Aggregates
from nova_lite.db.archive import Archive
from nova_lite.db.block_devices import BlockDevices
from nova_lite.db.build_orders import BuildOrders
from nova_lite.db.cells import Cells
from nova_lite.db.console_tokens import ConsoleAuthTokens
from nova_lite.db.flavors import Flavors, KeyPairs
from nova_lite.db.instance_copies import InstanceCopies
from nova_lite.db.instance_parts import InstanceParts
from nova_lite.db.instance_saves import InstanceSaves
from nova_lite.db.instances import Instances
from nova_lite.db.migration_records import MigrationRecords
from nova_lite.db.networks import FixedIps, Networks, VirtualInterfaces
from nova_lite.db.outbox import Replication
from nova_lite.db.quotas import Quotas
from nova_lite.db.security_groups import SecurityGroups
from nova_lite.db.services import Services
from nova_lite.db.store import RowSession, Store
from nova_lite.db.usage import BandwidthUsages, TaskLogs, VolumeUsages


@operations.index(Instances, InstanceParts, InstanceCopies, InstanceSaves, Actions, BlockDevices, Services, Cells,
                  Flavors, KeyPairs, MigrationRecords, SecurityGroups, Aggregates, AgentBuilds, Networks, FixedIps,
                  VirtualInterfaces, Quotas, TaskLogs, BandwidthUsages, VolumeUsages, ConsoleAuthTokens, Replication,
                  BuildOrders, Archive)
class Database:
    """The database named by ``[database] connection`` of a configuration. Opens nothing before it is used."""

    parts: tuple[type[operations.Part], ...]

    def __init__(self, conf: Any, clock: Any = None, *, host: str | None = None):
        self.conf = conf
        self.host = host or conf.host
        self.store = Store(conf, clock or Clock())
        self._parts = {part: part(self) for part in self.parts}
        self._parts_by_operation = {
            name: self._parts[part] for part in self.parts for name, function in vars(part).items()
            if getattr(function, "is_operation", False)}

    def part_of(self, operation: str) -> Any:
        """Return the part that offers an operation, for what parts do for each other inside a transaction."""
        return self._parts_by_operation[operation]

    # -- transactions --

    @contextmanager
    def reader(self, context: Any) -> Iterator[RowSession]:
        """Give a session for reading; operations called inside join it."""
        with self.store.reader(context) as session:
            yield session

    @contextmanager
    def writer(self, context: Any) -> Iterator[RowSession]:
        """Give a session for writing; operations called inside join it. Commits at the end, undoes on an exception.

        Nothing that waits for others belongs inside: on SQLite all other writers wait meanwhile.
        """
        with self.store.writer(context) as session:
            yield session

    # -- the database itself --

    def sync(self, version: str | None = None) -> None:
        """Bring the schema to a version, the newest by default; a new database gets the default flavors."""
        from nova_lite.db import schema

        schema.upgrade(self.store, version)
        with self.store.writer() as session:
            self.part_of("flavor_get").insert_defaults(session)

    def version(self) -> str | None:
        """Return the version of the schema, None for an empty database."""
        return revision.stored(self.store)

    def schema_is_current(self) -> bool:
        """Whether the schema is the one this release works with. Raises DBConnectionError."""
        return self.version() == revision.CURRENT

    def ping(self) -> None:
        """Ask the database something. Raises DBConnectionError."""
        import sqlalchemy

        with self.store.reader() as session:
            session.execute(sqlalchemy.text("SELECT 1"))

    def dispose(self) -> None:
        """Close every connection."""
        self.store.engines.dispose()


