"""VMs as files: an XVA is a tar of ova.xml and the disks in blocks of 1 MiB, each with its checksum."""

import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nova_lite.xensim import xmlrpc
from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError, MalformedRequest
from nova_lite.xensim.model import NULL, Type
from nova_lite.xensim.values import Reader
from nova_lite.xensim.vhd import VhdError
from nova_lite.xensim.vm_copies import DEVICE_FRESH, FRESH

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

CHUNK = 1024 * 1024
SIZE = Type("int")
INVENTORY_LIMIT = 64 * 1024 * 1024
INVENTORY = "ova.xml"
CLASSES = ("VM", "VM_metrics", "VM_guest_metrics", "VBD", "VIF", "VDI", "SR", "network")
Inventory = dict[str, tuple[str, dict[str, Any]]]  # id in the package -> (class, fields)


class PackageWriter:
    """Writes one VM. Expects the lock while the inventory is made."""

    def __init__(self, toolstack: "Toolstack", vm_ref: str):
        self._db = toolstack.db
        self._ids: dict[str, str] = {}
        self._rows: list[Row] = []
        self._collect(self._db.row("VM", vm_ref))

    def _add(self, class_name: str, ref: str) -> None:
        row = self._db.find(class_name, ref)
        if row and ref not in self._ids:
            self._ids[ref] = f"Ref:{len(self._ids)}"
            self._rows.append(row)

    def _collect(self, vm: Row) -> None:
        self._add("VM", vm.ref)
        for field, class_name in (("metrics", "VM_metrics"), ("guest_metrics", "VM_guest_metrics")):
            self._add(class_name, vm[field])
        for ref in vm["VIFs"]:
            self._add("VIF", ref)
            self._add("network", self._db.get("VIF", ref, "network"))
        for ref in vm["VBDs"]:
            self._add("VBD", ref)
            vdi = self._db.find("VDI", self._db.get("VBD", ref, "VDI"))
            if vdi:
                self._add("VDI", vdi.ref)
                self._add("SR", vdi["SR"])

    def disks(self) -> list[tuple[str, Row]]:
        """Return (id in the package, row) of the disks whose content belongs to the package."""
        read_only = {vbd["VDI"] for vbd in self._rows if vbd.described.name == "VBD" and vbd["type"] == "CD"}
        return [
            (self._ids[row.ref], row) for row in self._rows if row.described.name == "VDI" and row.ref not in read_only
        ]

    def inventory(self) -> bytes:
        """Return ova.xml."""
        objects = [
            {"class": row.described.name, "id": self._ids[row.ref], "snapshot": self._fields(row)} for row in self._rows
        ]
        version = {
            "hostname": "xensim",
            "date": time.strftime("%Y-%m-%d"),
            "product_brand": "XenServer",
            "export_vsn": 2,
        }
        body = xmlrpc.encode_untyped({"version": version, "objects": objects})
        return f"<?xml version='1.0'?>{body}".encode()

    def _fields(self, row: Row) -> dict[str, Any]:
        return {name: self._renamed(value) for name, value in row.record().items()}

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._renamed(each) for each in value]
        if isinstance(value, dict):
            return {self._renamed(key): self._renamed(each) for key, each in value.items()}
        if isinstance(value, str) and value.startswith("OpaqueRef:"):
            return self._ids.get(value, NULL)
        return value


def tar_entry(name: str, content: bytes) -> bytes:
    """Return one file of a tar."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return entry.tobuf(format=tarfile.GNU_FORMAT) + content + padding


def disk_entries(package_id: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the tar entries of one disk: blocks of zeros but the first and last are left out."""
    number, waiting = 0, b""
    for piece in pieces:
        for start in range(0, len(piece), CHUNK):
            if waiting and (number == 1 or waiting.strip(b"\0")):
                yield _block(package_id, number - 1, waiting)
            waiting = piece[start : start + CHUNK]
            number += 1
    if waiting:
        yield _block(package_id, number - 1, waiting)


def _block(package_id: str, number: int, content: bytes) -> bytes:
    name = f"{package_id}/{number:08d}"
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest().encode()
    return tar_entry(name, content) + tar_entry(f"{name}.checksum", digest)


END = bytes(2 * tarfile.BLOCKSIZE)


def read_inventory(text: bytes) -> Inventory:
    """Return what ova.xml holds. Raises VhdError when it cannot be read."""
    body = text.decode("utf-8", "replace")
    if body.lstrip().startswith("<?xml"):
        body = body.partition("?>")[2]
    call = f"<methodCall><methodName>x</methodName><params><param>{body}</param></params></methodCall>"
    try:
        _, (content,) = xmlrpc.parse_request(call.encode())
        return {each["id"]: (each["class"], each["snapshot"]) for each in content["objects"]}
    except (MalformedRequest, ValueError, TypeError, KeyError) as error:
        raise VhdError(f"{INVENTORY} cannot be read: {error}") from None


class PackageReader:
    """Makes records, and disks, from a package. Expects the lock; reading the stream gives it up."""

    def __init__(self, toolstack: "Toolstack", *, sr_ref: str = NULL, keeps_identity: bool = False):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._reader = Reader(toolstack.schema)
        self._sr_ref = sr_ref
        self._keeps_identity = keeps_identity
        self._made: dict[str, str] = {}
        self._own_disks: list[str] = []

    def read_tar(self, stream: io.BufferedIOBase) -> list[str]:
        """Import a whole package and return the references of its VMs. Raises ApiError, VhdError."""
        inventory: Inventory = {}
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as archive:
                for entry in archive:
                    with self._toolstack.unlocked():
                        file = archive.extractfile(entry)
                        if entry.size > INVENTORY_LIMIT:
                            raise VhdError(f"{entry.name[:60]} is too long")
                        content = file.read() if file else b""
                    if entry.name == INVENTORY:
                        inventory = read_inventory(content)
                        self._make_disks(inventory)
                    else:
                        self._write_block(entry.name, content)
        except (tarfile.TarError, EOFError, ValueError, ApiError, VhdError) as error:
            self._undo()
            raise (
                error if isinstance(error, ApiError | VhdError) else VhdError(f"the package is damaged: {error}")
            ) from None
        if not inventory:
            raise VhdError(f"the package has no {INVENTORY}")
        return self.make_vms(inventory)

    def _undo(self) -> None:
        for ref in self._own_disks:
            self._toolstack.vm_copies.remove_disk(ref)

    def _make_disks(self, inventory: Inventory) -> None:
        cds = {fields.get("VDI") for name, fields in inventory.values() if name == "VBD" and fields.get("type") == "CD"}
        sr = self._db.row("SR", self._sr_ref)
        for package_id, (class_name, fields) in inventory.items():
            if class_name == "VDI" and package_id not in cds:
                size = self._reader.value(
                    self._db.schema.classes["VDI"].fields["virtual_size"].type, fields["virtual_size"]
                )
                ref = self._toolstack.vdis.new(
                    sr, size, name_label=fields.get("name_label", ""), type=fields.get("type", "user")
                )
                self._made[package_id] = ref
                self._own_disks.append(ref)

    def _write_block(self, name: str, content: bytes) -> None:
        package_id, _, number = name.partition("/")
        ref = self._made.get(package_id)
        if ref is None or not number.isdigit():
            return
        vdi = self._db.row("VDI", ref)
        with self._toolstack.vdis.image(vdi) as image, self._toolstack.unlocked():
            self._toolstack.slow_down(len(content))
            image.write(int(number) * CHUNK, content)
        self._toolstack.vdis.measure(ref)

    # records

    def find_disks(self, inventory: Inventory) -> None:
        """Take disks that exist already, by their uuids."""
        for package_id, (class_name, fields) in inventory.items():
            if class_name == "VDI" and package_id not in self._made:
                self._made[package_id] = self._db.uuids["VDI"].get(fields.get("uuid", ""), NULL)

    def make_vms(self, inventory: Inventory) -> list[str]:
        """Make the records of the package's VMs; disks must be there. Return the VMs' references."""
        self.find_disks(inventory)
        made = []
        for package_id, (class_name, fields) in inventory.items():
            if class_name == "VM":
                self._made[package_id] = self._make_vm(fields)
                made.append(self._made[package_id])
        for class_name, fields in inventory.values():
            if class_name in ("VBD", "VIF"):
                self._make_device(class_name, fields, inventory)
        return made

    def _values(self, class_name: str, fields: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for name, field in self._db.schema.classes[class_name].fields.items():
            if name in fields and name not in fresh and field.type.kind not in ("ref",):
                values[name] = self._reader.value(field.type, fields[name])
        return {**values, **fresh}

    def _make_vm(self, fields: dict[str, Any]) -> str:
        uuid = fields.get("uuid", "") if self._keeps_identity else ""
        if uuid and uuid in self._db.uuids["VM"]:
            raise ApiError("DUPLICATE_VM", self._db.uuids["VM"][uuid])
        own = {"uuid": uuid, "metrics": self._toolstack.vms.new_metrics(), "guest_metrics": NULL}
        ref = self._db.create("VM", **self._values("VM", fields, {**FRESH, **own}))
        self._toolstack.vms.refresh_overhead(ref)
        return ref

    def _make_device(self, class_name: str, fields: dict[str, Any], inventory: Inventory) -> None:
        vm_ref = self._made.get(fields.get("VM", ""))
        if vm_ref is None:
            return
        own: dict[str, Any] = {**DEVICE_FRESH, "uuid": "", "VM": vm_ref}
        if class_name == "VBD":
            vdi_ref = self._made.get(fields.get("VDI", ""), NULL)
            own |= {"VDI": vdi_ref, "device": "", "empty": is_null(vdi_ref), "reserved": False}
        else:
            own["network"] = self._network(inventory.get(fields.get("network", "")))
            if not self._keeps_identity:
                own |= {"MAC": self._toolstack.vifs.new_mac(vm_ref, fields["device"]), "MAC_autogenerated": True}
        self._db.create(class_name, **self._values(class_name, fields, own))

    def _network(self, described: tuple[str, dict[str, Any]] | None) -> str:
        """Return the network of the same uuid, bridge or name, else the first."""
        fields = described[1] if described else {}
        for wanted in ("uuid", "bridge", "name_label"):
            for network in self._db.select("network", **{wanted: fields.get(wanted, "")}):
                return network.ref
        return next(iter(self._db.tables["network"]))
