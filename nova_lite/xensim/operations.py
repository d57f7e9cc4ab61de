"""current_operations and allowed_operations: recording what runs, recomputing what may."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.device_rules import PLUGGING, VbdRules, VifRules
from nova_lite.xensim.dispatch import is_null, unlisted_task
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.pool_rules import HostRules, PoolRules
from nova_lite.xensim.storage_rules import SrRules, VdiRules
from nova_lite.xensim.vm_rules import VmRules
from nova_lite.xensim.vtpms import VtpmRules

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

# What else has to be looked at again when an object of a class changed: fields that lead there.
LED_TO = {"VBD": [("VM", "VM"), ("VDI", "VDI")], "VIF": [("VM", "VM")], "PBD": [("SR", "SR")]}

# What the master does alone with the record of a VM.
NEEDS_NO_HOST = frozenset({"power_state_reset", "metadata_export", "query_services"})


class Operations:
    """Knows for each object what runs on it and what may be started. Expects the tables' lock to be held."""

    def __init__(self, toolstack: "Toolstack"):
        self._db = toolstack.db
        self._faults = toolstack.faults
        self._touched: dict[tuple[str, str], None] = {}
        self._rules: dict[str, Any] = {
            "VM": VmRules(toolstack.db),
            "VBD": VbdRules(toolstack.db),
            "VIF": VifRules(toolstack.db),
            "VDI": VdiRules(toolstack.db),
            "SR": SrRules(toolstack.db),
            "VTPM": VtpmRules(toolstack.db),
            "host": HostRules(toolstack.db),
            "pool": PoolRules(toolstack.db),
        }
        toolstack.db.observers.append(self._note)

    def check(self, class_name: str, ref: str, operation: str) -> None:
        """Raise the error with which XenServer refuses to start the operation now."""
        rules = self._rules.get(class_name)
        row = self._db.row(class_name, ref)
        if rules:
            error = rules.error(row, operation)
            if error:
                raise error
        if operation in PLUGGING and self._faults.rejects_overlapping_plugs:
            self._check_no_plug_runs(row)

    def _check_no_plug_runs(self, device: Row) -> None:
        vm = self._db.row("VM", device["VM"])
        others = [("VBD", ref) for ref in vm["VBDs"]] + [("VIF", ref) for ref in vm["VIFs"]]
        for class_name, ref in others:
            for task_ref, operation in self._db.get(class_name, ref, "current_operations").items():
                if operation in PLUGGING:
                    raise ApiError("OTHER_OPERATION_IN_PROGRESS", class_name, ref, operation, task_ref)

    @contextlib.contextmanager
    def recorded(self, class_name: str, ref: str, operation: str, caller: Caller) -> Iterator[None]:
        """Check the operation; show it on the object, and a disk's also on its repository, while the block runs."""
        self.check(class_name, ref, operation)
        if class_name in ("VM", "VBD", "VIF") and operation not in NEEDS_NO_HOST:
            vm_ref = ref if class_name == "VM" else self._db.get(class_name, ref, "VM")
            self._check_reachable(self._db.get("VM", vm_ref, "resident_on"))
        task_ref = unlisted_task() if is_null(caller.task_ref) else caller.task_ref
        with contextlib.ExitStack() as shown:
            shown.enter_context(self._shown(class_name, ref, operation, task_ref))
            if class_name == "VDI":
                repository_ref = self._db.get("VDI", ref, "SR")
                shown.enter_context(self._shown("SR", repository_ref, f"vdi_{operation}", task_ref))
            yield

    @contextlib.contextmanager
    def _shown(self, class_name: str, ref: str, operation: str, task_ref: str) -> Iterator[None]:
        running = self._db.get(class_name, ref, "current_operations")
        self._db.set(class_name, ref, current_operations={**running, task_ref: operation})
        self.refresh()
        try:
            yield
        finally:
            row = self._db.find(class_name, ref)
            if row:
                rest = {task: name for task, name in row["current_operations"].items() if task != task_ref}
                self._db.set(class_name, ref, current_operations=rest)
            self.refresh()

    def _check_reachable(self, host_ref: str) -> None:
        """Raise HOST_OFFLINE when the host that an operation is passed on to is dead."""
        host = self._db.find("host", host_ref)
        metrics = host and self._db.find("host_metrics", host["metrics"])
        if metrics and not metrics["live"]:
            raise ApiError("HOST_OFFLINE", host_ref)

    def refresh(self) -> None:
        """Recompute allowed_operations of everything that changed since the last time."""
        while self._touched:
            touched, self._touched = self._touched, {}
            for class_name, ref in touched:
                row = self._db.find(class_name, ref)
                if row:
                    self._refresh_row(row)
        self._touched = {}

    def _refresh_row(self, row: Row) -> None:
        allowed = self._rules[row.described.name].allowed(row)
        self._db.set(row.described.name, row.ref, allowed_operations=allowed)

    def _note(self, _kind: str, row: Row) -> None:
        class_name = row.described.name
        if class_name in self._rules:
            self._touched[class_name, row.ref] = None
        for other_class, field in LED_TO.get(class_name, []):
            if not is_null(row[field]):
                self._touched[other_class, row[field]] = None
        if class_name == "VM":
            self._touched.update({(kind, ref): None for kind in ("VBD", "VIF", "VTPM") for ref in row[f"{kind}s"]})
        elif class_name == "VM_guest_metrics":
            self._touched.update({("VM", vm.ref): None for vm in self._db.select("VM", guest_metrics=row.ref)})
