"""The version of the schema that this release works with. Not in schema.py, because that imports alembic."""

from typing import Any

import oslo_db.exception
import sqlalchemy

# The newest of migrations/versions.
CURRENT = "003"

_STORED = sqlalchemy.table("alembic_version", sqlalchemy.column("version_num"))


def stored(store: Any) -> str | None:
    """Return the version of the schema of a database, None for an empty one. Raises DBConnectionError."""
    try:
        with store.reader() as session:
            return session.execute(sqlalchemy.select(_STORED.c.version_num)).scalar()
    except oslo_db.exception.DBNonExistentTable:
        return None
