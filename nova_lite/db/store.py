"""Transactions, and what every part of the database does with rows."""

import contextlib
import datetime
import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite.db.engine import Engines

_IN_CHUNK = 500  # SQLite and the others bound the number of values in one statement


class RowSession:
    """A transaction that gives and takes rows as dicts. ``now`` is the one time of it (naive UTC).

    No session of the ORM: nothing here is mapped, and that layer costs a third of every statement.
    """

    def __init__(self, connection: sqlalchemy.Connection, now: datetime.datetime, may_write: bool):
        self._connection = connection
        self.now = now
        self.may_write = may_write

    def get_bind(self) -> sqlalchemy.Engine:
        """Return the engine."""
        return self._connection.engine

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement. Raises DBDataError for values that do not fit into their columns."""
        try:
            return self._connection.execute(statement, parameters)
        except oslo_db.exception.DBError as exc:
            # oslo.db knows those of MySQL by their numbers, and none of PostgreSQL.
            if isinstance(exc.inner_exception, sqlalchemy.exc.DataError):
                raise oslo_db.exception.DBDataError(exc.inner_exception) from exc
            raise

    def scalar(self, statement: Any, parameters: Any = None) -> Any:
        """Return the first column of the first row."""
        return self.execute(statement, parameters).scalar()

    def begin_nested(self) -> sqlalchemy.NestedTransaction:
        """Return a savepoint, a context manager."""
        return self._connection.begin_nested()

    def one(self, statement: Any, parameters: Any = None) -> dict[str, Any] | None:
        """Return the first row, None without any."""
        row = self.execute(statement, parameters).first()
        return row._asdict() if row is not None else None

    def all(self, statement: Any, parameters: Any = None) -> list[dict[str, Any]]:
        """Return the rows."""
        return [row._asdict() for row in self.execute(statement, parameters)]

    def insert_row(self, model: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Insert a row and return all of it; defaults and times are filled in. Unknown columns are refused."""
        row = self._full_row(model, values)
        result = self.execute(_insert_into(model.__table__), _without_empty_id(row))
        if row.get("id") is None and "id" in model.__table__.c:
            row["id"] = result.inserted_primary_key[0]
        return row

    def insert_rows(self, model: Any, rows: Iterable[dict[str, Any]]) -> None:
        """Insert several rows at once."""
        full = [_without_empty_id(self._full_row(model, values)) for values in rows]
        if full:
            self.execute(_insert_into(model.__table__), full)

    def _full_row(self, model: Any, values: dict[str, Any]) -> dict[str, Any]:
        columns = model.__table__.c
        unknown = values.keys() - columns.keys()
        if unknown:
            raise ValueError(f"table {model.__tablename__} has no column {', '.join(sorted(unknown))}")
        row = {column.name: column.default.arg if column.default is not None else None for column in columns}
        row["created_at"] = self.now
        row.update({name: naive(value) for name, value in values.items()})
        if "created_at" not in columns:
            del row["created_at"]
        return row

    def update_rows(self, model: Any, *where: Any, touch: bool = True, **values: Any) -> int:
        """Update the rows that match and return how many do; ``updated_at`` becomes now unless it is given."""
        if touch and "updated_at" in model.__table__.c:
            values.setdefault("updated_at", self.now)
        statement = sqlalchemy.update(model.__table__).where(*where)
        computed = {name: value for name, value in values.items() if isinstance(value, sqlalchemy.ClauseElement)}
        if computed:
            statement = statement.values(computed)
        # As parameters, since then the statement is compiled once for all values.
        plain = {name: naive(value) for name, value in values.items() if name not in computed}
        return self.execute(statement, plain or None).rowcount

    def soft_delete(self, model: Any, *where: Any) -> int:
        """Mark the live rows that match as deleted and return how many did."""
        table = model.__table__
        statement = sqlalchemy.update(table).where(table.c.deleted == 0, *where)
        return self.execute(statement.values(deleted=table.c.id, deleted_at=self.now, updated_at=table.c.updated_at)
                            ).rowcount


class Store:
    """Opens transactions. A method that is called inside one of the same thread joins it."""

    def __init__(self, conf: Any, clock: Any):
        self.conf = conf
        self.clock = clock
        self.engines = Engines(conf.database)
        self._open = threading.local()

    def now(self) -> datetime.datetime:
        """Return the time as rows have it: naive UTC."""
        return self.clock.utcnow().replace(tzinfo=None)

    def is_open(self) -> bool:
        """Return whether this thread is inside a transaction."""
        return getattr(self._open, "session", None) is not None

    @contextlib.contextmanager
    def reader(self, context: Any = None) -> Iterator[RowSession]:
        """Give a session for reading: the one that is open in this thread, else a new one."""
        session = getattr(self._open, "session", None)
        if session is not None:
            yield session
            return
        with self._transaction(self.engines.reader, may_write=False) as session:
            yield session

    @contextlib.contextmanager
    def writer(self, context: Any = None) -> Iterator[RowSession]:
        """Give a session for writing, committed at the end and rolled back on an exception.

        Joins the writing transaction of this thread. Inside a reading one it is a transaction of its own.
        """
        session = getattr(self._open, "session", None)
        if session is not None and session.may_write:
            yield session
            return
        with self.engines.writing() as engine, self._transaction(engine, may_write=True) as session:
            yield session

    @contextlib.contextmanager
    def _transaction(self, engine: sqlalchemy.Engine, *, may_write: bool) -> Iterator[RowSession]:
        outer = getattr(self._open, "session", None)
        with contextlib.closing(_connect(engine)) as connection:
            self._open.session = RowSession(connection, self.now(), may_write)
            try:
                yield self._open.session
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            finally:
                self._open.session = outer


def _connect(engine: sqlalchemy.Engine) -> sqlalchemy.Connection:
    """Begin at once. oslo.db leaves two failures of that as they are: a refused connection, and a locked file."""
    connection = None
    try:
        connection = engine.connect()
        connection.begin()
    except sqlalchemy.exc.OperationalError as exc:
        if connection is not None:
            connection.close()
        if "database is locked" in str(exc.orig):
            raise oslo_db.exception.DBDeadlock(exc.orig) from exc
        raise oslo_db.exception.DBConnectionError(exc.orig) from exc
    return connection


@functools.cache
def _insert_into(table: sqlalchemy.Table) -> sqlalchemy.Insert:
    """Return the statement, the same one each time, so that it is prepared once; values come as parameters."""
    return sqlalchemy.insert(table)


def naive(value: Any) -> Any:
    """Return a time as rows have it; anything else as it is."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def visible(model: Any, context: Any, read_deleted: str | None = None) -> tuple[Any, ...]:
    """Return the criteria that leave the rows this context sees: live, all, or only deleted ones."""
    wanted = read_deleted or (context.read_deleted if context is not None else "no")
    if wanted == "yes":
        return ()
    return _only(model, wanted == "no")


@functools.cache
def _only(model: Any, live: bool) -> tuple[Any, ...]:
    deleted = model.__table__.c.deleted
    return (deleted == 0,) if live else (deleted != 0,)


def own_project(model: Any, context: Any, allow_none: bool = False) -> tuple[Any, ...]:
    """Return the criteria that leave the rows of the context's project; an administrator sees all."""
    if context is None or context.is_admin or not context.project_id:
        return ()
    column = model.__table__.c.project_id
    if allow_none:
        return (sqlalchemy.or_(column == context.project_id, column.is_(None)),)
    return (column == context.project_id,)


def chunks(values: Iterable[Any], size: int = _IN_CHUNK) -> Iterator[list[Any]]:
    """Yield the values in lists that fit into one statement."""
    values = list(values)
    for start in range(0, len(values), size):
        yield values[start:start + size]


def _without_empty_id(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "id" or value is not None}
