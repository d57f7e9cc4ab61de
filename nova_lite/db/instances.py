"""Instances."""

import datetime
import functools
import json
import uuid as uuid_module
from collections.abc import Collection, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import instance_filters, models, whole_instance
from nova_lite.db.instance_joins import ALL_JOINS, join_parts
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, naive, own_project, visible
from nova_lite.objects import Instance, task_states, vm_states

INSTANCES = models.Instance.__table__

# What the cells above follow (seams §5.1, "up").
REPLICATED = frozenset((
    "vm_state", "task_state", "power_state", "host", "node", "launched_on", "memory_mb", "vcpus", "root_gb",
    "ephemeral_gb", "instance_type_id", "progress", "image_ref", "kernel_id", "ramdisk_id", "os_type", "architecture",
    "vm_mode", "root_device_name", "default_ephemeral_device", "default_swap_device", "config_drive", "hostname",
    "availability_zone", "access_ip_v4", "access_ip_v6", "auto_disk_config", "launched_at", "terminated_at",
    "ephemeral_key_uuid", "system_metadata", "info_cache", "flavor", "old_flavor", "new_flavor", "pci_requests",
    "numa_topology", "vcpu_model", "migration_context"))

_FLAVOR_KEYS = {"cur": "flavor", "old": "old_flavor", "new": "new_flavor"}
_PARTS = frozenset(ALL_JOINS)
_PAIRS = {"metadata": models.InstanceMetadata, "system_metadata": models.InstanceSystemMetadata}
_CHANGES = {f"{name}_changes": name for name in _PAIRS}
_NOT_COLUMNS = (*_PARTS, *_CHANGES, "expected_task_state", "expected_vm_state")
_DELETED_WITH = (models.InstanceInfoCache, models.InstanceMetadata, models.SecurityGroupInstanceAssociation)


# Made once, and so prepared once for each set of columns: those are what the parameters name.
_UPDATE_ONE = sqlalchemy.update(INSTANCES).where(INSTANCES.c.id == sqlalchemy.bindparam("id_of_row"))


@functools.cache
def _by(key: str, locks: bool) -> sqlalchemy.Select:
    """Return the statement that reads an instance by a unique column: made once, and so prepared once."""
    statement = sqlalchemy.select(INSTANCES).where(INSTANCES.c[key] == sqlalchemy.bindparam("wanted"))
    return statement.with_for_update() if locks else statement


def _is_seen(row: Mapping[str, Any], context: Any) -> bool:
    """Return whether a context sees a row: as store.visible and store.own_project, of a row that was read."""
    wanted = context.read_deleted if context is not None else "no"
    if wanted != "yes" and bool(row["deleted"]) is (wanted == "no"):
        return False
    return context is None or context.is_admin or not context.project_id or row["project_id"] == context.project_id


def _seen(row: dict[str, Any] | None, context: Any, wanted: Any) -> dict[str, Any]:
    if row is None or not _is_seen(row, context):
        raise exception.InstanceNotFound(instance_id=wanted)
    return row


class Instances(Part):
    """Rows of instances with their metadata, info cache, flavors and security groups."""

    # -- reading --

    @operation
    def instance_get_by_uuid(self, context: Any, uuid: str,
                             columns_to_join: Collection[str] | None = None) -> dict[str, Any]:
        """Return an instance; joined parts are ``metadata``, ``system_metadata`` (dicts), ``info_cache``, ``extra``
        (rows), ``security_groups`` ([{'name'}]) and, only when asked for, ``fault``.

        Inside a writing transaction the row is locked until its end. Raises InstanceNotFound.
        """
        with self.store.reader(context) as session:
            if columns_to_join is not None or session.may_write:
                return self._joined(session, [self._row(session, context, "uuid", uuid)], columns_to_join)[0]
            return _seen(whole_instance.read(session, uuid), context, uuid)

    @operation
    def instance_get(self, context: Any, instance_id: int,
                     columns_to_join: Collection[str] | None = None) -> dict[str, Any]:
        """Return an instance by its local row id. Raises InstanceNotFound."""
        with self.store.reader(context) as session:
            row = self._row(session, context, "id", instance_id)
            return self._joined(session, [row], columns_to_join)[0]

    def _row(self, session: RowSession, context: Any, key: str, wanted: Any) -> dict[str, Any]:
        return _seen(session.one(_by(key, session.may_write), {"wanted": wanted}), context, wanted)

    def _joined(self, session: RowSession, rows: list[dict[str, Any]],
                columns_to_join: Collection[str] | None) -> list[dict[str, Any]]:
        join_parts(session, rows, ALL_JOINS if columns_to_join is None else columns_to_join)
        return rows

    def _all(self, context: Any, *criteria: Any, columns_to_join: Collection[str] | None = None,
             read_deleted: str | None = None) -> list[dict[str, Any]]:
        statement = sqlalchemy.select(INSTANCES).where(
            *criteria, *visible(models.Instance, context, read_deleted)).order_by(INSTANCES.c.id)
        with self.store.reader(context) as session:
            return self._joined(session, session.all(statement), columns_to_join)

    @operation
    def instance_get_all(self, context: Any, columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return every instance the context sees."""
        return self._all(context, *own_project(models.Instance, context), columns_to_join=columns_to_join)

    @operation
    def instance_get_all_by_host(self, context: Any, host: str,
                                 columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return the instances of a host."""
        return self._all(context, INSTANCES.c.host == host, columns_to_join=columns_to_join)

    @operation
    def instance_get_all_by_host_and_node(self, context: Any, host: str, node: str,
                                          columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return the instances of one node of a host."""
        return self._all(context, INSTANCES.c.host == host, INSTANCES.c.node == node, columns_to_join=columns_to_join)

    @operation
    def instance_get_all_by_host_and_not_type(self, context: Any, host: str,
                                              type_id: int | None = None) -> list[dict[str, Any]]:
        """Return the instances of a host whose flavor is not the one of a local id."""
        return self._all(context, INSTANCES.c.host == host, INSTANCES.c.instance_type_id != type_id)

    @operation
    def instance_get_all_by_uuids(self, context: Any, uuids: Collection[str],
                                  columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return those of some instances that exist."""
        return self._all(context, INSTANCES.c.uuid.in_(list(uuids)), columns_to_join=columns_to_join)

    @operation
    def instance_get_all_by_security_groups(self, context: Any, group_ids: Collection[int],
                                            columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return the instances that are in one of some security groups."""
        links = models.SecurityGroupInstanceAssociation.__table__
        members = sqlalchemy.select(links.c.instance_uuid).where(
            links.c.security_group_id.in_(list(group_ids)), links.c.deleted == 0)
        return self._all(context, INSTANCES.c.uuid.in_(members), columns_to_join=columns_to_join)

    @operation
    def instance_get_all_not_cleaned(self, context: Any, host: str, limit: int) -> list[dict[str, Any]]:
        """Return deleted instances of a host that may have left something there, the first ones."""
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(INSTANCES).where(
                INSTANCES.c.host == host, INSTANCES.c.cleaned == 0, INSTANCES.c.deleted != 0).order_by(
                INSTANCES.c.id).limit(limit))
            return self._joined(session, rows, None)

    @operation
    def instance_get_all_hung_in_rebooting(self, context: Any, reboot_window: int,
                                           host: str | None = None) -> list[dict[str, Any]]:
        """Return the instances (of a host) that were last changed ``reboot_window`` seconds ago and still reboot."""
        limit = self.store.now() - datetime.timedelta(seconds=reboot_window)
        rebooting = (task_states.REBOOTING, task_states.REBOOT_PENDING, task_states.REBOOT_STARTED)
        criteria = [INSTANCES.c.updated_at <= limit, INSTANCES.c.task_state.in_(rebooting)]
        if host is not None:
            criteria.append(INSTANCES.c.host == host)
        return self._all(context, *criteria)

    @operation
    def instance_get_active_by_window_joined(self, context: Any, begin: datetime.datetime,
                                             end: datetime.datetime | None = None, project_id: str | None = None,
                                             host: str | None = None) -> list[dict[str, Any]]:
        """Return the instances that existed at some time between ``begin`` and ``end``, deleted ones included."""
        criteria = [sqlalchemy.or_(INSTANCES.c.terminated_at.is_(None), INSTANCES.c.terminated_at > naive(begin))]
        if end is not None:
            criteria.append(INSTANCES.c.launched_at < naive(end))
        if project_id is not None:
            criteria.append(INSTANCES.c.project_id == project_id)
        if host is not None:
            criteria.append(INSTANCES.c.host == host)
        return self._all(context, *criteria, read_deleted="yes")

    @operation
    def instance_get_all_by_filters(self, context: Any, filters: Mapping[str, Any], sort_key: str = "created_at",
                                    sort_dir: str = "desc", limit: int | None = None, marker: str | None = None,
                                    columns_to_join: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return the instances that match every filter, sorted by ``sort_key``, then creation, then id.

        Deleted rows are included unless the filter ``deleted`` says otherwise (True also finds soft-deleted ones).
        Exact, a list being alternatives: project_id, user_id, image_ref, vm_state, instance_type_id, uuid, metadata,
        host, task_state, system_metadata and other columns that hold no text; ``changes-since`` is a time; texts are
        regular expressions. ``marker`` is the uuid after which the page begins. Raises MarkerNotFound,
        InvalidInput for an unknown column.
        """
        with self.store.reader(context) as session:
            rows = instance_filters.query(session, context, filters, sort_key, sort_dir, limit, marker)
            return self._joined(session, rows, columns_to_join)

    @operation
    def instance_count_by_project(self, context: Any, project_id: str,
                                  user_id: str | None = None) -> dict[str, int]:
        """Return {'instances', 'cores', 'ram'} in use by a project; soft-deleted instances do not count."""
        columns = INSTANCES.c
        criteria = [columns.deleted == 0, columns.project_id == project_id,
                    sqlalchemy.or_(columns.vm_state.is_(None), columns.vm_state != vm_states.SOFT_DELETED)]
        if user_id is not None:
            criteria.append(columns.user_id == user_id)
        total = sqlalchemy.func.coalesce
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(
                sqlalchemy.func.count(columns.id).label("instances"),
                total(sqlalchemy.func.sum(columns.vcpus), 0).label("cores"),
                total(sqlalchemy.func.sum(columns.memory_mb), 0).label("ram")).where(*criteria))
        return {name: int(value) for name, value in row.items()}

    # -- writing --

    @operation
    def instance_create(self, context: Any, values: Mapping[str, Any], replicate: bool = True) -> dict[str, Any]:
        """Insert an instance with its parts and return it.

        ``metadata``, ``system_metadata``: dicts; ``info_cache``: {'network_info': JSON text}; ``extra``: {'flavor':
        {'cur', 'old', 'new': objects in wire form}, others: JSON text}; ``security_groups``: names, made when missing.
        Raises InstanceExists for a uuid that is taken or a host name that must be unique.
        """
        values = dict(values)
        values.setdefault("uuid", str(uuid_module.uuid4()))
        columns = {name: value for name, value in values.items() if name not in _NOT_COLUMNS}
        columns["revision"] = (columns.get("revision") or 0) + 1
        with self.store.writer(context) as session:
            self._check_unique_hostname(session, columns.get("hostname"), columns)
            try:
                with session.begin_nested():
                    row = session.insert_row(models.Instance, clean_columns(columns))
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.InstanceExists(name=values["uuid"]) from exc
            joined = self._insert_parts(session, context, row, values)
            if replicate and self.db.has_parents(context):
                self.tell(session, joined, _sent_on_create(joined))
            return joined

    def _insert_parts(self, session: RowSession, context: Any, row: dict[str, Any],
                      values: dict[str, Any]) -> dict[str, Any]:
        """Insert what belongs to an instance; return the row joined with it."""
        uuid, joined = row["uuid"], dict(row)
        for name, model in _PAIRS.items():
            joined[name] = dict(values.get(name) or {})
            session.insert_rows(model, [{"key": key, "value": value, "instance_uuid": uuid}
                                        for key, value in joined[name].items()])
        cache = values.get("info_cache") or {}
        joined["info_cache"] = session.insert_row(models.InstanceInfoCache, {
            "instance_uuid": uuid, "network_info": cache.get("network_info") or "[]"})
        joined["extra"] = session.insert_row(models.InstanceExtra, {
            "instance_uuid": uuid, **_merged_extra({}, values.get("extra"))})
        joined["security_groups"] = []
        if values.get("security_groups"):
            self.db.part_of("security_group_get").associate(session, context, row, values["security_groups"])
            self._joined(session, [joined], ("security_groups",))
        return joined

    @operation
    def instance_update(self, context: Any, uuid: str, values: Mapping[str, Any], expected_task_state: Any = None,
                        expected_vm_state: Any = None, replicate: bool = True,
                        columns_to_join: Collection[str] | None = None) -> dict[str, Any]:
        """Change an instance and return it, with the parts named in ``columns_to_join`` (all by default) or changed.

        ``values`` as for instance_create; ``metadata`` and ``system_metadata`` replace what is stored,
        ``metadata_changes`` and ``system_metadata_changes`` set single keys, or remove them by None. Expected states,
        a value or a collection, are compared inside the transaction; they may also be keys of ``values``, where None
        means idle. Raises UnexpectedTaskStateError, UnexpectedVMStateError, InstanceNotFound,
        InstanceExists.
        """
        return self._update(context, uuid, values, expected_task_state, expected_vm_state, replicate,
                            columns_to_join)[1]

    @operation
    def instance_update_and_get_original(self, context: Any, uuid: str, values: Mapping[str, Any],
                                         expected_task_state: Any = None, expected_vm_state: Any = None,
                                         replicate: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
        """Change an instance and return (as it was, as it is). As instance_update."""
        return self._update(context, uuid, values, expected_task_state, expected_vm_state, replicate, None)

    def _update(self, context: Any, uuid: str, values: Mapping[str, Any], expected_task_state: Any,
                expected_vm_state: Any, replicate: bool,
                columns_to_join: Collection[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        values = dict(values)
        joins = {*(ALL_JOINS if columns_to_join is None else columns_to_join), *_PARTS.intersection(values),
                 *(name for changes, name in _CHANGES.items() if changes in values)}
        expected_task_state = values.pop("expected_task_state", _check_of(expected_task_state))
        expected_vm_state = values.pop("expected_vm_state", _check_of(expected_vm_state))
        with self.store.writer(context) as session:
            row = self._row(session, context, "uuid", uuid)
            _check_expected(row, "task_state", expected_task_state)
            _check_expected(row, "vm_state", expected_vm_state)
            old = self._joined(session, [dict(row)], sorted(joins))[0]
            if values.get("hostname") and values["hostname"] != row["hostname"]:
                self._check_unique_hostname(session, values["hostname"], {**row, **values})
            new = self._write(session, context, old, values)
            if replicate and self.db.has_parents(context):
                changed = _changed_fields(old, new, values) & REPLICATED
                if changed:
                    self.tell(session, new, changed)
            return old, new

    def _write(self, session: RowSession, context: Any, old: dict[str, Any],
               values: dict[str, Any]) -> dict[str, Any]:
        uuid = old["uuid"]
        columns = clean_columns({name: value for name, value in values.items() if name not in _NOT_COLUMNS})
        columns["revision"] = old["revision"] + 1
        session.execute(_UPDATE_ONE, {"updated_at": session.now, **columns, "id_of_row": old["id"]})
        new = {**old, "updated_at": session.now, **{name: naive(value) for name, value in columns.items()}}
        for name, model in _PAIRS.items():
            if name in values:
                new[name] = replace_pairs(session, model, uuid, old[name], values[name] or {})
            elif f"{name}_changes" in values:
                pairs = {**old[name], **values[f"{name}_changes"]}
                new[name] = replace_pairs(session, model, uuid, old[name], {
                    key: value for key, value in pairs.items() if key not in values[f"{name}_changes"]
                    or value is not None})
        if "info_cache" in values and not _has_cache(old, values["info_cache"]["network_info"]):
            new["info_cache"] = write_info_cache(session, uuid, values["info_cache"]["network_info"])
        if "extra" in values:
            new["extra"] = _write_extra(session, uuid, old.get("extra"), values["extra"])
        if "security_groups" in values:
            self.db.part_of("security_group_get").associate(session, context, old, values["security_groups"])
            new["security_groups"] = [{"name": name} for name in values["security_groups"]]
        return new

    def _check_unique_hostname(self, session: RowSession, hostname: str | None, row: Mapping[str, Any]) -> None:
        scope = self.conf.osapi_compute_unique_server_name_scope
        if not scope or not hostname:
            return
        columns = INSTANCES.c
        criteria = [columns.deleted == 0, columns.hostname == hostname, columns.uuid != row["uuid"]]
        if scope == "project":
            criteria.append(columns.project_id == row.get("project_id"))
        if session.one(sqlalchemy.select(columns.id).where(*criteria).limit(1)) is not None:
            raise exception.InstanceExists(name=hostname)

    @operation
    def instance_destroy(self, context: Any, uuid: str, constraint: Mapping[str, Any] | None = None,
                         replicate: bool = True) -> dict[str, Any]:
        """Soft-delete an instance with its info cache, metadata and group memberships, and return it.

        system_metadata stays: events about deleted instances need it. ``constraint``: {column: value or collection}
        the row has to meet. Raises ConstraintNotMet, InstanceNotFound.
        """
        with self.store.writer(context) as session:
            row = self._row(session, context, "uuid", uuid)
            if row["deleted"]:
                raise exception.InstanceNotFound(instance_id=uuid)
            _check_constraint(row, constraint or {})
            joined = self._joined(session, [row], None)[0]
            revision = row["revision"] + 1
            session.update_rows(models.Instance, INSTANCES.c.id == row["id"], touch=False, deleted=row["id"],
                                deleted_at=session.now, revision=revision)
            for model in _DELETED_WITH:
                session.soft_delete(model, model.__table__.c.instance_uuid == uuid)
            joined.update(deleted=row["id"], deleted_at=session.now, revision=revision)
            replication = self.db.part_of("outbox_add")
            replication.bury(session, uuid, revision)
            if replicate and self.db.has_parents(context):
                gone = Instance(uuid=uuid, deleted=True, deleted_at=session.now)
                replication.write(session, "instance_destroy", "instance_destroy_at_top", {"instance": gone}, uuid,
                                  revision)
            return joined

    # -- replication --

    def tell(self, session: RowSession, row: dict[str, Any], fields: Collection[str]) -> None:
        """Add to the outbox, inside a transaction, what the named fields of an instance are now."""
        told = Instance._from_row(None, {name: row[name] for name in (*fields, "deleted", "extra") if name in row})
        part = Instance(uuid=row["uuid"])
        for name in fields:
            if name in told:
                setattr(part, name, told[name])
        part._changed_fields.discard("uuid")
        self.db.part_of("outbox_add").write(session, "instance_update", "instance_update_at_top", {"instance": part},
                                            row["uuid"], row["revision"])

    def bump_revision(self, session: RowSession, uuid: str) -> int | None:
        """Lock an instance, count a change that concerns it, and return its revision; None without such a row."""
        if not self.count_change(session, uuid):
            return None
        return session.scalar(sqlalchemy.select(INSTANCES.c.revision).where(INSTANCES.c.uuid == uuid))

    def count_change(self, session: RowSession, uuid: str) -> bool:
        """Lock an instance and count a change that concerns it; return whether there is such a row."""
        return bool(session.update_rows(models.Instance, INSTANCES.c.uuid == uuid, touch=False,
                                        revision=INSTANCES.c.revision + 1))


class _NoCheck:
    """Stands for: any state will do."""


_NO_CHECK = _NoCheck()


def _check_of(expected: Any) -> Any:
    """As a keyword None means no check; inside ``values`` it means idle."""
    return _NO_CHECK if expected is None else expected


def _check_expected(row: dict[str, Any], column: str, expected: Any) -> None:
    if expected is _NO_CHECK:
        return
    allowed = list(expected) if isinstance(expected, list | tuple | set | frozenset) else [expected]
    actual = row[column]
    if actual in allowed or (actual == task_states.IMAGE_SNAPSHOT_PENDING and task_states.IMAGE_SNAPSHOT in allowed):
        return
    if column == "vm_state":
        raise exception.UnexpectedVMStateError(expected=allowed, actual=actual)
    if actual == task_states.DELETING:
        raise exception.UnexpectedDeletingTaskStateError(expected=allowed, actual=actual)
    raise exception.UnexpectedTaskStateError(expected=allowed, actual=actual)


def _check_constraint(row: dict[str, Any], constraint: Mapping[str, Any]) -> None:
    for column, wanted in constraint.items():
        allowed = wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        if row[column] not in allowed:
            raise exception.ConstraintNotMet


def clean_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Return column values without what is nobody's to write."""
    columns = {name: naive(value) for name, value in columns.items() if name not in ("id", "name")}
    columns.pop("deleted", None)
    if "cleaned" in columns:
        columns["cleaned"] = int(columns["cleaned"] or 0)
    for name in ("access_ip_v4", "access_ip_v6"):
        if columns.get(name) is not None:
            columns[name] = str(columns[name])
    return columns


def _changed_fields(old: dict[str, Any], new: dict[str, Any], values: Mapping[str, Any]) -> set[str]:
    """Return the names of object fields that differ."""
    named = {_CHANGES.get(name, name) for name in values}
    changed = {name for name in named if name not in ("extra", "info_cache") and old.get(name) != new.get(name)}
    if "info_cache" in values:
        changed.add("info_cache")
    for name, value in (values.get("extra") or {}).items():
        if name == "flavor":
            changed.update(_FLAVOR_KEYS[key] for key in _flavors(value))
        else:
            changed.add(name)
    return changed


def _sent_on_create(row: dict[str, Any]) -> set[str]:
    """A cell above that does not know the instance makes it of this: everything that is not local."""
    local = {"id", "created_at", "updated_at", "deleted_at", "deleted", "cell_name", "cleaned", "scheduled_at",
             "revision", "replicated_revision", "extra", "security_groups"}
    return (set(row) - local) | set(_FLAVOR_KEYS.values())


def replace_pairs(session: RowSession, model: Any, uuid: str, old: Mapping[str, Any],
                  new: Mapping[str, Any]) -> dict[str, Any]:
    """Make the stored pairs of an instance the given ones; return them."""
    table = model.__table__
    gone = [key for key in old if key not in new]
    if gone:
        session.soft_delete(model, table.c.instance_uuid == uuid, table.c.key.in_(gone))
    for key in sorted(key for key in new if key in old and old[key] != new[key]):
        session.update_rows(model, table.c.instance_uuid == uuid, table.c.key == key, table.c.deleted == 0,
                            value=new[key])
    session.insert_rows(model, [{"key": key, "value": value, "instance_uuid": uuid}
                                for key, value in new.items() if key not in old])
    return dict(new)


def write_info_cache(session: RowSession, uuid: str, network_info: str | None,
                     before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write the network info of an instance, whether there is a row or not, and return the row; `before`: as it was."""
    table = models.InstanceInfoCache.__table__
    if before is None:
        before = session.one(sqlalchemy.select(table).where(table.c.instance_uuid == uuid))
    if before is None:
        return session.insert_row(models.InstanceInfoCache, {"instance_uuid": uuid, "network_info": network_info})
    session.update_rows(models.InstanceInfoCache, table.c.instance_uuid == uuid, network_info=network_info)
    return {**before, "network_info": network_info, "updated_at": session.now}


def _has_cache(row: Mapping[str, Any], network_info: str | None) -> bool:
    """Return whether an instance's network info, which was joined, is this already."""
    cache = row.get("info_cache")
    return bool(cache) and not cache["deleted"] and cache["network_info"] == network_info


def _write_extra(session: RowSession, uuid: str, old: dict[str, Any] | None,
                 changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = _merged_extra(old or {}, changes)
    if old and all(old.get(name) == value for name, value in merged.items()):
        return old
    if old:
        session.update_rows(models.InstanceExtra, models.InstanceExtra.__table__.c.instance_uuid == uuid, **merged)
        return {**old, **merged}
    return session.insert_row(models.InstanceExtra, {"instance_uuid": uuid, **merged})


def _merged_extra(old: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the changed columns of the extra row; of the flavors those that are not named stay."""
    merged = dict(changes or {})
    if "flavor" in merged:
        flavors = {**_flavors(old.get("flavor")), **_flavors(merged["flavor"])}
        merged["flavor"] = json.dumps({key: flavors.get(key) for key in _FLAVOR_KEYS})
    return merged


def _flavors(value: Any) -> dict[str, Any]:
    return json.loads(value) if isinstance(value, str) else dict(value or {})
