"""Virtual TPMs of VMs."""

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.vm_rules import HALTED

MOST = 1


class Vtpms(Noun):
    @call("VTPM.create")
    def create(self, _caller, vm_ref, is_unique):
        vm = self.db.row("VM", vm_ref)
        self.toolstack.operations.check("VM", vm_ref, "create_vtpm")
        if vm["domain_type"] != "hvm":
            raise ApiError("VM_HVM_REQUIRED", vm_ref)
        if len(vm["VTPMs"]) >= MOST:
            raise ApiError("VTPM_MAX_AMOUNT_REACHED", str(MOST))
        secret_ref = self.db.create("secret", value="")
        return self.db.create("VTPM", VM=vm_ref, is_unique=is_unique, contents=secret_ref)

    @call("VTPM.destroy", operation="destroy")
    def destroy(self, _caller, ref):
        self.remove(ref)

    def remove(self, ref: str) -> None:
        """Remove the device and its contents."""
        secret_ref = self.db.get("VTPM", ref, "contents")
        self.db.destroy("VTPM", ref)
        if self.db.find("secret", secret_ref):
            self.db.destroy("secret", secret_ref)

    def copy_all(self, vm: Row, new_ref: str) -> None:
        """Give a copy of a VM copies of its devices, but for those that are unique."""
        for ref in vm["VTPMs"]:
            vtpm = self.db.row("VTPM", ref)
            if not vtpm["is_unique"]:
                contents = self.db.create("secret", value=self.db.get("secret", vtpm["contents"], "value"))
                self.db.create("VTPM", VM=new_ref, is_unique=False, contents=contents)


class VtpmRules:
    """A vTPM may be destroyed while its VM is halted."""

    def __init__(self, db):
        self._db = db

    def allowed(self, row: Row) -> list[str]:
        return [] if self.error(row, "destroy") else ["destroy"]

    def error(self, row: Row, operation: str) -> ApiError | None:
        """Return why the operation is refused now, or None."""
        vm = self._db.find("VM", row["VM"])
        if vm and vm["power_state"] != HALTED:
            return ApiError("VM_BAD_POWER_STATE", vm.ref, "halted", vm["power_state"].lower())
        if row["current_operations"]:
            task, running = next(iter(row["current_operations"].items()))
            return ApiError("OTHER_OPERATION_IN_PROGRESS", "VTPM", row.ref, running, task)
        return None
