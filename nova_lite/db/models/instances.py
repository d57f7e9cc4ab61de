"""Instances, and what belongs to one."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, UniqueConstraint

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, BigId, LongText, Moment, Row


class Instance(Row, Base):
    __tablename__ = "instances"
    constraints = (
        UniqueConstraint("uuid", name="uniq_instances0uuid"),
        Index("instances_host_deleted_idx", "host", "deleted"),
        Index("instances_host_node_deleted_idx", "host", "node", "deleted"),
        Index("instances_uuid_deleted_idx", "uuid", "deleted"),
        Index("instances_task_state_updated_at_idx", "task_state", "updated_at"),
        Index("instances_terminated_at_launched_at_idx", "terminated_at", "launched_at"),
        Index("instances_updated_at_id_idx", "updated_at", "id"),
        Index("instances_updated_at_created_at_idx", "updated_at", "created_at"),
        Index("instances_deleted_created_at_id_idx", "deleted", "created_at", "id"),
        Index("instances_project_id_deleted_created_at_id_idx", "project_id", "deleted", "created_at", "id"),
        Index("instances_host_deleted_created_at_id_idx", "host", "deleted", "created_at", "id"),
        Index("instances_host_cleaned_idx", "host", "cleaned"),
    )

    id = columns.row_id()
    uuid = columns.uuid(nullable=False)
    user_id = columns.short_text()
    project_id = columns.short_text(index=True)
    image_ref = columns.short_text()
    kernel_id = columns.short_text()
    ramdisk_id = columns.short_text()
    hostname = columns.short_text()
    launch_index = Column(Integer)
    key_name = columns.short_text()
    key_data = Column(LongText)
    power_state = Column(Integer)
    vm_state = columns.short_text()
    task_state = columns.short_text()
    memory_mb = Column(Integer)
    vcpus = Column(Integer)
    root_gb = Column(Integer)
    ephemeral_gb = Column(Integer)
    ephemeral_key_uuid = columns.uuid()
    host = columns.short_text()
    node = columns.short_text()
    instance_type_id = Column(Integer)
    user_data = Column(LongText)
    reservation_id = columns.short_text(index=True)
    scheduled_at = Column(Moment)
    launched_at = Column(Moment)
    terminated_at = Column(Moment)
    availability_zone = columns.short_text()
    display_name = columns.short_text()
    display_description = columns.short_text()
    launched_on = Column(LongText)
    locked = columns.flag()
    locked_by = columns.short_text()
    os_type = columns.short_text()
    architecture = columns.short_text()
    vm_mode = columns.short_text()
    root_device_name = columns.short_text()
    default_ephemeral_device = columns.short_text()
    default_swap_device = columns.short_text()
    config_drive = columns.short_text()
    access_ip_v4 = Column(String(39))
    access_ip_v6 = Column(String(39))
    auto_disk_config = columns.flag()
    progress = Column(Integer)
    shutdown_terminate = columns.flag()
    disable_terminate = columns.flag()
    cell_name = columns.short_text()
    cleaned = Column(Integer, default=0, nullable=False)
    revision = Column(BigInteger, default=0, nullable=False)
    replicated_revision = Column(BigInteger)


class InstanceExtra(Row, Base):
    __tablename__ = "instance_extra"

    id = columns.row_id()
    instance_uuid = columns.instance_uuid(nullable=False, unique=True)
    flavor = Column(LongText)
    pci_requests = Column(LongText)
    numa_topology = Column(LongText)
    vcpu_model = Column(LongText)
    migration_context = Column(LongText)


class InstanceMetadata(Row, Base):
    __tablename__ = "instance_metadata"

    id = columns.row_id()
    key = columns.short_text()
    value = columns.short_text()
    instance_uuid = columns.instance_uuid(index=True)


class InstanceSystemMetadata(Row, Base):
    __tablename__ = "instance_system_metadata"

    id = columns.row_id()
    key = columns.short_text()
    value = columns.short_text()
    instance_uuid = columns.instance_uuid(nullable=False, index=True)


class InstanceInfoCache(Row, Base):
    __tablename__ = "instance_info_caches"

    id = columns.row_id()
    network_info = Column(LongText)
    instance_uuid = columns.instance_uuid(nullable=False, unique=True)


class InstanceFault(Row, Base):
    __tablename__ = "instance_faults"
    constraints = (Index("instance_faults_instance_uuid_deleted_created_at_idx", "instance_uuid", "deleted",
                         "created_at"),)

    id = columns.row_id()
    instance_uuid = columns.instance_uuid(nullable=False)
    code = Column(Integer, nullable=False)
    message = columns.short_text()
    details = Column(LongText)
    host = columns.short_text()


class InstanceAction(Row, Base):
    __tablename__ = "instance_actions"

    id = columns.row_id()
    action = columns.short_text()
    instance_uuid = columns.instance_uuid(nullable=False, index=True)
    request_id = columns.short_text(index=True)
    user_id = columns.short_text()
    project_id = columns.short_text()
    start_time = Column(Moment)
    finish_time = Column(Moment)
    message = columns.short_text()


class InstanceActionEvent(Row, Base):
    __tablename__ = "instance_actions_events"

    id = columns.row_id()
    event = columns.short_text()
    action_id = Column(Integer, ForeignKey("instance_actions.id"), nullable=False, index=True)
    start_time = Column(Moment)
    finish_time = Column(Moment)
    result = columns.short_text()
    traceback = Column(LongText)
    host = columns.short_text()
    details = Column(LongText)


class BlockDeviceMapping(Row, Base):
    __tablename__ = "block_device_mapping"
    constraints = (
        Index("block_device_mapping_instance_uuid_device_name_idx", "instance_uuid", "device_name"),
        Index("block_device_mapping_instance_uuid_volume_id_idx", "instance_uuid", "volume_id"),
    )

    id = columns.row_id()
    uuid = columns.uuid(unique=True)
    instance_uuid = columns.instance_uuid(nullable=False, index=True)
    source_type = columns.short_text()
    destination_type = columns.short_text()
    guest_format = columns.short_text()
    device_type = columns.short_text()
    disk_bus = columns.short_text()
    boot_index = Column(Integer)
    device_name = columns.short_text()
    delete_on_termination = columns.flag()
    snapshot_id = columns.uuid(index=True)
    volume_id = columns.uuid(index=True)
    volume_size = Column(Integer)
    image_id = columns.uuid()
    no_device = columns.flag()
    connection_info = Column(LongText)


class Tombstone(Base):
    __tablename__ = "tombstones"
    __table_args__ = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB",
                      "mariadb_charset": "utf8mb4"}

    uuid = columns.uuid(primary_key=True)
    deleted_at = Column(Moment, nullable=False, index=True)
    revision = Column(BigInteger)


class Outbox(Base):
    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_instance_uuid_id_idx", "instance_uuid", "id"),
        {"sqlite_autoincrement": True, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4",
         "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"})

    id = Column(BigId, primary_key=True, autoincrement=True)
    instance_uuid = columns.uuid()
    kind = Column(String(64), nullable=False)
    method = Column(String(64), nullable=False)
    payload = Column(LongText, nullable=False)
    revision = Column(BigInteger)
    created_at = Column(Moment)
    attempts = Column(Integer, default=0, nullable=False)
    not_before = Column(Moment)
