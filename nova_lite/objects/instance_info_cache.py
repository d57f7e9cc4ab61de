"""Cached network information of an instance."""

from typing import Any

from nova_lite.objects import base, fields, network_model


@base.register
class InstanceInfoCache(base.Persistent, base.NovaObject):
    """The network model of an instance as it was last seen."""

    VERSION = "1.5"

    fields = {
        "instance_uuid": fields.Uuid(),
        "network_info": fields.NetworkInfo(nullable=True),
    }

    def network_info_text(self) -> str:
        """Return the model as JSON text."""
        info = self.get("network_info")
        return (info if info is not None else network_model.NetworkInfo()).json()

    @classmethod
    def new(cls, context: Any, instance_uuid: str) -> "InstanceInfoCache":
        """Return an empty cache that is in no row yet."""
        return cls(context, instance_uuid=instance_uuid, network_info=network_model.NetworkInfo())

    @classmethod
    def get_by_instance_uuid(cls, context: Any, instance_uuid: str) -> "InstanceInfoCache":
        """Return the cache. Raises InstanceInfoCacheNotFound."""
        row = context.services.db.instance_info_cache_get(context, instance_uuid)
        return cls._from_row(context, row)

    def save(self, update_cells: bool = True) -> None:
        """Write the model if it was set; ``update_cells=False`` keeps it from the cells above."""
        if "network_info" not in self.obj_what_changed():
            return
        row = self._db.instance_info_cache_update(
            self._context, self.instance_uuid, {"network_info": self.network_info_text()}, replicate=update_cells)
        self._fill(row)
        services = self._context.services
        if update_cells and services.cells_notifier is not None and services.db.has_parents(self._context):
            services.cells_notifier.outbox_ready(self._context)

    def refresh(self) -> None:
        """Read the row again."""
        self._fill(self._db.instance_info_cache_get(self._context, self.instance_uuid))

    def delete(self) -> None:
        """Soft-delete the row."""
        self._db.instance_info_cache_delete(self._context, self.instance_uuid)
