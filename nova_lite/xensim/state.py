"""Keeps the tables over a restart: what a call changed is in a SQLite file before the call is answered."""

import json
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.model import NULL
from nova_lite.xensim.recovery import Recovery
from nova_lite.xensim.vm_rules import PAUSED, RUNNING

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

FLUSH_INTERVAL_S = 0.25
TABLES = """
CREATE TABLE IF NOT EXISTS objects (class TEXT, ref TEXT, body TEXT, PRIMARY KEY (class, ref));
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS images (uuid TEXT PRIMARY KEY);
"""


class StateFile:
    """Rows of the lasting classes, their lasting fields.

    The end of the process, however sudden, loses nothing that was answered; a power cut of the machine may lose the
    latest changes, not the file. What changes without a call (guests, the collector) is written soon after.
    """

    def __init__(self, path: str, toolstack: "Toolstack"):
        self._path = path
        self._toolstack = toolstack
        self._db = toolstack.db
        self._dirty: dict[tuple[str, str], None] = {}
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xensim-state", daemon=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(TABLES)
        self._is_stopping = False

    def load(self) -> bool:
        """Fill the tables from the file; return whether there was anything. Expects the lock."""
        found = self._connection.execute("SELECT class, ref, body FROM objects ORDER BY rowid").fetchall()
        facts = dict(self._connection.execute("SELECT name, value FROM facts").fetchall())
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
        known = {uuid for (uuid,) in self._connection.execute("SELECT uuid FROM images")}
        Recovery(self._toolstack).run(known)
        if not self._db.tables["role"]:
            self._toolstack.roles.install()
        for vm in self._db.rows("VM"):
            self._db.set("VM", vm.ref, scheduled_to_be_resident_on=NULL)
            if vm["power_state"] in (RUNNING, PAUSED):
                self._toolstack.power.refresh_metrics(vm)
                if vm["domid"] > 0:
                    self._toolstack.guests.domain_started(vm.ref)
        self._toolstack.hosts.refresh_free_memory()
        for class_name, table in self._db.tables.items():
            if "allowed_operations" in self._db.schema.classes[class_name].fields:
                for row in table.values():
                    self._db.touch(row)
        self._toolstack.operations.refresh()

    def start(self) -> None:
        """Begin to follow changes. Expects the lock."""
        self._db.observers.append(self._note)
        self._db.flush = self.flush
        for table in self._db.tables.values():
            for row in table.values():
                self._note("add", row)
        self.flush()
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)
        with self._db.lock:
            self.flush()
            self._connection.close()

    def _note(self, _kind: str, row: Row) -> None:
        if row.described.is_persistent:
            self._dirty[row.described.name, row.ref] = None
            self._wake.set()

    def _run(self) -> None:
        """Write what nobody else has written."""
        while not self._is_stopping:
            self._wake.wait()
            self._wake.clear()
            threading.Event().wait(0 if self._is_stopping else FLUSH_INTERVAL_S)
            with self._db.lock:
                if not self._is_stopping:
                    self.flush()

    def flush(self) -> None:
        """Write every row that changed, all or none. Expects the lock."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        gone, kept, images = [], [], []
        for class_name, ref in dirty:
            row = self._db.find(class_name, ref)
            if row is None:
                gone.append((class_name, ref))
                continue
            kept.append((class_name, ref, json.dumps(lasting(row))))
            if class_name == "VDI":
                images.append((row["uuid"],))
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("DELETE FROM objects WHERE class=? AND ref=?", gone)
        self._connection.executemany(
            "INSERT INTO objects VALUES (?, ?, ?) ON CONFLICT (class, ref) DO UPDATE SET body=excluded.body", kept
        )
        self._connection.executemany("INSERT OR IGNORE INTO images VALUES (?)", images)
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('generation', ?)", (str(self._db.generation),))
        self._connection.execute("COMMIT")


def lasting(row: Row) -> dict[str, Any]:
    """Return the fields that outlive the toolstack, as xapi's database keeps them."""
    return {name: row.values[name] for name, field in row.described.fields.items() if field.is_persistent}
