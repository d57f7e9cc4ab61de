"""What went wrong with an instance."""

from typing import Any

from nova_lite.objects import base, fields


@base.register
class InstanceFault(base.Persistent, base.NovaObject):
    """One recorded failure."""

    VERSION = "1.2"

    fields = {
        "id": fields.Integer(),
        "instance_uuid": fields.Uuid(),
        "code": fields.Integer(),
        "message": fields.Text(nullable=True),
        "details": fields.Text(nullable=True),
        "host": fields.Text(nullable=True),
    }

    def create(self, replicate: bool = True) -> None:
        """Insert the row. Raises ObjectActionError when there is one."""
        self._refuse_if_created()
        row = self._db.instance_fault_create(self._context, self._changed_columns(), replicate=replicate)
        self._fill(row)
        services = self._context.services
        if replicate and services.cells_notifier is not None and services.db.has_parents(self._context):
            services.cells_notifier.outbox_ready(self._context)

    @classmethod
    def get_latest_for_instance(cls, context: Any, instance_uuid: str) -> "InstanceFault | None":
        """Return the last failure of an instance, None without one."""
        rows = context.services.db.instance_fault_get_by_instance_uuids(context, [instance_uuid])[instance_uuid]
        return cls._from_row(context, rows[0]) if rows else None


@base.register
class InstanceFaultList(base.ObjectList, base.NovaObject):
    """Several failures."""

    VERSION = "1.1"
    child = InstanceFault
    fields = {"objects": fields.ListOfNested("InstanceFault")}

    @classmethod
    def get_by_instance_uuids(cls, context: Any, instance_uuids: list[str]) -> "InstanceFaultList":
        """Return the failures of several instances, latest first for each."""
        found = context.services.db.instance_fault_get_by_instance_uuids(context, instance_uuids)
        return cls._from_rows(context, [row for uuid in instance_uuids for row in found[uuid]])
