"""What holds on SQLite holds on servers."""

from tests.unit.db.test_block_devices import *  # noqa: F403
