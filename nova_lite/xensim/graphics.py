"""PCI devices, physical GPUs, their groups, and the virtual GPUs of VMs."""

from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.vm_rules import HALTED

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

WHOLE = 1024 * 1024  # the capacity of a physical GPU, of which types take their share
ENABLED, DISABLED = "enabled", "disabled"
# What enable and disable make of each state; a host's reboot ends the waiting ones.
AFTER_DISABLE = {"enabled": "disable_on_reboot", "enable_on_reboot": "disabled"}
AFTER_ENABLE = {"disabled": "enable_on_reboot", "disable_on_reboot": "enabled"}
AFTER_REBOOT = {"disable_on_reboot": "disabled", "enable_on_reboot": "enabled"}


class Graphics(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._dom0_access: dict[str, str] = {}  # of PCI devices, where it is not enabled

    # capacity

    def _used(self, pgpu: Row) -> list[Row]:
        """Return the virtual GPUs that take part of a physical one, or are about to."""
        planned = self.db.select("VGPU", scheduled_to_be_resident_on=pgpu.ref)
        refs = dict.fromkeys([*pgpu["resident_VGPUs"], *(vgpu.ref for vgpu in planned)])
        return [self.db.row("VGPU", ref) for ref in refs]

    def remaining(self, pgpu: Row, type_ref: str) -> int:
        """Return how many more virtual GPUs of a type a physical one takes."""
        if type_ref not in pgpu["enabled_VGPU_types"]:
            return 0
        used = self._used(pgpu)
        if any(vgpu["type"] != type_ref for vgpu in used):  # one type at a time on a physical GPU
            return 0
        taken = sum(self.db.get("VGPU_type", vgpu["type"], "size") for vgpu in used)
        return (pgpu["size"] - taken) // self.db.get("VGPU_type", type_ref, "size")

    @call("PGPU.get_remaining_capacity")
    def get_remaining_capacity(self, _caller, ref, type_ref):
        self.db.row("VGPU_type", type_ref)
        return self.remaining(self.db.row("PGPU", ref), type_ref)

    @call("GPU_group.get_remaining_capacity")
    def get_group_capacity(self, _caller, ref, type_ref):
        self.db.row("VGPU_type", type_ref)
        return sum(
            self.remaining(self.db.row("PGPU", pgpu), type_ref) for pgpu in self.db.get("GPU_group", ref, "PGPUs")
        )

    # groups and types

    @call("GPU_group.create")
    def create_group(self, _caller, name_label, name_description, other_config):
        return self.db.create(
            "GPU_group", name_label=name_label, name_description=name_description, other_config=other_config
        )

    @call("GPU_group.destroy")
    def destroy_group(self, _caller, ref):
        group = self.db.row("GPU_group", ref)
        if group["VGPUs"]:
            raise ApiError("GPU_GROUP_CONTAINS_VGPU", *group["VGPUs"])
        if group["PGPUs"]:
            raise ApiError("GPU_GROUP_CONTAINS_PGPU", *group["PGPUs"])
        self.db.destroy("GPU_group", ref)

    @call("PGPU.set_GPU_group")
    def set_group(self, _caller, ref, group_ref):
        pgpu, group = self.db.row("PGPU", ref), self.db.row("GPU_group", group_ref)
        if pgpu["resident_VGPUs"]:
            raise ApiError("PGPU_IN_USE_BY_VM", *self._users(pgpu["resident_VGPUs"]))
        kind = self._kind(pgpu)
        if group["GPU_types"] and kind not in group["GPU_types"]:
            raise ApiError("PGPU_NOT_COMPATIBLE_WITH_GPU_GROUP", kind, ", ".join(group["GPU_types"]))
        former_ref = pgpu["GPU_group"]
        self.db.set("PGPU", ref, GPU_group=group_ref)
        for each in (former_ref, group_ref):
            if not is_null(each):
                self.refresh_group(each)

    def _kind(self, pgpu: Row) -> str:
        pci = self.db.row("PCI", pgpu["PCI"])
        return f"{pci['vendor_id']}/{pci['device_id']}"

    def _users(self, vgpu_refs: list[str]) -> list[str]:
        return list(dict.fromkeys(self.db.get("VGPU", ref, "VM") for ref in vgpu_refs))

    def refresh_group(self, ref: str) -> None:
        """Show in a group what its physical GPUs are and can do."""
        pgpus = [self.db.row("PGPU", each) for each in self.db.get("GPU_group", ref, "PGPUs")]
        kinds = list(dict.fromkeys(self._kind(pgpu) for pgpu in pgpus))
        self.db.set("GPU_group", ref, GPU_types=kinds)
        for field in ("supported_VGPU_types", "enabled_VGPU_types"):
            types = dict.fromkeys(each for pgpu in pgpus for each in pgpu[field])
            self.db.set("GPU_group", ref, **{field: list(types)})

    def _set_enabled(self, ref: str, wanted: list[str]) -> None:
        pgpu = self.db.row("PGPU", ref)
        for type_ref in wanted:
            self.db.row("VGPU_type", type_ref)
            if type_ref not in pgpu["supported_VGPU_types"]:
                raise ApiError("VGPU_TYPE_NOT_SUPPORTED", type_ref, ", ".join(pgpu["supported_VGPU_types"]))
        in_use = [vgpu for vgpu in pgpu["resident_VGPUs"] if self.db.get("VGPU", vgpu, "type") not in wanted]
        if in_use:
            raise ApiError("PGPU_IN_USE_BY_VM", *self._users(in_use))
        self.db.set("PGPU", ref, enabled_VGPU_types=wanted)
        if not is_null(pgpu["GPU_group"]):
            self.refresh_group(pgpu["GPU_group"])

    @call("PGPU.set_enabled_VGPU_types")
    def set_enabled_types(self, _caller, ref, value):
        self._set_enabled(ref, value)

    @call("PGPU.add_enabled_VGPU_types")
    def add_enabled_type(self, _caller, ref, value):
        enabled = self.db.get("PGPU", ref, "enabled_VGPU_types")
        self._set_enabled(ref, [*(each for each in enabled if each != value), value])

    @call("PGPU.remove_enabled_VGPU_types")
    def remove_enabled_type(self, _caller, ref, value):
        enabled = self.db.get("PGPU", ref, "enabled_VGPU_types")
        self._set_enabled(ref, [each for each in enabled if each != value])

    # virtual GPUs

    @call("VGPU.create")
    def create(self, _caller, vm_ref, group_ref, device, other_config, type_ref):
        vm, group = self.db.row("VM", vm_ref), self.db.row("GPU_group", group_ref)
        if vm["power_state"] != HALTED:
            raise ApiError("VM_BAD_POWER_STATE", vm_ref, "halted", vm["power_state"].lower())
        if not (device.isascii() and device.isdigit()):
            raise ApiError("INVALID_DEVICE", device)
        if any(self.db.get("VGPU", each, "device") == device for each in vm["VGPUs"]):
            raise ApiError("DEVICE_ALREADY_EXISTS", device)
        if is_null(type_ref):
            type_ref = next(row.ref for row in self.db.select("VGPU_type", implementation="passthrough"))
        self.db.row("VGPU_type", type_ref)
        if vm["VGPUs"]:  # the types made here are compatible with none but themselves, and only one of a kind
            raise ApiError("VGPU_TYPE_NOT_COMPATIBLE", type_ref)
        if not group["PGPUs"]:
            raise ApiError("GPU_GROUP_CONTAINS_NO_PGPUS", group_ref)
        if type_ref not in group["enabled_VGPU_types"]:
            raise ApiError("VGPU_TYPE_NOT_ENABLED", type_ref, ", ".join(group["enabled_VGPU_types"]))
        return self.db.create(
            "VGPU", VM=vm_ref, GPU_group=group_ref, device=device, other_config=other_config, type=type_ref
        )

    @call("VGPU.destroy")
    def destroy(self, _caller, ref):
        vgpu = self.db.row("VGPU", ref)
        if vgpu["currently_attached"]:
            raise ApiError("OPERATION_NOT_ALLOWED", "A VGPU attached to a running VM cannot be destroyed")
        self.db.destroy("VGPU", ref)

    # where VMs run

    def _candidates(self, vgpu: Row, host_ref: str) -> list[Row]:
        pgpus = [self.db.row("PGPU", ref) for ref in self.db.get("GPU_group", vgpu["GPU_group"], "PGPUs")]
        return [pgpu for pgpu in pgpus if pgpu["host"] == host_ref]

    def check_host(self, vm: Row, host_ref: str) -> None:
        """Raise VM_REQUIRES_GPU or VM_REQUIRES_VGPU when the host lacks what the VM's devices need."""
        for ref in vm["VGPUs"]:
            vgpu = self.db.row("VGPU", ref)
            candidates = self._candidates(vgpu, host_ref)
            if not candidates:
                raise ApiError("VM_REQUIRES_GPU", vm.ref, vgpu["GPU_group"])
            if not any(self.remaining(pgpu, vgpu["type"]) for pgpu in candidates):
                raise ApiError("VM_REQUIRES_VGPU", vm.ref, vgpu["GPU_group"], vgpu["type"])
        self._wanted_devices(vm, host_ref)

    def _wanted_devices(self, vm: Row, host_ref: str) -> list[str]:
        """Return the devices that other_config:pci passes through. Raises INTERNAL_ERROR for one that is not there."""
        found = {self.db.get("PCI", ref, "pci_id"): ref for ref in self.db.get("host", host_ref, "PCIs")}
        names = [entry.partition("/")[2] for entry in vm["other_config"].get("pci", "").split(",") if entry]
        for name in names:
            if name not in found:
                raise internal_error(f"Failure: PCI device {name} is not on the host")
            users = [each for each in self.db.get("PCI", found[name], "attached_VMs") if each != vm.ref]
            if users:
                raise internal_error(f"Failure: PCI device {name} is in use by {users[0]}")
        return [found[name] for name in names]

    def attach(self, vm: Row, host_ref: str) -> None:
        """Give a VM that starts on a host its share of the host's devices."""
        for ref in vm["VGPUs"]:
            vgpu = self.db.row("VGPU", ref)
            fitting = [each for each in self._candidates(vgpu, host_ref) if self.remaining(each, vgpu["type"])]
            packs = self.db.get("GPU_group", vgpu["GPU_group"], "allocation_algorithm") == "depth_first"
            chosen = (min if packs else max)(fitting, key=lambda pgpu: self.remaining(pgpu, vgpu["type"]))
            self.db.set("VGPU", ref, resident_on=chosen.ref, currently_attached=True, PCI=chosen["PCI"])
        for ref in self._wanted_devices(vm, host_ref):
            self.db.set("PCI", ref, attached_VMs=[*self.db.get("PCI", ref, "attached_VMs"), vm.ref])

    def detach(self, vm: Row) -> None:
        """Take the devices back from a VM that ends."""
        for ref in vm["VGPUs"]:
            self.db.set("VGPU", ref, resident_on=NULL, currently_attached=False, PCI=NULL)
        for ref in vm["attached_PCIs"]:
            rest = [each for each in self.db.get("PCI", ref, "attached_VMs") if each != vm.ref]
            self.db.set("PCI", ref, attached_VMs=rest)

    # what dom0 keeps of a device

    def _access(self, pci_ref: str) -> str:
        self.db.row("PCI", pci_ref)
        return self._dom0_access.get(pci_ref, ENABLED)

    def _change_access(self, pci_ref: str, moves: dict[str, str]) -> str:
        before = self._access(pci_ref)
        after = self._dom0_access[pci_ref] = moves.get(before, before)
        for pgpu in list(self.db.select("PGPU", PCI=pci_ref)):
            self.db.set("PGPU", pgpu.ref, dom0_access=after)
        return after

    @call("PCI.get_dom0_access_status")
    def get_access(self, _caller, ref):
        return self._access(ref)

    @call("PCI.disable_dom0_access")
    def disable_access(self, _caller, ref):
        return self._change_access(ref, AFTER_DISABLE)

    @call("PCI.enable_dom0_access")
    def enable_access(self, _caller, ref):
        return self._change_access(ref, AFTER_ENABLE)

    @call("PGPU.disable_dom0_access")
    def disable_gpu_access(self, _caller, ref):
        return self._change_access(self.db.get("PGPU", ref, "PCI"), AFTER_DISABLE)

    @call("PGPU.enable_dom0_access")
    def enable_gpu_access(self, _caller, ref):
        return self._change_access(self.db.get("PGPU", ref, "PCI"), AFTER_ENABLE)

    @call("host.disable_display")
    def disable_display(self, _caller, ref):
        return self._change_display(ref, AFTER_DISABLE)

    @call("host.enable_display")
    def enable_display(self, _caller, ref):
        return self._change_display(ref, AFTER_ENABLE)

    def _change_display(self, ref: str, moves: dict[str, str]) -> str:
        before = self.db.get("host", ref, "display")
        after = moves.get(before, before)
        self.db.set("host", ref, display=after)
        return after

    def host_rebooted(self, host_ref: str) -> None:
        """Let what waited for a reboot take place."""
        self._change_display(host_ref, AFTER_REBOOT)
        for pci_ref in self.db.get("host", host_ref, "PCIs"):
            self._change_access(pci_ref, AFTER_REBOOT)
