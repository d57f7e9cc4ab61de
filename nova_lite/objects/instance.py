"""The instance: what a user calls a server."""

import contextlib
import copy
import datetime
import json
from collections.abc import Collection, Iterator
from typing import Any

from nova_lite import exception
from nova_lite.objects import base, fields, instance_legacy, wire

DEFAULT_NAME_TEMPLATE = "instance-%08x"
BLOCK_SYNC_FLAG = "!!"

FLAVOR_FIELDS = {"cur": "flavor", "old": "old_flavor", "new": "new_flavor"}
OPAQUE_EXTRAS = ("pci_requests", "numa_topology", "vcpu_model", "migration_context")
JOINED = ("metadata", "system_metadata", "info_cache", "security_groups", "fault",
          *FLAVOR_FIELDS.values(), *OPAQUE_EXTRAS)
_JOINED_NAMES = frozenset(JOINED)
_TRACKED_DICTS = ("metadata", "system_metadata")
_NESTED = ("info_cache", "fault", *FLAVOR_FIELDS.values())


@base.register
class Instance(base.Persistent, base.NovaObject):
    """One instance (seams §5.1). Two objects of one uuid are equal.

    Joined parts (metadata, flavor, info cache …) that were not loaded are fetched when first read, if the object has
    a context that belongs to a cell.
    """

    VERSION = "2.0"
    beyond_floor = frozenset(("scheduled_at", "security_groups", "revision", "replicated_revision"))

    fields = {
        "id": fields.Integer(),
        "user_id": fields.Text(nullable=True),
        "project_id": fields.Text(nullable=True),
        "image_ref": fields.Text(nullable=True),
        "kernel_id": fields.Text(nullable=True),
        "ramdisk_id": fields.Text(nullable=True),
        "hostname": fields.Text(nullable=True),
        "launch_index": fields.Integer(nullable=True),
        "key_name": fields.Text(nullable=True),
        "key_data": fields.Secret(nullable=True),
        "power_state": fields.Integer(nullable=True),
        "vm_state": fields.Text(nullable=True),
        "task_state": fields.Text(nullable=True),
        "memory_mb": fields.Integer(nullable=True),
        "vcpus": fields.Integer(nullable=True),
        "root_gb": fields.Integer(nullable=True),
        "ephemeral_gb": fields.Integer(nullable=True),
        "ephemeral_key_uuid": fields.Uuid(nullable=True),
        "host": fields.Text(nullable=True),
        "node": fields.Text(nullable=True),
        "instance_type_id": fields.Integer(nullable=True),
        "user_data": fields.Secret(nullable=True),
        "reservation_id": fields.Text(nullable=True),
        "scheduled_at": fields.DateTime(nullable=True),
        "launched_at": fields.DateTime(nullable=True),
        "terminated_at": fields.DateTime(nullable=True),
        "availability_zone": fields.Text(nullable=True),
        "display_name": fields.Text(nullable=True),
        "display_description": fields.Text(nullable=True),
        "launched_on": fields.Text(nullable=True),
        "locked": fields.Boolean(default=False),
        "locked_by": fields.Text(nullable=True),
        "os_type": fields.Text(nullable=True),
        "architecture": fields.Text(nullable=True),
        "vm_mode": fields.Text(nullable=True),
        "uuid": fields.Uuid(),
        "root_device_name": fields.Text(nullable=True),
        "default_ephemeral_device": fields.Text(nullable=True),
        "default_swap_device": fields.Text(nullable=True),
        "config_drive": fields.Text(nullable=True),
        "access_ip_v4": fields.Address(nullable=True),
        "access_ip_v6": fields.Address(nullable=True),
        "auto_disk_config": fields.Boolean(default=False),
        "progress": fields.Integer(nullable=True),
        "shutdown_terminate": fields.Boolean(default=False),
        "disable_terminate": fields.Boolean(default=False),
        "cell_name": fields.Text(nullable=True),
        "cleaned": fields.Boolean(default=False),
        "metadata": fields.TextDict(),
        "system_metadata": fields.TextDict(),
        "info_cache": fields.Nested("InstanceInfoCache", nullable=True),
        "security_groups": fields.GroupNames(nullable=True),
        "fault": fields.Nested("InstanceFault", nullable=True),
        "flavor": fields.Nested("Flavor", nullable=True),
        "old_flavor": fields.Nested("Flavor", nullable=True),
        "new_flavor": fields.Nested("Flavor", nullable=True),
        "pci_requests": fields.Opaque(nullable=True),
        "numa_topology": fields.Opaque(nullable=True),
        "vcpu_model": fields.Opaque(nullable=True),
        "migration_context": fields.Opaque(nullable=True),
        "revision": fields.Integer(default=0),
        "replicated_revision": fields.Integer(nullable=True),
    }

    def __init__(self, context: Any = None, **kwargs: Any):
        super().__init__(context, **kwargs)
        self._clean_dicts: dict[str, dict] = {}
        self._dicts_of_row: set[str] = set()  # what was read from the row, of which a save names single keys
        self._sync_blocked = False
        self._revision_read: int | None = None  # of the row in this database, None for what came otherwise

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instance) or "uuid" not in self or "uuid" not in other:
            return self is other
        return self.uuid == other.uuid

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.uuid) if "uuid" in self else id(self)

    def __repr__(self) -> str:
        known = {name: self.get(name) for name in ("vm_state", "task_state", "host", "cell_name") if name in self}
        return f"<Instance {self.get('uuid')} {known}>"

    # -- what changed: dicts are edited in place --

    def obj_what_changed(self) -> set[str]:
        """Return the names of changed fields, dicts edited in place included."""
        changes = super().obj_what_changed()
        for name in _TRACKED_DICTS:
            if name in self and name in self._clean_dicts and self._clean_dicts[name] != getattr(self, name):
                changes.add(name)
        return changes

    def obj_reset_changes(self, fields: Collection[str] | None = None, recursive: bool = False) -> None:
        """Forget what changed, of ``fields`` or of all, in nested objects too."""
        wanted = set(self.fields if fields is None else fields)
        self._changed_fields -= wanted
        for name in wanted.intersection(_TRACKED_DICTS):
            if name in self:
                self._clean_dicts[name] = dict(getattr(self, name))
        for name in wanted.intersection(_NESTED):
            if self.get(name) is not None:
                self.get(name).obj_reset_changes()

    def __deepcopy__(self, memo: dict) -> "Instance":
        clone = super().__deepcopy__(memo)
        clone._clean_dicts = copy.deepcopy(self._clean_dicts)
        clone._dicts_of_row = set(self._dicts_of_row)
        clone._sync_blocked = self._sync_blocked
        clone._revision_read = self._revision_read
        return clone

    # -- names --

    @property
    def name(self) -> str:
        """The instance's name on its host, made of ``instance_name_template``; local to a cell."""
        template = DEFAULT_NAME_TEMPLATE
        if self._context is not None and self._context.is_bound and self._context.services.conf is not None:
            template = self._context.services.conf.instance_name_template
        return name_of(template, self)

    # -- reading from rows --

    def _fill(self, row: dict[str, Any]) -> None:
        self._fill_columns(row, but=_JOINED_NAMES)
        self.deleted = bool(row["deleted"])
        self._fill_joined(row)
        self._revision_read = row.get("revision")
        self.obj_reset_changes()

    def _fill_joined(self, row: dict[str, Any]) -> None:
        from nova_lite.objects.instance_fault import InstanceFault
        from nova_lite.objects.instance_info_cache import InstanceInfoCache

        self._dicts_of_row |= row.keys() & set(_TRACKED_DICTS)
        for name in (*_TRACKED_DICTS, "security_groups"):
            if name in row:
                setattr(self, name, row[name] if row[name] is not None else ({} if name in _TRACKED_DICTS else []))
        for name, cls in (("info_cache", InstanceInfoCache), ("fault", InstanceFault)):
            if name in row:
                setattr(self, name, cls._from_row(self._context, row[name]) if row[name] else None)
        if "extra" in row:
            self._fill_extra(row["extra"] or {})

    def _fill_extra(self, extra: dict[str, Any]) -> None:
        flavors = json.loads(extra.get("flavor") or "{}")
        for key, name in FLAVOR_FIELDS.items():
            setattr(self, name, wire.from_wire(self._context, flavors.get(key)))
        for name in OPAQUE_EXTRAS:
            text = extra.get(name)
            setattr(self, name, wire.OpaqueObject(json.loads(text)) if text else None)

    def obj_load_attr(self, attrname: str) -> None:
        """Load a part that was left out. Raises OrphanedObjectError without a context, InstanceNotFound."""
        if self._context is None or "uuid" not in self or attrname == "id":
            return super().obj_load_attr(attrname)
        context = self._context.elevated(read_deleted="yes")
        columns = [_join_name(attrname)] if attrname in JOINED else []
        row = self._db.instance_get_by_uuid(context, self.uuid, columns_to_join=columns)
        loaded = Instance(self._context)
        loaded._fill(row)
        value = loaded.get(attrname)
        dirty = set(self._changed_fields)
        setattr(self, attrname, value)
        self._changed_fields = dirty
        if attrname in _TRACKED_DICTS:
            self._clean_dicts[attrname] = dict(value)
            self._dicts_of_row.add(attrname)
        return None

    @classmethod
    def get_by_uuid(cls, context: Any, uuid: str, expected_attrs: Collection[str] | None = None) -> "Instance":
        """Return the instance; every joined part but the fault unless ``expected_attrs`` names the wanted ones.

        Raises InstanceNotFound.
        """
        row = context.services.db.instance_get_by_uuid(context, uuid, columns_to_join=_joins(expected_attrs))
        return cls._from_row(context, row)

    @classmethod
    def get_by_id(cls, context: Any, instance_id: int, expected_attrs: Collection[str] | None = None) -> "Instance":
        """Return the instance of a local row id. Raises InstanceNotFound."""
        row = context.services.db.instance_get(context, instance_id, columns_to_join=_joins(expected_attrs))
        return cls._from_row(context, row)

    def refresh(self) -> None:
        """Read the row again; unsaved changes are lost. Raises InstanceNotFound."""
        row = self._db.instance_get_by_uuid(self._context, self.uuid)
        # A part that was joined before may have been unset since; the flag that blocks syncing is not in the row.
        cell_name = self.get("cell_name")
        self._fill(row)
        if self._sync_blocked or (cell_name or "").startswith(BLOCK_SYNC_FLAG):
            self._set_cell_name_silently(BLOCK_SYNC_FLAG + (self.cell_name or ""))

    # -- writing --

    def create(self, replicate: bool = True) -> None:
        """Insert the row and its parts. Raises ObjectActionError when there is one, InstanceExists."""
        self._refuse_if_created()
        values = self._column_changes()
        row = self._db.instance_create(self._context, values, replicate=replicate and not self._blocks_sync())
        self._fill(row)
        self._tell_outbox(replicate)

    def save(self, expected_vm_state: Any = None, expected_task_state: Any = None, admin_state_reset: bool = False,
             replicate: bool = True) -> None:
        """Write what changed, if the row is in the expected states (a value or a collection; None: any; [None]: idle).

        In the API cell, changes of an instance that lives in another cell are sent down to it; ``replicate=False``
        and ``skip_cells_sync()`` keep them here. Raises UnexpectedTaskStateError, UnexpectedVMStateError,
        InstanceNotFound.
        """
        replicate = replicate and not self._blocks_sync()
        sent_down = self.obj_clone() if replicate and self._lives_below() else None
        values = self._column_changes()
        if values:
            if not self._save_as_read(values, expected_vm_state, expected_task_state, replicate):
                row = self._db.instance_update(
                    self._context, self.uuid, values, expected_vm_state=expected_vm_state,
                    expected_task_state=expected_task_state, replicate=replicate, columns_to_join=())
                blocked_name = self.cell_name if self._blocks_sync() else None
                self._fill(row)
                if blocked_name is not None:
                    self._set_cell_name_silently(blocked_name)
            self._tell_outbox(replicate)
        self.obj_reset_changes()
        if sent_down is not None:
            self._context.services.cells_notifier.instance_update_from_api(
                self._context, sent_down, expected_vm_state, expected_task_state, admin_state_reset)

    def _save_as_read(self, values: dict[str, Any], expected_vm_state: Any, expected_task_state: Any,
                      replicate: bool) -> bool:
        """Write to the row if it still is what this object was read from; return whether that was so."""
        if self._revision_read is None:
            return False
        written = self._db.instance_save(
            self._context, self.uuid, self._revision_read, values, expected_task_state=_states(expected_task_state),
            expected_vm_state=_states(expected_vm_state), replicate=replicate)
        if written is None:
            return False
        self._fill_columns(written)
        self._revision_read = written["revision"]
        return True

    def destroy(self, replicate: bool = True) -> None:
        """Soft-delete the row, if its host is still the one we know.

        Raises ObjectActionError when the row id is not known or the host has changed, InstanceNotFound.
        """
        if "id" not in self:
            raise exception.ObjectActionError(action="destroy", reason="already destroyed")
        constraint = {"host": self.host} if self.get("host") else None
        try:
            row = self._db.instance_destroy(self._context, self.uuid, constraint=constraint,
                                            replicate=replicate and not self._blocks_sync())
        except exception.ConstraintNotMet as exc:
            raise exception.ObjectActionError(action="destroy", reason="host changed") from exc
        self._fill(row)
        del self.id
        self._tell_outbox(replicate)

    def delete_metadata_key(self, key: str) -> None:
        """Remove one key of the metadata at once, without saving anything else."""
        self._db.instance_metadata_delete(self._context, self.uuid, key)
        self.metadata.pop(key, None)
        self._clean_dicts.setdefault("metadata", {}).pop(key, None)

    def _column_changes(self) -> dict[str, Any]:
        changed = self.obj_what_changed()
        values = {name: base._column_value(getattr(self, name)) for name in changed if name not in JOINED}
        values.pop("id", None)
        if "cell_name" in values:
            values["cell_name"] = _without_flag(values["cell_name"])
        values.update(self._dict_changes(changed))
        if "security_groups" in changed:
            values["security_groups"] = [group["name"] for group in self.security_groups or ()]
        if "info_cache" in changed and self.info_cache is not None and "network_info" in self.info_cache:
            values["info_cache"] = {"network_info": self.info_cache.network_info_text()}
        extra = self._extra_changes(changed)
        if extra:
            values["extra"] = extra
        return values

    def _dict_changes(self, changed: set[str]) -> dict[str, Any]:
        """Return the changed keys alone of what was read from the row: others may have changed the rest since."""
        values: dict[str, Any] = {}
        for name in changed.intersection(_TRACKED_DICTS):
            now = dict(getattr(self, name))
            if name not in self._dicts_of_row:
                values[name] = now
                continue
            before = self._clean_dicts[name]
            gone = dict.fromkeys(before.keys() - now.keys())
            values[f"{name}_changes"] = {**gone, **{key: value for key, value in now.items()
                                                    if key not in before or before[key] != value}}
        return values

    def _extra_changes(self, changed: set[str]) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        flavors = {key: wire.to_wire(getattr(self, name)) for key, name in FLAVOR_FIELDS.items() if name in changed}
        for primitive in flavors.values():
            if primitive is not None:
                primitive.pop(wire.CHANGES, None)
        if flavors:
            # Only the changed ones: the row keeps what this object may never have loaded.
            extra["flavor"] = flavors
        for name in OPAQUE_EXTRAS:
            if name in changed:
                value = getattr(self, name)
                extra[name] = json.dumps(value.primitive) if value is not None else None
        return extra

    # -- cells --

    @contextlib.contextmanager
    def skip_cells_sync(self) -> Iterator[None]:
        """Keep saves inside the block from being sent to other cells."""
        before, self._sync_blocked = self._sync_blocked, True
        name = self.get("cell_name") or ""
        already = name.startswith(BLOCK_SYNC_FLAG)
        if not already:
            self._set_cell_name_silently(BLOCK_SYNC_FLAG + name)
        try:
            yield
        finally:
            self._sync_blocked = before
            if not already:
                self._set_cell_name_silently(_without_flag(self.get("cell_name")))

    def _set_cell_name_silently(self, name: str | None) -> None:
        dirty = "cell_name" in self._changed_fields
        self.cell_name = name
        if not dirty:
            self._changed_fields.discard("cell_name")

    def _blocks_sync(self) -> bool:
        return self._sync_blocked or (self.get("cell_name") or "").startswith(BLOCK_SYNC_FLAG)

    def _lives_below(self) -> bool:
        conf = self._context.services.conf if self._context is not None else None
        return bool(conf is not None and conf.cells.enable and conf.cells.cell_type == "api"
                    and self.get("cell_name") not in (None, "", conf.cells.name))

    def _tell_outbox(self, replicate: bool) -> None:
        services = self._context.services
        if replicate and services.cells_notifier is not None and services.db.has_parents(self._context):
            services.cells_notifier.outbox_ready(self._context)

    # -- flavors --

    def get_flavor(self, namespace: str | None = None) -> Any:
        """Return the flavor: the current one, or the one of ``namespace`` 'old' or 'new'."""
        return getattr(self, f"{namespace}_flavor" if namespace else "flavor")

    def set_flavor(self, flavor: Any, namespace: str | None = None) -> None:
        """Set the flavor, or the one of ``namespace`` 'old' or 'new'."""
        setattr(self, f"{namespace}_flavor" if namespace else "flavor", flavor)

    def delete_flavor(self, namespace: str) -> None:
        """Clear the flavor of ``namespace`` 'old' or 'new'."""
        setattr(self, f"{namespace}_flavor", None)

    # -- legacy --

    def to_legacy_dict(self) -> dict[str, Any]:
        """Return the plain dict that compute RPC 2.27 knows (seams §4.1)."""
        return instance_legacy.to_dict(self)

    @classmethod
    def from_legacy_dict(cls, context: Any, values: dict[str, Any]) -> "Instance":
        """Return the clean object of such a dict; keys that are no fields are ignored. Raises ValueError."""
        return instance_legacy.from_dict(cls, context, values)


@base.register
class InstanceList(base.ObjectList, base.NovaObject):
    """Several instances."""

    VERSION = "2.0"
    child = Instance
    fields = {"objects": fields.ListOfNested("Instance")}

    @classmethod
    def get_by_filters(cls, context: Any, filters: dict[str, Any], sort_key: str = "created_at",
                       sort_dir: str = "desc", limit: int | None = None, marker: str | None = None,
                       expected_attrs: Collection[str] | None = None) -> "InstanceList":
        """Return the instances that match ``filters`` (db.instances.Instances.instance_get_all_by_filters)."""
        return cls._from_rows(context, context.services.db.instance_get_all_by_filters(
            context, filters, sort_key, sort_dir, limit=limit, marker=marker,
            columns_to_join=_joins(expected_attrs)))

    @classmethod
    def get_by_host(cls, context: Any, host: str, expected_attrs: Collection[str] | None = None) -> "InstanceList":
        """Return the instances of a host."""
        return cls._from_rows(context, context.services.db.instance_get_all_by_host(
            context, host, columns_to_join=_joins(expected_attrs)))

    @classmethod
    def get_by_host_and_node(cls, context: Any, host: str, node: str,
                             expected_attrs: Collection[str] | None = None) -> "InstanceList":
        """Return the instances of one node of a host."""
        return cls._from_rows(context, context.services.db.instance_get_all_by_host_and_node(
            context, host, node, columns_to_join=_joins(expected_attrs)))

    @classmethod
    def get_by_security_groups(cls, context: Any, group_ids: Collection[int]) -> "InstanceList":
        """Return the members of some security groups."""
        return cls._from_rows(context, context.services.db.instance_get_all_by_security_groups(context, group_ids))

    @classmethod
    def get_not_cleaned(cls, context: Any, host: str, limit: int) -> "InstanceList":
        """Return deleted instances of a host that may have left something there."""
        return cls._from_rows(context, context.services.db.instance_get_all_not_cleaned(context, host, limit))

    @classmethod
    def get_hung_in_rebooting(cls, context: Any, timeout_s: int, host: str | None = None) -> "InstanceList":
        """Return the instances (of a host) that have been rebooting for longer than ``timeout_s``."""
        return cls._from_rows(context, context.services.db.instance_get_all_hung_in_rebooting(
            context, timeout_s, host=host))

    @classmethod
    def get_active_by_window_joined(cls, context: Any, begin: datetime.datetime,
                                    end: datetime.datetime | None = None, project_id: str | None = None,
                                    host: str | None = None) -> "InstanceList":
        """Return the instances that existed at some time between ``begin`` and ``end``, deleted ones included."""
        return cls._from_rows(context, context.services.db.instance_get_active_by_window_joined(
            context, begin, end, project_id, host))


def name_of(template: str, instance: Any) -> str:
    """Return the name ``template`` gives to an instance (any mapping of columns); the uuid when it cannot."""
    try:
        return template % instance["id"]
    except TypeError:
        try:
            return template % {key: instance[key] for key in instance}
        except KeyError:
            return instance["uuid"]
    except (KeyError, exception.ObjectActionError):
        return instance["uuid"]


def _states(expected: Any) -> Any:
    return [expected] if isinstance(expected, str) else expected


def _without_flag(cell_name: str | None) -> str | None:
    return (cell_name or "").removeprefix(BLOCK_SYNC_FLAG) or None


def _join_name(attrname: str) -> str:
    return "extra" if attrname in FLAVOR_FIELDS.values() or attrname in OPAQUE_EXTRAS else attrname


def _joins(expected_attrs: Collection[str] | None) -> list[str] | None:
    if expected_attrs is None:
        return None
    return sorted({_join_name(name) for name in expected_attrs if name in JOINED})
