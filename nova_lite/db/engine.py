"""Connections to one database, the same to their users whatever the database is.

* SQLite: WAL, so that readers never wait; a writer takes the write lock when it begins (a deferred transaction that
  reads and then writes loses to others at once); writers of one process queue up at a lock of their own, because
  SQLite's waiting blocks every green thread. Readers have an engine of their own, which begins deferred.
* MariaDB, PostgreSQL: one engine; READ COMMITTED on both, rows that are read to be changed are locked.
"""

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy.engine import make_url

from nova_lite import exception

# Readers and writers of one process; more wait for a connection.
_SQLITE_POOL_SIZE = 10
_SQLITE_MAX_OVERFLOW = 50


class _FileLock:
    """The lock all writers of one process on one SQLite file share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: Any) -> None:
        self._lock.release()


# Several cells' daemons in one process may share a file, and the lock has to be the same for all of them. Entries
# live as long as a database uses them.
_file_locks: weakref.WeakValueDictionary[str, _FileLock] = weakref.WeakValueDictionary()
_file_locks_guard = threading.Lock()


def file_lock(path: str) -> _FileLock:
    """Return this process's lock for writers of a SQLite file."""
    key = os.path.realpath(path)
    with _file_locks_guard:
        lock = _file_locks.get(key)
        if lock is None:
            lock = _file_locks[key] = _FileLock()
        return lock


class Engines:
    """The engines of one database, made when first used.

    Raises ConfigurationError for a URL that cannot be used; DBConnectionError when the server does not answer.
    """

    def __init__(self, options: Any):
        self._options = options
        self._guard = threading.Lock()
        self._writer: sqlalchemy.Engine | None = None
        self._reader: sqlalchemy.Engine | None = None
        try:
            self.url = make_url(options.connection)
        except sqlalchemy.exc.ArgumentError as exc:
            raise exception.ConfigurationError(reason="[database] connection is not a database URL") from exc
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._write_lock = file_lock(self._sqlite_path()) if self.is_sqlite else contextlib.nullcontext()

    def _sqlite_path(self) -> str:
        if not self.url.database or self.url.database == ":memory:":
            raise exception.ConfigurationError(reason="[database] connection: SQLite needs a file: sqlite:////PATH")
        return self.url.database

    @property
    def writer(self) -> sqlalchemy.Engine:
        """The engine whose transactions may write."""
        with self._guard:
            if self._writer is None:
                self._writer = self._make(immediate=True)
            return self._writer

    @property
    def reader(self) -> sqlalchemy.Engine:
        """The engine whose transactions only read."""
        if not self.is_sqlite:
            return self.writer
        with self._guard:
            if self._reader is None:
                self._reader = self._make(immediate=False)
            return self._reader

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlalchemy.Engine]:
        """Give the writer's engine, while no other writer of this process uses a SQLite file."""
        with self._write_lock:
            yield self.writer

    def share_statements(self, others: "Engines") -> None:
        """Use the statements that the engines of another database of this kind have compiled, and give ours."""
        for ours, theirs in ((self.writer, others.writer), (self.reader, others.reader)):
            ours.dialect, ours._compiled_cache = theirs.dialect, theirs._compiled_cache

    def dispose(self) -> None:
        """Close every connection."""
        with self._guard:
            for engine in (self._writer, self._reader):
                if engine is not None:
                    engine.dispose()
            self._writer = self._reader = None

    def _make(self, *, immediate: bool) -> sqlalchemy.Engine:
        if self.is_sqlite:
            return _sqlite_engine(self.url, self._options, "BEGIN IMMEDIATE" if immediate else "BEGIN")
        try:
            return _server_engine(self.url, self._options)
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as exc:
            raise exception.ConfigurationError(
                reason=f"[database] connection: no driver for {self.url.drivername}; "
                "there are mysql+pymysql and postgresql+psycopg2") from exc


def _sqlite_engine(url: sqlalchemy.URL, options: Any, begin: str) -> sqlalchemy.Engine:
    # oslo.db opens and closes a connection per transaction, and closing the last one empties the WAL: 10 times slower.
    engine = sqlalchemy.create_engine(
        url, poolclass=sqlalchemy.pool.QueuePool, pool_size=_SQLITE_POOL_SIZE, max_overflow=_SQLITE_MAX_OVERFLOW,
        echo=options.connection_debug >= 50, hide_parameters=True, connect_args={"check_same_thread": False})
    exc_filters.register_engine(engine)

    @sqlalchemy.event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions are begun here, not guessed by the driver
        connection.execute(f"PRAGMA busy_timeout = {options.sqlite_busy_timeout * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin_as_wanted(connection: sqlalchemy.Connection) -> None:
        # By the driver itself: SQLAlchemy's way to run a statement takes longer than most transactions here.
        try:
            connection.connection.dbapi_connection.execute(begin)  # type: ignore[union-attr]
        except sqlite3.OperationalError as exc:
            raise sqlalchemy.exc.OperationalError(begin, None, exc) from exc

    return engine


def _server_engine(url: sqlalchemy.URL, options: Any) -> sqlalchemy.Engine:
    # As oslo.db makes them, whose module for it brings SQLAlchemy's ORM: 15 MB that nothing here needs.
    is_mysql = url.get_backend_name() in ("mysql", "mariadb")
    if is_mysql and "charset" not in url.query:
        url = url.update_query_dict({"charset": "utf8mb4"})
    wanted = {"pool_size": options.max_pool_size, "max_overflow": options.max_overflow,
              "pool_timeout": options.pool_timeout}
    engine = sqlalchemy.create_engine(
        url, pool_recycle=options.connection_recycle_time, pool_pre_ping=True,
        echo="debug" if options.connection_debug == 100 else options.connection_debug >= 50,
        hide_parameters=True,  # what is written may be a password; the library's texts would quote it
        **{name: value for name, value in wanted.items() if value is not None})
    exc_filters.register_engine(engine)
    if is_mysql:
        _set_up_mysql(engine, options.mysql_sql_mode)
    return engine


def _set_up_mysql(engine: sqlalchemy.Engine, sql_mode: str | None) -> None:
    @sqlalchemy.event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 20")
            if sql_mode is not None:
                cursor.execute("SET SESSION sql_mode = %s", [sql_mode])
