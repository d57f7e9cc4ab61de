"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "001"
down_revision = None


MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLE_OPTIONS = {
    "mariadb_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_engine": "InnoDB",
    "sqlite_autoincrement": True,
}


def audit_columns():
    return (
        sa.Column("created_at", MOMENT, nullable=True),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.Column("deleted", sa.Integer(), server_default="0", nullable=False),
    )


def upgrade():
    op.create_table(
        "agent_builds",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("hypervisor", sa.String(length=64), nullable=True),
        sa.Column("os", sa.String(length=64), nullable=True),
        sa.Column("architecture", sa.String(length=64), nullable=True),
        sa.Column("version", sa.String(length=255), nullable=True),
        sa.Column("url", sa.String(length=255), nullable=True),
        sa.Column("md5hash", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_builds")),
        sa.UniqueConstraint(
            "hypervisor", "os", "architecture", "deleted", name="uniq_agent_builds0hypervisor0os0architecture0deleted"
        ),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "aggregates",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aggregates")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "bw_usage_cache",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("mac", sa.String(length=255), nullable=False),
        sa.Column("start_period", MOMENT, nullable=False),
        sa.Column("last_refreshed", MOMENT, nullable=True),
        sa.Column("bw_in", sa.BigInteger(), nullable=True),
        sa.Column("bw_out", sa.BigInteger(), nullable=True),
        sa.Column("last_ctr_in", sa.BigInteger(), nullable=True),
        sa.Column("last_ctr_out", sa.BigInteger(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bw_usage_cache")),
        sa.UniqueConstraint("uuid", "mac", "start_period", name="uniq_bw_usage_cache0uuid0mac0start_period"),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("bw_usage_cache", schema=None) as batch_op:
        batch_op.create_index("bw_usage_cache_uuid_start_period_idx", ["uuid", "start_period"], unique=False)

    op.create_table(
        "cells",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("api_url", sa.String(length=255), nullable=True),
        sa.Column("transport_url", LONG_TEXT, nullable=False),
        sa.Column("weight_offset", sa.Float(), nullable=True),
        sa.Column("weight_scale", sa.Float(), nullable=True),
        sa.Column("is_parent", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("shared_key", LONG_TEXT, nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cells")),
        sa.UniqueConstraint("name", "deleted", name="uniq_cells0name0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "console_auth_tokens",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("token_hash", sa.String(length=255), nullable=False),
        sa.Column("console_type", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("internal_access_path", LONG_TEXT, nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("access_url", LONG_TEXT, nullable=True),
        sa.Column("expires", sa.Integer(), nullable=False),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_console_auth_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uniq_console_auth_tokens0token_hash")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("console_auth_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("console_auth_tokens_expires_idx"), ["expires"], unique=False)
        batch_op.create_index(batch_op.f("console_auth_tokens_instance_uuid_idx"), ["instance_uuid"], unique=False)

    op.create_table(
        "instance_types",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("root_gb", sa.Integer(), nullable=True),
        sa.Column("ephemeral_gb", sa.Integer(), nullable=True),
        sa.Column("flavorid", sa.String(length=255), nullable=True),
        sa.Column("swap", sa.Integer(), nullable=False),
        sa.Column("rxtx_factor", sa.Float(), nullable=False),
        sa.Column("vcpu_weight", sa.Integer(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_types")),
        sa.UniqueConstraint("flavorid", "deleted", name="uniq_instance_types0flavorid0deleted"),
        sa.UniqueConstraint("name", "deleted", name="uniq_instance_types0name0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "instances",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("image_ref", sa.String(length=255), nullable=True),
        sa.Column("kernel_id", sa.String(length=255), nullable=True),
        sa.Column("ramdisk_id", sa.String(length=255), nullable=True),
        sa.Column("hostname", sa.String(length=255), nullable=True),
        sa.Column("launch_index", sa.Integer(), nullable=True),
        sa.Column("key_name", sa.String(length=255), nullable=True),
        sa.Column("key_data", LONG_TEXT, nullable=True),
        sa.Column("power_state", sa.Integer(), nullable=True),
        sa.Column("vm_state", sa.String(length=255), nullable=True),
        sa.Column("task_state", sa.String(length=255), nullable=True),
        sa.Column("memory_mb", sa.Integer(), nullable=True),
        sa.Column("vcpus", sa.Integer(), nullable=True),
        sa.Column("root_gb", sa.Integer(), nullable=True),
        sa.Column("ephemeral_gb", sa.Integer(), nullable=True),
        sa.Column("ephemeral_key_uuid", sa.String(length=36), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("instance_type_id", sa.Integer(), nullable=True),
        sa.Column("user_data", LONG_TEXT, nullable=True),
        sa.Column("reservation_id", sa.String(length=255), nullable=True),
        sa.Column("scheduled_at", MOMENT, nullable=True),
        sa.Column("launched_at", MOMENT, nullable=True),
        sa.Column("terminated_at", MOMENT, nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("display_name", sa.String(length=255), nullable=True),
        sa.Column("display_description", sa.String(length=255), nullable=True),
        sa.Column("launched_on", LONG_TEXT, nullable=True),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("locked_by", sa.String(length=255), nullable=True),
        sa.Column("os_type", sa.String(length=255), nullable=True),
        sa.Column("architecture", sa.String(length=255), nullable=True),
        sa.Column("vm_mode", sa.String(length=255), nullable=True),
        sa.Column("root_device_name", sa.String(length=255), nullable=True),
        sa.Column("default_ephemeral_device", sa.String(length=255), nullable=True),
        sa.Column("default_swap_device", sa.String(length=255), nullable=True),
        sa.Column("config_drive", sa.String(length=255), nullable=True),
        sa.Column("access_ip_v4", sa.String(length=39), nullable=True),
        sa.Column("access_ip_v6", sa.String(length=39), nullable=True),
        sa.Column("auto_disk_config", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=True),
        sa.Column("shutdown_terminate", sa.Boolean(), nullable=False),
        sa.Column("disable_terminate", sa.Boolean(), nullable=False),
        sa.Column("cell_name", sa.String(length=255), nullable=True),
        sa.Column("cleaned", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("replicated_revision", sa.BigInteger(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("uuid", name="uniq_instances0uuid"),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.create_index("instances_host_deleted_idx", ["host", "deleted"], unique=False)
        batch_op.create_index("instances_host_node_deleted_idx", ["host", "node", "deleted"], unique=False)
        batch_op.create_index(batch_op.f("instances_project_id_idx"), ["project_id"], unique=False)
        batch_op.create_index(batch_op.f("instances_reservation_id_idx"), ["reservation_id"], unique=False)
        batch_op.create_index("instances_task_state_updated_at_idx", ["task_state", "updated_at"], unique=False)
        batch_op.create_index("instances_terminated_at_launched_at_idx", ["terminated_at", "launched_at"], unique=False)
        batch_op.create_index("instances_updated_at_id_idx", ["updated_at", "id"], unique=False)
        batch_op.create_index("instances_uuid_deleted_idx", ["uuid", "deleted"], unique=False)

    op.create_table(
        "key_pairs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=255), nullable=True),
        sa.Column("public_key", LONG_TEXT, nullable=True),
        sa.Column("type", sa.String(length=255), server_default="ssh", nullable=False),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_pairs")),
        sa.UniqueConstraint("user_id", "name", "deleted", name="uniq_key_pairs0user_id0name0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "networks",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("injected", sa.Boolean(), nullable=False),
        sa.Column("cidr", sa.String(length=43), nullable=True),
        sa.Column("cidr_v6", sa.String(length=43), nullable=True),
        sa.Column("multi_host", sa.Boolean(), nullable=False),
        sa.Column("gateway_v6", sa.String(length=39), nullable=True),
        sa.Column("netmask_v6", sa.String(length=39), nullable=True),
        sa.Column("netmask", sa.String(length=39), nullable=True),
        sa.Column("bridge", sa.String(length=255), nullable=True),
        sa.Column("bridge_interface", sa.String(length=255), nullable=True),
        sa.Column("gateway", sa.String(length=39), nullable=True),
        sa.Column("broadcast", sa.String(length=39), nullable=True),
        sa.Column("dns1", sa.String(length=39), nullable=True),
        sa.Column("dns2", sa.String(length=39), nullable=True),
        sa.Column("vlan", sa.Integer(), nullable=True),
        sa.Column("vpn_public_address", sa.String(length=39), nullable=True),
        sa.Column("vpn_public_port", sa.Integer(), nullable=True),
        sa.Column("vpn_private_address", sa.String(length=39), nullable=True),
        sa.Column("dhcp_start", sa.String(length=39), nullable=True),
        sa.Column("rxtx_base", sa.Integer(), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("cidr", "deleted", name="uniq_networks0cidr0deleted"),
        sa.UniqueConstraint("cidr_v6", "deleted", name="uniq_networks0cidr_v60deleted"),
        sa.UniqueConstraint("uuid", name=op.f("uniq_networks0uuid")),
        sa.UniqueConstraint("vlan", "deleted", name="uniq_networks0vlan0deleted"),
        sa.UniqueConstraint(
            "vpn_public_address",
            "vpn_public_port",
            "deleted",
            name="uniq_networks0vpn_public_address0vpn_public_port0deleted",
        ),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("networks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("networks_project_id_idx"), ["project_id"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", BIG_ID, autoincrement=True, nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("payload", LONG_TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("outbox_instance_uuid_id_idx", ["instance_uuid", "id"], unique=False)

    op.create_table(
        "provider_fw_rules",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("protocol", sa.String(length=5), nullable=True),
        sa.Column("from_port", sa.Integer(), nullable=True),
        sa.Column("to_port", sa.Integer(), nullable=True),
        sa.Column("cidr", sa.String(length=43), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_fw_rules")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "quota_usages",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("in_use", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("until_refresh", sa.Integer(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_usages")),
        sa.UniqueConstraint("project_id", "resource", "deleted", name="uniq_quota_usages0project_id0resource0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "quotas",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("hard_limit", sa.Integer(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotas")),
        sa.UniqueConstraint("project_id", "resource", "deleted", name="uniq_quotas0project_id0resource0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "security_groups",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("project_id", "name", "deleted", name="uniq_security_groups0project_id0name0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "services",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("binary", sa.String(length=255), nullable=True),
        sa.Column("topic", sa.String(length=255), nullable=True),
        sa.Column("report_count", sa.Integer(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=255), nullable=True),
        sa.Column("last_seen_up", MOMENT, nullable=True),
        sa.Column("forced_down", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
        sa.UniqueConstraint("host", "binary", "deleted", name="uniq_services0host0binary0deleted"),
        sa.UniqueConstraint("host", "topic", "deleted", name="uniq_services0host0topic0deleted"),
        sa.UniqueConstraint("uuid", name=op.f("uniq_services0uuid")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "task_log",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("task_name", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("period_beginning", MOMENT, nullable=False),
        sa.Column("period_ending", MOMENT, nullable=False),
        sa.Column("message", sa.String(length=255), nullable=False),
        sa.Column("task_items", sa.Integer(), nullable=True),
        sa.Column("errors", sa.Integer(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_log")),
        sa.UniqueConstraint(
            "task_name",
            "host",
            "period_beginning",
            "period_ending",
            name="uniq_task_log0task_name0host0period_beginning0period_ending",
        ),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("task_log", schema=None) as batch_op:
        batch_op.create_index("task_log_host_idx", ["host"], unique=False)
        batch_op.create_index("task_log_period_beginning_idx", ["period_beginning"], unique=False)
        batch_op.create_index("task_log_period_ending_idx", ["period_ending"], unique=False)

    op.create_table(
        "tombstones",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_tombstones")),
        **{**TABLE_OPTIONS, "sqlite_autoincrement": False},
    )
    with op.batch_alter_table("tombstones", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("tombstones_deleted_at_idx"), ["deleted_at"], unique=False)

    op.create_table(
        "volume_usage_cache",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("instance_id", sa.String(length=36), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("tot_last_refreshed", MOMENT, nullable=True),
        sa.Column("tot_reads", sa.BigInteger(), nullable=True),
        sa.Column("tot_read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("tot_writes", sa.BigInteger(), nullable=True),
        sa.Column("tot_write_bytes", sa.BigInteger(), nullable=True),
        sa.Column("curr_last_refreshed", MOMENT, nullable=True),
        sa.Column("curr_reads", sa.BigInteger(), nullable=True),
        sa.Column("curr_read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("curr_writes", sa.BigInteger(), nullable=True),
        sa.Column("curr_write_bytes", sa.BigInteger(), nullable=True),
        *audit_columns(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_usage_cache")),
        sa.UniqueConstraint("volume_id", "deleted", name="uniq_volume_usage_cache0volume_id0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "aggregate_hosts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("aggregate_id", sa.Integer(), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(["aggregate_id"], ["aggregates.id"], name=op.f("aggregate_hosts_aggregate_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aggregate_hosts")),
        sa.UniqueConstraint("host", "aggregate_id", "deleted", name="uniq_aggregate_hosts0host0aggregate_id0deleted"),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "aggregate_metadata",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("aggregate_id", sa.Integer(), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(["aggregate_id"], ["aggregates.id"], name=op.f("aggregate_metadata_aggregate_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aggregate_metadata")),
        sa.UniqueConstraint("aggregate_id", "key", "deleted", name="uniq_aggregate_metadata0aggregate_id0key0deleted"),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("aggregate_metadata", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("aggregate_metadata_key_idx"), ["key"], unique=False)

    op.create_table(
        "block_device_mapping",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("source_type", sa.String(length=255), nullable=True),
        sa.Column("destination_type", sa.String(length=255), nullable=True),
        sa.Column("guest_format", sa.String(length=255), nullable=True),
        sa.Column("device_type", sa.String(length=255), nullable=True),
        sa.Column("disk_bus", sa.String(length=255), nullable=True),
        sa.Column("boot_index", sa.Integer(), nullable=True),
        sa.Column("device_name", sa.String(length=255), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("snapshot_id", sa.String(length=36), nullable=True),
        sa.Column("volume_id", sa.String(length=36), nullable=True),
        sa.Column("volume_size", sa.Integer(), nullable=True),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("no_device", sa.Boolean(), nullable=False),
        sa.Column("connection_info", LONG_TEXT, nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("block_device_mapping_instance_uuid_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block_device_mapping")),
        sa.UniqueConstraint("uuid", name=op.f("uniq_block_device_mapping0uuid")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("block_device_mapping", schema=None) as batch_op:
        batch_op.create_index(
            "block_device_mapping_instance_uuid_device_name_idx", ["instance_uuid", "device_name"], unique=False
        )
        batch_op.create_index(batch_op.f("block_device_mapping_instance_uuid_idx"), ["instance_uuid"], unique=False)
        batch_op.create_index(
            "block_device_mapping_instance_uuid_volume_id_idx", ["instance_uuid", "volume_id"], unique=False
        )
        batch_op.create_index(batch_op.f("block_device_mapping_snapshot_id_idx"), ["snapshot_id"], unique=False)
        batch_op.create_index(batch_op.f("block_device_mapping_volume_id_idx"), ["volume_id"], unique=False)

    op.create_table(
        "compute_nodes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("service_id", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("host_ip", sa.String(length=39), nullable=True),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("local_gb", sa.Integer(), nullable=False),
        sa.Column("vcpus_used", sa.Integer(), nullable=False),
        sa.Column("memory_mb_used", sa.Integer(), nullable=False),
        sa.Column("local_gb_used", sa.Integer(), nullable=False),
        sa.Column("hypervisor_type", LONG_TEXT, nullable=False),
        sa.Column("hypervisor_version", sa.Integer(), nullable=False),
        sa.Column("hypervisor_hostname", sa.String(length=255), nullable=True),
        sa.Column("free_ram_mb", sa.Integer(), nullable=True),
        sa.Column("free_disk_gb", sa.Integer(), nullable=True),
        sa.Column("current_workload", sa.Integer(), nullable=True),
        sa.Column("running_vms", sa.Integer(), nullable=True),
        sa.Column("cpu_info", LONG_TEXT, nullable=True),
        sa.Column("disk_available_least", sa.Integer(), nullable=True),
        sa.Column("metrics", LONG_TEXT, nullable=True),
        sa.Column("stats", LONG_TEXT, nullable=True),
        sa.Column("supported_instances", LONG_TEXT, nullable=True),
        sa.Column("cpu_allocation_ratio", sa.Float(), nullable=True),
        sa.Column("ram_allocation_ratio", sa.Float(), nullable=True),
        sa.Column("disk_allocation_ratio", sa.Float(), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("compute_nodes_service_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_nodes")),
        sa.UniqueConstraint(
            "host", "hypervisor_hostname", "deleted", name="uniq_compute_nodes0host0hypervisor_hostname0deleted"
        ),
        sa.UniqueConstraint("uuid", name=op.f("uniq_compute_nodes0uuid")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "instance_actions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("action", sa.String(length=255), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("start_time", MOMENT, nullable=True),
        sa.Column("finish_time", MOMENT, nullable=True),
        sa.Column("message", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("instance_actions_instance_uuid_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_actions")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instance_actions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("instance_actions_instance_uuid_idx"), ["instance_uuid"], unique=False)
        batch_op.create_index(batch_op.f("instance_actions_request_id_idx"), ["request_id"], unique=False)

    op.create_table(
        "instance_extra",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("flavor", LONG_TEXT, nullable=True),
        sa.Column("pci_requests", LONG_TEXT, nullable=True),
        sa.Column("numa_topology", LONG_TEXT, nullable=True),
        sa.Column("vcpu_model", LONG_TEXT, nullable=True),
        sa.Column("migration_context", LONG_TEXT, nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["instance_uuid"], ["instances.uuid"], name=op.f("instance_extra_instance_uuid_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_extra")),
        sa.UniqueConstraint("instance_uuid", name=op.f("uniq_instance_extra0instance_uuid")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "instance_faults",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(length=255), nullable=True),
        sa.Column("details", LONG_TEXT, nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["instance_uuid"], ["instances.uuid"], name=op.f("instance_faults_instance_uuid_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_faults")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instance_faults", schema=None) as batch_op:
        batch_op.create_index(
            "instance_faults_instance_uuid_deleted_created_at_idx",
            ["instance_uuid", "deleted", "created_at"],
            unique=False,
        )

    op.create_table(
        "instance_info_caches",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("network_info", LONG_TEXT, nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("instance_info_caches_instance_uuid_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_info_caches")),
        sa.UniqueConstraint("instance_uuid", name=op.f("uniq_instance_info_caches0instance_uuid")),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "instance_metadata",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("value", sa.String(length=255), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("instance_metadata_instance_uuid_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_metadata")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instance_metadata", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("instance_metadata_instance_uuid_idx"), ["instance_uuid"], unique=False)

    op.create_table(
        "instance_system_metadata",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("value", sa.String(length=255), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("instance_system_metadata_instance_uuid_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_system_metadata")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instance_system_metadata", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("instance_system_metadata_instance_uuid_idx"), ["instance_uuid"], unique=False)

    op.create_table(
        "instance_type_extra_specs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("value", sa.String(length=255), nullable=True),
        sa.Column("instance_type_id", sa.Integer(), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_type_id"], ["instance_types.id"], name=op.f("instance_type_extra_specs_instance_type_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_type_extra_specs")),
        sa.UniqueConstraint(
            "instance_type_id", "key", "deleted", name="uniq_instance_type_extra_specs0instance_type_id0key0deleted"
        ),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "instance_type_projects",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("instance_type_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_type_id"], ["instance_types.id"], name=op.f("instance_type_projects_instance_type_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_type_projects")),
        sa.UniqueConstraint(
            "instance_type_id",
            "project_id",
            "deleted",
            name="uniq_instance_type_projects0instance_type_id0project_id0deleted",
        ),
        **TABLE_OPTIONS,
    )
    op.create_table(
        "migrations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("source_compute", sa.String(length=255), nullable=True),
        sa.Column("dest_compute", sa.String(length=255), nullable=True),
        sa.Column("source_node", sa.String(length=255), nullable=True),
        sa.Column("dest_node", sa.String(length=255), nullable=True),
        sa.Column("dest_host", sa.String(length=255), nullable=True),
        sa.Column("old_instance_type_id", sa.Integer(), nullable=True),
        sa.Column("new_instance_type_id", sa.Integer(), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=True),
        sa.Column("status", sa.String(length=255), nullable=True),
        sa.Column("migration_type", sa.String(length=255), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("memory_total", sa.BigInteger(), nullable=True),
        sa.Column("memory_processed", sa.BigInteger(), nullable=True),
        sa.Column("memory_remaining", sa.BigInteger(), nullable=True),
        sa.Column("disk_total", sa.BigInteger(), nullable=True),
        sa.Column("disk_processed", sa.BigInteger(), nullable=True),
        sa.Column("disk_remaining", sa.BigInteger(), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["instance_uuid"], ["instances.uuid"], name=op.f("migrations_instance_uuid_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migrations")),
        sa.UniqueConstraint("uuid", name=op.f("uniq_migrations0uuid")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("migrations", schema=None) as batch_op:
        batch_op.create_index(
            "migrations_deleted_hosts_status_idx", ["deleted", "source_compute", "dest_compute", "status"], unique=False
        )
        batch_op.create_index(
            "migrations_deleted_instance_uuid_status_idx", ["deleted", "instance_uuid", "status"], unique=False
        )

    op.create_table(
        "reservations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("usage_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("resource", sa.String(length=255), nullable=True),
        sa.Column("delta", sa.Integer(), nullable=False),
        sa.Column("expire", MOMENT, nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(["usage_id"], ["quota_usages.id"], name=op.f("reservations_usage_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("reservations_expire_idx"), ["expire"], unique=False)
        batch_op.create_index(batch_op.f("reservations_project_id_idx"), ["project_id"], unique=False)
        batch_op.create_index(batch_op.f("reservations_uuid_idx"), ["uuid"], unique=False)

    op.create_table(
        "security_group_instance_association",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("security_group_id", sa.Integer(), nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["instance_uuid"], ["instances.uuid"], name=op.f("security_group_instance_association_instance_uuid_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["security_group_id"],
            ["security_groups.id"],
            name=op.f("security_group_instance_association_security_group_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group_instance_association")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("security_group_instance_association", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("security_group_instance_association_instance_uuid_idx"), ["instance_uuid"], unique=False
        )
        batch_op.create_index(
            batch_op.f("security_group_instance_association_security_group_id_idx"), ["security_group_id"], unique=False
        )

    op.create_table(
        "security_group_rules",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("parent_group_id", sa.Integer(), nullable=False),
        sa.Column("protocol", sa.String(length=5), nullable=True),
        sa.Column("from_port", sa.Integer(), nullable=True),
        sa.Column("to_port", sa.Integer(), nullable=True),
        sa.Column("cidr", sa.String(length=43), nullable=True),
        sa.Column("group_id", sa.Integer(), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["group_id"], ["security_groups.id"], name=op.f("security_group_rules_group_id_fkey")),
        sa.ForeignKeyConstraint(
            ["parent_group_id"], ["security_groups.id"], name=op.f("security_group_rules_parent_group_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group_rules")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("security_group_rules", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("security_group_rules_group_id_idx"), ["group_id"], unique=False)
        batch_op.create_index(batch_op.f("security_group_rules_parent_group_id_idx"), ["parent_group_id"], unique=False)

    op.create_table(
        "virtual_interfaces",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        *audit_columns(),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("virtual_interfaces_network_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_virtual_interfaces")),
        sa.UniqueConstraint("address", "deleted", name="uniq_virtual_interfaces0address0deleted"),
        sa.UniqueConstraint("uuid", name=op.f("uniq_virtual_interfaces0uuid")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("virtual_interfaces", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("virtual_interfaces_instance_uuid_idx"), ["instance_uuid"], unique=False)
        batch_op.create_index(batch_op.f("virtual_interfaces_network_id_idx"), ["network_id"], unique=False)

    op.create_table(
        "fixed_ips",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("address", sa.String(length=39), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("virtual_interface_id", sa.Integer(), nullable=True),
        sa.Column("instance_uuid", sa.String(length=36), nullable=True),
        sa.Column("allocated", sa.Boolean(), nullable=False),
        sa.Column("leased", sa.Boolean(), nullable=False),
        sa.Column("reserved", sa.Boolean(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fixed_ips_network_id_fkey")),
        sa.ForeignKeyConstraint(
            ["virtual_interface_id"], ["virtual_interfaces.id"], name=op.f("fixed_ips_virtual_interface_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fixed_ips")),
        sa.UniqueConstraint("network_id", "address", "deleted", name="uniq_fixed_ips0network_id0address0deleted"),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("fixed_ips", schema=None) as batch_op:
        batch_op.create_index(
            "fixed_ips_address_deleted_allocated_idx", ["address", "deleted", "allocated"], unique=False
        )
        batch_op.create_index(
            "fixed_ips_address_reserved_network_id_deleted_idx",
            ["address", "reserved", "network_id", "deleted"],
            unique=False,
        )
        batch_op.create_index("fixed_ips_host_idx", ["host"], unique=False)
        batch_op.create_index(batch_op.f("fixed_ips_instance_uuid_idx"), ["instance_uuid"], unique=False)
        batch_op.create_index("fixed_ips_network_id_host_deleted_idx", ["network_id", "host", "deleted"], unique=False)
        batch_op.create_index(batch_op.f("fixed_ips_virtual_interface_id_idx"), ["virtual_interface_id"], unique=False)

    op.create_table(
        "instance_actions_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("event", sa.String(length=255), nullable=True),
        sa.Column("action_id", sa.Integer(), nullable=False),
        sa.Column("start_time", MOMENT, nullable=True),
        sa.Column("finish_time", MOMENT, nullable=True),
        sa.Column("result", sa.String(length=255), nullable=True),
        sa.Column("traceback", LONG_TEXT, nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("details", LONG_TEXT, nullable=True),
        *audit_columns(),
        sa.ForeignKeyConstraint(
            ["action_id"], ["instance_actions.id"], name=op.f("instance_actions_events_action_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_actions_events")),
        **TABLE_OPTIONS,
    )
    with op.batch_alter_table("instance_actions_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("instance_actions_events_action_id_idx"), ["action_id"], unique=False)


def downgrade():
    raise NotImplementedError("there is nothing before the first version; drop the database instead")
