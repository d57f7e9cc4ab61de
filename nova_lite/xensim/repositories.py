"""Storage repositories and their connections to hosts."""

import os
import shutil
import uuid as uuid_module

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import DRIVERS, THICK_DRIVERS, VHD_DRIVERS, active_vbds, is_plugged

GIB = 1024**3
DEFAULT_SIZE = 500 * GIB


def no_space() -> ApiError:
    return ApiError("SR_BACKEND_FAILURE_44", "", "There is insufficient space", "")


class Repositories(Noun):
    """SR and PBD calls, and the accounts of space."""

    # accounts

    def measure(self, sr_ref: str) -> None:
        """Bring a repository's sums up to date."""
        sr = self.db.row("SR", sr_ref)
        disks = [self.db.row("VDI", ref) for ref in sr["VDIs"]]
        used = sum(disk["physical_utilisation"] for disk in disks) + self.toolstack.faults.foreign_bytes.get(sr_ref, 0)
        promised = sum(disk["virtual_size"] for disk in disks if disk["managed"])
        self.db.set("SR", sr_ref, physical_utilisation=used, virtual_allocation=promised)

    def check_space(self, sr: Row, extra: int) -> None:
        """Raise SR_BACKEND_FAILURE_44 when the repository cannot take this many bytes more."""
        if sr["type"] in VHD_DRIVERS | {"iso"} and sr["physical_utilisation"] + extra > sr["physical_size"]:
            raise no_space()

    def full_size(self, sr: Row, virtual_size: int) -> int:
        """Return the bytes that a new disk takes at once: all of it on thick repositories."""
        if sr["type"] in THICK_DRIVERS:
            metadata = 4096 + virtual_size // (2 * 1024 * 1024) * 516
            return -(-(virtual_size + metadata) // (4 * 1024 * 1024)) * 4 * 1024 * 1024
        return 0

    # SR

    @call("SR.create")
    def create(
        self,
        caller,
        host,
        device_config,
        physical_size,
        name_label,
        name_description,
        type_,
        content_type,
        shared,
        sm_config,
    ):
        if type_ not in DRIVERS:
            raise ApiError("SR_UNKNOWN_DRIVER", type_)
        self.db.row("host", host)
        self.toolstack.probes.check_address(type_, device_config)
        self._check_device(host, device_config)
        sr_ref = self._record(
            str(uuid_module.uuid4()), name_label, name_description, type_, content_type, shared, sm_config
        )
        if type_ != "udev":
            size = physical_size if physical_size > 0 else DEFAULT_SIZE
            self.db.set("SR", sr_ref, physical_size=size)
        hosts = [row.ref for row in self.db.rows("host")] if shared else [host]
        try:
            for host_ref in hosts:
                pbd_ref = self.db.create("PBD", host=host_ref, SR=sr_ref, device_config=device_config)
                self.plug(caller, pbd_ref)
        except ApiError:
            self.drop(sr_ref)
            raise
        return sr_ref

    def _check_device(self, host_ref: str, device_config: dict[str, str]) -> None:
        """Raise SR_DEVICE_IN_USE for a device of the host on which there is a repository."""
        device = device_config.get("device", "")
        for ref in self.db.get("host", host_ref, "PBDs") if device else []:
            if self.db.get("PBD", ref, "device_config").get("device") == device:
                raise ApiError("SR_DEVICE_IN_USE")

    def _record(self, uuid, name_label, name_description, type_, content_type, shared, sm_config) -> str:
        return self.db.create(
            "SR",
            uuid=uuid,
            name_label=name_label,
            name_description=name_description,
            type=type_,
            content_type=content_type,
            shared=shared,
            sm_config=sm_config,
        )

    @call("SR.introduce")
    def introduce(self, _caller, uuid, name_label, name_description, type_, content_type, shared, sm_config):
        if type_ not in DRIVERS:
            raise ApiError("SR_UNKNOWN_DRIVER", type_)
        if uuid in self.db.uuids["SR"]:
            raise internal_error(f"Db_exn.Uniqueness_constraint_violation(SR, uuid, {uuid})")
        uuid = uuid or str(uuid_module.uuid4())
        return self._record(uuid, name_label, name_description, type_, content_type, shared, sm_config)

    @call("SR.destroy", operation="destroy")
    def destroy(self, _caller, ref):
        sr = self.db.row("SR", ref)
        if sr["other_config"].get("indestructible") == "true":
            raise ApiError("SR_INDESTRUCTIBLE", ref)
        if sr["VDIs"]:
            raise ApiError("SR_NOT_EMPTY")
        shutil.rmtree(os.path.join(self.toolstack.directory, "sr", sr["uuid"]), ignore_errors=True)
        self.drop(ref)

    @call("SR.forget", operation="forget")
    def forget(self, _caller, ref):
        if self.db.get("SR", ref, "other_config").get("indestructible") == "true":
            raise ApiError("SR_INDESTRUCTIBLE", ref)
        self.drop(ref)

    def drop(self, ref: str) -> None:
        """Remove the records of a repository, its disks and its connections."""
        for vdi_ref in self.db.get("SR", ref, "VDIs"):
            self.toolstack.vdis.drop_record(vdi_ref)
        for pbd_ref in self.db.get("SR", ref, "PBDs"):
            self.db.destroy("PBD", pbd_ref)
        for row in self.db.rows("host"):
            if row["suspend_image_sr"] == ref:
                self.db.set("host", row.ref, suspend_image_sr=NULL)
        pool = self.db.row("pool", self.toolstack.pool_ref)
        gone = [field for field in ("default_SR", "suspend_image_SR", "crash_dump_SR") if pool[field] == ref]
        self.db.set("pool", pool.ref, **dict.fromkeys(gone, NULL))
        self.toolstack.blobs.drop_all(list(self.db.get("SR", ref, "blobs").values()))
        self.db.destroy("SR", ref)

    @call("SR.scan", operation="scan")
    def scan(self, _caller, ref):
        sr = self.db.row("SR", ref)
        if sr["type"] == "iscsi":
            self.toolstack.iscsi.scan(sr)
        for vdi_ref in sr["VDIs"]:
            self.toolstack.vdis.measure(vdi_ref)
        if not self.toolstack.collector.is_paused:
            self.toolstack.collector.collect(ref)
        self.measure(ref)

    @call("SR.update", operation="update")
    def update(self, _caller, ref):
        self.measure(ref)

    @call("SR.get_supported_types")
    def get_supported_types(self, _caller):
        return list(DRIVERS)

    @call("SR.set_shared")
    def set_shared(self, _caller, ref, value):
        sr = self.db.row("SR", ref)
        if not value and len(sr["PBDs"]) > 1:
            raise internal_error("Failure: cannot mark an SR as unshared while more than one host is connected to it")
        self.db.set("SR", ref, shared=value)

    # PBD

    @call("PBD.create")
    def create_pbd(self, _caller, args):
        self.db.row("host", args["host"])
        sr = self.db.row("SR", args["SR"])
        if "SRmaster" in args["device_config"]:
            value = args["device_config"]["SRmaster"]
            raise ApiError("VALUE_NOT_SUPPORTED", "SRmaster", value, "The SRmaster key is reserved")
        for ref in sr["PBDs"]:
            if self.db.get("PBD", ref, "host") == args["host"]:
                raise ApiError("PBD_EXISTS", args["SR"], args["host"], ref)
        return self.db.create("PBD", **args)

    @call("PBD.destroy")
    def destroy_pbd(self, _caller, ref):
        if self.db.get("PBD", ref, "currently_attached"):
            raise ApiError("OPERATION_NOT_ALLOWED", "PBD is currently attached")
        self.db.destroy("PBD", ref)

    @call("PBD.plug")
    def plug(self, _caller, ref):
        pbd = self.db.row("PBD", ref)
        if pbd["currently_attached"]:
            return
        sr = self.db.row("SR", pbd["SR"])
        if not sr["shared"] and is_plugged(self.db, sr):
            raise ApiError("SR_NOT_SHARABLE", sr.ref, pbd["host"])
        if sr["type"] == "iscsi":
            self.toolstack.iscsi.connect(pbd["device_config"])
        os.makedirs(os.path.join(self.toolstack.directory, "sr", sr["uuid"]), exist_ok=True)
        if sr["type"] in VHD_DRIVERS and not sr["physical_size"]:
            self.db.set("SR", sr.ref, physical_size=DEFAULT_SIZE)
        self.db.set("PBD", ref, currently_attached=True)

    @call("PBD.unplug")
    def unplug(self, _caller, ref):
        pbd = self.db.row("PBD", ref)
        if not pbd["currently_attached"]:
            return
        used = self._disks_in_use(self.db.row("SR", pbd["SR"]), pbd["host"])
        if used:
            raise ApiError("VDI_IN_USE", *used)
        self.db.set("PBD", ref, currently_attached=False)

    def _disks_in_use(self, sr: Row, host_ref: str) -> list[str]:
        used = []
        for vdi_ref in sr["VDIs"]:
            vbds = active_vbds(self.db, self.db.row("VDI", vdi_ref))
            if any(self.db.get("VM", vbd["VM"], "resident_on") == host_ref for vbd in vbds):
                used.append(vdi_ref)
        return used

    @call("PBD.set_device_config")
    def set_device_config(self, _caller, ref, value):
        if "SRmaster" in value:
            raise ApiError("VALUE_NOT_SUPPORTED", "SRmaster", value["SRmaster"], "The SRmaster key is reserved")
        self.db.set("PBD", ref, device_config=value)
