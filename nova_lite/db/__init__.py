"""The database of one cell: SQLite, MariaDB or PostgreSQL, behind ``nova_lite.db.api.Database``."""
