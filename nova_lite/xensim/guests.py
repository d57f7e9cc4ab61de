"""The guests inside the VMs: how they boot, answer shutdown requests, and what their agents report."""

import time
from typing import TYPE_CHECKING

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Caller, Noun
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.vm_rules import RUNNING, has_pv_drivers

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

DRIVERS_VERSION = {"major": "8", "minor": "4", "micro": "0", "build": "1"}
OS_VERSION = {"name": "Debian GNU/Linux 12 (bookworm)", "uname": "6.1.0-18-amd64", "distro": "debian", "major": "12"}
SHUTDOWN_TIMEOUT_S = 1200


class Guests(Noun):
    """Every running VM has a guest; `behaviour` says how it behaves, by VM reference or for all (the key "")."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.start_s = 0.0
        self.shutdown_s = 0.0
        # VM reference -> set of words: no-drivers, ignores-shutdown, holds-devices
        self.behaviour: dict[str, set[str]] = {}

    def has(self, vm_ref: str, word: str) -> bool:
        return word in self.behaviour.get(vm_ref, ()) or word in self.behaviour.get("", ())

    def domain_started(self, vm_ref: str) -> None:
        """A domain came to life: its guest boots, if it is not paused."""
        if self.db.get("VM", vm_ref, "power_state") == RUNNING:
            self._boot(vm_ref)

    def unpaused(self, vm_ref: str) -> None:
        vm = self.db.row("VM", vm_ref)
        metrics = self.db.find("VM_guest_metrics", vm["guest_metrics"])
        if metrics and not metrics["live"]:
            self._boot(vm_ref)

    def _boot(self, vm_ref: str) -> None:
        if self.has(vm_ref, "no-drivers"):
            return
        vm = self.db.row("VM", vm_ref)
        networks = {}
        for vif_ref in vm["VIFs"]:
            vif = self.db.row("VIF", vif_ref)
            for index, address in enumerate(vif["ipv4_allowed"] or vif["ipv4_addresses"]):
                networks[f"{vif['device']}/ipv4/{index}"] = address.partition("/")[0]
        self.db.set(
            "VM_guest_metrics",
            vm["guest_metrics"],
            os_version=dict(OS_VERSION),
            PV_drivers_version=dict(DRIVERS_VERSION),
            PV_drivers_detected=True,
            PV_drivers_up_to_date=True,
            networks=networks,
            other={
                "feature-balloon": "1",
                "feature-shutdown": "1",
                "feature-suspend": "1",
                "feature-vcpu-hotplug": "1",
            },
            can_use_hotplug_vbd="yes",
            can_use_hotplug_vif="yes",
            live=True,
            last_updated=timestamp_text(time.time()),
        )

    def domain_ended(self, vm_ref: str) -> None:
        """The domain is gone."""

    def domain_moved(self, vm_ref: str) -> None:
        """The domain runs elsewhere under another number."""

    def device_changed(self, vm_ref: str) -> None:
        """A device came or went."""

    def ask(self, caller: Caller, vm_ref: str, request: str) -> None:
        """Ask the guest to halt, reboot or suspend and wait for it.

        Raises VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT when it does not react. An HVM guest without drivers is simply killed.
        """
        vm = self.db.row("VM", vm_ref)
        if self.has(vm_ref, "ignores-shutdown") and request != "suspend":
            raise ApiError("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm_ref)
        if request == "suspend" and not has_pv_drivers(self.db, vm):
            raise ApiError("VM_LACKS_FEATURE", vm_ref)
        self.toolstack.wait(self.shutdown_s, caller)

    def check_detach(self, class_name: str, ref: str) -> None:
        """Raise DEVICE_DETACH_REJECTED when the guest does not let the device go."""
        if self.has(self.db.get(class_name, ref, "VM"), "holds-devices"):
            raise ApiError("DEVICE_DETACH_REJECTED", class_name, ref, "Device in use; refusing to close")
