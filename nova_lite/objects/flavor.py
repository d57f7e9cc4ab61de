"""Flavors: the sizes of instances."""

from collections.abc import Mapping
from typing import Any

from nova_lite.objects import base, fields, wire

PROPERTIES = ("id", "name", "memory_mb", "vcpus", "root_gb", "ephemeral_gb", "flavorid", "swap", "rxtx_factor",
              "vcpu_weight", "extra_specs")


@base.register
class Flavor(base.Persistent, base.NovaObject):
    """A size. Flavors are per cell; between cells ``flavorid`` identifies one, ``id`` is the local row."""

    VERSION = "1.1"

    fields = {
        "id": fields.Integer(),
        "name": fields.Text(nullable=True),
        "memory_mb": fields.Integer(),
        "vcpus": fields.Integer(),
        "root_gb": fields.Integer(),
        "ephemeral_gb": fields.Integer(),
        "flavorid": fields.Text(),
        "swap": fields.Integer(),
        "rxtx_factor": fields.Float(nullable=True, default=1.0),
        "vcpu_weight": fields.Integer(nullable=True),
        "disabled": fields.Boolean(),
        "is_public": fields.Boolean(),
        "extra_specs": fields.TextDict(),
        "projects": fields.TextList(),
    }

    @classmethod
    def of(cls, context: Any, value: Any) -> "Flavor | None":
        """Return the flavor of an object, its wire form, or a plain dict with any of the fields; None stays None."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, Mapping) and wire.NAME in value:
            return wire.from_wire(context, dict(value))
        values = {name: value[name] for name in cls.fields if name in value and name != "deleted"}
        if "extra_specs" in values and values["extra_specs"] is None:
            values["extra_specs"] = {}
        return cls._from_row(context, {**values, "deleted": value.get("deleted") or False})

    def to_dict(self) -> dict[str, Any]:
        """Return the plain dict that schedulers and drivers take."""
        return {name: dict(self[name]) if name == "extra_specs" else self[name] for name in PROPERTIES if name in self}

    @classmethod
    def get_by_id(cls, context: Any, id: int) -> "Flavor":
        """Return the flavor of a local row. Raises InstanceTypeNotFound."""
        return cls._from_row(context, context.services.db.flavor_get(context, id))

    @classmethod
    def get_by_name(cls, context: Any, name: str) -> "Flavor":
        """Return the flavor of a name. Raises InstanceTypeNotFoundByName."""
        return cls._from_row(context, context.services.db.flavor_get_by_name(context, name))

    @classmethod
    def get_by_flavor_id(cls, context: Any, flavor_id: str, read_deleted: str | None = None) -> "Flavor":
        """Return the flavor of a flavorid. Raises FlavorNotFound."""
        if read_deleted is not None:
            context = context.elevated(read_deleted=read_deleted)
        return cls._from_row(context, context.services.db.flavor_get_by_flavor_id(context, flavor_id))

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one, FlavorExists, FlavorIdExists."""
        self._refuse_if_created()
        self._fill(self._db.flavor_create(self._context, self._changed_columns()))

    def save(self) -> None:
        """Write changed extra specs and projects; the size itself does not change."""
        changes = self._changed_columns()
        if "extra_specs" in changes:
            self._db.flavor_extra_specs_replace(self._context, self.flavorid, changes["extra_specs"])
        if "projects" in changes:
            self._db.flavor_access_replace(self._context, self.flavorid, changes["projects"])
        self.obj_reset_changes()

    def destroy(self) -> None:
        """Soft-delete the row. Raises InstanceTypeNotFoundByName."""
        self._db.flavor_destroy(self._context, self.name)


@base.register
class FlavorList(base.ObjectList, base.NovaObject):
    """Several flavors."""

    VERSION = "1.1"
    child = Flavor
    fields = {"objects": fields.ListOfNested("Flavor")}

    @classmethod
    def get_all(cls, context: Any, inactive: bool = False, filters: dict[str, Any] | None = None) -> "FlavorList":
        """Return the flavors; ``inactive``: deleted ones too (db.flavors.Flavors.flavor_get_all)."""
        return cls._from_rows(context, context.services.db.flavor_get_all(context, inactive=inactive, filters=filters))
