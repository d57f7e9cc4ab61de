"""Moves of instances between hosts, and resizes."""

from typing import Any

from nova_lite.objects import base, fields

_PROGRESS = ("memory_total", "memory_processed", "memory_remaining", "disk_total", "disk_processed", "disk_remaining")


@base.register
class Migration(base.Persistent, base.NovaObject):
    """One move (statuses: compute specification §2.6)."""

    VERSION = "1.2"
    beyond_floor = frozenset(("uuid", *_PROGRESS))

    fields = {
        "id": fields.Integer(),
        "uuid": fields.Uuid(nullable=True),
        "source_compute": fields.Text(nullable=True),
        "dest_compute": fields.Text(nullable=True),
        "source_node": fields.Text(nullable=True),
        "dest_node": fields.Text(nullable=True),
        "dest_host": fields.Text(nullable=True),
        "old_instance_type_id": fields.Integer(nullable=True),
        "new_instance_type_id": fields.Integer(nullable=True),
        "instance_uuid": fields.Text(nullable=True),
        "status": fields.Text(nullable=True),
        "migration_type": fields.Text(nullable=True),
        "hidden": fields.Boolean(default=False),
        **{name: fields.Integer(nullable=True) for name in _PROGRESS},
    }

    @classmethod
    def of(cls, context: Any, value: Any) -> "Migration | None":
        """Return the migration of an object or a row; None stays None."""
        if value is None or isinstance(value, cls):
            return value
        return cls._from_row(context, dict(value))

    @classmethod
    def get_by_id(cls, context: Any, migration_id: int) -> "Migration":
        """Return a migration. Raises MigrationNotFound."""
        return cls._from_row(context, context.services.db.migration_get(context, migration_id))

    @classmethod
    def get_by_instance_and_status(cls, context: Any, instance_uuid: str, status: str) -> "Migration":
        """Return the migration of an instance that is in a status. Raises MigrationNotFoundByStatus."""
        return cls._from_row(context, context.services.db.migration_get_by_instance_and_status(
            context, instance_uuid, status))

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one."""
        self._refuse_if_created()
        self._fill(self._db.migration_create(self._context, self._changed_columns()))

    def save(self) -> None:
        """Write what changed. Raises MigrationNotFound."""
        changes = self._changed_columns()
        changes.pop("id", None)
        if changes:
            self._fill(self._db.migration_update(self._context, self.id, changes))

    @property
    def instance(self) -> Any:
        """The instance that moves, read now."""
        from nova_lite.objects.instance import Instance

        return Instance.get_by_uuid(self._context, self.instance_uuid)


@base.register
class MigrationList(base.ObjectList, base.NovaObject):
    """Several migrations."""

    VERSION = "1.2"
    child = Migration
    fields = {"objects": fields.ListOfNested("Migration")}

    @classmethod
    def get_by_filters(cls, context: Any, filters: dict[str, Any]) -> "MigrationList":
        """Return the migrations that match (db.migrations.Migrations.migration_get_all_by_filters)."""
        return cls._from_rows(context, context.services.db.migration_get_all_by_filters(context, filters))

    @classmethod
    def get_in_progress_by_host_and_node(cls, context: Any, host: str, node: str) -> "MigrationList":
        """Return the unfinished resizes that come from or go to a node."""
        return cls._from_rows(context, context.services.db.migration_get_in_progress_by_host_and_node(
            context, host, node))

    @classmethod
    def get_unconfirmed_by_dest_compute(cls, context: Any, confirm_window: int,
                                        dest_compute: str) -> "MigrationList":
        """Return the resizes that have waited at a host for longer than ``confirm_window`` seconds."""
        return cls._from_rows(context, context.services.db.migration_get_unconfirmed_by_dest_compute(
            context, confirm_window, dest_compute))
