"""What all tables have."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import declarative_base, declared_attr

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "uniq_%(table_name)s0%(column_0_N_name)s",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "pk": "pk_%(table_name)s",
}

Base = declarative_base(metadata=MetaData(naming_convention=NAMING))

# MariaDB: 64 KB of TEXT are too few for user data and tracebacks, and DATETIME has no fractions by itself.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
Moment = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Row:
    """The columns of every table."""

    @declared_attr
    def __table_args__(cls):
        # Without AUTOINCREMENT SQLite gives the id of a purged last row again, and ids must never come back.
        return (*getattr(cls, "constraints", ()), {"sqlite_autoincrement": True, "mysql_engine": "InnoDB",
                                                   "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB",
                                                   "mariadb_charset": "utf8mb4"})

    created_at = Column(Moment)
    updated_at = Column(Moment)
    deleted_at = Column(Moment)
    deleted = Column(Integer, default=0, server_default="0", nullable=False)
