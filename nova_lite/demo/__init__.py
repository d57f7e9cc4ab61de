"""A whole tree of cells in one process, on the embedded default: SQLite, the memory transport, the simulator."""
