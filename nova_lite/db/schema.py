"""The schema's versions, kept by alembic; imported only by who needs it."""

import os
import threading
from typing import Any

from alembic import command
from alembic.config import Config

MIGRATIONS_PATH = os.path.join(os.path.dirname(__file__), "migrations")

# alembic keeps the migration that runs in module variables.
_one_at_a_time = threading.Lock()


def config(connection: Any = None) -> Config:
    """Return alembic's configuration for a connection."""
    settings = Config()
    settings.set_main_option("script_location", MIGRATIONS_PATH)
    settings.attributes["connection"] = connection
    return settings


def upgrade(store: Any, version: str | None = None) -> None:
    """Bring the schema of a database to a version, the newest by default."""
    with _one_at_a_time, store.engines.writing() as engine, engine.begin() as connection:
        command.upgrade(config(connection), version or "head")
