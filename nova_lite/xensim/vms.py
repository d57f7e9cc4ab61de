"""VM records: making, changing and removing them; memory and VCPUs."""

import math
import uuid as uuid_module

from nova_lite.xensim.db import Row
from nova_lite.xensim.devices import device_number
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import EPOCH, NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.vm_rules import HALTED, RUNNING, SUSPENDED, is_hvm

MIB = 1024 * 1024
PAGES_PER_MIB = 256


def memory_overhead(vm: Row) -> int:
    """Return the bytes that a domain needs beyond its guest's memory."""
    static_max_mib = -(-vm["memory_static_max"] // MIB)
    vcpus, multiplier = vm["VCPUs_max"], vm["HVM_shadow_multiplier"] if is_hvm(vm) else 1.0
    shadow = math.floor(multiplier * math.ceil((256 * vcpus + 2 * static_max_mib) / PAGES_PER_MIB))
    base = 2 if is_hvm(vm) else 1
    return (base + max(1, shadow) + math.ceil(38 * vcpus / PAGES_PER_MIB)) * MIB


def check_memory(static_min: int, dynamic_min: int, dynamic_max: int, static_max: int) -> None:
    """Raise MEMORY_CONSTRAINT_VIOLATION unless the limits are in order."""
    if not 0 <= static_min <= dynamic_min <= dynamic_max <= static_max:
        order = "memory limits must satisfy: static_min <= dynamic_min <= dynamic_max <= static_max"
        raise ApiError("MEMORY_CONSTRAINT_VIOLATION", order)


class Vms(Noun):
    @call("VM.create")
    def create(self, _caller, args):
        state = args.get("power_state", HALTED)
        is_suspended = (
            state == SUSPENDED and not is_null(args.get("suspend_VDI", NULL)) and args.get("last_booted_record")
        )
        if state != HALTED and not is_suspended:
            raise ApiError("VALUE_NOT_SUPPORTED", "power_state", state, "VMs must be created in the Halted state")
        own = {
            "power_state": state,
            "other_config": {"mac_seed": str(uuid_module.uuid4()), **args.get("other_config", {})},
            "domain_type": self._domain_type(args),
            "domid": -1,
            "metrics": self.new_metrics(),
        }
        ref = self.db.create("VM", **{**args, **own})
        self.refresh_overhead(ref)
        return ref

    @staticmethod
    def _domain_type(args: dict) -> str:
        given = args.get("domain_type", "unspecified")
        if given != "unspecified":
            return given
        return "hvm" if args.get("HVM_boot_policy") else "pv"

    def new_metrics(self) -> str:
        return self.db.create("VM_metrics", start_time=EPOCH, install_time=EPOCH, last_updated=EPOCH)

    def refresh_overhead(self, ref: str) -> None:
        self.db.set("VM", ref, memory_overhead=memory_overhead(self.db.row("VM", ref)))

    @call("VM.destroy", operation="destroy")
    def destroy(self, _caller, ref):
        vm = self.db.row("VM", ref)
        if not is_null(vm["suspend_VDI"]) and self.db.find("VDI", vm["suspend_VDI"]):
            self.toolstack.power.drop_suspend_image(vm)
        self.drop_record(ref)

    def drop_record(self, ref: str) -> None:
        """Remove the VM and what exists only with it; children move to its parent."""
        vm = self.db.row("VM", ref)
        for child in vm["children"]:
            self.db.set("VM", child, parent=vm["parent"])
        for snapshot in vm["snapshots"]:
            self.db.set("VM", snapshot, snapshot_of=NULL)
        for class_name, refs in (
            ("VBD", vm["VBDs"]),
            ("VIF", vm["VIFs"]),
            ("console", vm["consoles"]),
            ("VGPU", vm["VGPUs"]),
        ):
            for each in refs:
                self.db.destroy(class_name, each)
        for each in vm["VTPMs"]:
            self.toolstack.vtpms.remove(each)
        self.toolstack.blobs.drop_all(list(vm["blobs"].values()))
        for class_name, each in (("VM_metrics", vm["metrics"]), ("VM_guest_metrics", vm["guest_metrics"])):
            if self.db.find(class_name, each):
                self.db.destroy(class_name, each)
        self.db.destroy("VM", ref)

    # templates and fields

    @call("VM.set_is_a_template")
    def set_is_a_template(self, _caller, ref, value):
        vm = self.db.row("VM", ref)
        if vm["is_a_snapshot"] and not value:
            raise ApiError("OPERATION_NOT_ALLOWED", "A snapshot cannot become a VM")
        if value:
            self.toolstack.operations.check("VM", ref, "make_into_template")
            self.db.set("VM", ref, is_a_template=True)
            return
        self.db.set("VM", ref, is_a_template=False, is_default_template=False)

    def _guarded_setter(field, operation):
        @call(f"VM.set_{field}")
        def set_field(self, _caller, ref, value):
            self.toolstack.operations.check("VM", ref, operation)
            self.db.set("VM", ref, **{field: value})

        return set_field

    set_has_vendor_device = _guarded_setter("has_vendor_device", "changing_VCPUs")
    set_NVRAM = _guarded_setter("NVRAM", "changing_NVRAM")
    set_domain_type = _guarded_setter("domain_type", "changing_VCPUs")

    @call("VM.set_HVM_boot_policy")
    def set_hvm_boot_policy(self, _caller, ref, value):
        domain_type = "hvm" if value else "pv"
        self.db.set("VM", ref, HVM_boot_policy=value, domain_type=domain_type)
        self.refresh_overhead(ref)

    # memory and VCPUs

    def _set_memory(self, ref: str, operation: str, **limits: int) -> None:
        vm = self.db.row("VM", ref)
        self.toolstack.operations.check("VM", ref, operation)
        names = ("static_min", "dynamic_min", "dynamic_max", "static_max")
        wanted = {name: limits.get(name, vm[f"memory_{name}"]) for name in names}
        check_memory(**wanted)
        self.db.set("VM", ref, **{f"memory_{name}": value for name, value in wanted.items()})
        if wanted["dynamic_max"] != vm["memory_target"]:
            self.db.set("VM", ref, memory_target=wanted["dynamic_max"])
        self.refresh_overhead(ref)
        if vm["power_state"] == RUNNING:
            self.db.set("VM_metrics", vm["metrics"], memory_actual=wanted["dynamic_max"])
            self.toolstack.hosts.refresh_free_memory()

    @call("VM.set_memory_dynamic_max")
    def set_memory_dynamic_max(self, _caller, ref, value):
        self._set_memory(ref, "changing_dynamic_range", dynamic_max=value)

    @call("VM.set_memory_dynamic_min")
    def set_memory_dynamic_min(self, _caller, ref, value):
        self._set_memory(ref, "changing_dynamic_range", dynamic_min=value)

    @call("VM.set_memory_dynamic_range")
    def set_memory_dynamic_range(self, _caller, ref, low, high):
        self._set_memory(ref, "changing_dynamic_range", dynamic_min=low, dynamic_max=high)

    @call("VM.set_memory_static_max")
    def set_memory_static_max(self, _caller, ref, value):
        self._set_memory(ref, "changing_static_range", static_max=value)

    @call("VM.set_memory_static_min")
    def set_memory_static_min(self, _caller, ref, value):
        self._set_memory(ref, "changing_static_range", static_min=value)

    @call("VM.set_memory_static_range")
    def set_memory_static_range(self, _caller, ref, low, high):
        self._set_memory(ref, "changing_static_range", static_min=low, static_max=high)

    @call("VM.set_memory_limits")
    def set_memory_limits(self, _caller, ref, static_min, static_max, dynamic_min, dynamic_max):
        self._set_memory(
            ref, "changing_memory_limits",
            static_min=static_min, static_max=static_max, dynamic_min=dynamic_min, dynamic_max=dynamic_max,
        )  # fmt: skip

    @call("VM.set_memory")
    def set_memory(self, _caller, ref, value):
        self._set_memory(ref, "changing_memory_limits", static_max=value, dynamic_min=value, dynamic_max=value)

    @call("VM.compute_memory_overhead")
    def compute_memory_overhead(self, _caller, ref):
        return memory_overhead(self.db.row("VM", ref))

    @call("VM.maximise_memory")
    def maximise_memory(self, _caller, ref, total, _approximate):
        vm = self.db.row("VM", ref)
        return max((total - memory_overhead(vm)) // MIB * MIB, 0)

    @call("VM.set_VCPUs_max")
    def set_vcpus_max(self, _caller, ref, value):
        vm = self.db.row("VM", ref)
        self.toolstack.operations.check("VM", ref, "changing_VCPUs")
        if value < max(vm["VCPUs_at_startup"], 1):
            raise ApiError("INVALID_VALUE", "VCPUs_max", str(value))
        self.db.set("VM", ref, VCPUs_max=value)
        self.refresh_overhead(ref)

    @call("VM.set_VCPUs_at_startup")
    def set_vcpus_at_startup(self, _caller, ref, value):
        vm = self.db.row("VM", ref)
        self.toolstack.operations.check("VM", ref, "changing_VCPUs")
        if not 1 <= value <= vm["VCPUs_max"]:
            raise ApiError("INVALID_VALUE", "VCPUs_at_startup", str(value))
        self.db.set("VM", ref, VCPUs_at_startup=value)

    @call("VM.set_VCPUs_number_live", operation="changing_VCPUs_live")
    def set_vcpus_number_live(self, _caller, ref, value):
        vm = self.db.row("VM", ref)
        if not 1 <= value <= vm["VCPUs_max"]:
            raise ApiError("INVALID_VALUE", "VCPU values must satisfy: 0 < VCPUs <= VCPUs_max", str(value))
        self.db.set("VM", ref, VCPUs_at_startup=value)
        self.db.set("VM_metrics", vm["metrics"], VCPUs_number=value)

    @call("VM.set_HVM_shadow_multiplier")
    def set_hvm_shadow_multiplier(self, _caller, ref, value):
        self.toolstack.operations.check("VM", ref, "changing_shadow_memory")
        if value < 1:
            raise ApiError("VALUE_NOT_SUPPORTED", "HVM_shadow_multiplier", str(value), "must be at least 1")
        self.db.set("VM", ref, HVM_shadow_multiplier=value)
        self.refresh_overhead(ref)

    # questions

    @call("VM.get_allowed_VBD_devices")
    def get_allowed_vbd_devices(self, _caller, ref):
        taken = {device_number(self.db.get("VBD", each, "userdevice")) for each in self.db.get("VM", ref, "VBDs")}
        return [str(number) for number in range(255) if number not in taken]

    @call("VM.get_allowed_VIF_devices")
    def get_allowed_vif_devices(self, _caller, ref):
        taken = {self.db.get("VIF", each, "device") for each in self.db.get("VM", ref, "VIFs")}
        return [str(number) for number in range(7) if str(number) not in taken]

    @call("VM.assert_operation_valid")
    def assert_operation_valid(self, _caller, ref, operation):
        self.toolstack.operations.check("VM", ref, operation)

    @call("VM.update_allowed_operations")
    def update_allowed_operations(self, _caller, ref):
        self.db.touch(self.db.row("VM", ref))

    @call("VM.get_cooperative")
    def get_cooperative(self, _caller, ref):
        self.db.row("VM", ref)
        return True

    @call("VM.get_possible_hosts")
    def get_possible_hosts(self, _caller, ref):
        return self.toolstack.power.possible_hosts(self.db.row("VM", ref))

    @call("VM.assert_can_boot_here")
    def assert_can_boot_here(self, _caller, ref, host):
        self.toolstack.power.check_host(self.db.row("VM", ref), host)

    @call("VM.get_boot_record", operation="get_boot_record")
    def get_boot_record(self, _caller, ref):
        if not self.db.get("VM", ref, "last_booted_record"):
            raise internal_error("Failure: the VM has not been booted")
        return self.db.row("VM", ref)
