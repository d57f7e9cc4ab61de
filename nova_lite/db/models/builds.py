"""Builds that were ordered, until a cell has told of their instances."""

from sqlalchemy import Column, Integer

from nova_lite.db.models.base import Base, BigId, LongText, Moment


class BuildOrder(Base):
    __tablename__ = "build_orders"
    __table_args__ = {"sqlite_autoincrement": True, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4",
                      "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"}

    id = Column(BigId, primary_key=True, autoincrement=True)
    instance_uuids = Column(LongText, nullable=False)
    payload = Column(LongText, nullable=False)
    created_at = Column(Moment, nullable=False)
    attempts = Column(Integer, default=0, nullable=False)
    not_before = Column(Moment, nullable=False, index=True)
