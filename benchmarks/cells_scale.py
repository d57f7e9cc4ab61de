"""How many builds a tree of many cells places in a second of real time, and what memory that takes.

All cells run in this process and in moved time, with the real managers, schedulers, outboxes and SQLite databases;
hosts only keep count. Beside it the raw reference: as many transactions as a build has to have at the least (its row
below and its row at the top, each made and made active), by a plain connection to such a database.

    python -m benchmarks.cells_scale [--cells 100] [--hosts 100] [--builds 2000] [--seed 1]
"""

import argparse
import logging
import sqlite3
import tempfile
import time
import uuid
from pathlib import Path

from nova_lite import concurrency

concurrency.setup("threading")

from nova_lite.simulate.forest import Forest  # noqa: E402

_WRITES_A_BUILD = 4


def raw_builds_per_s(directory: Path, count: int) -> float:
    """Return how many builds a second the bare writes would allow."""
    connection = sqlite3.connect(directory / "raw.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE instances (id INTEGER PRIMARY KEY, uuid TEXT UNIQUE, vm_state TEXT)")
    start_s = time.process_time()
    for _ in range(count * _WRITES_A_BUILD // 2):
        name = str(uuid.uuid4())
        connection.execute("INSERT INTO instances (uuid, vm_state) VALUES (?, 'building')", (name,))
        connection.execute("UPDATE instances SET vm_state = 'active' WHERE uuid = ?", (name,))
    return count / (time.process_time() - start_s)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=100, help="of each cell without children")
    parser.add_argument("--builds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        raw = raw_builds_per_s(directory, options.builds)
        forest = Forest(options.cells, options.hosts, options.seed, directory)
        try:
            begun_s = time.process_time()
            result = forest.play(options.builds)
            cpu_s = time.process_time() - begun_s
        finally:
            forest.close()
    print(f"{result.cells} cells, {result.hosts} hosts, {result.builds} builds: {result.active} active, "
          f"{result.failed} failed, all agree: {result.converged}")
    print(f"placed per second        {result.placed_per_s:8.1f}   (target: 200)")
    print(f"per second of processor  {result.builds / cpu_s:8.1f}   start-up and settling included")
    print(f"raw: the bare writes     {raw:8.1f}   per second of processor")
    print(f"memory                   {result.memory_mb:8.1f} MB (target: 1024)")


if __name__ == "__main__":
    main()
