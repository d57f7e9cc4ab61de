"""Block devices of instances."""

import uuid as uuid_module
from collections.abc import Mapping
from typing import Any

import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, chunks, visible
from nova_lite.objects import block_device

BDMS = models.BlockDeviceMapping.__table__

# What cells above get: the flat form, without what is local to this database.
_SENT = (*block_device.NEW_FIELDS, "instance_uuid", "uuid")


class BlockDevices(Part):
    """Rows of the new form (objects.block_device); legacy values are converted when written."""

    @operation
    def block_device_mapping_create(self, context: Any, values: Mapping[str, Any],
                                    replicate: bool = True) -> dict[str, Any]:
        """Insert a mapping and return it. Raises InstanceNotFound."""
        with self.store.writer(context) as session:
            revision = self._lock_instance(session, values["instance_uuid"])
            row = self._insert(session, values)
            self._tell(session, context, replicate and bool(row["device_name"]), row, revision, create=None)
            return row

    @operation
    def block_device_mapping_update(self, context: Any, bdm_id: int, values: Mapping[str, Any],
                                    replicate: bool = True) -> dict[str, Any]:
        """Change a mapping and return it. Raises BlockDeviceMappingNotFound."""
        with self.store.writer(context) as session:
            row = session.one(sqlalchemy.select(BDMS).where(BDMS.c.id == bdm_id, BDMS.c.deleted == 0))
            if row is None:
                raise exception.BlockDeviceMappingNotFound(bdm=bdm_id)
            revision = self._lock_instance(session, row["instance_uuid"])
            row = self._change(session, row, values)
            create = None if "device_name" in values else False
            self._tell(session, context, replicate, row, revision, create=create)
            return row

    @operation
    def block_device_mapping_update_or_create(self, context: Any, values: Mapping[str, Any],
                                              replicate: bool = True) -> dict[str, Any]:
        """Change the mapping of (instance_uuid, device_name), or insert one; returns it.

        Other rows of the same instance that are the same swap or ephemeral disk are soft-deleted.
        Raises InstanceNotFound.
        """
        with self.store.writer(context) as session:
            revision = self._lock_instance(session, values["instance_uuid"])
            row = self._existing(session, values)
            row = self._change(session, row, _new_form(values)) if row else self._insert(session, values)
            self._delete_doubles(session, row)
            self._tell(session, context, replicate and bool(row["device_name"]), row, revision, create=True)
            return row

    def _lock_instance(self, session: RowSession, instance_uuid: str) -> int:
        revision = self.db.part_of("instance_get").bump_revision(session, instance_uuid)
        if revision is None:
            raise exception.InstanceNotFound(instance_id=instance_uuid)
        return revision

    def _insert(self, session: RowSession, values: Mapping[str, Any]) -> dict[str, Any]:
        values = _new_form(values)
        values.pop("id", None)
        values["uuid"] = values.get("uuid") or str(uuid_module.uuid4())
        return session.insert_row(models.BlockDeviceMapping, values)

    def _change(self, session: RowSession, row: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        changes = {name: value for name, value in _columns(values).items() if name not in ("id", "instance_uuid")}
        if not changes.get("uuid", True):
            del changes["uuid"]
        session.update_rows(models.BlockDeviceMapping, BDMS.c.id == row["id"], **changes)
        return {**row, **changes, "updated_at": session.now}

    def _existing(self, session: RowSession, values: Mapping[str, Any]) -> dict[str, Any] | None:
        if not values.get("device_name"):
            return None
        return session.one(sqlalchemy.select(BDMS).where(
            BDMS.c.instance_uuid == values["instance_uuid"], BDMS.c.device_name == values["device_name"],
            BDMS.c.deleted == 0).order_by(BDMS.c.id).limit(1))

    def _delete_doubles(self, session: RowSession, row: dict[str, Any]) -> None:
        if block_device.is_swap(row):
            session.soft_delete(models.BlockDeviceMapping, BDMS.c.instance_uuid == row["instance_uuid"],
                                BDMS.c.id != row["id"], BDMS.c.source_type == "blank",
                                BDMS.c.destination_type == "local", BDMS.c.guest_format == "swap")

    def _tell(self, session: RowSession, context: Any, replicate: bool, row: dict[str, Any], revision: int,
              create: bool | None) -> None:
        if replicate and self.db.has_parents(context):
            sent = {name: row[name] for name in _SENT}
            self.db.part_of("outbox_add").write(
                session, "bdm", "bdm_update_or_create_at_top", {"bdm": {**sent, "revision": revision},
                                                                "create": create}, row["instance_uuid"], revision)

    # -- reading --

    @operation
    def block_device_mapping_get(self, context: Any, bdm_id: int) -> dict[str, Any]:
        """Return a mapping. Raises BlockDeviceMappingNotFound."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(BDMS).where(BDMS.c.id == bdm_id,
                                                            *visible(models.BlockDeviceMapping, context)))
        if row is None:
            raise exception.BlockDeviceMappingNotFound(bdm=bdm_id)
        return row

    @operation
    def block_device_mapping_get_all_by_instance(self, context: Any, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the mappings of an instance."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(BDMS).where(
                BDMS.c.instance_uuid == instance_uuid, *visible(models.BlockDeviceMapping, context)).order_by(
                BDMS.c.id))

    @operation
    def block_device_mapping_get_all_by_instance_uuids(self, context: Any,
                                                       instance_uuids: list[str]) -> list[dict[str, Any]]:
        """Return the mappings of several instances."""
        rows = []
        with self.store.reader(context) as session:
            for some in chunks(instance_uuids):
                rows += session.all(sqlalchemy.select(BDMS).where(
                    BDMS.c.instance_uuid.in_(some),
                    *visible(models.BlockDeviceMapping, context)).order_by(BDMS.c.id))
        return rows

    @operation
    def block_device_mapping_get_by_volume_id(self, context: Any, volume_id: str) -> dict[str, Any] | None:
        """Return the mapping of a volume, None without one."""
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(BDMS).where(
                BDMS.c.volume_id == volume_id, *visible(models.BlockDeviceMapping, context)).order_by(
                BDMS.c.id.desc()).limit(1))

    # -- deleting --

    @operation
    def block_device_mapping_destroy(self, context: Any, bdm_id: int, replicate: bool = True) -> None:
        """Soft-delete a mapping, if it is there."""
        self._destroy(context, replicate, BDMS.c.id == bdm_id)

    @operation
    def block_device_mapping_destroy_by_instance_and_device(self, context: Any, instance_uuid: str, device_name: str,
                                                            replicate: bool = True) -> None:
        """Soft-delete the mapping of a device of an instance, if it is there."""
        self._destroy(context, replicate, BDMS.c.instance_uuid == instance_uuid, BDMS.c.device_name == device_name)

    @operation
    def block_device_mapping_destroy_by_instance_and_volume(self, context: Any, instance_uuid: str, volume_id: str,
                                                            replicate: bool = True) -> None:
        """Soft-delete the mapping of a volume on an instance, if it is there."""
        self._destroy(context, replicate, BDMS.c.instance_uuid == instance_uuid, BDMS.c.volume_id == volume_id)

    def _destroy(self, context: Any, replicate: bool, *criteria: Any) -> None:
        with self.store.writer(context) as session:
            for row in session.all(sqlalchemy.select(BDMS).where(BDMS.c.deleted == 0, *criteria).order_by(BDMS.c.id)):
                revision = self.db.part_of("instance_get").bump_revision(session, row["instance_uuid"])
                session.soft_delete(models.BlockDeviceMapping, BDMS.c.id == row["id"])
                if replicate and self.db.has_parents(context):
                    gone = {name: row[name] for name in ("instance_uuid", "device_name", "volume_id")}
                    self.db.part_of("outbox_add").write(session, "bdm_destroy", "bdm_destroy_at_top", gone,
                                                        row["instance_uuid"], revision)


def _new_form(values: Mapping[str, Any]) -> dict[str, Any]:
    if block_device.is_legacy(values):
        return block_device.from_legacy(values)
    return _columns(values)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in BDMS.c}
