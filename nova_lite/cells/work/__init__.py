"""The work of every cell operation, by subject. Importing the package fills the table."""

from nova_lite.cells.work import at_top, generic, instances, neighbours, queries, replication  # noqa: F401
