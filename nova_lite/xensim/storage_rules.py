"""Which operation a disk or a storage repository allows, and what each kind of repository can do."""

from nova_lite.xensim.db import Database, Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.vm_rules import SUSPENDED, wrapped

VHD_FEATURES = (
    "VDI_CREATE VDI_DELETE VDI_ATTACH VDI_DETACH VDI_UPDATE VDI_CLONE VDI_SNAPSHOT VDI_RESIZE VDI_MIRROR "
    "VDI_RESET_ON_BOOT VDI_CONFIG_CBT SR_UPDATE SR_SCAN"
)
# Driver type: (name, features). A repository refuses what its driver's features lack.
DRIVERS = {
    "ext": ("Local EXT3 VHD", VHD_FEATURES + " SR_PROBE THIN_PROVISIONING"),
    "nfs": ("NFS VHD", VHD_FEATURES + " SR_PROBE SR_METADATA VDI_GENERATE_CONFIG THIN_PROVISIONING"),
    "file": ("File", VHD_FEATURES + " THIN_PROVISIONING"),
    "lvm": ("Local VHD on LVM", VHD_FEATURES + " SR_TRIM"),
    "lvmoiscsi": ("LVHD over iSCSI", VHD_FEATURES + " SR_PROBE SR_TRIM SR_METADATA VDI_GENERATE_CONFIG"),
    "iso": ("ISO", "VDI_CREATE VDI_DELETE VDI_ATTACH VDI_DETACH SR_SCAN"),
    "udev": ("udev", "VDI_INTRODUCE VDI_ATTACH VDI_DETACH VDI_UPDATE SR_UPDATE SR_SCAN"),
    "iscsi": ("iSCSI", "SR_PROBE VDI_INTRODUCE VDI_DELETE VDI_ATTACH VDI_DETACH SR_SCAN"),
}
METADATA_TYPE = "cbt_metadata"  # a snapshot of which only the log of changed blocks is left
VHD_DRIVERS = frozenset({"ext", "nfs", "file", "lvm", "lvmoiscsi"})
THICK_DRIVERS = frozenset({"lvm", "lvmoiscsi"})
NEEDED_FEATURE = {
    "clone": "VDI_CLONE",
    "snapshot": "VDI_SNAPSHOT",
    "resize": "VDI_RESIZE",
    "destroy": "VDI_DELETE",
    "update": "VDI_UPDATE",
    "mirror": "VDI_MIRROR",
    "set_on_boot": "VDI_RESET_ON_BOOT",
    "enable_cbt": "VDI_CONFIG_CBT",
    "disable_cbt": "VDI_CONFIG_CBT",
    "data_destroy": "VDI_CONFIG_CBT",
    "list_changed_blocks": "VDI_CONFIG_CBT",
    "generate_config": "VDI_GENERATE_CONFIG",
}
NEEDS_DATA = frozenset("clone copy resize snapshot mirror set_on_boot enable_cbt disable_cbt revert_from".split())
VDI_OPERATIONS = (
    "clone copy resize snapshot mirror destroy forget update generate_config enable_cbt disable_cbt data_destroy "
    "list_changed_blocks set_on_boot blocked"
).split()
ALLOWED_WHILE_ATTACHED = frozenset(
    "snapshot clone resize_online mirror blocked enable_cbt disable_cbt data_destroy revert_to revert_from".split()
)
SR_OPERATIONS = {
    "scan": "",
    "destroy": "",
    "forget": "",
    "plug": "",
    "unplug": "",
    "update": "SR_UPDATE",
    "pbd_create": "",
    "pbd_destroy": "",
    "vdi_create": "VDI_CREATE",
    "vdi_introduce": "",
    "vdi_destroy": "VDI_DELETE",
    "vdi_resize": "VDI_RESIZE",
    "vdi_clone": "VDI_CLONE",
    "vdi_snapshot": "VDI_SNAPSHOT",
    "vdi_mirror": "VDI_MIRROR",
    "vdi_enable_cbt": "VDI_CONFIG_CBT",
    "vdi_disable_cbt": "VDI_CONFIG_CBT",
    "vdi_set_on_boot": "VDI_RESET_ON_BOOT",
}


def features(sr: Row) -> frozenset[str]:
    """Return what the repository's driver can do."""
    return frozenset(DRIVERS[sr["type"]][1].split()) if sr["type"] in DRIVERS else frozenset()


def active_vbds(db: Database, vdi: Row) -> list[Row]:
    """Return the attachments that keep a disk in use; those of suspended VMs do not."""
    found = (db.find("VBD", ref) for ref in vdi["VBDs"])
    return [
        vbd
        for vbd in found
        if vbd
        and (vbd["currently_attached"] or vbd["reserved"])
        and db.get("VM", vbd["VM"], "power_state") != SUSPENDED
    ]


def is_plugged(db: Database, sr: Row, host_ref: str | None = None) -> bool:
    """Return whether the repository is plugged on the host, or on any."""
    pbds = (db.row("PBD", ref) for ref in sr["PBDs"])
    return any(pbd["currently_attached"] and host_ref in (None, pbd["host"]) for pbd in pbds)


class VdiRules:
    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [operation for operation in VDI_OPERATIONS if not self.error(row, operation)]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        sr = self._db.row("SR", row["SR"])
        return (
            self._concurrency_error(row)
            or self._attachment_error(row, operation)
            or self._repository_error(row, sr, operation)
            or self._kind_error(row, operation)
        )

    def _concurrency_error(self, row: Row) -> ApiError | None:
        running = dict(row["current_operations"])
        for ref in row["VBDs"]:
            vbd = self._db.find("VBD", ref)
            running.update(vbd["current_operations"] if vbd else {})
        if not running:
            return None
        return ApiError(
            "OTHER_OPERATION_IN_PROGRESS", "VDI", row.ref, wrapped(list(running.values())), wrapped(list(running))
        )

    def _attachment_error(self, row: Row, operation: str) -> ApiError | None:
        active = active_vbds(self._db, row)
        if not active or operation in ALLOWED_WHILE_ATTACHED:
            return None
        if operation == "copy" and all(vbd["mode"] == "RO" for vbd in active):
            return None
        return ApiError("VDI_IN_USE", row.ref, operation)

    def _repository_error(self, row: Row, sr: Row, operation: str) -> ApiError | None:
        if operation in ("destroy", "resize") and sr["type"] == "udev":
            return ApiError("VDI_IS_A_PHYSICAL_DEVICE", row.ref)
        needed = NEEDED_FEATURE.get(operation)
        if (needed and needed not in features(sr)) or (operation == "destroy" and sr["is_tools_sr"]):
            return ApiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
        if operation not in ("forget", "blocked") and not is_plugged(self._db, sr):
            return ApiError("SR_HAS_NO_PBDS", sr.ref)
        return None

    @staticmethod
    def _kind_error(row: Row, operation: str) -> ApiError | None:
        if row["type"] == METADATA_TYPE and operation in NEEDS_DATA:
            return ApiError("VDI_INCOMPATIBLE_TYPE", row.ref, row["type"])
        if operation == "data_destroy" and not row["is_a_snapshot"]:
            return ApiError("OPERATION_NOT_ALLOWED", f"VDI is not a snapshot: {row.ref}")
        if operation in ("enable_cbt", "disable_cbt"):
            if row["is_a_snapshot"]:
                return ApiError("OPERATION_NOT_ALLOWED", f"VDI is a snapshot: {row.ref}")
            if row["type"] in ("metadata", "redo_log"):
                return ApiError("VDI_INCOMPATIBLE_TYPE", row.ref, row["type"])
            if row["on_boot"] == "reset":
                return ApiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
        if operation == "set_on_boot" and row["sharable"]:
            return ApiError("VDI_IS_SHARABLE", row.ref)
        if operation == "destroy" and row["type"] == "rrd":
            return ApiError("VDI_HAS_RRDS", row.ref)
        if operation in ("set_on_boot", "mirror") and row["cbt_enabled"]:
            return ApiError("VDI_CBT_ENABLED", row.ref)
        return None


class SrRules:
    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [operation for operation in SR_OPERATIONS if not self.error(row, operation)]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        needed = SR_OPERATIONS.get(operation, "")
        if needed and needed not in features(row):
            return ApiError("SR_OPERATION_NOT_SUPPORTED", row.ref)
        if operation in ("destroy", "forget"):
            return ApiError("SR_HAS_PBD", row.ref) if is_plugged(self._db, row) else None
        if (operation.startswith("vdi_") or operation in ("scan", "update")) and not is_plugged(self._db, row):
            return ApiError("SR_HAS_NO_PBDS", row.ref)
        return None
