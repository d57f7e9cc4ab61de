"""What holds on SQLite holds on servers."""

from tests.unit.db.test_outbox import *  # noqa: F403
