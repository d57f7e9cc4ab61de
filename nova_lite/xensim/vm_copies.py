"""Copies of VMs: clone, copy, snapshot, revert, provision."""

import time
import uuid as uuid_module
from collections.abc import Callable
from xml.parsers import expat

from nova_lite.xensim.db import Row
from nova_lite.xensim.devices import derived_mac
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError, internal_error
from nova_lite.xensim.model import EPOCH, NULL
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.vm_rules import HALTED, SUSPENDED

FRESH = {
    "VBDs": [], "VIFs": [], "consoles": [], "VTPMs": [], "VUSBs": [], "VGPUs": [], "crash_dumps": [],
    "attached_PCIs": [], "snapshots": [], "children": [], "groups": [], "blobs": {}, "current_operations": {},
    "allowed_operations": [], "resident_on": NULL, "scheduled_to_be_resident_on": NULL, "domid": -1,
    "is_default_template": False, "is_control_domain": False, "appliance": NULL, "start_delay": 0,
    "shutdown_delay": 0, "order": 0, "suspend_SR": NULL, "ha_always_run": False, "is_a_snapshot": False,
    "snapshot_of": NULL, "snapshot_time": EPOCH, "snapshot_info": {}, "snapshot_metadata": "", "parent": NULL,
    "requires_reboot": False, "suspend_VDI": NULL, "power_state": HALTED, "transportable_snapshot_id": "",
}  # fmt: skip
DEVICE_FRESH = {"current_operations": {}, "allowed_operations": [], "currently_attached": False, "metrics": NULL}


class VmCopies(Noun):
    @call("VM.clone", operation="clone")
    def clone(self, caller, ref, new_name):
        return self._copy(caller, ref, new_name, lambda vdi_ref: self.toolstack.vdis.branch(vdi_ref, is_snapshot=False))

    @call("VM.copy", operation="copy")
    def copy(self, caller, ref, new_name, sr_ref):
        def copied(vdi_ref: str) -> str:
            target = self.db.get("VDI", vdi_ref, "SR") if is_null(sr_ref) else sr_ref
            return self.toolstack.vdis.copy_to(caller, vdi_ref, self.db.row("SR", target))

        return self._copy(caller, ref, new_name, copied)

    @call("VM.snapshot", operation="snapshot")
    def snapshot(self, caller, ref, new_name, ignored_vdis):
        return self.take_snapshot(caller, ref, new_name, ignored_vdis)

    def take_snapshot(self, caller: Caller, ref: str, new_name: str, ignored_vdis: list[str]) -> str:
        vm = self.db.row("VM", ref)
        fields = {
            "is_a_snapshot": True,
            "is_a_template": True,
            "snapshot_of": ref,
            "snapshot_time": timestamp_text(time.time()),
            "snapshot_info": {"power-state-at-snapshot": vm["power_state"], "disk-snapshot-type": "crash_consistent"},
            "snapshot_metadata": repr({name: vm[name] for name in ("uuid", "name_label", "power_state")}),
            "parent": vm["parent"],
        }
        return self._copy(
            caller, ref, new_name,
            lambda vdi_ref: self.toolstack.vdis.branch(vdi_ref, is_snapshot=True),
            fields=fields, keeps_macs=True, ignored_vdis=ignored_vdis,
        )  # fmt: skip

    def _copy(
        self, caller, ref, new_name, copy_disk: Callable[[str], str], *, fields=None, keeps_macs=False, ignored_vdis=()
    ):
        """Copy disks first, so that a failure leaves no record behind; new disks are removed again."""
        vm = self.db.row("VM", ref)
        copied: dict[str, str] = {}
        try:
            for vbd_ref in vm["VBDs"]:
                vbd = self.db.row("VBD", vbd_ref)
                if not vbd["empty"] and vbd["type"] != "CD" and vbd["VDI"] not in ignored_vdis:
                    copied[vbd_ref] = copy_disk(vbd["VDI"])
                    self.toolstack.check_cancelled(caller)
        except ApiError:
            for vdi_ref in copied.values():
                self.remove_disk(vdi_ref)
            raise
        new_ref = self._copy_record(vm, new_name, fields or {}, keeps_macs)
        if fields:
            self.db.set("VM", ref, parent=new_ref)
        self._copy_devices(vm, new_ref, copied, keeps_macs, ignored_vdis)
        self.toolstack.vtpms.copy_all(vm, new_ref)
        for vgpu_ref in vm["VGPUs"]:
            own = {"uuid": "", "VM": new_ref, "currently_attached": False, "resident_on": NULL, "PCI": NULL}
            self.db.create("VGPU", **{**self.db.row("VGPU", vgpu_ref).values, **own})
        return new_ref

    def remove_disk(self, vdi_ref: str) -> None:
        sr_ref = self.db.get("VDI", vdi_ref, "SR")
        self.toolstack.images.delete(self.db.get("SR", sr_ref, "uuid"), self.db.get("VDI", vdi_ref, "uuid"))
        self.toolstack.vdis.drop_record(vdi_ref)
        self.toolstack.collector.wake(sr_ref)

    def _copy_record(self, vm: Row, new_name: str, fields: dict, keeps_seed: bool) -> str:
        other_config = {
            key: value
            for key, value in vm["other_config"].items()
            if key not in ("default_template", "xensource_internal")
        }
        if not keeps_seed:
            other_config["mac_seed"] = str(uuid_module.uuid4())
        if vm["is_a_template"] and not vm["is_a_snapshot"]:
            other_config["base_template_name"] = vm["name_label"]
        values = {**vm.values, **FRESH, "uuid": "", "name_label": new_name, "other_config": other_config}
        values["metrics"] = self._copy_metrics("VM_metrics", vm["metrics"])
        values["guest_metrics"] = self._copy_metrics("VM_guest_metrics", vm["guest_metrics"])
        values["generation_id"] = f"{uuid_module.uuid4().int >> 65}:{uuid_module.uuid4().int >> 65}"
        if vm["is_a_snapshot"] and vm["power_state"] == SUSPENDED:
            values |= {"power_state": SUSPENDED, "suspend_VDI": self._copy_suspend_image(vm)}
        return self.db.create("VM", **{**values, **fields})

    def _copy_suspend_image(self, vm: Row) -> str:
        return self.toolstack.vdis.branch(vm["suspend_VDI"], is_snapshot=False)

    def _copy_metrics(self, class_name: str, ref: str) -> str:
        row = self.db.find(class_name, ref)
        return self.db.create(class_name, **{**row.values, "uuid": ""}) if row else NULL

    def _copy_devices(self, vm: Row, new_ref: str, copied: dict[str, str], keeps_macs: bool, ignored_vdis) -> None:
        for vbd_ref in vm["VBDs"]:
            vbd = self.db.row("VBD", vbd_ref)
            if vbd["VDI"] in ignored_vdis:
                continue
            own = {"uuid": "", "VM": new_ref, "VDI": copied.get(vbd_ref, vbd["VDI"]), "device": "", "reserved": False}
            if vbd_ref in copied:
                own["other_config"] = {**vbd["other_config"], "owner": ""}
            self.db.create("VBD", **{**vbd.values, **DEVICE_FRESH, **own})
        seed = self.db.get("VM", new_ref, "other_config").get("mac_seed", "")
        for vif_ref in vm["VIFs"]:
            vif = self.db.row("VIF", vif_ref)
            own = {"uuid": "", "VM": new_ref}
            if not keeps_macs:
                own |= {"MAC": derived_mac(seed, vif["device"]), "MAC_autogenerated": True}
            self.db.create("VIF", **{**vif.values, **DEVICE_FRESH, **own})

    @call("VM.revert", operation="revert")
    def revert(self, caller, snapshot_ref):
        snapshot = self.db.row("VM", snapshot_ref)
        vm = self.db.row("VM", snapshot["snapshot_of"])
        if vm["power_state"] not in (HALTED, SUSPENDED):
            self.toolstack.power.halt(vm.ref)
        copies = {}
        for vbd_ref in snapshot["VBDs"]:
            vbd = self.db.row("VBD", vbd_ref)
            if not vbd["empty"] and vbd["type"] != "CD":
                copies[vbd_ref] = self.toolstack.vdis.branch(vbd["VDI"], is_snapshot=False)
        self._remove_devices(vm)
        if not is_null(vm["suspend_VDI"]):
            self.toolstack.power.drop_suspend_image(vm)
        kept = (
            "uuid",
            "metrics",
            "guest_metrics",
            "snapshots",
            "children",
            "is_control_domain",
            "VBDs",
            "VIFs",
            "blobs",
        )
        values = {name: value for name, value in snapshot.values.items() if name not in kept}
        values |= {"is_a_snapshot": False, "is_a_template": False, "snapshot_of": NULL, "snapshot_time": EPOCH}
        values |= {"snapshot_info": {}, "snapshot_metadata": "", "parent": snapshot_ref, "name_label": vm["name_label"]}
        values |= {"current_operations": vm["current_operations"], "power_state": snapshot["power_state"], "domid": -1}
        if snapshot["power_state"] == SUSPENDED:
            values["suspend_VDI"] = self._copy_suspend_image(snapshot)
        self.db.set("VM", vm.ref, **values)
        self._copy_devices(snapshot, vm.ref, copies, True, ())
        for vdi_ref in copies.values():
            self.db.set("VDI", vdi_ref, is_a_snapshot=False, snapshot_of=NULL)

    def _remove_devices(self, vm: Row) -> None:
        for vbd_ref in vm["VBDs"]:
            vbd = self.db.row("VBD", vbd_ref)
            vdi_ref = vbd["VDI"]
            self.db.destroy("VBD", vbd_ref)
            if not vbd["empty"] and vbd["type"] != "CD" and not self.db.get("VDI", vdi_ref, "VBDs"):
                self.remove_disk(vdi_ref)
        for vif_ref in vm["VIFs"]:
            self.db.destroy("VIF", vif_ref)

    @call("VM.provision", operation="provision")
    def provision(self, _caller, ref):
        vm = self.db.row("VM", ref)
        made = []
        try:
            for disk in disks_to_provision(vm["other_config"].get("disks", "")):
                made.append(self._provision_disk(ref, disk))
        except ApiError:
            for vdi_ref in made:
                self.remove_disk(vdi_ref)
            raise
        rest = {key: value for key, value in vm["other_config"].items() if key not in ("disks", "postinstall")}
        self.db.set("VM", ref, is_a_template=False, other_config=rest)

    def _provision_disk(self, vm_ref: str, disk: dict[str, str]) -> str:
        sr_ref = self.db.uuids["SR"].get(disk.get("sr", ""))
        if sr_ref is None:
            raise ApiError("UUID_INVALID", "sr", disk.get("sr", ""))
        vdi_ref = self.toolstack.vdis.new(
            self.db.row("SR", sr_ref),
            int(disk["size"]),
            name_label=disk["device"],
            name_description="Created by template provisioner",
            type=disk.get("type", "system"),
        )
        self.db.create(
            "VBD", VM=vm_ref, VDI=vdi_ref, userdevice=disk["device"], bootable=disk.get("bootable") == "true",
            mode="RW", type="Disk", empty=False, other_config={"owner": ""},
        )  # fmt: skip
        return vdi_ref


def disks_to_provision(text: str) -> list[dict[str, str]]:
    """Return the attributes of each disk in a template's `disks` text. Raises INTERNAL_ERROR when it is no XML."""
    disks: list[dict[str, str]] = []
    if not text:
        return disks
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: disks.append(attributes) if tag == "disk" else None
    try:
        parser.Parse(text.encode(), True)
        for disk in disks:
            int(disk["size"]), disk["device"]
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise internal_error(f"Failure: cannot read the disks of the template: {error}") from None
    return disks
