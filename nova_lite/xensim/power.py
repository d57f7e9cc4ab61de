"""Power states: start, stop, pause, suspend, and choosing the host to run on."""

import itertools
import time

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.storage_rules import is_plugged
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.vm_rules import HALTED, PAUSED, RUNNING, SUSPENDED, is_hvm
from nova_lite.xensim.vms import check_memory

SUSPEND_IMAGE_OVERHEAD = 16 * 1024 * 1024


class Power(Noun):
    def __init__(self, toolstack):
        super().__init__(toolstack)
        self._domids = itertools.count(1)

    def next_domid(self) -> int:
        taken = {vm["domid"] for vm in self.db.rows("VM")}
        return next(domid for domid in self._domids if domid not in taken)

    # may it run, and where

    def check_parameters(self, vm: Row) -> None:
        """Raise what start refuses in the record itself."""
        if vm["VCPUs_max"] < 1:
            raise ApiError("INVALID_VALUE", "VCPUs_max", str(vm["VCPUs_max"]))
        if not 1 <= vm["VCPUs_at_startup"] <= vm["VCPUs_max"]:
            raise ApiError("INVALID_VALUE", "VCPUs_at_startup", str(vm["VCPUs_at_startup"]))
        check_memory(*(vm[f"memory_{name}"] for name in ("static_min", "dynamic_min", "dynamic_max", "static_max")))
        if vm["HVM_shadow_multiplier"] < 1:
            raise ApiError("VALUE_NOT_SUPPORTED", "HVM_shadow_multiplier", str(vm["HVM_shadow_multiplier"]), "too low")

    def check_repository(self, vm: Row, vbd: Row, host_ref: str) -> None:
        """Raise VM_REQUIRES_SR when the disk's repository is not plugged on the host."""
        sr = self.db.row("SR", self.db.get("VDI", vbd["VDI"], "SR"))
        if not is_plugged(self.db, sr, host_ref):
            raise ApiError("VM_REQUIRES_SR", vm.ref, sr.ref)

    def check_host(
        self, vm: Row, host_ref: str, *, needs_memory: bool = True, needs_storage: bool = True
    ) -> None:
        """Raise why the VM cannot run on the host."""
        host = self.db.row("host", host_ref)
        if not self.db.get("host_metrics", host["metrics"], "live"):
            raise ApiError("HOST_NOT_LIVE")
        if not host["enabled"]:
            raise ApiError("HOST_DISABLED", host_ref)
        if vm["hardware_platform_version"] not in host["virtual_hardware_platform_versions"]:
            known = ", ".join(map(str, host["virtual_hardware_platform_versions"]))
            wanted = str(vm["hardware_platform_version"])
            raise ApiError("VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION", host_ref, known, vm.ref, wanted)
        for vbd_ref in vm["VBDs"] if needs_storage else ():
            vbd = self.db.row("VBD", vbd_ref)
            if not vbd["empty"]:
                self.check_repository(vm, vbd, host_ref)
        for vif_ref in vm["VIFs"]:
            self.toolstack.networks.check_reachable(vm, self.db.get("VIF", vif_ref, "network"), host_ref)
        if is_hvm(vm) and not any(word.startswith("hvm") for word in host["capabilities"]):
            raise ApiError("VM_HVM_REQUIRED", vm.ref)
        self.toolstack.graphics.check_host(vm, host_ref)
        needed = vm["memory_dynamic_min"] + vm["memory_overhead"]
        available = self.toolstack.hosts.free_memory(host_ref)
        if needs_memory and needed > available:
            raise ApiError("HOST_NOT_ENOUGH_FREE_MEMORY", str(needed), str(available))

    def possible_hosts(self, vm: Row) -> list[str]:
        return [host.ref for host in self.db.rows("host") if self._can_run(vm, host.ref)]

    def _can_run(self, vm: Row, host_ref: str) -> bool:
        try:
            self.check_host(vm, host_ref)
        except ApiError:
            return False
        return True

    def choose_host(self, vm: Row) -> str:
        """Return the host to start on: affinity first, then the one with most free memory."""
        hosts = [host.ref for host in self.db.rows("host")]
        if len(hosts) == 1:
            self.check_host(vm, hosts[0])
            return hosts[0]
        possible = self.possible_hosts(vm)
        if not possible:
            raise ApiError("NO_HOSTS_AVAILABLE")
        if vm["affinity"] in possible:
            return vm["affinity"]
        return max(possible, key=self.toolstack.hosts.free_memory)

    # start

    @call("VM.start", operation="start")
    def start(self, caller, ref, start_paused, _force):
        vm = self.db.row("VM", ref)
        self.check_parameters(vm)
        host_ref = self.choose_host(vm)
        self.toolstack.availability.vm_starts(vm)
        self._boot(caller, vm, host_ref, start_paused)

    def start_anywhere(self, vm: Row) -> None:
        """Start a VM again that a failure took down."""
        self.check_parameters(vm)
        self._boot(Caller(), vm, self.choose_host(vm), False)

    @call("VM.start_on", operation="start_on")
    def start_on(self, caller, ref, host, start_paused, _force):
        vm = self.db.row("VM", ref)
        self.check_parameters(vm)
        self.check_host(vm, host)
        self.toolstack.availability.vm_starts(vm)
        self._boot(caller, vm, host, start_paused)

    def _boot(self, caller: Caller, vm: Row, host_ref: str, is_paused: bool) -> None:
        for vbd_ref in vm["VBDs"]:
            self.toolstack.vbds.check_attachable(self.db.row("VBD", vbd_ref))
            self._check_mode(vm, self.db.row("VBD", vbd_ref))
            if not self.db.get("VBD", vbd_ref, "empty"):
                self.toolstack.vdis.reset_on_boot(self.db.get("VBD", vbd_ref, "VDI"))
        self._check_bootloader(vm)
        self.db.set("VM", vm.ref, scheduled_to_be_resident_on=host_ref)
        try:
            self.toolstack.wait(self.toolstack.guests.start_s, caller)
            self._drop_guest_metrics(vm)
            self._attach_devices(vm)
        except ApiError:
            self._detach_devices(vm)
            self.db.set("VM", vm.ref, scheduled_to_be_resident_on=NULL)
            raise
        self.toolstack.graphics.attach(vm, host_ref)
        self._run_domain(vm, host_ref, PAUSED if is_paused else RUNNING)
        self.toolstack.availability.vm_started(vm)

    @staticmethod
    def _check_mode(vm: Row, vbd: Row) -> None:
        if is_hvm(vm) and vbd["type"] == "Disk" and vbd["mode"] == "RO":
            raise ApiError("DISK_VBD_MUST_BE_READWRITE_FOR_HVM", vbd.ref)

    def _check_bootloader(self, vm: Row) -> None:
        bootloader = vm["PV_bootloader"]
        if is_hvm(vm) or not bootloader or bootloader == "pygrub":
            return
        if bootloader == "eliloader":
            if not vm["other_config"].get("install-repository"):
                raise ApiError("BOOTLOADER_FAILED", vm.ref, "the VM has no repository to install from")
            return
        raise ApiError("UNKNOWN_BOOTLOADER", vm.ref, bootloader)

    def _drop_guest_metrics(self, vm: Row) -> None:
        if self.db.find("VM_guest_metrics", vm["guest_metrics"]):
            self.db.destroy("VM_guest_metrics", vm["guest_metrics"])
        self.db.set("VM", vm.ref, guest_metrics=NULL)

    def _attach_devices(self, vm: Row) -> None:
        for vbd_ref in vm["VBDs"]:
            if is_hvm(vm) or not self.db.get("VBD", vbd_ref, "empty"):
                self.toolstack.vbds.attach(vbd_ref, vm)
        for vif_ref in vm["VIFs"]:
            self.toolstack.vifs.attach(vif_ref, vm)

    def _detach_devices(self, vm: Row) -> None:
        for vbd_ref in vm["VBDs"]:
            self.toolstack.vbds.detach(vbd_ref)
        for vif_ref in vm["VIFs"]:
            self.toolstack.vifs.detach(vif_ref)

    def _run_domain(self, vm: Row, host_ref: str, power_state: str) -> None:
        """Make the domain and everything that shows it."""
        metrics_ref = self.db.create("VM_guest_metrics", last_updated=timestamp_text(time.time()))
        self.db.set(
            "VM",
            vm.ref,
            power_state=power_state,
            resident_on=host_ref,
            scheduled_to_be_resident_on=NULL,
            domid=self.next_domid(),
            domarch="x86_64",
            guest_metrics=metrics_ref,
            memory_target=vm["memory_dynamic_max"],
            last_booted_record=f"(uuid {vm['uuid']})",
            last_boot_CPU_flags={"vendor": "GenuineIntel"},
        )
        self.toolstack.consoles.open(vm)
        self._start_metrics(vm)
        self.toolstack.hosts.refresh_free_memory()
        self.toolstack.guests.domain_started(vm.ref)

    def _start_metrics(self, vm: Row) -> None:
        kind = vm["domain_type"] if vm["domain_type"] != "unspecified" else ("hvm" if is_hvm(vm) else "pv")
        values = {"start_time": timestamp_text(time.time()), "current_domain_type": kind}
        self.db.set("VM_metrics", vm["metrics"], VCPUs_number=vm["VCPUs_at_startup"], **values)
        self.refresh_metrics(vm)

    def refresh_metrics(self, vm: Row) -> None:
        """Bring those metrics of a VM with a domain up to date that the database does not keep."""
        is_full, platform = is_hvm(vm), vm["platform"]
        self.db.set(
            "VM_metrics",
            vm["metrics"],
            last_updated=timestamp_text(time.time()),
            state=[],
            hvm=is_full,
            nested_virt=is_full and platform.get("nested-virt") == "true",
            nomigrate=is_full and platform.get("nomigrate") == "true",
            memory_actual=vm["memory_dynamic_max"],
            VCPUs_utilisation=dict.fromkeys(range(vm["VCPUs_at_startup"]), 0.0),
        )

    # stop

    def halt(self, ref: str) -> None:
        """Take the VM down at once, whatever it was doing."""
        vm = self.db.row("VM", ref)
        if vm["power_state"] == SUSPENDED:
            self.drop_suspend_image(vm)
        self._end_domain(vm)
        self._detach_devices(vm)
        self.toolstack.graphics.detach(vm)
        self.db.set(
            "VM", ref, power_state=HALTED, resident_on=NULL, scheduled_to_be_resident_on=NULL, requires_reboot=False
        )
        self.db.set("VM_metrics", vm["metrics"], VCPUs_number=0, current_domain_type="unspecified")
        self.toolstack.hosts.refresh_free_memory()

    def _end_domain(self, vm: Row) -> None:
        self.toolstack.guests.domain_ended(vm.ref)
        self.db.set("VM", vm.ref, domid=-1)
        for console_ref in vm["consoles"]:
            self.toolstack.consoles.close(console_ref)

    def _restart_domain(self, vm: Row) -> None:
        """Give a VM that stays Running a new domain."""
        host_ref = vm["resident_on"]
        self._end_domain(vm)
        self._drop_guest_metrics(vm)
        self._attach_devices(vm)
        self._run_domain(vm, host_ref, RUNNING)

    @call("VM.clean_shutdown", operation="clean_shutdown")
    def clean_shutdown(self, caller, ref):
        self.toolstack.availability.vm_shut_down(ref)
        self.toolstack.guests.ask(caller, ref, "halt")
        self._power_off(ref, "actions_after_shutdown")

    @call("VM.shutdown", operation="shutdown")
    def shutdown(self, caller, ref):
        self.toolstack.availability.vm_shut_down(ref)
        if self.db.get("VM", ref, "power_state") == RUNNING:
            try:
                self.toolstack.guests.ask(caller, ref, "halt")
            except ApiError as error:
                if error.code == "TASK_CANCELLED":
                    raise
        self.halt(ref)

    @call("VM.hard_shutdown", operation="hard_shutdown")
    def hard_shutdown(self, _caller, ref):
        self.toolstack.availability.vm_shut_down(ref)
        self.halt(ref)

    @call("VM.clean_reboot", operation="clean_reboot")
    def clean_reboot(self, caller, ref):
        self.toolstack.guests.ask(caller, ref, "reboot")
        self._power_off(ref, "actions_after_reboot")

    @call("VM.hard_reboot", operation="hard_reboot")
    def hard_reboot(self, _caller, ref):
        self._restart(ref)

    def _power_off(self, ref: str, kind: str) -> None:
        if self.db.get("VM", ref, kind) in ("restart", "coredump_and_restart", "rename_restart"):
            self._restart(ref)
        else:
            self.halt(ref)

    def crashed(self, ref: str) -> None:
        """What happens when the guest's domain dies by itself."""
        if self.db.get("VM", ref, "actions_after_crash") == "preserve":
            self.db.set("VM", ref, power_state=PAUSED)
        else:
            self._power_off(ref, "actions_after_crash")

    def guest_powered_off(self, ref: str, is_reboot: bool) -> None:
        """What happens when the guest shuts down or reboots by itself."""
        self._power_off(ref, "actions_after_reboot" if is_reboot else "actions_after_shutdown")

    def _restart(self, ref: str) -> None:
        vm = self.db.row("VM", ref)
        if vm["power_state"] == PAUSED:
            self.db.set("VM", ref, power_state=RUNNING)
        self._restart_domain(vm)

    @call("VM.power_state_reset", operation="power_state_reset")
    def power_state_reset(self, _caller, ref):
        vm = self.db.row("VM", ref)
        if vm["is_control_domain"]:
            raise ApiError("OPERATION_NOT_ALLOWED", "Cannot reset the power state of the control domain")
        if vm["power_state"] != HALTED:
            self.halt(ref)

    # pause, suspend

    @call("VM.pause", operation="pause")
    def pause(self, _caller, ref):
        self.db.set("VM", ref, power_state=PAUSED)

    @call("VM.unpause", operation="unpause")
    def unpause(self, _caller, ref):
        self.db.set("VM", ref, power_state=RUNNING)
        self.toolstack.guests.unpaused(ref)

    def _suspend_repository(self, vm: Row) -> Row:
        host = self.db.row("host", vm["resident_on"])
        pool = self.db.row("pool", self.toolstack.pool_ref)
        for sr_ref in (vm["suspend_SR"], pool["suspend_image_SR"], host["suspend_image_sr"]):
            sr = self.db.find("SR", sr_ref)
            if sr and is_plugged(self.db, sr, host.ref):
                return sr
        raise ApiError("VM_NO_SUSPEND_SR", vm.ref)

    @call("VM.suspend", operation="suspend")
    def suspend(self, caller, ref):
        vm = self.db.row("VM", ref)
        sr = self._suspend_repository(vm)
        self.toolstack.guests.ask(caller, ref, "suspend")
        vdi_ref = self.toolstack.vdis.new(
            sr, vm["memory_dynamic_max"] + SUSPEND_IMAGE_OVERHEAD, name_label="Suspend image", type="suspend"
        )
        self._end_domain(vm)
        self.db.set("VM", ref, power_state=SUSPENDED, suspend_VDI=vdi_ref, resident_on=NULL)
        self.db.set("VM_metrics", vm["metrics"], VCPUs_number=0, current_domain_type="unspecified")
        self.toolstack.hosts.refresh_free_memory()

    def drop_suspend_image(self, vm: Row) -> None:
        vdi_ref = vm["suspend_VDI"]
        self.db.set("VM", vm.ref, suspend_VDI=NULL)
        if self.db.find("VDI", vdi_ref):
            self.toolstack.vm_copies.remove_disk(vdi_ref)

    @call("VM.resume", operation="resume")
    def resume(self, _caller, ref, start_paused, _force):
        vm = self.db.row("VM", ref)
        self._wake(vm, self.choose_host(vm), start_paused)

    @call("VM.resume_on", operation="resume_on")
    def resume_on(self, _caller, ref, host, start_paused, _force):
        vm = self.db.row("VM", ref)
        self.check_host(vm, host)
        self._wake(vm, host, start_paused)

    def _wake(self, vm: Row, host_ref: str, is_paused: bool) -> None:
        self.drop_suspend_image(vm)
        guest_metrics = vm["guest_metrics"]
        self._run_domain(vm, host_ref, PAUSED if is_paused else RUNNING)
        if self.db.find("VM_guest_metrics", guest_metrics):
            self.db.destroy("VM_guest_metrics", guest_metrics)

    @call("VM.checkpoint", operation="checkpoint")
    def checkpoint(self, caller, ref, new_name):
        vm = self.db.row("VM", ref)
        if vm["power_state"] == SUSPENDED:
            image_ref = self.toolstack.vdis.branch(vm["suspend_VDI"], is_snapshot=True)
        else:
            self.toolstack.guests.ask(caller, ref, "suspend")
            image_ref = self.toolstack.vdis.new(
                self._suspend_repository(vm), vm["memory_dynamic_max"], name_label="Suspend image", type="suspend"
            )
        snapshot_ref = self.toolstack.vm_copies.take_snapshot(caller, ref, new_name, [])
        self.db.set("VM", snapshot_ref, power_state=SUSPENDED, suspend_VDI=image_ref)
        return snapshot_ref

    # migration inside the pool

    @call("VM.pool_migrate", operation="pool_migrate")
    def pool_migrate(self, caller, ref, host_ref, _options):
        vm = self.db.row("VM", ref)
        self.db.row("host", host_ref)
        if vm["resident_on"] == host_ref:
            return
        self.check_host(vm, host_ref)
        self.toolstack.guests.ask(caller, ref, "suspend")
        self.move(vm, host_ref)

    def move(self, vm: Row, host_ref: str) -> None:
        """Let the VM go on running on another host."""
        self.toolstack.guests.domain_ended(vm.ref)
        self.db.set("VM", vm.ref, resident_on=host_ref, domid=self.next_domid())
        self.toolstack.hosts.refresh_free_memory()
        self.toolstack.guests.domain_moved(vm.ref)
