"""The guests inside the VMs: how they boot, answer requests, and what their agents write into xenstore."""

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.agent import Agent
from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.guest_kinds import HOSTILE_NODES, NONSENSE, OLD_AGENT_COMMANDS, address_keys, boot_keys
from nova_lite.xensim.guest_metrics import WATCHED, guest_metrics
from nova_lite.xensim.noun import Caller, Noun
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.visitors import StoreError, Visitor
from nova_lite.xensim.vm_rules import PAUSED, RUNNING, has_pv_drivers

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

SHUTDOWN_LIMIT_S = 1200  # how long XenServer waits for a guest to shut down


class Guests(Noun):
    """Every running VM has a guest. `behaviour` says how it departs from a good one, by VM or for all (the key "")."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.start_s = 0.0  # between VM.start and the running domain
        self.boot_s = 0.0  # between the running domain and its agent's first words
        self.shutdown_s = 0.0
        self.crash_s = 1.0  # between the boot of a guest that crashes and the end of its domain
        self.hang_s = 0.0  # how long a guest that hangs is waited for
        self.behaviour: dict[str, set[str]] = {}
        self._agents: dict[str, Agent] = {}

    def has(self, vm_ref: str, word: str) -> bool:
        return word in self.behaviour.get(vm_ref, ()) or word in self.behaviour.get("", ())

    def agent(self, vm_ref: str) -> Agent:
        """Return the agent of a VM's guest; its files and password survive reboots."""
        return self._agents.setdefault(vm_ref, Agent())

    # life

    def domain_started(self, vm_ref: str) -> None:
        """A domain came to life: its guest boots, unless it is paused."""
        vm = self.db.row("VM", vm_ref)
        self.toolstack.domains.build(vm)
        if vm["power_state"] == RUNNING:
            self._start_boot(vm)

    def unpaused(self, vm_ref: str) -> None:
        vm = self.db.row("VM", vm_ref)
        metrics = self.db.find("VM_guest_metrics", vm["guest_metrics"])
        if metrics and not metrics["live"]:
            self._start_boot(vm)

    def _start_boot(self, vm: Row) -> None:
        if self.has(vm.ref, "no-drivers"):
            return
        if not self.boot_s:
            self._boot(vm)
            return
        timer = threading.Timer(self.boot_s, self._boot_later, args=(vm.ref, vm["domid"]))
        timer.daemon = True
        timer.start()

    def _crash_later(self, vm_ref: str, domid: int) -> None:
        with self.toolstack.lock:
            vm = self.db.find("VM", vm_ref)
            if vm and vm["domid"] == domid and not self.toolstack.is_stopping:
                self.toolstack.power.crashed(vm_ref)
                self.toolstack.operations.refresh()

    def _boot_later(self, vm_ref: str, domid: int) -> None:
        with self.toolstack.lock:
            vm = self.db.find("VM", vm_ref)
            if vm and vm["domid"] == domid and vm["power_state"] == RUNNING:
                self._boot(vm)
                self.toolstack.operations.refresh()

    def _boot(self, vm: Row) -> None:
        store, root = self.toolstack.domains.of(vm)
        for key, value in boot_keys(self.has(vm.ref, "old-agent")).items():
            store.put(f"{root}/{key}", value)
        self._report_addresses(vm)
        store.write(f"{root}/data/updated", "1")
        self.refresh_metrics(vm)
        if self.has(vm.ref, "hostile"):
            self._flood(vm)
        if self.has(vm.ref, "crashing"):
            timer = threading.Timer(self.crash_s, self._crash_later, args=(vm.ref, vm["domid"]))
            timer.daemon = True
            timer.start()

    def _flood(self, vm: Row) -> None:
        """Write as a hostile guest does: until xenstore refuses."""
        store, root = self.toolstack.domains.of(vm)
        guest = Visitor(store, vm["domid"])
        with contextlib.suppress(StoreError):
            guest.write("data/big", "A" * 100_000)
        with contextlib.suppress(StoreError):
            for number in range(HOSTILE_NODES):
                guest.write(f"{root}/data/flood/{number}", "A" * 100)

    def _report_addresses(self, vm: Row) -> None:
        store, root = self.toolstack.domains.of(vm)
        for vif_ref in vm["VIFs"]:
            vif = self.db.row("VIF", vif_ref)
            for family in ("ipv4", "ipv6"):
                for index, address in enumerate(vif[f"{family}_allowed"] or vif[f"{family}_addresses"]):
                    for key in address_keys(vif["device"], family, index, self.has(vm.ref, "old-agent")):
                        store.put(f"{root}/{key}", address.partition("/")[0])

    def domain_ended(self, vm_ref: str) -> None:
        """The domain is about to go."""
        self.toolstack.domains.tear_down(self.db.row("VM", vm_ref))

    def domain_moved(self, vm_ref: str) -> None:
        """The domain runs elsewhere under another number: its guest goes on."""
        vm = self.db.row("VM", vm_ref)
        self.toolstack.domains.build(vm)
        self._start_boot(vm)

    def device_changed(self, vm_ref: str) -> None:
        """A device came or went."""
        vm = self.db.row("VM", vm_ref)
        if vm["power_state"] in (RUNNING, PAUSED) and vm["domid"] > 0:
            self.toolstack.domains.show_devices(vm)

    # xenstore

    def xenstore_changed(self, vm: Row, path: str) -> None:
        """Something changed at a path below the domain's."""
        if path.startswith("data/host/"):
            if not any(self.has(vm.ref, word) for word in ("no-agent", "no-drivers", "hanging")):
                self._answer(vm, path)
        elif WATCHED.match(path):
            self.refresh_metrics(vm)

    def _answer(self, vm: Row, path: str) -> None:
        store, root = self.toolstack.domains.of(vm)
        request = store.read(f"{root}/{path}")
        if request is None or vm["power_state"] != RUNNING:
            return
        known = OLD_AGENT_COMMANDS if self.has(vm.ref, "old-agent") else None
        answer = NONSENSE if self.has(vm.ref, "hostile") else self.agent(vm.ref).answer(request, known)
        store.remove(f"{root}/{path}")
        store.write(f"{root}/data/guest/{path.removeprefix('data/host/')}", answer)

    def refresh_metrics(self, vm: Row) -> None:
        """Bring VM_guest_metrics in line with what the guest wrote."""
        metrics = self.db.find("VM_guest_metrics", vm["guest_metrics"])
        if metrics is None:
            return
        values: dict[str, Any] = guest_metrics(*self.toolstack.domains.of(vm))
        has_devices = bool(values["PV_drivers_version"])
        values |= {"PV_drivers_detected": has_devices, "PV_drivers_up_to_date": has_devices}
        values["live"] = bool(metrics["live"] or has_devices)
        if any(metrics[field] != value for field, value in values.items()):
            self.db.set("VM_guest_metrics", metrics.ref, **values, last_updated=timestamp_text(time.time()))

    # requests of the toolstack

    def ask(self, caller: Caller, vm_ref: str, request: str) -> None:
        """Ask the guest to halt, reboot or suspend and wait for it.

        Raises VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT when it does not react, VM_SHUTDOWN_TIMEOUT or VM_SUSPEND_TIMEOUT when
        it never gets there. An HVM guest without drivers is simply killed.
        """
        vm = self.db.row("VM", vm_ref)
        if self.has(vm_ref, "hanging"):
            self.toolstack.wait(self.hang_s, caller)
            kind = "SUSPEND" if request == "suspend" else "SHUTDOWN"
            raise ApiError(f"VM_{kind}_TIMEOUT", vm_ref, str(SHUTDOWN_LIMIT_S))
        if self.has(vm_ref, "ignores-shutdown") and request != "suspend":
            raise ApiError("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm_ref)
        if request == "suspend" and not has_pv_drivers(self.db, vm):
            raise ApiError("VM_LACKS_FEATURE", vm_ref)
        self.toolstack.wait(self.shutdown_s, caller)

    def check_detach(self, class_name: str, ref: str) -> None:
        """Raise DEVICE_DETACH_REJECTED or DEVICE_DETACH_TIMEOUT when the guest does not let the device go."""
        vm_ref = self.db.get(class_name, ref, "VM")
        if self.has(vm_ref, "hanging"):
            self.toolstack.wait(self.hang_s, Caller())
            raise ApiError("DEVICE_DETACH_TIMEOUT", class_name, ref)
        if self.has(vm_ref, "holds-devices"):
            raise ApiError("DEVICE_DETACH_REJECTED", class_name, ref, "Device in use; refusing to close")

    def check_attach(self, class_name: str, ref: str) -> None:
        """Raise DEVICE_ATTACH_TIMEOUT when the guest does not take the device."""
        if self.has(self.db.get(class_name, ref, "VM"), "hanging"):
            self.toolstack.wait(self.hang_s, Caller())
            raise ApiError("DEVICE_ATTACH_TIMEOUT", class_name, ref)
