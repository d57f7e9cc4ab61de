"""What a hypervisor host has and uses."""

from typing import Any

from nova_lite.objects import base, fields

_CAPACITY = frozenset(("memory_mb", "local_gb", "free_ram_mb", "free_disk_gb"))


@base.register
class ComputeNode(base.Persistent, base.NovaObject):
    """One node of a host."""

    VERSION = "1.14"
    beyond_floor = frozenset(("uuid", "disk_allocation_ratio", "supported_instances"))

    fields = {
        "id": fields.Integer(),
        "uuid": fields.Uuid(nullable=True),
        "service_id": fields.Integer(nullable=True),
        "host": fields.Text(nullable=True),
        "vcpus": fields.Integer(),
        "memory_mb": fields.Integer(),
        "local_gb": fields.Integer(),
        "vcpus_used": fields.Integer(),
        "memory_mb_used": fields.Integer(),
        "local_gb_used": fields.Integer(),
        "hypervisor_type": fields.Text(),
        "hypervisor_version": fields.Integer(),
        "hypervisor_hostname": fields.Text(nullable=True),
        "free_ram_mb": fields.Integer(nullable=True),
        "free_disk_gb": fields.Integer(nullable=True),
        "current_workload": fields.Integer(nullable=True),
        "running_vms": fields.Integer(nullable=True),
        "cpu_info": fields.JsonText(nullable=True),
        "disk_available_least": fields.Integer(nullable=True),
        "metrics": fields.JsonText(nullable=True),
        "stats": fields.TextDict(nullable=True),
        "host_ip": fields.Text(nullable=True),
        "numa_topology": fields.Text(nullable=True),
        "supported_hv_specs": fields.OpaqueList(nullable=True),
        "pci_device_pools": fields.Opaque(nullable=True),
        "cpu_allocation_ratio": fields.Float(nullable=True),
        "ram_allocation_ratio": fields.Float(nullable=True),
        "disk_allocation_ratio": fields.Float(nullable=True),
        "supported_instances": fields.JsonText(nullable=True),
    }

    @classmethod
    def get_by_id(cls, context: Any, compute_id: int) -> "ComputeNode":
        """Return a node. Raises ComputeHostNotFound."""
        return cls._from_row(context, context.services.db.compute_node_get(context, compute_id))

    @classmethod
    def get_by_host_and_nodename(cls, context: Any, host: str, nodename: str) -> "ComputeNode":
        """Return a node of a host. Raises ComputeHostNotFound."""
        return cls._from_row(context, context.services.db.compute_node_get_by_host_and_nodename(
            context, host, nodename))

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one."""
        self._refuse_if_created()
        self._fill(self._db.compute_node_create(self._context, self._row_changes()))
        self._tell_of_capacity()

    def save(self, prune_stats: bool = False) -> None:
        """Write what changed; ``updated_at`` is refreshed in any case. Raises ComputeHostNotFound."""
        is_news = bool(self.obj_what_changed() & _CAPACITY)
        self._fill(self._db.compute_node_update(self._context, self.id, self._row_changes(), prune_stats=prune_stats))
        if is_news:
            self._tell_of_capacity()

    def report(self, context: Any) -> bool:
        """Write what changed since this object was written or read, unread; return whether the row is there.

        ``stats`` are replaced as a whole.
        """
        self._context = context
        is_news = bool(self.obj_what_changed() & _CAPACITY)
        if not self._db.compute_node_report(context, self.id, self._row_changes()):
            return False
        self.obj_reset_changes()
        if is_news:
            self._tell_of_capacity()
        return True

    def destroy(self) -> None:
        """Soft-delete the row."""
        self._db.compute_node_delete(self._context, self.id)
        self._tell_of_capacity()

    def _tell_of_capacity(self) -> None:
        notifier = self._context.services.cells_notifier
        if notifier is not None:
            notifier.capacity_changed(self._context)

    def _row_changes(self) -> dict[str, Any]:
        changes = self._changed_columns()
        for name in ("id", "supported_hv_specs", "pci_device_pools", "numa_topology"):
            changes.pop(name, None)
        return changes


@base.register
class ComputeNodeList(base.ObjectList, base.NovaObject):
    """Several nodes."""

    VERSION = "1.14"
    child = ComputeNode
    fields = {"objects": fields.ListOfNested("ComputeNode")}

    @classmethod
    def get_all(cls, context: Any) -> "ComputeNodeList":
        """Return every node."""
        return cls._from_rows(context, context.services.db.compute_node_get_all(context))

    @classmethod
    def get_all_by_host(cls, context: Any, host: str) -> "ComputeNodeList":
        """Return the nodes of a host."""
        return cls._from_rows(context, context.services.db.compute_node_get_all_by_host(context, host))

    @classmethod
    def get_by_hypervisor(cls, context: Any, hypervisor_match: str) -> "ComputeNodeList":
        """Return the nodes whose hypervisor host name contains a text."""
        return cls._from_rows(context, context.services.db.compute_node_search_by_hypervisor(
            context, hypervisor_match))
