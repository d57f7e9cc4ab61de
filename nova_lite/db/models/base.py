"""What all tables have."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects import mysql

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "uniq_%(table_name)s0%(column_0_N_name)s",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "pk": "pk_%(table_name)s",
}


class Base:
    """A table, written down as a class: its columns, and after them those that a Row has.

    ``__table__`` is all that is made of it. Nothing is mapped, so the ORM, with a tenth of the time that a daemon takes
    to start and more of its memory, is never imported.
    """

    metadata = MetaData(naming_convention=NAMING)
    __tablename__: str
    __table__: Table

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        columns = {name: value for name, value in vars(cls).items() if isinstance(value, Column)}
        if issubclass(cls, Row):
            columns.update(_columns_of_rows())
        for name, column in columns.items():
            column.name = column.key = name
            setattr(cls, name, column)
        *constraints, options = _arguments(cls)
        cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns.values(), *constraints, **options)


def _arguments(cls: Any) -> tuple[Any, ...]:
    """Return the constraints of a table, and its options as the last."""
    if issubclass(cls, Row):
        return (*cls.constraints, cls.options)
    found = cls.__table_args__
    return (found,) if isinstance(found, dict) else found


# MariaDB: 64 KB of TEXT are too few for user data and tracebacks, and DATETIME has no fractions by itself.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
Moment = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Row:
    """A table like nearly all: with the times of its rows, and with rows that are deleted softly."""

    constraints: tuple[Any, ...] = ()
    # Without AUTOINCREMENT SQLite gives the id of a purged last row again, and ids must never come back.
    options = {"sqlite_autoincrement": True, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4",
               "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"}


def _columns_of_rows() -> dict[str, Column]:
    return {"created_at": Column(Moment), "updated_at": Column(Moment), "deleted_at": Column(Moment),
            "deleted": Column(Integer, default=0, server_default="0", nullable=False)}
