"""Services, hosts, neighbouring cells."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, UniqueConstraint

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, LongText, Moment, Row


class Service(Row, Base):
    __tablename__ = "services"
    constraints = (
        UniqueConstraint("host", "binary", "deleted", name="uniq_services0host0binary0deleted"),
        UniqueConstraint("host", "topic", "deleted", name="uniq_services0host0topic0deleted"),
    )

    id = columns.row_id()
    uuid = columns.uuid(unique=True)
    host = columns.short_text()
    binary = columns.short_text()
    topic = columns.short_text()
    report_count = Column(Integer, default=0, nullable=False)
    disabled = columns.flag()
    disabled_reason = columns.short_text()
    last_seen_up = Column(Moment)
    forced_down = columns.flag()
    version = Column(Integer, default=0)


class ComputeNode(Row, Base):
    __tablename__ = "compute_nodes"
    constraints = (UniqueConstraint("host", "hypervisor_hostname", "deleted",
                                    name="uniq_compute_nodes0host0hypervisor_hostname0deleted"),)

    id = columns.row_id()
    uuid = columns.uuid(unique=True)
    service_id = Column(Integer, ForeignKey("services.id"))
    host = columns.short_text(nullable=False)
    host_ip = Column(String(39))
    vcpus = Column(Integer, nullable=False, default=0)
    memory_mb = Column(Integer, nullable=False, default=0)
    local_gb = Column(Integer, nullable=False, default=0)
    vcpus_used = Column(Integer, nullable=False, default=0)
    memory_mb_used = Column(Integer, nullable=False, default=0)
    local_gb_used = Column(Integer, nullable=False, default=0)
    hypervisor_type = Column(LongText, nullable=False, default="")
    hypervisor_version = Column(Integer, nullable=False, default=0)
    hypervisor_hostname = columns.short_text()
    free_ram_mb = Column(Integer)
    free_disk_gb = Column(Integer)
    current_workload = Column(Integer)
    running_vms = Column(Integer)
    cpu_info = Column(LongText)
    disk_available_least = Column(Integer)
    metrics = Column(LongText)
    stats = Column(LongText)
    supported_instances = Column(LongText)
    cpu_allocation_ratio = Column(Float)
    ram_allocation_ratio = Column(Float)
    disk_allocation_ratio = Column(Float)


class Migration(Row, Base):
    __tablename__ = "migrations"
    constraints = (
        Index("migrations_deleted_hosts_status_idx", "deleted", "source_compute", "dest_compute", "status"),
        Index("migrations_deleted_instance_uuid_status_idx", "deleted", "instance_uuid", "status"),
        Index("migrations_source_compute_status_idx", "source_compute", "status"),
        Index("migrations_dest_compute_status_idx", "dest_compute", "status"),
    )

    id = columns.row_id()
    uuid = columns.uuid(unique=True)
    source_compute = columns.short_text()
    dest_compute = columns.short_text()
    source_node = columns.short_text()
    dest_node = columns.short_text()
    dest_host = columns.short_text()
    old_instance_type_id = Column(Integer)
    new_instance_type_id = Column(Integer)
    instance_uuid = columns.instance_uuid()
    status = columns.short_text()
    migration_type = columns.short_text(nullable=False)
    hidden = columns.flag()
    memory_total = Column(BigInteger)
    memory_processed = Column(BigInteger)
    memory_remaining = Column(BigInteger)
    disk_total = Column(BigInteger)
    disk_processed = Column(BigInteger)
    disk_remaining = Column(BigInteger)


class Cell(Row, Base):
    __tablename__ = "cells"
    constraints = (UniqueConstraint("name", "deleted", name="uniq_cells0name0deleted"),)

    id = columns.row_id()
    name = columns.short_text(nullable=False)
    api_url = columns.short_text()
    transport_url = Column(LongText, nullable=False)
    weight_offset = Column(Float, default=0.0)
    weight_scale = Column(Float, default=1.0)
    is_parent = columns.flag()
    enabled = columns.flag(True)
    draining = columns.flag()
    shared_key = Column(LongText)


class Aggregate(Row, Base):
    __tablename__ = "aggregates"

    id = columns.row_id()
    name = columns.short_text()


class AggregateHost(Row, Base):
    __tablename__ = "aggregate_hosts"
    constraints = (UniqueConstraint("host", "aggregate_id", "deleted",
                                    name="uniq_aggregate_hosts0host0aggregate_id0deleted"),)

    id = columns.row_id()
    host = columns.short_text()
    aggregate_id = Column(Integer, ForeignKey("aggregates.id"), nullable=False)


class AggregateMetadata(Row, Base):
    __tablename__ = "aggregate_metadata"
    constraints = (UniqueConstraint("aggregate_id", "key", "deleted",
                                    name="uniq_aggregate_metadata0aggregate_id0key0deleted"),)

    id = columns.row_id()
    key = columns.short_text(nullable=False, index=True)
    value = columns.short_text(nullable=False)
    aggregate_id = Column(Integer, ForeignKey("aggregates.id"), nullable=False)


class AgentBuild(Row, Base):
    __tablename__ = "agent_builds"
    constraints = (
        UniqueConstraint("hypervisor", "os", "architecture", "deleted",
                         name="uniq_agent_builds0hypervisor0os0architecture0deleted"),)

    id = columns.row_id()
    hypervisor = Column(String(64))
    os = Column(String(64))
    architecture = Column(String(64))
    version = columns.short_text()
    url = columns.short_text()
    md5hash = columns.short_text()
