"""Which operation the pool or a host allows."""

from nova_lite.xensim.db import Database, Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.vm_rules import wrapped

# How an operation in progress is named when it keeps others from starting.
IN_PROGRESS = {
    "ha_enable": "HA_ENABLE_IN_PROGRESS",
    "ha_disable": "HA_DISABLE_IN_PROGRESS",
    "designate_new_master": "DESIGNATE_NEW_MASTER_IN_PROGRESS",
    "configure_repositories": "CONFIGURE_REPOSITORIES_IN_PROGRESS",
    "sync_updates": "SYNC_UPDATES_IN_PROGRESS",
    "tls_verification_enable": "TLS_VERIFICATION_ENABLE_IN_PROGRESS",
}
POOL_OPERATIONS = (
    "ha_enable", "ha_disable", "cluster_create", "designate_new_master", "configure_repositories", "sync_updates",
    "tls_verification_enable", "cert_refresh", "eject",
)  # fmt: skip
HOST_OPERATIONS = (
    "provision", "evacuate", "shutdown", "reboot", "power_on", "vm_start", "vm_resume", "vm_migrate", "enable",
)  # fmt: skip
NEEDS_ENABLED = frozenset({"provision", "vm_start", "vm_resume", "vm_migrate"})
NEEDS_DISABLED = frozenset({"shutdown", "reboot"})


class PoolRules:
    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [operation for operation in POOL_OPERATIONS if not self.error(row, operation)]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        for running, task in zip(row["current_operations"].values(), row["current_operations"], strict=True):
            if running in IN_PROGRESS:
                return ApiError(IN_PROGRESS[running])
            return ApiError("OTHER_OPERATION_IN_PROGRESS", "pool", row.ref, running, task)
        if operation == "ha_disable":
            return None if row["ha_enabled"] else ApiError("HA_NOT_ENABLED")
        if operation in ("ha_enable", "eject") and row["ha_enabled"]:
            return ApiError("HA_IS_ENABLED")
        if operation == "tls_verification_enable" and row["tls_verification_enabled"]:
            return ApiError("OPERATION_NOT_ALLOWED", "TLS verification is already enabled")
        return None


class HostRules:
    def __init__(self, db: Database):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [operation for operation in HOST_OPERATIONS if not self.error(row, operation)]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        running = row["current_operations"]
        if "evacuate" in running.values() and operation in ("evacuate", "enable"):
            return ApiError("HOST_EVACUATE_IN_PROGRESS", row.ref)
        if set(running.values()) & NEEDS_DISABLED:
            return ApiError(
                "OTHER_OPERATION_IN_PROGRESS", "host", row.ref, wrapped(list(running.values())), wrapped(list(running))
            )
        if operation in NEEDS_ENABLED and not row["enabled"]:
            return ApiError("HOST_DISABLED", row.ref)
        if operation in NEEDS_DISABLED and row["enabled"]:
            return ApiError("HOST_NOT_DISABLED")
        if operation == "enable" and row["enabled"]:
            return ApiError("OPERATION_NOT_ALLOWED", "the host is enabled already")
        metrics = self._db.find("host_metrics", row["metrics"])
        if operation == "power_on" and metrics and metrics["live"]:
            return ApiError("HOST_IS_LIVE", row.ref)
        return None
