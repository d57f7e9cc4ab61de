"""What else can be asked of a VM: keys and triggers, live limits, plugins, firmware, packages from elsewhere."""

import time
import urllib.request
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.packages import PackageReader
from nova_lite.xensim.vhd import VhdError
from nova_lite.xensim.vm_rules import HALTED, RUNNING, guest_features, is_hvm

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

TRIGGERS = frozenset({"nmi", "reset", "init", "power", "sleep", "s3resume"})
BIOS_KEYS = frozenset(
    "bios-vendor bios-version system-manufacturer system-product-name system-version system-serial-number "
    "enclosure-asset-tag baseboard-manufacturer baseboard-product-name baseboard-version "
    "baseboard-serial-number baseboard-asset-tag baseboard-location-in-chassis".split()
)
BIOS_VALUE_LIMIT = 512
GUEST_PLUGIN = "guest-agent-operation"
GUEST_SWITCHES = {"request-rdp-on": "1", "request-rdp-off": "0"}
PLUGIN_INTERVAL_S = 10.0
IMPORT_TIMEOUT_S = 600


class VmServices(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._plugin_calls: dict[str, float] = {}  # when each VM's guest was last called
        self._in_setup_mode: set[str] = set()

    # the running domain

    @call("VM.send_sysrq", operation="send_sysrq")
    def send_sysrq(self, _caller, ref, key):
        if len(key) != 1:
            raise ApiError("INVALID_VALUE", "key", key)
        store, root = self.toolstack.domains.of(self.db.row("VM", ref))
        store.write(f"{root}/control/sysrq", key)

    @call("VM.send_trigger", operation="send_trigger")
    def send_trigger(self, caller, ref, trigger):
        if trigger not in TRIGGERS:
            raise ApiError("INVALID_VALUE", "trigger", trigger)
        if trigger in ("reset", "init"):
            self.toolstack.power.hard_reboot(caller, ref)
        elif trigger == "power":
            self.toolstack.power.guest_powered_off(ref, is_reboot=False)

    @call("VM.add_to_VCPUs_params_live")
    def add_to_vcpus_params_live(self, _caller, ref, key, value):
        vm = self.db.row("VM", ref)
        self.toolstack.operations.check("VM", ref, "changing_VCPUs_live")
        self.db.set("VM", ref, VCPUs_params={**vm["VCPUs_params"], key: value})
        metrics = self.db.row("VM_metrics", vm["metrics"])
        self.db.set("VM_metrics", metrics.ref, VCPUs_params={**metrics["VCPUs_params"], key: value})

    @call("VM.set_memory_target_live", operation="changing_memory_live")
    def set_memory_target_live(self, _caller, ref, target):
        vm = self.db.row("VM", ref)
        if not vm["memory_static_min"] <= target <= vm["memory_static_max"]:
            raise ApiError("MEMORY_CONSTRAINT_VIOLATION", "the target lies outside the static range")
        self.db.set("VM", ref, memory_target=target)
        if self._balloons(vm):
            self.db.set("VM_metrics", vm["metrics"], memory_actual=target)

    @call("VM.wait_memory_target_live", operation="awaiting_memory_live")
    def wait_memory_target_live(self, _caller, ref):
        vm = self.db.row("VM", ref)
        if self.db.get("VM_metrics", vm["metrics"], "memory_actual") != vm["memory_target"]:
            raise ApiError("VM_MEMORY_TARGET_WAIT_TIMEOUT", ref)

    def _balloons(self, vm: Row) -> bool:
        return guest_features(self.db, vm).get("feature-balloon") == "1"

    @call("VM.set_shadow_multiplier_live", operation="changing_shadow_memory_live")
    def set_shadow_multiplier_live(self, _caller, ref, multiplier):
        if multiplier < 1:
            raise ApiError("VALUE_NOT_SUPPORTED", "multiplier", str(multiplier), "must be at least 1")
        vm = self.db.row("VM", ref)
        if not is_hvm(vm):
            raise ApiError("FEATURE_REQUIRES_HVM", "shadow memory")
        before, overhead = vm["HVM_shadow_multiplier"], vm["memory_overhead"]
        self.db.set("VM", ref, HVM_shadow_multiplier=multiplier)
        self.toolstack.vms.refresh_overhead(ref)
        free = self.toolstack.hosts.free_memory(vm["resident_on"])
        if not free and vm["memory_overhead"] > overhead:
            needed = vm["memory_overhead"] - overhead
            self.db.set("VM", ref, HVM_shadow_multiplier=before)
            self.toolstack.vms.refresh_overhead(ref)
            raise ApiError("HOST_NOT_ENOUGH_FREE_MEMORY", str(needed), str(free))

    @call("VM.restart_device_models")
    def restart_device_models(self, caller, ref):
        vm = self.db.row("VM", ref)
        self.toolstack.operations.check("VM", ref, "pool_migrate")
        if not is_hvm(vm):
            raise ApiError("VM_HVM_REQUIRED", ref)
        self.toolstack.guests.ask(caller, ref, "suspend")
        self.toolstack.power.move(vm, vm["resident_on"])  # a migration to where it is

    @call("VM.atomic_set_resident_on")
    def atomic_set_resident_on(self, _caller, ref, host_ref):
        self.db.row("host", host_ref)
        self.db.set("VM", ref, resident_on=host_ref, scheduled_to_be_resident_on="OpaqueRef:NULL")

    @call("VM.query_services", operation="query_services")
    def query_services(self, _caller, ref):
        if self.db.get("VM", ref, "other_config").get("is_system_domain") != "true":
            raise ApiError("NOT_SYSTEM_DOMAIN", ref)
        return {}

    @call("VM.sysprep", operation="sysprep")
    def sysprep(self, _caller, ref, _unattend, _timeout):
        raise ApiError("SYSPREP", ref, "the guest has no agent that can prepare Windows")

    # plugins

    @call("VM.call_plugin", operation="call_plugin")
    def call_plugin(self, _caller, ref, plugin, function, _args):
        vm = self.db.row("VM", ref)
        if plugin != GUEST_PLUGIN:
            raise ApiError("XENAPI_MISSING_PLUGIN", plugin)
        waited = time.monotonic() - self._plugin_calls.get(ref, float("-inf"))
        if waited < PLUGIN_INTERVAL_S:
            raise ApiError(
                "VM_CALL_PLUGIN_RATE_LIMIT", ref, f"{PLUGIN_INTERVAL_S:.0f}", f"{PLUGIN_INTERVAL_S - waited:.1f}"
            )
        self._plugin_calls[ref] = time.monotonic()
        if function not in GUEST_SWITCHES:
            raise ApiError("XENAPI_PLUGIN_FAILURE", "failed to find the function", "", function)
        if guest_features(self.db, vm).get("feature-ts2") != "1":
            raise ApiError("VM_LACKS_FEATURE", ref)
        store, root = self.toolstack.domains.of(vm)
        store.write(f"{root}/control/ts", GUEST_SWITCHES[function])
        return ""

    @call("VM.call_host_plugin", operation="call_plugin")
    def call_host_plugin(self, caller, ref, plugin, function, args):
        vm = self.db.row("VM", ref)
        arguments = {**args, "vm_uuid": vm["uuid"]}
        return self.toolstack.dom0.call_plugin(caller, vm["resident_on"], plugin, function, arguments)

    @call("VM.import_convert")
    def import_convert(self, caller, type_, username, password, sr_ref, remote_config):
        sr_uuid = self.db.get("SR", sr_ref, "uuid")
        arguments = {"type": type_, "username": username, "password": password, "sr-uuid": sr_uuid, **remote_config}
        self.toolstack.dom0.call_plugin(caller, self.toolstack.master_ref, "conversion", "main", arguments)

    # firmware

    @call("VM.set_bios_strings")
    def set_bios_strings(self, _caller, ref, value):
        self._check_bios_free(ref)
        for key, text in value.items():
            if key not in BIOS_KEYS:
                raise ApiError("INVALID_VALUE", key, "unknown key")
            if not text or len(text) > BIOS_VALUE_LIMIT or not text.isprintable():
                raise ApiError("INVALID_VALUE", key, text)
        self.db.set("VM", ref, bios_strings=value)

    @call("VM.copy_bios_strings")
    def copy_bios_strings(self, _caller, ref, host_ref):
        self._check_bios_free(ref)
        self.db.set("VM", ref, bios_strings=self.db.get("host", host_ref, "bios_strings"))

    def _check_bios_free(self, ref: str) -> None:
        vm = self.db.row("VM", ref)
        if vm["power_state"] != HALTED:
            raise ApiError("VM_BAD_POWER_STATE", ref, "halted", vm["power_state"].lower())
        if vm["bios_strings"]:
            raise ApiError("VM_BIOS_STRINGS_ALREADY_SET")

    @staticmethod
    def _is_uefi(vm: Row) -> bool:
        return is_hvm(vm) and vm["HVM_boot_params"].get("firmware") == "uefi"

    @call("VM.get_secureboot_readiness")
    def get_secureboot_readiness(self, _caller, ref):
        vm = self.db.row("VM", ref)
        if not self._is_uefi(vm):
            return "not_supported"
        if vm["platform"].get("secureboot") not in ("true", "auto"):
            return "disabled"
        if ref in self._in_setup_mode:
            return "setup_mode"
        return "ready" if "EFI-variables" in vm["NVRAM"] else "first_boot"

    @call("VM.set_uefi_mode")
    def set_uefi_mode(self, _caller, ref, mode):
        vm = self.db.row("VM", ref)
        if not self._is_uefi(vm):
            raise ApiError("OPERATION_NOT_ALLOWED", "the VM does not boot by UEFI")
        if vm["power_state"] == RUNNING:
            raise ApiError("VM_BAD_POWER_STATE", ref, "halted", "running")
        (self._in_setup_mode.add if mode == "setup" else self._in_setup_mode.discard)(ref)
        return ""

    @call("VM.update_secureboot_certificates_on_boot")
    def update_certificates_on_boot(self, _caller, ref, mark):
        moves = {True: ("update_available", "update_on_boot"), False: ("update_on_boot", "update_available")}
        before, after = moves[mark]
        if self.db.get("VM", ref, "secureboot_certificates_state") != before:
            raise ApiError("OPERATION_NOT_ALLOWED", f"the state of the VM's certificates is not {before}")
        self.db.set("VM", ref, secureboot_certificates_state=after)

    # packages from elsewhere

    @call("VM.import")
    def import_(self, _caller, url, sr_ref, full_restore, _force):
        """Import the VMs of a package that a web server holds."""
        self.db.row("SR", sr_ref)
        try:
            with self.toolstack.unlocked():
                reply = urllib.request.urlopen(url, timeout=IMPORT_TIMEOUT_S)
            with reply:
                return PackageReader(self.toolstack, sr_ref=sr_ref, keeps_identity=full_restore).read_tar(reply)
        except (OSError, ValueError, VhdError) as error:
            raise ApiError("IMPORT_ERROR", f"cannot import {url}: {error}") from None
