"""What holds on SQLite holds on servers."""

from tests.unit.db.test_accounts import *  # noqa: F403
