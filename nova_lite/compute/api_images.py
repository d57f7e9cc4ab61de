"""Images made of instances: snapshots, backups, and the volume snapshots of instances that boot from a volume."""

from typing import Any

from nova_lite import exception
from nova_lite.compute import api_rows as rows
from nova_lite.context import RequestContext, Services
from nova_lite.objects import BlockDeviceMappingList, Instance, block_device, task_states
from nova_lite.objects import instance_actions as actions

SNAPSHOT = "snapshot"
BACKUP = "backup"


class Imaging:
    """Registers the image, marks the instance, sends the order."""

    def __init__(self, services: Services, steps: Any, tasks: Any) -> None:
        self._services = services
        self._steps = steps
        self._tasks = tasks

    def snapshot(self, context: RequestContext, instance: Instance, name: str,
                 extra_properties: dict[str, Any] | None) -> dict[str, Any]:
        """Return the metadata of the image that the snapshot goes into."""
        image = self._register(context, instance, name, SNAPSHOT, extra_properties)
        return self._order(context, instance, image, task_states.IMAGE_SNAPSHOT, actions.CREATE_IMAGE, SNAPSHOT)

    def backup(self, context: RequestContext, instance: Instance, name: str, backup_type: str, rotation: int,
               extra_properties: dict[str, Any] | None) -> dict[str, Any]:
        """Return the metadata of the image that the backup goes into; the oldest of its type are removed later."""
        if not isinstance(rotation, int) or rotation < 0:
            raise exception.RotationRequiredForBackup()
        image = self._register(context, instance, name, BACKUP,
                               {**(extra_properties or {}), "backup_type": backup_type})
        return self._order(context, instance, image, task_states.IMAGE_BACKUP, actions.CREATE_BACKUP, BACKUP,
                           backup_type, rotation)

    def _order(self, context: RequestContext, instance: Instance, image: dict[str, Any], task_state: str,
               action: str, image_type: str, backup_type: str | None = None,
               rotation: int | None = None) -> dict[str, Any]:
        try:
            with self._steps.begun(context, instance, action, task_state=task_state):
                self._tasks.take_image(context, instance, image["id"], image_type, backup_type, rotation)
        except Exception:  # nothing will ever be uploaded
            self._services.image_api.delete(context, image["id"])
            raise
        return image

    def snapshot_volume_backed(self, context: RequestContext, instance: Instance, image_meta: dict[str, Any],
                               name: str, extra_properties: dict[str, Any] | None) -> dict[str, Any]:
        """Return an image without content that boots from snapshots of the instance's volumes."""
        properties = {**self._properties(instance), **(image_meta.get("properties") or {}),
                      **(extra_properties or {})}
        mappings = []
        for mapping in BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid).to_legacy():
            if mapping["volume_id"]:
                volume = self._services.volume_api.get(context, mapping["volume_id"])
                taken = self._services.volume_api.create_snapshot_force(
                    context, volume, f"snapshot for {name}", volume.get("display_description") or "")
                mapping = {**mapping, "snapshot_id": taken["id"], "volume_id": None}
            mappings.append({key: mapping[key] for key in ("device_name", "virtual_name", "snapshot_id", "volume_size",
                                                           "delete_on_termination", "no_device") if mapping[key]})
        properties.update(block_device_mapping=mappings,
                          root_device_name=block_device.prepend_dev(instance.root_device_name))
        return self._services.image_api.create(context, {"name": name, "is_public": False, "properties": properties},
                                               data=[b""])

    def _register(self, context: RequestContext, instance: Instance, name: str, image_type: str,
                  extra_properties: dict[str, Any] | None) -> dict[str, Any]:
        remembered = self._properties(instance)
        meta = {"name": name, "is_public": False,
                "min_ram": int(remembered.pop("min_ram", None) or 0),
                "min_disk": int(remembered.pop("min_disk", None) or instance.root_gb or 0)}
        for column in ("disk_format", "container_format"):
            remembered.pop(column, None)
        properties = {**remembered, "instance_uuid": instance.uuid, "user_id": str(context.user_id),
                      "image_type": image_type, **(extra_properties or {})}
        return self._services.image_api.create(context, {**meta, "properties": properties})

    def _properties(self, instance: Instance) -> dict[str, str]:
        """What an image of the instance inherits of the one that it was made from."""
        prefix = rows.SYSTEM_METADATA_PREFIX
        left_out = set(self._services.conf.non_inheritable_image_properties)
        return {key.removeprefix(prefix): value for key, value in instance.system_metadata.items()
                if key.startswith(prefix) and key.removeprefix(prefix) not in left_out}
