"""Daemons that have registered themselves."""

from typing import Any

from nova_lite.objects import base, fields


@base.register
class Service(base.Persistent, base.NovaObject):
    """One daemon on one host."""

    VERSION = "1.18"
    beyond_floor = frozenset(("uuid", "compute_node"))

    fields = {
        "id": fields.Integer(),
        "uuid": fields.Uuid(nullable=True),
        "host": fields.Text(nullable=True),
        "binary": fields.Text(nullable=True),
        "topic": fields.Text(nullable=True),
        "report_count": fields.Integer(),
        "disabled": fields.Boolean(),
        "disabled_reason": fields.Text(nullable=True),
        "availability_zone": fields.Text(nullable=True),
        "compute_node": fields.Nested("ComputeNode", nullable=True),
        "last_seen_up": fields.DateTime(nullable=True),
        "forced_down": fields.Boolean(),
        "version": fields.Integer(),
    }

    @classmethod
    def get_by_id(cls, context: Any, service_id: int) -> "Service":
        """Return a service. Raises ServiceNotFound."""
        return cls._from_row(context, context.services.db.service_get(context, service_id))

    @classmethod
    def get_by_args(cls, context: Any, host: str, binary: str) -> "Service":
        """Return the service of a host and program. Raises HostBinaryNotFound."""
        return cls._from_row(context, context.services.db.service_get_by_args(context, host, binary))

    @classmethod
    def get_by_compute_host(cls, context: Any, host: str) -> "Service":
        """Return the nova-compute of a host, with its first node if there is one. Raises ComputeHostNotFound."""
        from nova_lite.objects.compute_node import ComputeNode

        row = dict(context.services.db.service_get_by_compute_host(context, host))
        nodes = row.pop("compute_node", None) or []
        service = cls._from_row(context, row)
        service.compute_node = ComputeNode._from_row(context, nodes[0]) if nodes else None
        service.obj_reset_changes()
        return service

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one, ServiceBinaryExists."""
        self._refuse_if_created()
        self._fill(self._db.service_create(self._context, self._row_changes()))

    def save(self) -> None:
        """Write what changed. Raises ServiceNotFound."""
        changes = self._row_changes()
        if changes:
            self._fill(self._db.service_update(self._context, self.id, changes))

    def destroy(self) -> None:
        """Soft-delete the row and its compute nodes. Raises ServiceNotFound."""
        self._db.service_destroy(self._context, self.id)

    def _row_changes(self) -> dict[str, Any]:
        changes = self._changed_columns()
        for name in ("id", "availability_zone", "compute_node"):
            changes.pop(name, None)
        return changes


@base.register
class ServiceList(base.ObjectList, base.NovaObject):
    """Several services."""

    VERSION = "1.16"
    child = Service
    fields = {"objects": fields.ListOfNested("Service")}

    @classmethod
    def get_all(cls, context: Any, disabled: bool | None = None) -> "ServiceList":
        """Return the services; with ``disabled`` only those that are, or are not."""
        return cls._from_rows(context, context.services.db.service_get_all(context, disabled))

    @classmethod
    def get_by_topic(cls, context: Any, topic: str) -> "ServiceList":
        """Return the enabled services of a topic."""
        return cls._from_rows(context, context.services.db.service_get_all_by_topic(context, topic))

    @classmethod
    def get_by_binary(cls, context: Any, binary: str, include_disabled: bool = False) -> "ServiceList":
        """Return the services of a program."""
        return cls._from_rows(context, context.services.db.service_get_all_by_binary(
            context, binary, include_disabled=include_disabled))

    @classmethod
    def get_by_host(cls, context: Any, host: str) -> "ServiceList":
        """Return the services of a host."""
        return cls._from_rows(context, context.services.db.service_get_all_by_host(context, host))
