"""What holds on SQLite holds on servers."""

from tests.unit.db.test_instances import *  # noqa: F403
