"""What a host brings along when it joins a pool: its records under new references, the files of its disks.

References are the pool's own, uuids stay. Both simulators are on one machine: disks are linked, not sent.
"""

import os
import shutil
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.model import NULL, Type

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

# What moves, and what the pool has one like already: by the fields that make it the same.
MOVING = (
    "secret", "host_metrics", "host", "host_cpu", "PIF_metrics", "PIF", "PCI", "PGPU", "SR", "PBD", "VDI",
    "VM_metrics", "VM_guest_metrics", "VM", "VBD_metrics", "VBD", "VIF_metrics", "VIF", "VTPM", "console",
)  # fmt: skip
SHARED = {"network": ("bridge", "name_label"), "GPU_group": ("name_label",), "VGPU_type": ("identifier",)}
OF_THE_POOL_ALONE = {"VM": "is_default_template", "SR": "is_tools_sr"}
FORGOTTEN = ("current_operations", "allowed_operations", "blobs")


def packed(toolstack: "Toolstack") -> dict[str, Any]:
    """Return what a pool of one host has, as JSON can carry it. Expects the lock."""
    host_ref = toolstack.master_ref
    return {
        "url": toolstack.urls.get(host_ref, ""),
        "certificate": toolstack.certificates.path(host_ref) if toolstack.certificates.default_path else "",
        "disks": os.path.join(toolstack.directory, "sr"),
        "rows": {name: _rows(toolstack, name) for name in (*SHARED, *MOVING)},
    }


def _rows(toolstack: "Toolstack", class_name: str) -> list[tuple[str, dict[str, Any]]]:
    mark = OF_THE_POOL_ALONE.get(class_name)
    rows = toolstack.db.rows(class_name)
    if class_name in ("PBD", "VDI"):
        rows = [row for row in rows if not toolstack.db.get("SR", row["SR"], "is_tools_sr")]
    return [(row.ref, row.values) for row in rows if not (mark and row[mark])]


class Arrival:
    """Takes over what a host has packed. Expects the lock."""

    def __init__(self, toolstack: "Toolstack", belongings: dict[str, Any]):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._belongings = belongings
        self._rows: dict[str, list] = belongings["rows"]
        self._new_refs: dict[str, str] = {}

    def take_in(self) -> str:
        """Add everything; return the reference of the host."""
        for class_name, fields in SHARED.items():
            for ref, values in self._rows[class_name]:
                self._new_refs[ref] = self._like(class_name, fields, values) or self._one_more(class_name, values)
        for class_name in MOVING:
            for ref, values in self._rows[class_name]:
                self._new_refs[ref] = f"OpaqueRef:{values['uuid']}"
        for class_name in MOVING:
            for ref, values in self._rows[class_name]:
                self._db.insert(class_name, self._new_refs[ref], self._translated(class_name, values))
        for _, values in self._rows["SR"]:
            self._link_disks(values["uuid"])
        ((former_ref, _),) = self._rows["host"]
        host_ref = self._new_refs[former_ref]
        if self._belongings["certificate"]:
            with open(self._belongings["certificate"]) as file:
                self._toolstack.certificates.keep(host_ref, file.read())
        return host_ref

    def _like(self, class_name: str, fields: tuple[str, ...], values: dict[str, Any]) -> str | None:
        """Return what the pool has that is the same: by the first field that says so."""
        for field in fields:
            found: Row | None = next(self._db.select(class_name, **{field: values[field]}), None)
            if found is not None:
                return found.ref
        return None

    def _one_more(self, class_name: str, values: dict[str, Any]) -> str:
        described = self._db.schema.classes[class_name]
        own = {name: value for name, value in values.items() if not _holds_refs(described.fields[name].type)}
        return self._db.create(class_name, **own)

    def _translated(self, class_name: str, values: dict[str, Any]) -> dict[str, Any]:
        fields = self._db.schema.classes[class_name].fields
        return {
            name: field.initial() if name in FORGOTTEN else self._value(field.type, values[name])
            for name, field in fields.items()
        }

    def _value(self, type_: Type, value: Any) -> Any:
        if type_.kind == "ref":
            return self._new_refs.get(value, NULL)
        if type_.kind == "set" and _holds_refs(type_):
            return [self._new_refs[ref] for ref in value if ref in self._new_refs]
        if type_.kind == "map" and _holds_refs(type_):
            of_key, of_value = type_.inner
            pairs = ((self._value(of_key, key), self._value(of_value, each)) for key, each in value.items())
            return {key: each for key, each in pairs if key != NULL}
        return value

    def _link_disks(self, sr_uuid: str) -> None:
        source = os.path.join(self._belongings["disks"], sr_uuid)
        target = os.path.join(self._toolstack.directory, "sr", sr_uuid)
        if not os.path.isdir(source):
            return
        os.makedirs(target, exist_ok=True)
        for name in os.listdir(source):
            try:
                os.link(os.path.join(source, name), os.path.join(target, name))
            except FileExistsError:
                continue
            except OSError:  # on another file system
                shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def _holds_refs(type_: Type) -> bool:
    return type_.kind == "ref" or any(_holds_refs(each) for each in type_.inner)
