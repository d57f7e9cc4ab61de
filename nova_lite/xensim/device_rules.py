"""Which operation a VBD or VIF allows."""

from nova_lite.xensim.db import Database, Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.vm_rules import RUNNING, SUSPENDED, guest_features, has_pv_drivers, is_hvm, wrapped

PLUGGING = frozenset({"plug", "unplug", "unplug_force"})


class DeviceRules:
    """What VBDs and VIFs have in common."""

    class_name = ""
    operations: tuple[str, ...] = ()
    hotplug_feature = ""

    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [operation for operation in self.operations if not self.error(row, operation)]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        vm = self._db.find("VM", row["VM"])
        if vm is None:
            return ApiError("HANDLE_INVALID", "VM", row["VM"])
        return self._concurrency_error(row) or self._own_error(row, vm, operation)

    def _concurrency_error(self, row: Row) -> ApiError | None:
        running = row["current_operations"]
        if not running:
            return None
        names, tasks = list(running.values()), list(running)
        return ApiError("OTHER_OPERATION_IN_PROGRESS", self.class_name, row.ref, self._names(names), self._names(tasks))

    def _names(self, names: list[str]) -> str:
        return wrapped(names)

    def _own_error(self, row: Row, vm: Row, operation: str) -> ApiError | None:
        return self._plug_error(row, vm, operation) if operation in PLUGGING else None

    def _plug_error(self, row: Row, vm: Row, operation: str) -> ApiError | None:
        if vm["power_state"] != RUNNING:
            return ApiError("VM_BAD_POWER_STATE", vm.ref, "running", vm["power_state"].lower())
        if operation == "plug" and row["currently_attached"]:
            return ApiError("DEVICE_ALREADY_ATTACHED", row.ref)
        if operation != "plug" and not row["currently_attached"]:
            return ApiError("DEVICE_ALREADY_DETACHED", row.ref)
        if not self._can_hotplug(vm):
            return ApiError("VM_MISSING_PV_DRIVERS", vm.ref)
        return None

    def _can_hotplug(self, vm: Row) -> bool:
        metrics = self._db.find("VM_guest_metrics", vm["guest_metrics"])
        return has_pv_drivers(self._db, vm) or bool(
            metrics and (metrics[self.hotplug_feature] == "yes" or guest_features(self._db, vm).get("feature-hotplug"))
        )


class VbdRules(DeviceRules):
    class_name = "VBD"
    operations = ("attach", "eject", "insert", "plug", "unplug", "unplug_force", "pause", "unpause")
    hotplug_feature = "can_use_hotplug_vbd"

    def _own_error(self, row: Row, vm: Row, operation: str) -> ApiError | None:
        if operation == "attach":
            return ApiError("DEVICE_ALREADY_ATTACHED", row.ref) if row["currently_attached"] else None
        if operation in ("insert", "eject"):
            return self._media_error(row, vm, operation)
        if operation in ("pause", "unpause"):
            return None if row["currently_attached"] else ApiError("DEVICE_ALREADY_DETACHED", row.ref)
        error = super()._own_error(row, vm, operation)
        if error is None and row["type"] == "CD" and is_hvm(vm):
            return ApiError("OPERATION_NOT_ALLOWED", "A CD drive of an HVM guest cannot be plugged or unplugged")
        if error is None and operation == "unplug" and not row["unpluggable"]:
            return ApiError("VBD_NOT_UNPLUGGABLE", row.ref)
        return error

    @staticmethod
    def _media_error(row: Row, vm: Row, operation: str) -> ApiError | None:
        if vm["power_state"] == SUSPENDED:
            return ApiError("VM_BAD_POWER_STATE", vm.ref, "halted, running", "suspended")
        if row["type"] != "CD":
            return ApiError("VBD_NOT_REMOVABLE_MEDIA", row.ref)
        if operation == "insert" and not row["empty"]:
            return ApiError("VBD_NOT_EMPTY", row.ref)
        if operation == "eject" and row["empty"]:
            return ApiError("VBD_IS_EMPTY", row.ref)
        return None


class VifRules(DeviceRules):
    class_name = "VIF"
    operations = ("attach", "plug", "unplug")
    hotplug_feature = "can_use_hotplug_vif"

    def _names(self, names: list[str]) -> str:
        return "{" + ",".join(names) + "}"

    def _own_error(self, row: Row, vm: Row, operation: str) -> ApiError | None:
        if operation == "attach":
            return ApiError("DEVICE_ALREADY_ATTACHED", row.ref) if row["currently_attached"] else None
        return super()._own_error(row, vm, operation)
