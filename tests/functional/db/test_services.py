"""What holds on SQLite holds on servers."""

from tests.unit.db.test_services import *  # noqa: F403
