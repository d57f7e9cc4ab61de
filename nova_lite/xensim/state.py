"""Keeps the tables over a restart: rows are written behind to a SQLite file."""

import json
import sqlite3
import threading
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.vm_rules import PAUSED, RUNNING

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

FLUSH_INTERVAL_S = 0.25
RESET_FIELDS = ("current_operations", "allowed_operations")


class StateFile:
    """Rows of the lasting classes. A crash of the simulator loses the last quarter of a second at most."""

    def __init__(self, path: str, toolstack: "Toolstack"):
        self._path = path
        self._toolstack = toolstack
        self._db = toolstack.db
        self._dirty: dict[tuple[str, str], None] = {}
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xensim-state", daemon=True)
        self._is_stopping = False

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS objects (class TEXT, ref TEXT, body TEXT, PRIMARY KEY (class, ref))"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)")
        return connection

    def load(self) -> bool:
        """Fill the tables from the file; return whether there was anything. Expects the lock."""
        connection = self._connect()
        try:
            found = connection.execute("SELECT class, ref, body FROM objects ORDER BY rowid").fetchall()
            facts = dict(connection.execute("SELECT name, value FROM facts").fetchall())
        finally:
            connection.close()
        self._db.generation = max(self._db.generation, int(facts.get("generation", "0")) + 1000)
        for class_name, ref, body in found:
            described = self._db.schema.classes.get(class_name)
            if described:
                stored = json.loads(body)
                values = {name: stored.get(name, field.initial()) for name, field in described.fields.items()}
                self._db.insert(class_name, ref, values)
        if found:
            self._resume()
        return bool(found)

    def _resume(self) -> None:
        """Bring back what is not stored: the domains went on running while the toolstack was away."""
        for class_name in ("VM", "VDI", "VBD", "VIF", "SR", "host", "pool"):
            for row in self._db.rows(class_name):
                self._db.set(class_name, row.ref, **{field: type(row[field])() for field in RESET_FIELDS})
        if not self._db.tables["role"]:
            self._toolstack.roles.install()
        for vm in self._db.rows("VM"):
            if vm["power_state"] in (RUNNING, PAUSED) and vm["domid"] > 0:
                self._toolstack.guests.domain_started(vm.ref)
        self._toolstack.operations.refresh()

    def start(self) -> None:
        """Begin to follow changes. Expects the lock."""
        self._db.observers.append(self._note)
        for table in self._db.tables.values():
            for row in table.values():
                self._note("add", row)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _note(self, _kind: str, row: Row) -> None:
        if row.described.is_persistent:
            self._dirty[row.described.name, row.ref] = None
            self._wake.set()

    def _run(self) -> None:
        connection = self._connect()
        try:
            while not self._is_stopping:
                self._wake.wait()
                self._wake.clear()
                self._flush(connection)
                threading.Event().wait(0 if self._is_stopping else FLUSH_INTERVAL_S)
            self._flush(connection)
        finally:
            connection.close()

    def _flush(self, connection: sqlite3.Connection) -> None:
        with self._db.lock:
            dirty, self._dirty = self._dirty, {}
            rows = [
                (name, ref, row and json.dumps(row.values)) for name, ref in dirty for row in [self._db.find(name, ref)]
            ]
            generation = self._db.generation
        with connection:
            connection.executemany(
                "DELETE FROM objects WHERE class=? AND ref=?", [row[:2] for row in rows if not row[2]]
            )
            connection.executemany(
                "INSERT INTO objects VALUES (?, ?, ?) ON CONFLICT (class, ref) DO UPDATE SET body=excluded.body",
                [row for row in rows if row[2]],
            )
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('generation', ?)", (str(generation),))
