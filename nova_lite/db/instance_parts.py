"""Metadata, network info and faults of instances."""

from collections.abc import Collection, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.instances import REPLICATED, replace_pairs, write_info_cache
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, chunks, visible
from nova_lite.objects import wire

CACHES = models.InstanceInfoCache.__table__
FAULTS = models.InstanceFault.__table__


class InstanceParts(Part):
    """What belongs to an instance and is in a table of its own."""

    # -- metadata --

    @operation
    def instance_metadata_get(self, context: Any, instance_uuid: str) -> dict[str, Any]:
        """Return the metadata of an instance."""
        return self._pairs(context, instance_uuid, models.InstanceMetadata)

    @operation
    def instance_metadata_update(self, context: Any, instance_uuid: str, metadata: Mapping[str, Any],
                                 delete: bool = False) -> dict[str, Any]:
        """Set keys of the metadata, with ``delete`` instead of all there is; returns all. Raises InstanceNotFound."""
        return self._update_pairs(context, instance_uuid, models.InstanceMetadata, "metadata", metadata, delete)

    @operation
    def instance_metadata_delete(self, context: Any, instance_uuid: str, key: str) -> None:
        """Remove a key of the metadata, if it is there."""
        table = models.InstanceMetadata.__table__
        with self.store.writer(context) as session:
            self._instances.bump_revision(session, instance_uuid)
            session.soft_delete(models.InstanceMetadata, table.c.instance_uuid == instance_uuid, table.c.key == key)

    @operation
    def instance_system_metadata_get(self, context: Any, instance_uuid: str) -> dict[str, Any]:
        """Return the system metadata of an instance."""
        return self._pairs(context, instance_uuid, models.InstanceSystemMetadata)

    @operation
    def instance_system_metadata_update(self, context: Any, instance_uuid: str, metadata: Mapping[str, Any],
                                        delete: bool = False) -> dict[str, Any]:
        """Set keys of the system metadata, with ``delete`` instead of all there is; returns all.

        Raises InstanceNotFound.
        """
        return self._update_pairs(context, instance_uuid, models.InstanceSystemMetadata, "system_metadata", metadata,
                                  delete)

    @property
    def _instances(self) -> Any:
        return self.db.part_of("instance_get")

    def _pairs(self, context: Any, instance_uuid: str, model: Any) -> dict[str, Any]:
        table = model.__table__
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(table.c.key, table.c.value).where(
                table.c.instance_uuid == instance_uuid, table.c.deleted == 0).order_by(table.c.id))
        return {row["key"]: row["value"] for row in rows}

    def _update_pairs(self, context: Any, instance_uuid: str, model: Any, name: str, changes: Mapping[str, Any],
                      delete: bool) -> dict[str, Any]:
        with self.store.writer(context) as session:
            revision = self._instances.bump_revision(session, instance_uuid)
            if revision is None:
                raise exception.InstanceNotFound(instance_id=instance_uuid)
            old = self._pairs(context, instance_uuid, model)
            new = replace_pairs(session, model, instance_uuid, old, dict(changes) if delete else {**old, **changes})
            if name in REPLICATED and new != old and self.db.has_parents(context):
                self._instances.tell(session, {"uuid": instance_uuid, "deleted": 0, "revision": revision, name: new},
                                     [name])
        return new

    # -- info cache --

    @operation
    def instance_info_cache_get(self, context: Any, instance_uuid: str) -> dict[str, Any]:
        """Return the cached network info of an instance. Raises InstanceInfoCacheNotFound."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(CACHES).where(
                CACHES.c.instance_uuid == instance_uuid, *visible(models.InstanceInfoCache, context)))
        if row is None:
            raise exception.InstanceInfoCacheNotFound(instance_uuid=instance_uuid)
        return row

    @operation
    def instance_info_cache_update(self, context: Any, instance_uuid: str, values: Mapping[str, Any],
                                   replicate: bool = True) -> dict[str, Any]:
        """Write {'network_info': JSON text} of an instance and return the row, or what was written of it; a missing
        row is made.

        Nothing is written for a deleted one. Raises InstanceInfoCacheNotFound for an instance that is not there.
        """
        with self.store.writer(context) as session:
            if not (replicate and self.db.has_parents(context)):
                return self._write_info_cache(session, instance_uuid, values["network_info"])
            revision = self._instances.bump_revision(session, instance_uuid)
            if revision is None:
                raise exception.InstanceInfoCacheNotFound(instance_uuid=instance_uuid)
            row = session.one(sqlalchemy.select(CACHES).where(CACHES.c.instance_uuid == instance_uuid))
            if row is not None and (row["deleted"] or row["network_info"] == values["network_info"]):
                return row
            row = write_info_cache(session, instance_uuid, values["network_info"], row)
            self._instances.tell(session, {"uuid": instance_uuid, "deleted": 0, "revision": revision,
                                           "info_cache": row}, ["info_cache"])
        return row

    def _write_info_cache(self, session: RowSession, instance_uuid: str, network_info: str) -> dict[str, Any]:
        """Write the network info without reading what is there."""
        if not self._instances.count_change(session, instance_uuid):
            raise exception.InstanceInfoCacheNotFound(instance_uuid=instance_uuid)
        if session.update_rows(models.InstanceInfoCache, CACHES.c.instance_uuid == instance_uuid,
                               CACHES.c.deleted == 0, network_info=network_info):
            return {"instance_uuid": instance_uuid, "network_info": network_info, "updated_at": session.now,
                    "deleted": 0}
        row = session.one(sqlalchemy.select(CACHES).where(CACHES.c.instance_uuid == instance_uuid))
        return row or write_info_cache(session, instance_uuid, network_info)

    @operation
    def instance_info_cache_delete(self, context: Any, instance_uuid: str) -> None:
        """Soft-delete the cached network info of an instance."""
        with self.store.writer(context) as session:
            session.soft_delete(models.InstanceInfoCache, CACHES.c.instance_uuid == instance_uuid)

    # -- faults --

    @operation
    def instance_fault_create(self, context: Any, values: Mapping[str, Any], replicate: bool = True) -> dict[str, Any]:
        """Insert a fault; a message longer than its column is cut. Raises InstanceNotFound."""
        values = {**values, "message": (values.get("message") or "")[:255]}
        uuid = values["instance_uuid"]
        with self.store.writer(context) as session:
            revision = self._instances.bump_revision(session, uuid)
            if revision is None:
                raise exception.InstanceNotFound(instance_id=uuid)
            try:
                row = session.insert_row(models.InstanceFault, values)
            except oslo_db.exception.DBReferenceError as exc:
                raise exception.InstanceNotFound(instance_id=uuid) from exc
            if replicate and self.db.has_parents(context):
                sent = {name: row[name] for name in ("instance_uuid", "code", "message", "details", "host")}
                sent["created_at"] = wire.iso_text(row["created_at"])
                self.db.part_of("outbox_add").write(session, "instance_fault", "instance_fault_create_at_top",
                                                    {"instance_fault": sent}, uuid, revision)
        return row

    @operation
    def instance_fault_get_by_instance_uuids(self, context: Any,
                                             instance_uuids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Return {uuid: faults, latest first} for every one of the uuids."""
        found: dict[str, list] = {uuid: [] for uuid in instance_uuids}
        with self.store.reader(context) as session:
            for uuids in chunks(found):
                for row in session.all(sqlalchemy.select(FAULTS).where(
                        FAULTS.c.instance_uuid.in_(uuids), *visible(models.InstanceFault, context)).order_by(
                        FAULTS.c.created_at.desc(), FAULTS.c.id.desc())):
                    found[row["instance_uuid"]].append(row)
        return found
