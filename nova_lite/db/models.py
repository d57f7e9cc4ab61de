"""Tables of a cell's database (compute specification §8.2, widened by seams §5).

Every table has ``created_at, updated_at, deleted_at`` (naive UTC) and ``deleted``: 0, or the row's own id once it is
soft-deleted. A change here needs a migration; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
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


def _id():
    return Column(Integer, primary_key=True, autoincrement=True)


def _text(**kwargs):
    return Column(String(255), **kwargs)


def _uuid(**kwargs):
    return Column(String(36), **kwargs)


def _instance_uuid(**kwargs):
    return Column(String(36), ForeignKey("instances.uuid"), **kwargs)


def _flag(default=False):
    return Column(Boolean, default=default, nullable=False)


def _count():
    return Column(BigInteger, default=0)


# --- instances -----------------------------------------------------------------------------------------------------

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
    )

    id = _id()
    uuid = _uuid(nullable=False)
    user_id = _text()
    project_id = _text(index=True)
    image_ref = _text()
    kernel_id = _text()
    ramdisk_id = _text()
    hostname = _text()
    launch_index = Column(Integer)
    key_name = _text()
    key_data = Column(LongText)
    power_state = Column(Integer)
    vm_state = _text()
    task_state = _text()
    memory_mb = Column(Integer)
    vcpus = Column(Integer)
    root_gb = Column(Integer)
    ephemeral_gb = Column(Integer)
    ephemeral_key_uuid = _uuid()
    host = _text()
    node = _text()
    instance_type_id = Column(Integer)
    user_data = Column(LongText)
    reservation_id = _text(index=True)
    scheduled_at = Column(Moment)
    launched_at = Column(Moment)
    terminated_at = Column(Moment)
    availability_zone = _text()
    display_name = _text()
    display_description = _text()
    launched_on = Column(LongText)
    locked = _flag()
    locked_by = _text()
    os_type = _text()
    architecture = _text()
    vm_mode = _text()
    root_device_name = _text()
    default_ephemeral_device = _text()
    default_swap_device = _text()
    config_drive = _text()
    access_ip_v4 = Column(String(39))
    access_ip_v6 = Column(String(39))
    auto_disk_config = _flag()
    progress = Column(Integer)
    shutdown_terminate = _flag()
    disable_terminate = _flag()
    cell_name = _text()
    cleaned = Column(Integer, default=0, nullable=False)
    revision = Column(BigInteger, default=0, nullable=False)
    replicated_revision = Column(BigInteger)


class InstanceExtra(Row, Base):
    __tablename__ = "instance_extra"

    id = _id()
    instance_uuid = _instance_uuid(nullable=False, unique=True)
    flavor = Column(LongText)
    pci_requests = Column(LongText)
    numa_topology = Column(LongText)
    vcpu_model = Column(LongText)
    migration_context = Column(LongText)


class InstanceMetadata(Row, Base):
    __tablename__ = "instance_metadata"

    id = _id()
    key = _text()
    value = _text()
    instance_uuid = _instance_uuid(index=True)


class InstanceSystemMetadata(Row, Base):
    __tablename__ = "instance_system_metadata"

    id = _id()
    key = _text()
    value = _text()
    instance_uuid = _instance_uuid(nullable=False, index=True)


class InstanceInfoCache(Row, Base):
    __tablename__ = "instance_info_caches"

    id = _id()
    network_info = Column(LongText)
    instance_uuid = _instance_uuid(nullable=False, unique=True)


class InstanceFault(Row, Base):
    __tablename__ = "instance_faults"
    constraints = (Index("instance_faults_instance_uuid_deleted_created_at_idx", "instance_uuid", "deleted",
                         "created_at"),)

    id = _id()
    instance_uuid = _instance_uuid(nullable=False)
    code = Column(Integer, nullable=False)
    message = _text()
    details = Column(LongText)
    host = _text()


class InstanceAction(Row, Base):
    __tablename__ = "instance_actions"

    id = _id()
    action = _text()
    instance_uuid = _instance_uuid(nullable=False, index=True)
    request_id = _text(index=True)
    user_id = _text()
    project_id = _text()
    start_time = Column(Moment)
    finish_time = Column(Moment)
    message = _text()


class InstanceActionEvent(Row, Base):
    __tablename__ = "instance_actions_events"

    id = _id()
    event = _text()
    action_id = Column(Integer, ForeignKey("instance_actions.id"), nullable=False, index=True)
    start_time = Column(Moment)
    finish_time = Column(Moment)
    result = _text()
    traceback = Column(LongText)
    host = _text()
    details = Column(LongText)


class BlockDeviceMapping(Row, Base):
    __tablename__ = "block_device_mapping"
    constraints = (
        Index("block_device_mapping_instance_uuid_device_name_idx", "instance_uuid", "device_name"),
        Index("block_device_mapping_instance_uuid_volume_id_idx", "instance_uuid", "volume_id"),
    )

    id = _id()
    uuid = _uuid(unique=True)
    instance_uuid = _instance_uuid(nullable=False, index=True)
    source_type = _text()
    destination_type = _text()
    guest_format = _text()
    device_type = _text()
    disk_bus = _text()
    boot_index = Column(Integer)
    device_name = _text()
    delete_on_termination = _flag()
    snapshot_id = _uuid(index=True)
    volume_id = _uuid(index=True)
    volume_size = Column(Integer)
    image_id = _uuid()
    no_device = _flag()
    connection_info = Column(LongText)


class Tombstone(Base):
    __tablename__ = "tombstones"
    __table_args__ = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB",
                      "mariadb_charset": "utf8mb4"}

    uuid = _uuid(primary_key=True)
    deleted_at = Column(Moment, nullable=False, index=True)
    revision = Column(BigInteger)


class Outbox(Base):
    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_instance_uuid_id_idx", "instance_uuid", "id"),
        {"sqlite_autoincrement": True, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4",
         "mariadb_engine": "InnoDB", "mariadb_charset": "utf8mb4"})

    id = Column(BigId, primary_key=True, autoincrement=True)
    instance_uuid = _uuid()
    kind = Column(String(64), nullable=False)
    method = Column(String(64), nullable=False)
    payload = Column(LongText, nullable=False)
    revision = Column(BigInteger)
    created_at = Column(Moment)
    attempts = Column(Integer, default=0, nullable=False)
    not_before = Column(Moment)


# --- services and hosts ----------------------------------------------------------------------------------------------

class Service(Row, Base):
    __tablename__ = "services"
    constraints = (
        UniqueConstraint("host", "binary", "deleted", name="uniq_services0host0binary0deleted"),
        UniqueConstraint("host", "topic", "deleted", name="uniq_services0host0topic0deleted"),
    )

    id = _id()
    uuid = _uuid(unique=True)
    host = _text()
    binary = _text()
    topic = _text()
    report_count = Column(Integer, default=0, nullable=False)
    disabled = _flag()
    disabled_reason = _text()
    last_seen_up = Column(Moment)
    forced_down = _flag()
    version = Column(Integer, default=0)


class ComputeNode(Row, Base):
    __tablename__ = "compute_nodes"
    constraints = (UniqueConstraint("host", "hypervisor_hostname", "deleted",
                                    name="uniq_compute_nodes0host0hypervisor_hostname0deleted"),)

    id = _id()
    uuid = _uuid(unique=True)
    service_id = Column(Integer, ForeignKey("services.id"))
    host = _text(nullable=False)
    host_ip = Column(String(39))
    vcpus = Column(Integer, nullable=False, default=0)
    memory_mb = Column(Integer, nullable=False, default=0)
    local_gb = Column(Integer, nullable=False, default=0)
    vcpus_used = Column(Integer, nullable=False, default=0)
    memory_mb_used = Column(Integer, nullable=False, default=0)
    local_gb_used = Column(Integer, nullable=False, default=0)
    hypervisor_type = Column(LongText, nullable=False, default="")
    hypervisor_version = Column(Integer, nullable=False, default=0)
    hypervisor_hostname = _text()
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
    )

    id = _id()
    uuid = _uuid(unique=True)
    source_compute = _text()
    dest_compute = _text()
    source_node = _text()
    dest_node = _text()
    dest_host = _text()
    old_instance_type_id = Column(Integer)
    new_instance_type_id = Column(Integer)
    instance_uuid = _instance_uuid()
    status = _text()
    migration_type = _text(nullable=False)
    hidden = _flag()
    memory_total = Column(BigInteger)
    memory_processed = Column(BigInteger)
    memory_remaining = Column(BigInteger)
    disk_total = Column(BigInteger)
    disk_processed = Column(BigInteger)
    disk_remaining = Column(BigInteger)


class Cell(Row, Base):
    __tablename__ = "cells"
    constraints = (UniqueConstraint("name", "deleted", name="uniq_cells0name0deleted"),)

    id = _id()
    name = _text(nullable=False)
    api_url = _text()
    transport_url = Column(LongText, nullable=False)
    weight_offset = Column(Float, default=0.0)
    weight_scale = Column(Float, default=1.0)
    is_parent = _flag()
    enabled = _flag(True)
    draining = _flag()
    shared_key = Column(LongText)


class Aggregate(Row, Base):
    __tablename__ = "aggregates"

    id = _id()
    name = _text()


class AggregateHost(Row, Base):
    __tablename__ = "aggregate_hosts"
    constraints = (UniqueConstraint("host", "aggregate_id", "deleted",
                                    name="uniq_aggregate_hosts0host0aggregate_id0deleted"),)

    id = _id()
    host = _text()
    aggregate_id = Column(Integer, ForeignKey("aggregates.id"), nullable=False)


class AggregateMetadata(Row, Base):
    __tablename__ = "aggregate_metadata"
    constraints = (UniqueConstraint("aggregate_id", "key", "deleted",
                                    name="uniq_aggregate_metadata0aggregate_id0key0deleted"),)

    id = _id()
    key = _text(nullable=False, index=True)
    value = _text(nullable=False)
    aggregate_id = Column(Integer, ForeignKey("aggregates.id"), nullable=False)


class AgentBuild(Row, Base):
    __tablename__ = "agent_builds"
    constraints = (
        UniqueConstraint("hypervisor", "os", "architecture", "deleted",
                         name="uniq_agent_builds0hypervisor0os0architecture0deleted"),)

    id = _id()
    hypervisor = Column(String(64))
    os = Column(String(64))
    architecture = Column(String(64))
    version = _text()
    url = _text()
    md5hash = _text()


# --- flavors and keys ------------------------------------------------------------------------------------------------

class InstanceType(Row, Base):
    __tablename__ = "instance_types"
    constraints = (
        UniqueConstraint("name", "deleted", name="uniq_instance_types0name0deleted"),
        UniqueConstraint("flavorid", "deleted", name="uniq_instance_types0flavorid0deleted"),
    )

    id = _id()
    name = _text()
    memory_mb = Column(Integer, nullable=False)
    vcpus = Column(Integer, nullable=False)
    root_gb = Column(Integer)
    ephemeral_gb = Column(Integer)
    flavorid = _text()
    swap = Column(Integer, nullable=False, default=0)
    rxtx_factor = Column(Float, nullable=False, default=1.0)
    vcpu_weight = Column(Integer)
    disabled = _flag()
    is_public = _flag(True)


class InstanceTypeExtraSpec(Row, Base):
    __tablename__ = "instance_type_extra_specs"
    constraints = (UniqueConstraint("instance_type_id", "key", "deleted",
                                    name="uniq_instance_type_extra_specs0instance_type_id0key0deleted"),)

    id = _id()
    key = _text()
    value = _text()
    instance_type_id = Column(Integer, ForeignKey("instance_types.id"), nullable=False)


class InstanceTypeProject(Row, Base):
    __tablename__ = "instance_type_projects"
    constraints = (UniqueConstraint("instance_type_id", "project_id", "deleted",
                                    name="uniq_instance_type_projects0instance_type_id0project_id0deleted"),)

    id = _id()
    instance_type_id = Column(Integer, ForeignKey("instance_types.id"), nullable=False)
    project_id = _text()


class KeyPair(Row, Base):
    __tablename__ = "key_pairs"
    constraints = (UniqueConstraint("user_id", "name", "deleted", name="uniq_key_pairs0user_id0name0deleted"),)

    id = _id()
    name = _text()
    user_id = _text()
    fingerprint = _text()
    public_key = Column(LongText)
    type = _text(nullable=False, default="ssh", server_default="ssh")


# --- accounting ------------------------------------------------------------------------------------------------------

class TaskLog(Row, Base):
    __tablename__ = "task_log"
    constraints = (
        UniqueConstraint("task_name", "host", "period_beginning", "period_ending",
                         name="uniq_task_log0task_name0host0period_beginning0period_ending"),
        Index("task_log_host_idx", "host"),
        Index("task_log_period_beginning_idx", "period_beginning"),
        Index("task_log_period_ending_idx", "period_ending"),
    )

    id = _id()
    task_name = _text(nullable=False)
    state = _text(nullable=False)
    host = _text(nullable=False)
    period_beginning = Column(Moment, nullable=False)
    period_ending = Column(Moment, nullable=False)
    message = _text(nullable=False)
    task_items = Column(Integer, default=0)
    errors = Column(Integer, default=0)


class BandwidthUsage(Row, Base):
    __tablename__ = "bw_usage_cache"
    constraints = (
        UniqueConstraint("uuid", "mac", "start_period", name="uniq_bw_usage_cache0uuid0mac0start_period"),
        Index("bw_usage_cache_uuid_start_period_idx", "uuid", "start_period"),
    )

    id = _id()
    uuid = _uuid(nullable=False)
    mac = _text(nullable=False)
    start_period = Column(Moment, nullable=False)
    last_refreshed = Column(Moment)
    bw_in = Column(BigInteger)
    bw_out = Column(BigInteger)
    last_ctr_in = Column(BigInteger)
    last_ctr_out = Column(BigInteger)


class VolumeUsage(Row, Base):
    __tablename__ = "volume_usage_cache"
    constraints = (UniqueConstraint("volume_id", "deleted", name="uniq_volume_usage_cache0volume_id0deleted"),)

    id = _id()
    volume_id = _uuid(nullable=False)
    instance_id = _uuid()
    project_id = _text()
    user_id = _text()
    availability_zone = _text()
    tot_last_refreshed = Column(Moment)
    tot_reads = _count()
    tot_read_bytes = _count()
    tot_writes = _count()
    tot_write_bytes = _count()
    curr_last_refreshed = Column(Moment)
    curr_reads = _count()
    curr_read_bytes = _count()
    curr_writes = _count()
    curr_write_bytes = _count()


class Quota(Row, Base):
    __tablename__ = "quotas"
    constraints = (UniqueConstraint("project_id", "resource", "deleted",
                                    name="uniq_quotas0project_id0resource0deleted"),)

    id = _id()
    project_id = _text()
    resource = _text(nullable=False)
    hard_limit = Column(Integer)


class QuotaUsage(Row, Base):
    __tablename__ = "quota_usages"
    constraints = (UniqueConstraint("project_id", "resource", "deleted",
                                    name="uniq_quota_usages0project_id0resource0deleted"),)

    id = _id()
    project_id = _text()
    resource = _text(nullable=False)
    in_use = Column(Integer, nullable=False, default=0)
    reserved = Column(Integer, nullable=False, default=0)
    until_refresh = Column(Integer)


class Reservation(Row, Base):
    __tablename__ = "reservations"

    id = _id()
    uuid = _uuid(nullable=False, index=True)
    usage_id = Column(Integer, ForeignKey("quota_usages.id"), nullable=False)
    project_id = _text(index=True)
    resource = _text()
    delta = Column(Integer, nullable=False)
    expire = Column(Moment, nullable=False, index=True)


# --- networks --------------------------------------------------------------------------------------------------------

class Network(Row, Base):
    __tablename__ = "networks"
    constraints = (
        UniqueConstraint("cidr", "deleted", name="uniq_networks0cidr0deleted"),
        UniqueConstraint("cidr_v6", "deleted", name="uniq_networks0cidr_v60deleted"),
        UniqueConstraint("vlan", "deleted", name="uniq_networks0vlan0deleted"),
        UniqueConstraint("vpn_public_address", "vpn_public_port", "deleted",
                         name="uniq_networks0vpn_public_address0vpn_public_port0deleted"),
    )

    id = _id()
    uuid = _uuid(unique=True)
    label = _text()
    injected = _flag()
    cidr = Column(String(43))
    cidr_v6 = Column(String(43))
    multi_host = _flag()
    gateway_v6 = Column(String(39))
    netmask_v6 = Column(String(39))
    netmask = Column(String(39))
    bridge = _text()
    bridge_interface = _text()
    gateway = Column(String(39))
    broadcast = Column(String(39))
    dns1 = Column(String(39))
    dns2 = Column(String(39))
    vlan = Column(Integer)
    vpn_public_address = Column(String(39))
    vpn_public_port = Column(Integer)
    vpn_private_address = Column(String(39))
    dhcp_start = Column(String(39))
    rxtx_base = Column(Integer)
    project_id = _text(index=True)
    priority = Column(Integer)
    host = _text()


class VirtualInterface(Row, Base):
    __tablename__ = "virtual_interfaces"
    constraints = (UniqueConstraint("address", "deleted", name="uniq_virtual_interfaces0address0deleted"),)

    id = _id()
    address = _text(nullable=False)
    network_id = Column(Integer, ForeignKey("networks.id"), nullable=False, index=True)
    instance_uuid = _uuid(nullable=False, index=True)
    uuid = _uuid(nullable=False, unique=True)


class FixedIp(Row, Base):
    __tablename__ = "fixed_ips"
    constraints = (
        UniqueConstraint("network_id", "address", "deleted", name="uniq_fixed_ips0network_id0address0deleted"),
        Index("fixed_ips_host_idx", "host"),
        Index("fixed_ips_network_id_host_deleted_idx", "network_id", "host", "deleted"),
        Index("fixed_ips_address_reserved_network_id_deleted_idx", "address", "reserved", "network_id", "deleted"),
        Index("fixed_ips_address_deleted_allocated_idx", "address", "deleted", "allocated"),
    )

    id = _id()
    address = Column(String(39), nullable=False)
    network_id = Column(Integer, ForeignKey("networks.id"), nullable=False)
    virtual_interface_id = Column(Integer, ForeignKey("virtual_interfaces.id"), index=True)
    instance_uuid = _uuid(index=True)
    allocated = _flag()
    leased = _flag()
    reserved = _flag()
    host = _text()


class SecurityGroup(Row, Base):
    __tablename__ = "security_groups"
    constraints = (UniqueConstraint("project_id", "name", "deleted",
                                    name="uniq_security_groups0project_id0name0deleted"),)

    id = _id()
    name = _text()
    description = _text()
    user_id = _text()
    project_id = _text()


class SecurityGroupInstanceAssociation(Row, Base):
    __tablename__ = "security_group_instance_association"

    id = _id()
    security_group_id = Column(Integer, ForeignKey("security_groups.id"), nullable=False, index=True)
    instance_uuid = _instance_uuid(nullable=False, index=True)


class SecurityGroupRule(Row, Base):
    __tablename__ = "security_group_rules"

    id = _id()
    parent_group_id = Column(Integer, ForeignKey("security_groups.id"), nullable=False, index=True)
    protocol = Column(String(5))
    from_port = Column(Integer)
    to_port = Column(Integer)
    cidr = Column(String(43))
    group_id = Column(Integer, ForeignKey("security_groups.id"), index=True)


class ProviderFirewallRule(Row, Base):
    __tablename__ = "provider_fw_rules"

    id = _id()
    protocol = Column(String(5))
    from_port = Column(Integer)
    to_port = Column(Integer)
    cidr = Column(String(43))


# --- consoles --------------------------------------------------------------------------------------------------------

class ConsoleAuthToken(Row, Base):
    __tablename__ = "console_auth_tokens"

    id = _id()
    token_hash = _text(nullable=False, unique=True)
    console_type = _text(nullable=False)
    host = _text(nullable=False)
    port = Column(Integer, nullable=False)
    internal_access_path = Column(LongText)
    instance_uuid = _uuid(nullable=False, index=True)
    access_url = Column(LongText)
    expires = Column(Integer, nullable=False, index=True)
