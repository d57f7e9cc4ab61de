"""What holds on SQLite holds on servers."""

from tests.unit.db.test_cells import *  # noqa: F403
