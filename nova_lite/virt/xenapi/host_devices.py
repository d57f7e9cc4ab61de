"""Devices of the host that guests may have: PCI devices that dom0 leaves alone, and virtual GPUs."""

from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite.virt.xenapi import errors

LOG = logging.getLogger(__name__)

# The drivers of devices that wait to be passed through.
PASSED_THROUGH = ("pciback", "xen-pciback")
# The implementation of GPUs that are handed out whole: those are PCI devices.
WHOLE_GPU = "passthrough"
PLAIN = "type-PCI"


class HostDevices:
    """What there is, read once for each boot of the host; how many virtual GPUs are left is read every time.

    A host without such devices, or too old to tell, is asked nothing.
    """

    def __init__(self, session):
        self._session = session
        self._read_for: tuple = ()
        self._devices: list[dict[str, Any]] = []
        self._gpus: list[dict[str, Any]] = []
        self._types: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, str] = {}

    def figures(self, host_record: dict[str, Any]) -> dict[str, Any]:
        """Return the figures for a host record.

        {'pci_passthrough_devices': [{'dev_id', 'address', 'vendor_id', 'product_id', 'dev_type', 'label'}],
        'vgpu_stats': {GPU group: {type: {'type_name', 'max_heads', 'total', 'remaining'}}}}; groups and types by uuid.
        """
        pcis, gpus = tuple(host_record.get("PCIs", ())), tuple(host_record.get("PGPUs", ()))
        read_for = (pcis, gpus, host_record["other_config"].get("boot_time"))
        if read_for != self._read_for:
            self._devices = self._passed_through() if pcis else []
            self._gpus = self._shared_gpus() if gpus else []
            self._read_for = read_for
        return {"pci_passthrough_devices": self._devices, "vgpu_stats": self._virtual_gpus()}

    def _passed_through(self) -> list[dict[str, Any]]:
        records = self._session.records_where("PCI", host=self._session.host_ref).values()
        return [{"dev_id": f"pci_{pci['pci_id'].replace(':', '_').replace('.', '_')}", "address": pci["pci_id"],
                 "vendor_id": pci["vendor_id"], "product_id": pci["device_id"], "dev_type": self._kind(pci["pci_id"]),
                 "label": f"label_{pci['vendor_id']}_{pci['device_id']}"}
                for pci in records if pci.get("driver_name") in PASSED_THROUGH]

    def _kind(self, address: str) -> str:
        """Return type-VF, type-PF or type-PCI, which only dom0 knows."""
        if self._session.plugin_version is None:
            return PLAIN
        try:
            return self._session.call_plugin_serialized("xenhost", "get_pci_type", address)
        except XenAPI.Failure as failure:
            LOG.warning("Of which kind PCI device %s is, is not known: %s", address, errors.last_line(failure))
            return PLAIN

    def _shared_gpus(self) -> list[dict[str, Any]]:
        """Return the physical GPUs that virtual ones are made of, with their reference."""
        records = self._session.records_where("PGPU", host=self._session.host_ref)
        gpus = [{**gpu, "ref": ref} for ref, gpu in records.items() if gpu["enabled_VGPU_types"]]
        if gpus:
            self._types = self._session.call_xenapi("VGPU_type.get_all_records")
            self._groups = {ref: group["uuid"] for ref, group in self._session.get_all_refs_and_recs("GPU_group")}
        return gpus

    def _virtual_gpus(self) -> dict[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for gpu in self._gpus:
            group = found.setdefault(self._groups[gpu["GPU_group"]], {})
            for type_ref in gpu["enabled_VGPU_types"]:
                kind = self._types[type_ref]
                if kind.get("implementation") == WHOLE_GPU:
                    continue
                entry = group.setdefault(kind["uuid"], {"type_name": kind["model_name"], "total": 0, "remaining": 0,
                                                        "max_heads": int(kind["max_heads"])})
                entry["total"] += int(gpu["supported_VGPU_max_capacities"][type_ref])
                left = self._session.call_xenapi("PGPU.get_remaining_capacity", gpu["ref"], type_ref)
                entry["remaining"] += int(left)
        return found
