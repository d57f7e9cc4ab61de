"""Usage, quotas, reservations."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, UniqueConstraint

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, Moment, Row


class TaskLog(Row, Base):
    __tablename__ = "task_log"
    constraints = (
        UniqueConstraint("task_name", "host", "period_beginning", "period_ending",
                         name="uniq_task_log0task_name0host0period_beginning0period_ending"),
        Index("task_log_host_idx", "host"),
        Index("task_log_period_beginning_idx", "period_beginning"),
        Index("task_log_period_ending_idx", "period_ending"),
    )

    id = columns.row_id()
    task_name = columns.short_text(nullable=False)
    state = columns.short_text(nullable=False)
    host = columns.short_text(nullable=False)
    period_beginning = Column(Moment, nullable=False)
    period_ending = Column(Moment, nullable=False)
    message = columns.short_text(nullable=False)
    task_items = Column(Integer, default=0)
    errors = Column(Integer, default=0)


class BandwidthUsage(Row, Base):
    __tablename__ = "bw_usage_cache"
    constraints = (
        UniqueConstraint("uuid", "mac", "start_period", name="uniq_bw_usage_cache0uuid0mac0start_period"),
        Index("bw_usage_cache_uuid_start_period_idx", "uuid", "start_period"),
    )

    id = columns.row_id()
    uuid = columns.uuid(nullable=False)
    mac = columns.short_text(nullable=False)
    start_period = Column(Moment, nullable=False)
    last_refreshed = Column(Moment)
    bw_in = Column(BigInteger)
    bw_out = Column(BigInteger)
    last_ctr_in = Column(BigInteger)
    last_ctr_out = Column(BigInteger)


class VolumeUsage(Row, Base):
    __tablename__ = "volume_usage_cache"
    constraints = (UniqueConstraint("volume_id", "deleted", name="uniq_volume_usage_cache0volume_id0deleted"),)

    id = columns.row_id()
    volume_id = columns.uuid(nullable=False)
    instance_id = columns.uuid()
    project_id = columns.short_text()
    user_id = columns.short_text()
    availability_zone = columns.short_text()
    tot_last_refreshed = Column(Moment)
    tot_reads = columns.count()
    tot_read_bytes = columns.count()
    tot_writes = columns.count()
    tot_write_bytes = columns.count()
    curr_last_refreshed = Column(Moment)
    curr_reads = columns.count()
    curr_read_bytes = columns.count()
    curr_writes = columns.count()
    curr_write_bytes = columns.count()


class Quota(Row, Base):
    __tablename__ = "quotas"
    constraints = (UniqueConstraint("project_id", "resource", "deleted",
                                    name="uniq_quotas0project_id0resource0deleted"),)

    id = columns.row_id()
    project_id = columns.short_text()
    resource = columns.short_text(nullable=False)
    hard_limit = Column(Integer)


class QuotaUsage(Row, Base):
    __tablename__ = "quota_usages"
    constraints = (UniqueConstraint("project_id", "resource", "deleted",
                                    name="uniq_quota_usages0project_id0resource0deleted"),)

    id = columns.row_id()
    project_id = columns.short_text()
    resource = columns.short_text(nullable=False)
    in_use = Column(Integer, nullable=False, default=0)
    reserved = Column(Integer, nullable=False, default=0)
    until_refresh = Column(Integer)


class Reservation(Row, Base):
    __tablename__ = "reservations"

    id = columns.row_id()
    uuid = columns.uuid(nullable=False, index=True)
    usage_id = Column(Integer, ForeignKey("quota_usages.id"), nullable=False)
    project_id = columns.short_text(index=True)
    resource = columns.short_text()
    delta = Column(Integer, nullable=False)
    expire = Column(Moment, nullable=False, index=True)
