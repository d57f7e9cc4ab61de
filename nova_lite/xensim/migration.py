"""Moving VMs with their disks: VM.migrate_send inside the pool and to another, and VDI.pool_migrate."""

import http.client
import io
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import xmlrpc.client
from typing import IO, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.packages import END, INVENTORY, PackageWriter, read_inventory, tar_entry
from nova_lite.xensim.vhd import stream_vhd
from nova_lite.xensim.vm_rules import HALTED, RUNNING
from nova_lite.xensim.xmlrpc import encode_untyped

IMPORT_TIMEOUT_S = 600
PATIENCE = 50  # looks at what keeps a disk busy
SENT_FIELDS = ("name_label", "name_description", "type", "other_config", "xenstore_data")


class RemotePool:
    """The pool a VM goes to, spoken to with the session that its administrator handed out."""

    def __init__(self, destination: dict[str, str]):
        missing = [key for key in ("master", "session_id", "host") if not destination.get(key)]
        if missing:
            raise ApiError("INTERNAL_ERROR", f"Failure: the destination lacks {missing[0]}")
        self.url = destination["master"].rstrip("/")
        self.session_ref = destination["session_id"]
        self.host_ref = destination["host"]
        # Pools trust each other by their own means, not by the system's authorities.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self._proxy = xmlrpc.client.ServerProxy(self.url, allow_none=True, context=self._tls)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call the pool's XenAPI. Raises what it answers."""
        try:
            answer: Any = getattr(self._proxy, name)(self.session_ref, *arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise ApiError("CANNOT_CONTACT_HOST", f"{self.url}: {error}") from None
        if answer["Status"] != "Success":
            raise ApiError(*answer["ErrorDescription"])
        return answer["Value"]

    def put(self, path: str, file: IO[bytes], **query: str) -> str:
        """Upload and return the result of the task. Raises what the task failed with."""
        task_ref = self.call("task.create", "migration", "")
        query |= {"session_id": self.session_ref, "task_id": task_ref}
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        try:
            length = file.seek(0, io.SEEK_END)
            file.seek(0)
            request = urllib.request.Request(url, file, {"Content-Length": str(length)}, method="PUT")
            urllib.request.urlopen(request, timeout=IMPORT_TIMEOUT_S, context=self._tls).close()
        except (urllib.error.URLError, OSError):
            pass  # the task says why
        deadline = time.monotonic() + IMPORT_TIMEOUT_S
        while (record := self.call("task.get_record", task_ref))["status"] == "pending":
            if time.monotonic() > deadline:
                raise ApiError("CANNOT_CONTACT_HOST", self.url)
            time.sleep(0.05)
        self.call("task.destroy", task_ref)
        if record["status"] != "success":
            raise ApiError(*record["error_info"])
        return record["result"]


class Migration(Noun):
    def _disks(self, vm: Row) -> list[Row]:
        vbds = (self.db.row("VBD", ref) for ref in vm["VBDs"])
        return [self.db.row("VDI", vbd["VDI"]) for vbd in vbds if not vbd["empty"] and vbd["type"] != "CD"]

    def _check(self, vm: Row, destination: dict[str, str], vdi_map: dict[str, str], vif_map: dict[str, str]) -> None:
        """Raise why the VM cannot go where it is sent."""
        is_local = destination.get("host") in self.db.tables["host"]
        if is_local:
            for disk in self._disks(vm):
                target = vdi_map.get(disk.ref, disk["SR"])
                if target == disk["SR"] and not self.db.get("SR", disk["SR"], "shared"):
                    raise ApiError("VDI_NOT_IN_MAP", disk.ref)
            if vm["power_state"] == RUNNING and vm["resident_on"] != destination["host"]:
                self.toolstack.power.check_host(vm, destination["host"], needs_storage=not vdi_map)
            return
        for disk in self._disks(vm):
            if disk.ref not in vdi_map:
                raise ApiError("VDI_NOT_IN_MAP", disk.ref)
        for vif_ref in vm["VIFs"]:
            if vif_ref not in vif_map:
                raise ApiError("VIF_NOT_IN_MAP", vif_ref)
        with self.toolstack.unlocked():
            remote = RemotePool(destination)
            enabled = remote.call("host.get_enabled", remote.host_ref)
            for sr_ref in set(vdi_map.values()):
                remote.call("SR.get_uuid", sr_ref)
            free = int(remote.call("host.compute_free_memory", remote.host_ref))
        if not enabled:
            raise ApiError("HOST_DISABLED", remote.host_ref)
        needed = vm["memory_dynamic_min"] + vm["memory_overhead"]
        if vm["power_state"] == RUNNING and needed > free:
            raise ApiError("HOST_NOT_ENOUGH_FREE_MEMORY", str(needed), str(free))

    @call("VM.assert_can_migrate")
    def assert_can_migrate(self, _caller, ref, destination, live, vdi_map, vif_map, _options, _vgpu_map):
        self.toolstack.operations.check("VM", ref, "migrate_send")
        vm = self.db.row("VM", ref)
        if vm["power_state"] == RUNNING and not live:
            raise ApiError("VM_BAD_POWER_STATE", ref, "halted, suspended", "running")
        self._check(vm, destination, vdi_map, vif_map)

    @call("VM.migrate_send", operation="migrate_send")
    def migrate_send(self, caller, ref, destination, _live, vdi_map, vif_map, options, _vgpu_map, _format_map):
        vm = self.db.row("VM", ref)
        self._check(vm, destination, vdi_map, vif_map)
        if vm["power_state"] == RUNNING:
            self.toolstack.guests.ask(caller, ref, "suspend")
        if destination["host"] in self.db.tables["host"]:
            return self._move_inside(caller, vm, destination["host"], vdi_map)
        is_copy = options.get("copy") == "true"
        return self._send(caller, vm, RemotePool(destination), vdi_map, vif_map, is_copy)

    # inside the pool

    def _move_inside(self, caller: Caller, vm: Row, host_ref: str, vdi_map: dict[str, str]) -> str:
        for disk in self._disks(vm):
            target = vdi_map.get(disk.ref, disk["SR"])
            if target != disk["SR"]:
                self._move_disk(caller, disk, self.db.row("SR", target))
        if vm["power_state"] == RUNNING and vm["resident_on"] != host_ref:
            self.toolstack.power.check_host(vm, host_ref)
            self.toolstack.power.move(vm, host_ref)
        elif vm["power_state"] == HALTED:
            self.db.set("VM", vm.ref, affinity=host_ref)
        return vm.ref

    def _move_disk(self, caller: Caller, disk: Row, sr: Row) -> str:
        """Copy a disk elsewhere, let its VBDs name the copy, and drop the original."""
        copy_ref = self.toolstack.vdis.copy_to(caller, disk.ref, sr)
        for vbd_ref in disk["VBDs"]:
            self.db.set("VBD", vbd_ref, VDI=copy_ref)
        self.toolstack.vm_copies.remove_disk(disk.ref)
        return copy_ref

    @call("VDI.pool_migrate")
    def pool_migrate(self, caller, ref, sr_ref, _options):
        disk, sr = self.db.row("VDI", ref), self.db.row("SR", sr_ref)
        running = [vbd for vbd in disk["VBDs"] if self.db.get("VBD", vbd, "currently_attached")]
        if not running:
            raise ApiError("VDI_NEEDS_VM_FOR_MIGRATE", ref)
        return ref if disk["SR"] == sr_ref else self._move_disk(caller, disk, sr)

    # to another pool

    def _send(self, caller: Caller, vm: Row, remote: RemotePool, vdi_map, vif_map, is_copy: bool) -> str:
        made: dict[str, str] = {}
        new_ref = ""
        try:
            for disk in self._disks(vm):
                self._send_disk(disk, remote, vdi_map[disk.ref], made)
                self.toolstack.check_cancelled(caller)
            new_ref = self._send_record(vm, remote, made, vif_map, is_copy)
            if vm["power_state"] == RUNNING:
                with self.toolstack.unlocked():
                    remote.call("VM.start_on", new_ref, remote.host_ref, False, False)
        except ApiError:
            with self.toolstack.unlocked():
                self._take_back(remote, new_ref, made)
            raise
        if not is_copy:
            self._forget(vm)
        return new_ref

    @staticmethod
    def _take_back(remote: RemotePool, vm_ref: str, disks: dict[str, str]) -> None:
        """Remove what was made over there, as far as it can be reached."""
        acts = [("VM.hard_shutdown", vm_ref), ("VM.destroy", vm_ref)] if vm_ref else []
        for method, ref in acts + [("VDI.destroy", vdi_ref) for vdi_ref in disks.values()]:
            for _ in range(PATIENCE):
                try:
                    remote.call(method, ref)
                except ApiError as error:
                    if error.description[0] == "OTHER_OPERATION_IN_PROGRESS":  # what is sent may still be arriving
                        time.sleep(0.1)
                        continue
                break

    def _send_disk(self, disk: Row, remote: RemotePool, sr_ref: str, made: dict[str, str]) -> None:
        """Send a disk; `made` is told its reference over there as soon as there is one."""
        record = {
            name: disk[name] for name in ("name_label", "name_description", "type", "other_config", "xenstore_data")
        }
        record |= {"SR": sr_ref, "virtual_size": str(disk["virtual_size"]), "sharable": False, "read_only": False}
        is_raw = self.toolstack.vdis.is_raw(disk)
        with self.toolstack.vdis.image(disk) as image, self.toolstack.unlocked():
            vdi_ref = made[disk.ref] = remote.call("VDI.create", record)
            with tempfile.TemporaryFile(dir=self.toolstack.directory) as file:
                for piece in image.pieces() if is_raw else stream_vhd(image, time.time()):
                    self.toolstack.slow_down(len(piece))
                    file.write(piece)
                remote.put("/import_raw_vdi", file, vdi=vdi_ref, format="raw" if is_raw else "vhd")

    def _send_record(self, vm: Row, remote: RemotePool, disks: dict[str, str], vif_map, is_copy: bool) -> str:
        """Send the VM's records, naming the disks and networks it has over there."""
        inventory = read_inventory(PackageWriter(self.toolstack, vm.ref).inventory())
        here = {self.db.get("VDI", ref, "uuid"): there for ref, there in disks.items()}
        networks = {self.db.get("VIF", ref, "device"): network for ref, network in vif_map.items()}
        with self.toolstack.unlocked():
            for class_name, fields in inventory.values():
                if class_name == "VDI" and fields["uuid"] in here:
                    fields["uuid"] = remote.call("VDI.get_uuid", here[fields["uuid"]])
            for package_id, (class_name, fields) in list(inventory.items()):
                if class_name == "VIF":
                    network = networks.get(fields["device"], "")
                    own_id = f"{package_id}/network"
                    fields["network"] = own_id
                    uuid = "" if is_null(network) else remote.call("network.get_uuid", network)
                    inventory[own_id] = ("network", {"uuid": uuid})
            objects = [{"class": name, "id": each, "snapshot": fields} for each, (name, fields) in inventory.items()]
            body = encode_untyped({"version": {}, "objects": objects}).encode()
            content = tar_entry(INVENTORY, body) + END
            result = remote.put("/import_metadata", io.BytesIO(content), restore="false" if is_copy else "true")
        return result.partition("OpaqueRef:")[1] + result.partition("OpaqueRef:")[2].partition("<")[0]

    def _forget(self, vm: Row) -> None:
        """Remove what went away."""
        disks = self._disks(vm)
        if vm["power_state"] != HALTED:
            self.toolstack.power.halt(vm.ref)
        self.toolstack.vms.drop_record(vm.ref)
        for disk in disks:
            self.toolstack.vm_copies.remove_disk(disk.ref)
