"""Records as xapi's constructors want them. Integers travel as text, maps are text to text."""

from typing import Any

from nova_lite.objects import vm_mode
from nova_lite.virt.xenapi.errors import NULL_REF
from nova_lite.virt.xenapi.firmware import Firmware

MIB = 1024 ** 2
GIB = 1024 ** 3
PAGES_IN_MIB = 256


def memory_overhead_mb(memory_mb: int, vcpus: int) -> int:
    """Return what a host takes for an HVM guest beyond the guest's own memory.

    2 MiB for the domain, 2 pages for each MiB of its memory and 256 for each CPU, and 38 pages more for each CPU, both
    rounded up to MiB. A page has 4 KiB.
    """
    return 2 + max(1, -(-(256 * vcpus + 2 * memory_mb) // PAGES_IN_MIB)) + -(-38 * vcpus // PAGES_IN_MIB)


def vm(*, name_label: str, flavor: Any, mode: str, host_ref: str, other_config: dict[str, str],
       xenstore_data: dict[str, str], firmware: Firmware, windows: bool = False, device_id: str | None = None,
       kernel: str = "", ramdisk: str = "", vcpu_params: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the record of VM.create. `mode` is vm_mode.HVM or vm_mode.XEN (paravirtual)."""
    memory = str(flavor["memory_mb"] * MIB)
    vcpus = str(flavor["vcpus"])
    record = {
        "name_label": name_label,
        "name_description": "",
        "user_version": "0",
        "is_a_template": False,
        "affinity": host_ref,
        "memory_static_min": "0",
        "memory_static_max": memory,
        "memory_dynamic_min": memory,
        "memory_dynamic_max": memory,
        "VCPUs_max": vcpus,
        "VCPUs_at_startup": vcpus,
        "VCPUs_params": vcpu_params or {},
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "destroy",
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "",
        "HVM_boot_params": {},
        "platform": _platform(windows, device_id),
        "PCI_bus": "",
        "recommendations": "",
        "other_config": other_config,
        "xenstore_data": xenstore_data,
        "blocked_operations": {},
        "tags": [],
        "ha_always_run": False,
        "ha_restart_priority": "",
        "has_vendor_device": False,
    }
    # Of no use to an HVM guest; the record tells which files go with the VM.
    record.update(PV_kernel=kernel, PV_ramdisk=ramdisk)
    if mode == vm_mode.HVM:
        _make_hvm(record, firmware)
    else:
        _make_paravirtual(record)
    return record


def _platform(windows: bool, device_id: str | None) -> dict[str, str]:
    platform = {
        "acpi": "true",
        "apic": "true",
        "pae": "true",
        "hpet": "true",
        "viridian": "true" if windows else "false",
        "timeoffset": "0",
        "vga": "std",
        "videoram": "8",
        "device-model": "qemu-upstream-compat",
    }
    if device_id:
        platform["device_id"] = device_id.zfill(4)
    return platform


def _make_hvm(record: dict[str, Any], firmware: Firmware) -> None:
    record["HVM_boot_policy"] = "BIOS order"
    record["HVM_boot_params"] = {"order": "dc"}
    if firmware.kind:
        record["HVM_boot_params"]["firmware"] = firmware.kind
    if firmware.is_secure:
        record["platform"]["secureboot"] = "true"
    record["platform"]["nx"] = "true"
    record["domain_type"] = "hvm"


def _make_paravirtual(record: dict[str, Any]) -> None:
    record["platform"]["nx"] = "false"
    record["domain_type"] = "pv"
    if record["PV_kernel"]:
        record["PV_args"] = "root=/dev/xvda1"
    else:
        record["PV_bootloader"] = "pygrub"


def vbd(vm_ref: str, vdi_ref: str, userdevice: int | str, *, bootable: bool = False, read_only: bool = False,
        kind: str = "Disk", unpluggable: bool = True, other_config: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the record of VBD.create. `kind` is Disk or CD; a CD is always read-only."""
    return {
        "VM": vm_ref,
        "VDI": vdi_ref or NULL_REF,
        "userdevice": str(userdevice),
        "bootable": bootable,
        "mode": "RO" if read_only or kind == "CD" else "RW",
        "type": kind,
        "unpluggable": unpluggable,
        "empty": not vdi_ref,
        "other_config": other_config or {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        "qos_supported_algorithms": [],
    }


def vdi(sr_ref: str, name_label: str, size_b: int, *, description: str = "", read_only: bool = False,
        other_config: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the record of VDI.create; without a description it is what the disk is marked as."""
    return {
        "name_label": name_label,
        "name_description": description or (other_config or {}).get("nova_disk_type", ""),
        "SR": sr_ref,
        "virtual_size": str(size_b),
        "type": "user",
        "sharable": False,
        "read_only": read_only,
        "xenstore_data": {},
        "other_config": other_config or {},
        "sm_config": {},
        "tags": [],
    }
