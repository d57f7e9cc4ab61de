"""High availability: heartbeat disks, the failover plan, and what happens when a host fails while it is enabled."""

import threading
import time
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.failover_plan import Guest, place, tolerated_failures
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.storage_rules import is_plugged
from nova_lite.xensim.vm_rules import HALTED, RUNNING

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

MIB = 1024 * 1024
STATEFILE_SIZE = 4 * MIB
METADATA_SIZE = 256 * MIB
STATEFILE_DRIVERS = frozenset({"nfs", "lvmoiscsi", "lvmohba", "iscsi"})
RESTART, BEST_EFFORT = "restart", "best-effort"
PRIORITIES = frozenset({"", RESTART, BEST_EFFORT})


class Availability(Noun):
    """The HA calls, and the watch over hosts. `failover_s` passes between a host's death and what is done about it."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.failover_s = 0.0
        self._no_restarts_before = 0.0

    @property
    def _pool(self) -> Row:
        return self.db.row("pool", self.toolstack.pool_ref)

    def check_disabled(self) -> None:
        """Raise HA_IS_ENABLED."""
        if self._pool["ha_enabled"]:
            raise ApiError("HA_IS_ENABLED")

    def _check_enabled(self) -> None:
        if not self._pool["ha_enabled"]:
            raise ApiError("HA_NOT_ENABLED")

    # enabling

    def _check_statefile(self, sr: Row) -> None:
        """Raise why the repository cannot hold a heartbeat disk."""
        if not sr["shared"]:
            raise ApiError("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", sr.ref)
        if sr["type"] not in STATEFILE_DRIVERS:
            raise ApiError("INCOMPATIBLE_STATEFILE_SR", sr["type"])
        if not all(is_plugged(self.db, sr, host.ref) for host in self.db.rows("host")):
            raise ApiError("SR_HAS_NO_PBDS", sr.ref)

    @call("SR.assert_can_host_ha_statefile")
    def assert_can_host_statefile(self, _caller, ref):
        self._check_statefile(self.db.row("SR", ref))

    @call("pool.enable_ha", operation="ha_enable")
    def enable(self, _caller, sr_refs, configuration):
        self.check_disabled()
        hosts = self.db.rows("host")
        if any(host["edition"] == "free" for host in hosts):
            raise ApiError("LICENCE_RESTRICTION", "HA")
        if len(hosts) < 2:
            raise ApiError("HA_TOO_FEW_HOSTS")
        for host in hosts:
            if not self.db.get("host_metrics", host["metrics"], "live"):
                raise ApiError("HOST_OFFLINE", host.ref)
        repositories = [self.db.row("SR", ref) for ref in sr_refs] or self._usable_repositories()
        if not repositories:
            raise ApiError("CANNOT_CREATE_STATE_FILE")
        for sr in repositories:
            self._check_statefile(sr)
        disks = [self._disk(sr, "ha_statefile", STATEFILE_SIZE, "Statefile for HA") for sr in repositories]
        self._disk(repositories[0], "redo_log", METADATA_SIZE, "Metadata for HA")
        self.db.set(
            "pool",
            self._pool.ref,
            ha_enabled=True,
            ha_statefiles=disks,
            ha_configuration=configuration,
            ha_cluster_stack="xhad",
        )
        for host in hosts:
            peers = [other["uuid"] for other in hosts if other.ref != host.ref]
            self.db.set("host", host.ref, ha_statefiles=disks, ha_network_peers=peers)
        self.refresh_plan()

    def _usable_repositories(self) -> list[Row]:
        usable = []
        for sr in self.db.rows("SR"):
            try:
                self._check_statefile(sr)
            except ApiError:
                continue
            usable.append(sr)
        return usable[:1]

    def _disk(self, sr: Row, kind: str, size: int, name: str) -> str:
        return self.toolstack.vdis.new(
            sr, size, type=kind, name_label=name, name_description="Used for storage heartbeating", sharable=True
        )

    @call("pool.disable_ha", operation="ha_disable")
    def disable(self, _caller):
        self._check_enabled()
        nothing = {"ha_enabled": False, "ha_statefiles": [], "ha_configuration": {}, "ha_cluster_stack": ""}
        repositories = {self.db.get("VDI", ref, "SR") for ref in self._pool["ha_statefiles"]}
        self.db.set("pool", self._pool.ref, **nothing, ha_plan_exists_for=0, ha_overcommitted=False)
        for host in self.db.rows("host"):
            self.db.set("host", host.ref, ha_statefiles=[], ha_network_peers=[])
        for sr_ref in repositories:
            for vdi_ref in self.db.get("SR", sr_ref, "VDIs"):
                if self.db.get("VDI", vdi_ref, "type") in ("ha_statefile", "redo_log"):
                    self.toolstack.vm_copies.remove_disk(vdi_ref)

    @call("host.emergency_ha_disable")
    def emergency_disable(self, caller, _soft):
        self.db.set("host", caller.host_ref, ha_statefiles=[], ha_network_peers=[])
        if not any(host["ha_statefiles"] for host in self.db.rows("host")) and self._pool["ha_enabled"]:
            self.disable(caller)

    @call("pool.ha_prevent_restarts_for")
    def prevent_restarts_for(self, _caller, seconds):
        self._check_enabled()
        self._no_restarts_before = time.monotonic() + max(seconds, 0)

    # the plan

    def _hosts(self) -> list[Row]:
        """Return the hosts that can run VMs."""
        return [
            host
            for host in self.db.rows("host")
            if host["enabled"] and self.db.get("host_metrics", host["metrics"], "live")
        ]

    def _guests(self, priorities: dict[str, str] | None = None) -> list[Guest]:
        """Return the protected VMs, by their own priority or by the one given."""
        guests = []
        for vm in self.db.rows("VM"):
            if vm["is_a_template"] or vm["is_control_domain"]:
                continue
            own = vm["ha_restart_priority"] if vm["ha_always_run"] else ""
            if (own if priorities is None else priorities.get(vm.ref, "")) == RESTART:
                guests.append(self._guest(vm))
        return guests

    def _guest(self, vm: Row) -> Guest:
        possible = frozenset(host.ref for host in self._hosts() if self._could_run(vm, host.ref))
        size = vm["memory_dynamic_min"] + vm["memory_overhead"]
        host_ref = vm["resident_on"] if vm["power_state"] == RUNNING else ""
        return Guest(vm.ref, size, "" if host_ref == NULL else host_ref, possible)

    def _could_run(self, vm: Row, host_ref: str) -> bool:
        try:
            self.toolstack.power.check_host(vm, host_ref, needs_memory=False)
        except ApiError:
            return False
        return True

    def _free(self) -> dict[str, int]:
        return {host.ref: self.toolstack.hosts.free_memory(host.ref) for host in self._hosts()}

    def tolerated(self, guests: list[Guest] | None = None, limit: int | None = None) -> int:
        """Return how many hosts may fail at once without leaving a protected VM down."""
        return tolerated_failures(self._guests() if guests is None else guests, self._free(), limit)

    def refresh_plan(self) -> None:
        """Bring ha_plan_exists_for and ha_overcommitted up to date."""
        pool = self._pool
        if not pool["ha_enabled"]:
            return
        wanted = pool["ha_host_failures_to_tolerate"]
        planned = self.tolerated(limit=wanted)
        self.db.set("pool", pool.ref, ha_plan_exists_for=planned, ha_overcommitted=planned < wanted)

    def check_plan(self, *, without_host: str = "", with_vm: str = "") -> None:
        """Raise HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN when an operation would leave fewer failures tolerable."""
        pool = self._pool
        if not pool["ha_enabled"] or pool["ha_allow_overcommit"] or pool["ha_overcommitted"]:
            return
        guests, free = self._guests(), self._free()
        if with_vm and all(guest.ref != with_vm for guest in guests):
            guests.append(self._guest(self.db.row("VM", with_vm)))
        if without_host:
            homeless = [guest for guest in guests if guest.host == without_host]
            free.pop(without_host, None)
            if len(place(homeless, free)) < len(homeless):
                raise ApiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")
        wanted = pool["ha_host_failures_to_tolerate"]
        if not free or tolerated_failures(guests, free, wanted) < wanted:
            raise ApiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")

    @call("pool.set_ha_host_failures_to_tolerate")
    def set_failures_to_tolerate(self, _caller, ref, value):
        self.db.row("pool", ref)
        if value < 0:
            raise ApiError("INVALID_VALUE", "ha_host_failures_to_tolerate", str(value))
        if self._pool["ha_enabled"] and not self._pool["ha_allow_overcommit"] and self.tolerated(limit=value) < value:
            raise ApiError("HA_NO_PLAN")
        self.db.set("pool", ref, ha_host_failures_to_tolerate=value)
        self.refresh_plan()

    @call("pool.ha_failover_plan_exists")
    def plan_exists(self, _caller, n):
        return self.tolerated(limit=n) >= n

    @call("pool.ha_compute_max_host_failures_to_tolerate")
    def compute_max(self, _caller):
        return self.tolerated()

    @call("pool.ha_compute_hypothetical_max_host_failures_to_tolerate")
    def compute_hypothetical_max(self, _caller, configuration):
        for vm_ref, priority in configuration.items():
            self.db.row("VM", vm_ref)
            if priority not in PRIORITIES:
                raise ApiError("INVALID_VALUE", "ha_restart_priority", priority)
        return self.tolerated(self._guests(configuration))

    @call("pool.ha_compute_vm_failover_plan")
    def compute_vm_plan(self, _caller, failed_hosts, failed_vms):
        guests = [self._guest(self.db.row("VM", ref)) for ref in failed_vms]
        rest = {host: free for host, free in self._free().items() if host not in failed_hosts}
        placed = place(guests, rest)
        return {
            guest.ref: {"host": placed[guest.ref]} if guest.ref in placed else {"error_code": "NO_HOSTS_AVAILABLE"}
            for guest in guests
        }

    # protected VMs

    @call("VM.assert_agile")
    def assert_agile(self, _caller, ref):
        """Raise what ties a VM to one host."""
        vm = self.db.row("VM", ref)
        for vbd_ref in vm["VBDs"]:
            vdi = self.db.find("VDI", self.db.get("VBD", vbd_ref, "VDI"))
            if vdi and not self.db.get("SR", vdi["SR"], "shared"):
                raise ApiError("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", vdi["SR"])
        for vif_ref in vm["VIFs"]:
            network = self.db.row("network", self.db.get("VIF", vif_ref, "network"))
            hosts = {self.db.get("PIF", pif_ref, "host") for pif_ref in network["PIFs"]}
            if hosts and hosts != set(self.db.tables["host"]):
                raise ApiError("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", network.ref)
        if vm["VGPUs"]:
            raise ApiError("VM_HAS_VGPU", ref)

    @call("VM.set_ha_restart_priority")
    def set_restart_priority(self, caller, ref, value):
        vm = self.db.row("VM", ref)
        if value not in PRIORITIES:
            raise ApiError("INVALID_VALUE", "ha_restart_priority", value)
        if value == RESTART and vm["ha_restart_priority"] != RESTART:
            if self._pool["ha_enabled"]:
                self.assert_agile(caller, ref)
            if vm["power_state"] == RUNNING:
                self.check_plan(with_vm=ref)
        self.db.set("VM", ref, ha_restart_priority=value)
        if vm["power_state"] == RUNNING:
            self.db.set("VM", ref, ha_always_run=bool(value))
        self.refresh_plan()

    @call("VM.set_ha_always_run")
    def set_always_run(self, _caller, ref, value):
        if value and self.db.get("VM", ref, "ha_restart_priority") == RESTART:
            self.check_plan(with_vm=ref)
        self.db.set("VM", ref, ha_always_run=value)
        self.refresh_plan()

    def vm_starts(self, vm: Row) -> None:
        """Raise HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN before a protected VM starts."""
        if vm["ha_restart_priority"] == RESTART and self._pool["ha_enabled"]:
            self.check_plan(with_vm=vm.ref)

    def vm_started(self, vm: Row) -> None:
        """Remember that a protected VM is meant to run."""
        if vm["ha_restart_priority"]:
            self.db.set("VM", vm.ref, ha_always_run=True)
            self.refresh_plan()

    def vm_shut_down(self, ref: str) -> None:
        """Remember that somebody wanted a VM down."""
        if self.db.get("VM", ref, "ha_always_run"):
            self.db.set("VM", ref, ha_always_run=False)
            self.refresh_plan()

    # a host fails

    def host_failed(self, host_ref: str) -> None:
        """Have a dead host's VMs restarted elsewhere, and the pool led by another master. Expects the lock."""
        if self._pool["ha_enabled"]:
            threading.Thread(target=self._fail_over, args=(host_ref,), name="xensim-failover", daemon=True).start()

    def _fail_over(self, host_ref: str) -> None:
        with self.toolstack.lock:
            self.toolstack.wait(self.failover_s, Caller())
            if self.toolstack.is_stopping or self.db.find("host", host_ref) is None:
                return
            others = [host for host in self._hosts() if host.ref != host_ref]
            if host_ref == self.toolstack.master_ref and others:
                self.toolstack.promote(min(others, key=lambda host: host["uuid"]).ref)
            self.toolstack.hosts.clear_residents(host_ref)
            self.toolstack.wait(self._no_restarts_before - time.monotonic(), Caller())
            self._restart_protected()
            self.refresh_plan()
            self.toolstack.operations.refresh()

    def _restart_protected(self) -> None:
        """Start the VMs that are meant to run: those to restart by their order, then the others while there is room."""
        down = [vm for vm in self.db.rows("VM") if vm["ha_always_run"] and vm["power_state"] == HALTED]
        for vm in sorted(down, key=lambda vm: (vm["ha_restart_priority"] != RESTART, vm["order"])):
            try:
                with self.toolstack.operations.recorded("VM", vm.ref, "start", Caller()):
                    self.toolstack.power.start_anywhere(vm)
            except ApiError as error:
                self.toolstack.messages.add("HA_PROTECTED_VM_RESTART_FAILED", 1, "VM", vm["uuid"], error.code)
