"""What holds on SQLite holds on servers."""

from tests.unit.db.test_filters import *  # noqa: F403
