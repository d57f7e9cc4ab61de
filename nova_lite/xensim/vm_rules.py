"""Which operation a VM allows, by power state, concurrency, kind and guest features."""

from nova_lite.xensim.db import Database, Row
from nova_lite.xensim.errors import ApiError

HALTED, PAUSED, RUNNING, SUSPENDED = "Halted", "Paused", "Running", "Suspended"
ANY = (HALTED, PAUSED, RUNNING, SUSPENDED)

_BY_STATES = {
    (
        HALTED,
    ): "start start_on provision make_into_template changing_shadow_memory changing_NVRAM create_vtpm clone copy "
    "changing_VCPUs changing_static_range changing_memory_limits",
    (HALTED, SUSPENDED): "destroy export create_template",
    (PAUSED,): "unpause",
    (SUSPENDED,): "resume resume_on csvm",
    (RUNNING,): "pause suspend clean_shutdown clean_reboot pool_migrate call_plugin changing_memory_live "
    "awaiting_memory_live changing_VCPUs_live changing_shadow_memory_live data_source_op send_sysrq send_trigger "
    "snapshot_with_quiesce sysprep",
    (HALTED, RUNNING): "changing_dynamic_range",
    (RUNNING, PAUSED): "hard_reboot",
    (RUNNING, PAUSED, SUSPENDED): "hard_shutdown shutdown checkpoint get_boot_record",
    (HALTED, SUSPENDED, RUNNING): "migrate_send",
    ANY: "snapshot revert reverting metadata_export power_state_reset update_allowed_operations "
    "assert_operation_valid query_services",
    (): "import",
}
STATES = {operation: states for states, operations in _BY_STATES.items() for operation in operations.split()}
NEVER_LISTED = frozenset(
    "create_template power_state_reset csvm get_boot_record send_sysrq send_trigger query_services shutdown "
    "call_plugin changing_memory_live awaiting_memory_live changing_memory_limits changing_shadow_memory_live "
    "changing_VCPUs assert_operation_valid data_source_op update_allowed_operations import reverting".split()
)
TEMPLATE_ALLOWS = frozenset(
    "clone copy export metadata_export provision changing_VCPUs changing_static_range changing_dynamic_range "
    "changing_memory_limits changing_shadow_memory changing_NVRAM".split()
)
SNAPSHOT_ALLOWS = frozenset("revert clone copy export destroy hard_shutdown metadata_export".split())
CONTROL_DOMAIN_ALLOWS = frozenset(
    "data_source_op changing_static_range changing_dynamic_range changing_memory_limits changing_memory_live "
    "awaiting_memory_live metadata_export changing_VCPUs start".split()
)
# Sets of operations that may run on one VM at the same time.
MAY_OVERLAP = (frozenset({"clone", "copy", "export"}), frozenset({"snapshot", "checkpoint"}))
JOIN_MIGRATION = frozenset({"clean_shutdown", "clean_reboot", "metadata_export"})
NEEDED_FEATURES = {
    "clean_shutdown": ("feature-shutdown", "feature-poweroff"),
    "clean_reboot": ("feature-shutdown", "feature-reboot"),
    "suspend": ("feature-suspend",),
    "checkpoint": ("feature-suspend",),
    "pool_migrate": ("feature-suspend",),
    "migrate_send": ("feature-suspend",),
    "changing_VCPUs_live": ("feature-vcpu-hotplug",),
}
# What makes no sense with a disk that is reset at each boot.
KEEPS_DISKS = frozenset({"suspend", "checkpoint", "snapshot"})
SUSPENDING = frozenset({"suspend", "checkpoint", "pool_migrate", "migrate_send"})


class VmRules:
    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        """Return the operations that clients see as possible."""
        return [
            operation
            for operation in STATES
            if operation not in NEVER_LISTED
            and not self.error(row, operation)
            and not (self._lacks_feature(row, operation))
        ]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, None when it may start. The first reason found is XenServer's."""
        if operation in row["blocked_operations"]:
            return ApiError("OPERATION_BLOCKED", row.ref, row["blocked_operations"][operation])
        return (
            self._state_error(row, operation)
            or self._concurrency_error(row, operation)
            or self._kind_error(row, operation)
            or self._guest_error(row, operation)
            or self._disk_error(row, operation)
        )

    def _state_error(self, row: Row, operation: str) -> ApiError | None:
        states = STATES[operation]
        if operation in ("clone", "copy") and row["is_a_snapshot"]:
            states = (HALTED, SUSPENDED)
        if row["is_control_domain"] and operation in (
            "changing_VCPUs",
            "changing_static_range",
            "changing_memory_limits",
        ):
            states = (HALTED, RUNNING)
        if row["power_state"] in states:
            return None
        expected = ", ".join(state.lower() for state in states)
        return ApiError("VM_BAD_POWER_STATE", row.ref, expected, row["power_state"].lower())

    def _concurrency_error(self, row: Row, operation: str) -> ApiError | None:
        running = row["current_operations"]
        if not running or self._may_join(set(running.values()), operation):
            return None
        names, tasks = list(running.values()), list(running)
        return ApiError("OTHER_OPERATION_IN_PROGRESS", "VM", row.ref, wrapped(names), wrapped(tasks))

    @staticmethod
    def _may_join(running: set[str], operation: str) -> bool:
        if operation == "hard_shutdown":
            return "hard_shutdown" not in running
        if operation == "hard_reboot":
            return not running & {"hard_shutdown", "hard_reboot"}
        if operation in JOIN_MIGRATION and running == {"migrate_send"}:
            return True
        return any(operation in group and running <= group for group in MAY_OVERLAP)

    @staticmethod
    def _kind_error(row: Row, operation: str) -> ApiError | None:
        if row["is_a_template"] and not row["is_a_snapshot"] and operation not in TEMPLATE_ALLOWS:
            if operation == "destroy" and row["is_default_template"]:
                return ApiError("VM_CANNOT_DELETE_DEFAULT_TEMPLATE", row.ref)
            if operation not in ("destroy", "migrate_send") or row["is_default_template"]:
                return ApiError("VM_IS_TEMPLATE", row.ref, operation)
        if row["is_a_snapshot"] and operation not in SNAPSHOT_ALLOWS:
            return ApiError("VM_IS_SNAPSHOT", row.ref, operation)
        if operation == "provision" and not row["is_a_template"]:
            return ApiError("ONLY_PROVISION_TEMPLATE")
        if operation == "revert" and not row["is_a_snapshot"]:
            return ApiError("ONLY_REVERT_SNAPSHOT")
        if row["is_control_domain"] and operation not in CONTROL_DOMAIN_ALLOWS:
            return ApiError("OPERATION_NOT_ALLOWED", "This operation is not allowed on the control domain")
        return None

    def _disk_error(self, row: Row, operation: str) -> ApiError | None:
        if operation not in KEEPS_DISKS:
            return None
        vbds = [vbd for ref in row["VBDs"] if (vbd := self._db.find("VBD", ref))]
        disks = [disk for vbd in vbds if (disk := self._db.find("VDI", vbd["VDI"]))]
        if any(disk["on_boot"] == "reset" for disk in disks):
            return ApiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
        return None

    def _guest_error(self, row: Row, operation: str) -> ApiError | None:
        if operation == "snapshot_with_quiesce":
            return ApiError("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", row.ref, "not supported")
        if row["power_state"] != RUNNING:
            return None
        if operation in SUSPENDING:
            reason = guest_features(self._db, row).get("data-cant-suspend-reason")
            if reason:
                return ApiError("VM_NON_SUSPENDABLE", row.ref, reason)
            metrics = self._db.find("VM_metrics", row["metrics"])
            if metrics and metrics["nomigrate"]:
                return ApiError("VM_IS_IMMOBILE", row.ref)
            if metrics and metrics["nested_virt"]:
                return ApiError("VM_IS_USING_NESTED_VIRT", row.ref)
            if row["attached_PCIs"]:
                return ApiError("VM_HAS_PCI_ATTACHED", row.ref)
            if row["VGPUs"]:
                return ApiError("VM_HAS_VGPU", row.ref)
        if operation == "changing_VCPUs_live" and self._lacks_feature(row, operation):
            return ApiError("VM_LACKS_FEATURE", row.ref)
        return None

    def _lacks_feature(self, row: Row, operation: str) -> bool:
        needed = NEEDED_FEATURES.get(operation)
        if not needed or row["power_state"] != RUNNING or has_pv_drivers(self._db, row):
            return False
        features = guest_features(self._db, row)
        return not any(features.get(feature) == "1" for feature in needed)


def wrapped(names: list[str]) -> str:
    """Return names as error arguments hold them: one plain, several in braces."""
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def guest_features(db: Database, vm: Row) -> dict[str, str]:
    metrics = db.find("VM_guest_metrics", vm["guest_metrics"])
    return metrics["other"] if metrics else {}


def is_hvm(vm: Row) -> bool:
    return vm["domain_type"] == "hvm" or (vm["domain_type"] == "unspecified" and bool(vm["HVM_boot_policy"]))


def has_pv_drivers(db: Database, vm: Row) -> bool:
    """Return whether the guest can hot plug, suspend and shut down by itself."""
    if not is_hvm(vm):
        return True
    metrics = db.find("VM_guest_metrics", vm["guest_metrics"])
    return bool(metrics and metrics["PV_drivers_version"])
