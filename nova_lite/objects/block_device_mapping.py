"""A block device of an instance."""

from typing import Any

from nova_lite import exception
from nova_lite.objects import base, block_device, fields


@base.register
class BlockDeviceMapping(base.Persistent, base.NovaObject):
    """One disk, volume, or wish for one. Forms and conversions: objects.block_device."""

    VERSION = "1.15"
    beyond_floor = frozenset(("uuid",))

    fields = {
        "id": fields.Integer(),
        "uuid": fields.Uuid(nullable=True),
        "instance_uuid": fields.Uuid(),
        "instance": fields.Nested("Instance", nullable=True),
        "source_type": fields.Text(nullable=True),
        "destination_type": fields.Text(nullable=True),
        "guest_format": fields.Text(nullable=True),
        "device_type": fields.Text(nullable=True),
        "disk_bus": fields.Text(nullable=True),
        "boot_index": fields.Integer(nullable=True),
        "device_name": fields.Text(nullable=True),
        "delete_on_termination": fields.Boolean(default=False),
        "snapshot_id": fields.Text(nullable=True),
        "volume_id": fields.Text(nullable=True),
        "volume_size": fields.Integer(nullable=True),
        "image_id": fields.Text(nullable=True),
        "no_device": fields.Boolean(default=False),
        "connection_info": fields.Secret(nullable=True),
    }

    is_root = property(block_device.is_root)
    is_volume = property(block_device.is_volume)
    is_image = property(lambda self: self.get("source_type") == "image")
    is_swap = property(block_device.is_swap)
    is_ephemeral = property(block_device.is_new_ephemeral)

    @classmethod
    def get_by_volume_id(cls, context: Any, volume_id: str, instance_uuid: str | None = None) -> "BlockDeviceMapping":
        """Return the mapping of a volume. Raises VolumeUnattached when it has none (on that instance)."""
        row = context.services.db.block_device_mapping_get_by_volume_id(context, volume_id)
        if row is None or (instance_uuid and row["instance_uuid"] != instance_uuid):
            raise exception.VolumeUnattached(volume_id=volume_id)
        return cls._from_row(context, row)

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one."""
        self._refuse_if_created()
        self._written(self._db.block_device_mapping_create(self._context, self._row_changes()))

    def update_or_create(self) -> None:
        """Write the row of this device of the instance, or insert it."""
        self._written(self._db.block_device_mapping_update_or_create(self._context, self._row_changes()))

    def save(self) -> None:
        """Write what changed. Raises BlockDeviceMappingNotFound."""
        changes = self._row_changes()
        if changes:
            self._written(self._db.block_device_mapping_update(self._context, self.id, changes))

    def destroy(self) -> None:
        """Soft-delete the row. Raises ObjectActionError when it is unknown or gone."""
        if "id" not in self:
            raise exception.ObjectActionError(action="destroy", reason="already destroyed")
        self._db.block_device_mapping_destroy(self._context, self.id)
        del self.id
        self._tell_outbox()

    def _row_changes(self) -> dict[str, Any]:
        changes = self._changed_columns()
        for name in ("instance", "id"):
            changes.pop(name, None)
        return changes

    def _written(self, row: dict[str, Any]) -> None:
        self._fill(row)
        self._tell_outbox()

    def _tell_outbox(self) -> None:
        services = self._context.services
        if services.cells_notifier is not None and services.db.has_parents(self._context):
            services.cells_notifier.outbox_ready(self._context)


@base.register
class BlockDeviceMappingList(base.ObjectList, base.NovaObject):
    """Several block devices."""

    VERSION = "1.16"
    child = BlockDeviceMapping
    fields = {"objects": fields.ListOfNested("BlockDeviceMapping")}

    @classmethod
    def get_by_instance_uuid(cls, context: Any, instance_uuid: str) -> "BlockDeviceMappingList":
        """Return the mappings of an instance."""
        return cls._from_rows(context, context.services.db.block_device_mapping_get_all_by_instance(
            context, instance_uuid))

    @classmethod
    def get_by_instance_uuids(cls, context: Any, instance_uuids: list[str]) -> "BlockDeviceMappingList":
        """Return the mappings of several instances."""
        return cls._from_rows(context, context.services.db.block_device_mapping_get_all_by_instance_uuids(
            context, instance_uuids))

    @classmethod
    def of(cls, context: Any, mappings: Any, root_device_name: str | None = None,
           default_ephemeral_format: str | None = None) -> "BlockDeviceMappingList":
        """Return the clean list of objects, new or legacy dicts, mixed if need be."""
        if isinstance(mappings, cls):
            return mappings
        objects = []
        for mapping in mappings or ():
            if isinstance(mapping, BlockDeviceMapping):
                objects.append(mapping)
                continue
            rows = block_device.from_legacy_list([mapping], root_device_name, default_ephemeral_format)
            objects.append(BlockDeviceMapping._from_row(context, rows[0]))
        result = cls(context, objects=objects)
        result.obj_reset_changes()
        return result

    def root_bdm(self) -> BlockDeviceMapping | None:
        """Return the mapping the guest boots from, None without one."""
        return next((bdm for bdm in self.objects if bdm.is_root), None)

    def to_legacy(self) -> list[dict[str, Any]]:
        """Return the legacy dicts."""
        return block_device.to_legacy_list(self.objects)
