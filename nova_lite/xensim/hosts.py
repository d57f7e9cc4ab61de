"""Hosts and the pool record."""

import time
from datetime import datetime
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.vm_rules import HALTED, has_pv_drivers

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack


class Hosts(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._scheduled: dict[str, str] = {}  # VMs on their way: VM -> host
        self.db.observers.append(self._note)

    def _note(self, kind: str, row: Row) -> None:
        if row.described.name != "VM":
            return
        if kind != "del" and row["scheduled_to_be_resident_on"] != NULL:
            self._scheduled[row.ref] = row["scheduled_to_be_resident_on"]
        else:
            self._scheduled.pop(row.ref, None)

    def free_memory(self, host_ref: str) -> int:
        """Return the bytes that new VMs may take on the host."""
        host = self.db.row("host", host_ref)
        total = self.db.get("host_metrics", host["metrics"], "memory_total")
        coming = {vm_ref for vm_ref, on_ref in self._scheduled.items() if on_ref == host_ref}
        vms = [self.db.row("VM", vm_ref) for vm_ref in coming | set(host["resident_VMs"])]
        used = sum(vm["memory_dynamic_min"] + vm["memory_overhead"] for vm in vms)
        return max(0, total - host["memory_overhead"] - used)

    def refresh_free_memory(self) -> None:
        """Bring host_metrics.memory_free up to date where it changed."""
        now = timestamp_text(time.time())
        for host in self.db.rows("host"):
            free = self.free_memory(host.ref)
            if free != self.db.get("host_metrics", host["metrics"], "memory_free"):
                self.db.set("host_metrics", host["metrics"], memory_free=free, last_updated=now)

    def clear_residents(self, host_ref: str) -> None:
        """Mark the VMs of a host that lost power as halted."""
        for vm in self._residents(host_ref):
            if not vm["is_control_domain"]:
                self.toolstack.power.halt(vm.ref)

    def remove(self, host_ref: str) -> None:
        """Forget a host and what exists only on it."""
        host = self.db.row("host", host_ref)
        self.clear_residents(host_ref)
        for pbd_ref in host["PBDs"]:
            sr_ref = self.db.get("PBD", pbd_ref, "SR")
            self.db.destroy("PBD", pbd_ref)
            if not self.db.get("SR", sr_ref, "PBDs"):
                self.toolstack.repositories.drop(sr_ref)
        for class_name, refs in (("PIF", host["PIFs"]), ("PGPU", host["PGPUs"]), ("PCI", host["PCIs"])):
            for each in refs:
                self.db.destroy(class_name, each)
        self.toolstack.blobs.drop_all(list(host["blobs"].values()))
        for cpu_ref in host["host_CPUs"]:
            self.db.destroy("host_cpu", cpu_ref)
        self.toolstack.vms.drop_record(host["control_domain"])
        for vm in list(self.db.select("VM", affinity=host_ref)):
            self.db.set("VM", vm.ref, affinity=NULL)
        self.db.destroy("host_metrics", host["metrics"])
        self.db.destroy("host", host_ref)

    @call("host.destroy")
    def destroy(self, _caller, ref):
        if ref == self.toolstack.master_ref:
            raise ApiError("HOST_CANNOT_DESTROY_SELF", ref)
        if self.db.get("host_metrics", self.db.get("host", ref, "metrics"), "live"):
            raise ApiError("HOST_IS_LIVE", ref)
        self.remove(ref)

    @call("host.declare_dead")
    def declare_dead(self, _caller, ref):
        self.db.set("host_metrics", self.db.get("host", ref, "metrics"), live=False)
        self.clear_residents(ref)

    @call("host.compute_free_memory")
    def compute_free_memory(self, _caller, ref):
        return self.free_memory(ref)

    @call("host.compute_memory_overhead")
    def compute_memory_overhead(self, _caller, ref):
        return self.db.get("host", ref, "memory_overhead")

    @call("host.get_server_localtime")
    def get_server_localtime(self, _caller, ref):
        self.db.row("host", ref)
        return datetime.now().strftime("%Y%m%dT%H:%M:%S")

    @call("host.disable")
    def disable(self, _caller, ref, _auto_enable):
        if self.db.get("host", ref, "enabled"):
            self.toolstack.availability.check_plan(without_host=ref)
        self.db.set("host", ref, enabled=False)

    @call("host.enable")
    def enable(self, _caller, ref):
        self.db.set("host", ref, enabled=True)

    def _check_down(self, ref: str) -> None:
        if self.db.get("host", ref, "enabled"):
            raise ApiError("HOST_NOT_DISABLED")
        if any(not vm["is_control_domain"] for vm in self._residents(ref)):
            raise ApiError("HOST_HAS_RESIDENT_VMS", ref)

    def _residents(self, ref: str):
        return [self.db.row("VM", vm_ref) for vm_ref in self.db.get("host", ref, "resident_VMs")]

    @call("host.shutdown")
    def shutdown(self, _caller, ref):
        self._check_down(ref)
        self.db.set("host_metrics", self.db.get("host", ref, "metrics"), live=False)
        self.toolstack.dead_hosts.add(ref)
        self.toolstack.host_services.power_off(ref)

    @call("host.reboot")
    def reboot(self, _caller, ref):
        self._check_down(ref)
        config = {**self.db.get("host", ref, "other_config"), "boot_time": f"{time.time():.0f}."}
        self.db.set("host", ref, other_config=config, enabled=True)
        self.toolstack.graphics.host_rebooted(ref)

    @call("host.power_on", operation="power_on")
    def power_on(self, _caller, ref):
        if not self.db.get("host", ref, "power_on_mode"):
            raise ApiError("HOST_POWER_ON_MODE_DISABLED")
        self.toolstack.dead_hosts.discard(ref)
        self.toolstack.host_services.power_up(ref)
        self.db.set("host_metrics", self.db.get("host", ref, "metrics"), live=True)
        self.db.set("host", ref, enabled=True)

    @call("host.evacuate", operation="evacuate")
    def evacuate(self, caller, ref, _network, _batch_size):
        guests = [vm for vm in self._residents(ref) if not vm["is_control_domain"]]
        for vm in guests:
            error = self._evacuation_error(vm, ref)
            if error:
                raise error
        for vm in guests:
            possible = [host for host in self.toolstack.power.possible_hosts(vm) if host != ref]
            if not possible:  # those before it took the room
                raise ApiError("NO_HOSTS_AVAILABLE", vm.ref)
            with self.toolstack.operations.recorded("VM", vm.ref, "pool_migrate", caller):
                self.toolstack.power.move(vm, max(possible, key=self.free_memory))

    def _evacuation_error(self, vm: Row, host_ref: str) -> ApiError | None:
        """Return why a VM cannot leave its host: what forbids its migration, or what all other hosts lack."""
        try:
            self.toolstack.operations.check("VM", vm.ref, "pool_migrate")
            if not has_pv_drivers(self.db, vm):
                raise ApiError("VM_MISSING_PV_DRIVERS", vm.ref)
        except ApiError as error:
            return error
        reasons = []
        for host in self.db.rows("host"):
            if host.ref != host_ref:
                try:
                    self.toolstack.power.check_host(vm, host.ref)
                except ApiError as error:
                    reasons.append(error)
                else:
                    return None
        alike = len({tuple(reason.description) for reason in reasons}) == 1
        return reasons[0] if alike else ApiError("NO_HOSTS_AVAILABLE", vm.ref)

    @call("host.get_vms_which_prevent_evacuation")
    def get_vms_which_prevent_evacuation(self, _caller, ref):
        guests = (vm for vm in self._residents(ref) if not vm["is_control_domain"])
        return {vm.ref: error.description for vm in guests if (error := self._evacuation_error(vm, ref))}

    @call("host.assert_can_evacuate")
    def assert_can_evacuate(self, caller, ref):
        preventing = self.get_vms_which_prevent_evacuation(caller, ref)
        if preventing:
            raise ApiError("CANNOT_EVACUATE_HOST", "|".join(",".join(each) for each in preventing.values()))

    @call("host.get_management_interface")
    def get_management_interface(self, _caller, ref):
        for pif in self.db.select("PIF", host=ref, management=True):
            return pif.ref
        raise ApiError("HOST_BROKEN")

    @call("host.set_hostname_live")
    def set_hostname_live(self, _caller, ref, hostname):
        if not hostname or len(hostname) > 63:
            raise ApiError("HOST_NAME_INVALID", "hostname must have 1 to 63 characters")
        self.db.set("host", ref, hostname=hostname)

    @call("host.list_methods")
    def list_methods(self, _caller):
        return sorted(self.db.schema.calls)

    @call("host.is_in_emergency_mode")
    def is_in_emergency_mode(self, caller):
        master_ref = self.toolstack.master_ref
        return caller.host_ref != master_ref and master_ref in self.toolstack.dead_hosts

    @call("host.migrate_receive")
    def migrate_receive(self, caller, ref, network_ref, _options):
        host = self.db.row("host", ref)
        self.db.row("network", network_ref)
        for pif in self.db.select("PIF", host=ref, network=network_ref):
            if pif["IP"]:
                url = self.toolstack.urls.get(ref, f"http://{host['address']}")
                return {"SM": f"{url}/services/SM?session_id={caller.session_ref}", "host": ref,
                        "xenops": f"{url}/services/xenops?session_id={caller.session_ref}",
                        "session_id": caller.session_ref, "master": url, "network": host["address"]}  # fmt: skip
        raise ApiError("HOST_CANNOT_ATTACH_NETWORK", ref, network_ref)


class Pools(Noun):
    @call("pool.is_slave")
    def is_slave(self, _caller, host):
        return host != self.toolstack.master_ref

    @call("pool.sync_database")
    def sync_database(self, _caller):
        self.db.row("pool", self.toolstack.pool_ref)

    @call("pool.designate_new_master", operation="designate_new_master")
    def designate_new_master(self, _caller, host):
        if not self.db.get("host_metrics", self.db.get("host", host, "metrics"), "live"):
            raise ApiError("HOST_OFFLINE", host)
        if host != self.toolstack.master_ref:
            self.toolstack.promote(host)

    @call("pool.emergency_transition_to_master")
    def emergency_transition_to_master(self, caller):
        if caller.host_ref != self.toolstack.master_ref:
            self.toolstack.promote(caller.host_ref)

    @call("pool.eject", operation="eject")
    def eject(self, _caller, host_ref):
        if host_ref == self.toolstack.master_ref:
            raise ApiError("OPERATION_NOT_ALLOWED", "The pool coordinator cannot be ejected")
        for vm in list(self.db.select("VM", resident_on=host_ref)):
            if not vm["is_control_domain"] and vm["power_state"] != HALTED:
                raise ApiError("HOST_HAS_RESIDENT_VMS", host_ref)
        self.toolstack.hosts.remove(host_ref)
        self.toolstack.host_services.retire(host_ref)

    @call("pool.recover_slaves")
    def recover_slaves(self, _caller):
        return [host.ref for host in self.db.rows("host") if host.ref != self.toolstack.master_ref]

    @call("pool.emergency_reset_master")
    def emergency_reset_master(self, _caller, address):
        for host in self.db.select("host", address=address):
            self.toolstack.promote(host.ref)
            return
        raise ApiError("CANNOT_CONTACT_HOST", address)
