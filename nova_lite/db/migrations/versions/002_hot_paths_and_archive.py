"""Indexes for lists of many instances and for what hosts ask periodically; tables for archived rows."""

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"

INDEXES = {
    "instances_deleted_created_at_id_idx": ("instances", ["deleted", "created_at", "id"]),
    "instances_project_id_deleted_created_at_id_idx": ("instances", ["project_id", "deleted", "created_at", "id"]),
    "instances_host_deleted_created_at_id_idx": ("instances", ["host", "deleted", "created_at", "id"]),
    "instances_updated_at_created_at_idx": ("instances", ["updated_at", "created_at"]),
    "instances_host_cleaned_idx": ("instances", ["host", "cleaned"]),
    "migrations_source_compute_status_idx": ("migrations", ["source_compute", "status"]),
    "migrations_dest_compute_status_idx": ("migrations", ["dest_compute", "status"]),
}
ARCHIVED = (
    "agent_builds", "aggregate_hosts", "aggregate_metadata", "aggregates", "block_device_mapping", "cells",
    "compute_nodes", "console_auth_tokens", "instance_actions", "instance_actions_events", "instance_extra",
    "instance_faults", "instance_info_caches", "instance_metadata", "instance_system_metadata",
    "instance_type_extra_specs", "instance_type_projects", "instances", "key_pairs", "migrations",
    "provider_fw_rules", "reservations", "security_group_instance_association", "security_group_rules",
    "volume_usage_cache",
)  # fmt: skip
TABLE_OPTIONS = {
    "mariadb_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_engine": "InnoDB",
}


def upgrade():
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)
    inspector = sa.inspect(op.get_bind())
    for table in ARCHIVED:
        key = set(inspector.get_pk_constraint(table)["constrained_columns"])
        columns = [
            sa.Column(column["name"], column["type"], primary_key=column["name"] in key, autoincrement=False,
                      nullable=column["nullable"])
            for column in inspector.get_columns(table)
        ]  # fmt: skip
        op.create_table(f"shadow_{table}", *columns, **TABLE_OPTIONS)


def downgrade():
    for table in ARCHIVED:
        op.drop_table(f"shadow_{table}")
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
