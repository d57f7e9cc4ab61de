"""The version of the schema that this release works with. Not in schema.py, because that imports alembic."""

from typing import Any

import sqlalchemy

# The newest of migrations/versions.
CURRENT = "003"

_STORED = sqlalchemy.table("alembic_version", sqlalchemy.column("version_num"))


def stored(store: Any) -> str | None:
    """Return the version of the schema of a database, None for an empty one. Raises DBConnectionError."""
    with store.reader() as session:
        # Asked for, because each kind of database has an error of its own for a table that is missing.
        if not sqlalchemy.inspect(session.get_bind()).has_table(_STORED.name):
            return None
        return session.scalar(sqlalchemy.select(_STORED.c.version_num))
