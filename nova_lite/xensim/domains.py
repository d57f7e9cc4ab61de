"""What the toolstack writes into xenstore for each domain, and what flows back from there."""

import time
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.devices import device_number
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.xenstore import XenStore

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

KIB = 1024
# What a domain may write; the rest of its tree it only reads.
WRITABLE_DIRECTORIES = (
    "control feature error drivers attr xenserver/attr data messages vm-data device device/vbd device/vif rrd".split()
)
BACKENDS = "/local/domain/0/backend"
COPIED_PREFIXES = ("vm-data/", "FIST/")
DEFAULT_TIMESLICE_US = 50_000


def xenstore_device(number: int) -> int:
    """Return the number under which a disk appears in xenstore."""
    return 202 * 256 + 16 * number if number < 16 else 2**28 + 256 * number


class Domains(Noun):
    """The xenstore trees of all hosts and the domains in them."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._stores: dict[str, XenStore] = {}
        self._is_syncing = False

    def store(self, host_ref: str) -> XenStore:
        """Return the xenstore of a host."""
        if host_ref not in self._stores:
            store = self._stores[host_ref] = XenStore(lambda path: self._changed(host_ref, path))
            for name, value in (
                ("name", "Domain-0"),
                ("domid", "0"),
                ("vm", "/vm/00000000-0000-0000-0000-000000000000"),
            ):
                store.put(f"/local/domain/0/{name}", value)
        return self._stores[host_ref]

    def of(self, vm: Row) -> tuple[XenStore, str]:
        """Return (store, path) of a running VM's domain."""
        return self.store(vm["resident_on"]), f"/local/domain/{vm['domid']}"

    # making and removing

    def build(self, vm: Row) -> None:
        """Write the tree of a domain that has just been made."""
        store, root = self.of(vm)
        readable = ("n0", f"r{vm['domid']}")
        for path in (root, f"/vm/{vm['uuid']}", *(f"{BACKENDS}/{kind}/{vm['domid']}" for kind in ("vif", "vbd"))):
            store.put(path)
            store.set_permissions(path, readable)
        for directory in WRITABLE_DIRECTORIES:
            store.put(f"{root}/{directory}", owner=vm["domid"])
        store.set_permissions(f"{root}/control", (f"n{vm['domid']}",))
        memory = {name: vm[f"memory_{name.replace('-', '_')}"] for name in ("static-max", "dynamic-min", "dynamic-max")}
        own = {f"memory/{name}": str(value // KIB) for name, value in memory.items()}
        own |= {"memory/target": str(vm["memory_target"] // KIB), "name": vm["name_label"], "vm": f"/vm/{vm['uuid']}"}
        own |= {"domid": str(vm["domid"]), "unique-domain-id": f"{vm['uuid']}-{vm['domid']}"}
        own |= {f"cpu/{number}/availability": "online" for number in range(vm["VCPUs_at_startup"])}
        own |= {f"platform/{key}": value for key, value in vm["platform"].items()}
        own |= {f"bios-strings/{key}": value for key, value in vm["bios_strings"].items()}
        own |= {"store/port": "1", "store/ring-ref": "1044476", "console/port": "2", "console/ring-ref": "1044479"}
        own |= {
            "control/platform-feature-multiprocessor-suspend": "1",
            "control/platform-feature-xs_reset_watches": "1",
        }
        own["control/has-vendor-device"] = str(int(vm["has_vendor_device"]))
        own |= {key: value for key, value in vm["xenstore_data"].items() if key.startswith(COPIED_PREFIXES)}
        for path, value in own.items():
            store.put(f"{root}/{path}", value)
        shared = f"/vm/{vm['uuid']}"
        for path, value in {
            "uuid": vm["uuid"],
            "name": vm["name_label"],
            f"domains/{vm['domid']}": root,
            f"domains/{vm['domid']}/create-time": f"{time.time():.0f}",
            "rtc/timeoffset": vm["platform"].get("timeoffset", "0"),
        }.items():
            store.put(f"{shared}/{path}", value)
        store.set_permissions(f"{shared}/rtc/timeoffset", (f"n{vm['domid']}",))
        self.show_devices(vm)
        store.announce("@introduceDomain")

    def tear_down(self, vm: Row) -> None:
        """Remove the tree of a domain that ends."""
        store, root = self.of(vm)
        store.remove(root)
        store.remove(f"/vm/{vm['uuid']}")
        for kind in ("vif", "vbd"):
            store.remove(f"{BACKENDS}/{kind}/{vm['domid']}")
        store.announce("@releaseDomain")

    # devices

    def show_devices(self, vm: Row) -> None:
        """Bring the device nodes of a running domain in line with its attached VBDs and VIFs."""
        store, root = self.of(vm)
        shown = {kind: set(store.list(f"{root}/device/{kind}") or []) for kind in ("vif", "vbd")}
        wanted: dict[str, set[str]] = {"vif": set(), "vbd": set()}
        for ref in vm["VIFs"]:
            vif = self.db.row("VIF", ref)
            if vif["currently_attached"]:
                wanted["vif"].add(vif["device"])
                if vif["device"] not in shown["vif"]:
                    self._show_vif(store, vm, vif)
        for ref in vm["VBDs"]:
            vbd = self.db.row("VBD", ref)
            if vbd["currently_attached"]:
                device = str(xenstore_device(device_number(vbd["userdevice"]) or 0))
                wanted["vbd"].add(device)
                if device not in shown["vbd"]:
                    self._show_vbd(store, vm, vbd, device)
        for kind, devices in shown.items():
            for device in devices - wanted[kind]:
                store.remove(f"{root}/device/{kind}/{device}")
                store.remove(f"/local/domain/0/backend/{kind}/{vm['domid']}/{device}")

    def _show(self, store: XenStore, vm: Row, kind: str, device: str, front: dict, back: dict) -> None:
        front_path = f"/local/domain/{vm['domid']}/device/{kind}/{device}"
        back_path = f"/local/domain/0/backend/{kind}/{vm['domid']}/{device}"
        front = {"backend": back_path, "backend-id": "0", "state": "4", **front}
        back = {"frontend": front_path, "frontend-id": str(vm["domid"]), "online": "1", "state": "4", **back}
        for path, nodes in ((front_path, front), (back_path, back)):
            for name, value in nodes.items():
                store.put(f"{path}/{name}", value)

    def _show_vif(self, store: XenStore, vm: Row, vif: Row) -> None:
        is_cut_off = vif["locking_mode"] == "disabled"
        front = {"handle": vif["device"], "mac": vif["MAC"], "disconnect": str(int(is_cut_off))}
        back = {"script": "/etc/xensource/scripts/vif", "mac": vif["MAC"], "handle": vif["device"]}
        if vif["qos_algorithm_type"] == "ratelimit":
            parameters = vif["qos_algorithm_params"]
            slice_us = parameters.get("timeslice_us", "")
            slice_us = int(slice_us) if slice_us.isdigit() else DEFAULT_TIMESLICE_US
            kbps = parameters.get("kbps", "")
            if kbps.isdigit():
                back["rate"] = f"{int(kbps) * KIB * slice_us // 1_000_000},{slice_us}"
        self._show(store, vm, "vif", vif["device"], front, back)
        network = self.db.row("network", vif["network"])
        private = {"bridge": network["bridge"], "bridge-MAC": "fe:ff:ff:ff:ff:ff", "MTU": str(vif["MTU"])}
        private |= {"mac": vif["MAC"], **{f"other-config/{key}": each for key, each in vif["other_config"].items()}}
        for name, value in private.items():
            store.put(f"/xapi/{vm['uuid']}/private/vif/{vif['device']}/{name}", value)

    def _show_vbd(self, store: XenStore, vm: Row, vbd: Row, device: str) -> None:
        kind = "cdrom" if vbd["type"] == "CD" else "disk"
        back = {"removable": str(int(kind == "cdrom")), "dev": vbd["device"], "type": "phy"}
        back["mode"] = "r" if vbd["mode"] == "RO" else "w"
        if not vbd["empty"]:
            vdi = self.db.row("VDI", vbd["VDI"])
            back["params"] = f"/dev/sm/backend/{self.db.get('SR', vdi['SR'], 'uuid')}/{vdi['uuid']}"
            back |= {f"sm-data/{key}": value for key, value in vdi["xenstore_data"].items()}
        self._show(store, vm, "vbd", device, {"virtual-device": device, "device-type": kind}, back)

    # what flows between the record and the domain

    def _changed(self, host_ref: str, path: str) -> None:
        parts = path.split("/")
        if len(parts) < 5 or parts[1:3] != ["local", "domain"] or not parts[3].isdigit() or parts[3] == "0":
            return
        for vm in self.db.select("VM", domid=int(parts[3]), resident_on=host_ref):
            below = "/".join(parts[4:])
            if below.startswith("vm-data") and not self._is_syncing:
                self._copy_back(vm)
            self.toolstack.guests.xenstore_changed(vm, below)
        self.toolstack.operations.refresh()

    def _copy_back(self, vm: Row) -> None:
        """Take what the domain wrote below vm-data into the record."""
        store, root = self.of(vm)
        kept = {key: value for key, value in vm["xenstore_data"].items() if not key.startswith("vm-data/")}
        live = dict(store.tree(f"{root}/vm-data"))
        inner = {path.rpartition("/")[0] for path in live}
        live = {f"vm-data/{path}": value for path, value in live.items() if value or path not in inner}
        self.db.set("VM", vm.ref, xenstore_data={**kept, **live})

    def _write_through(self, vm: Row) -> None:
        """Rewrite the domain's vm-data from the record."""
        if vm["domid"] <= 0:
            return
        store, root = self.of(vm)
        self._is_syncing = True
        try:
            store.remove(f"{root}/vm-data")
            store.put(f"{root}/vm-data")
            for key, value in vm["xenstore_data"].items():
                if key.startswith(COPIED_PREFIXES):
                    store.put(f"{root}/{key}", value)
        finally:
            self._is_syncing = False

    @call("VM.set_xenstore_data")
    def set_xenstore_data(self, _caller, ref, value):
        self.db.set("VM", ref, xenstore_data=value)
        self._write_through(self.db.row("VM", ref))

    @call("VM.add_to_xenstore_data")
    def add_to_xenstore_data(self, caller, ref, key, value):
        self.toolstack.generic.add_to_map("VM", "xenstore_data", ref, key, value)
        self._write_through(self.db.row("VM", ref))

    @call("VM.remove_from_xenstore_data")
    def remove_from_xenstore_data(self, caller, ref, key):
        self.toolstack.generic.remove_from_map("VM", "xenstore_data", ref, key)
        self._write_through(self.db.row("VM", ref))
