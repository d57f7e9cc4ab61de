"""Attachments: disks (VBD) and network interfaces (VIF) of VMs."""

import re
import uuid as uuid_module
import zlib
from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import active_vbds
from nova_lite.xensim.vm_rules import RUNNING

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

MAX_DEVICES = 255
DEVICE_NAME = re.compile(r"(?:xvd|hd|sd)([a-z]{1,2})$")
MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$")
REFUSED_TYPES = frozenset({"ha_statefile", "redo_log", "cbt_metadata"})


def device_number(userdevice: str) -> int | None:
    """Return the number of a disk device given as number or name, None when it is neither."""
    if userdevice.isascii() and userdevice.isdigit() and int(userdevice) <= MAX_DEVICES:
        return int(userdevice)
    match = DEVICE_NAME.match(userdevice)
    if not match:
        return None
    number = 0
    for letter in match.group(1):
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1 if number - 1 <= MAX_DEVICES else None


def device_name(number: int) -> str:
    """Return xvda, xvdb, ... xvdz, xvdaa, ..."""
    first, second = divmod(number, 26)
    return "xvd" + (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + second)


class Vbds(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._paused: dict[str, str] = {}

    def _of(self, vm_ref: str) -> list[Row]:
        return [self.db.row("VBD", ref) for ref in self.db.get("VM", vm_ref, "VBDs")]

    @call("VBD.create")
    def create(self, _caller, args):
        vm = self.db.row("VM", args["VM"])
        is_cd, is_empty = args["type"] == "CD", args["empty"]
        if is_cd and args["mode"] != "RO":
            raise ApiError("VBD_CDS_MUST_BE_READONLY")
        if is_empty and not is_cd:
            raise ApiError("VBD_NOT_REMOVABLE_MEDIA", "in constructor")
        if not is_empty:
            self._check_disk(self.db.row("VDI", args["VDI"]), args["mode"])
        number = self._choose_number(vm, args["userdevice"])
        return self.db.create(
            "VBD",
            **{
                **args,
                "VDI": NULL if is_empty else args["VDI"],
                "userdevice": str(number) if args["userdevice"] == "autodetect" else args["userdevice"],
                "device": "",
                "currently_attached": False,
            },
        )

    @staticmethod
    def _check_disk(vdi: Row, mode: str) -> None:
        if mode == "RW" and vdi["read_only"]:
            raise ApiError("VDI_READONLY", vdi.ref)
        if vdi["type"] in REFUSED_TYPES:
            raise ApiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi["type"])

    def _choose_number(self, vm: Row, userdevice: str) -> int:
        taken = {device_number(vbd["userdevice"]) for vbd in self._of(vm.ref)}
        if userdevice == "autodetect":
            free = next((number for number in range(MAX_DEVICES) if number not in taken), None)
            if free is None:
                raise ApiError("INVALID_DEVICE", userdevice)
            return free
        number = device_number(userdevice)
        if number is None:
            raise ApiError("INVALID_DEVICE", userdevice)
        if number in taken:
            raise ApiError("DEVICE_ALREADY_EXISTS", userdevice)
        return number

    @call("VBD.destroy")
    def destroy(self, _caller, ref):
        vbd = self.db.row("VBD", ref)
        if vbd["currently_attached"] or vbd["reserved"]:
            vm_uuid = self.db.get("VM", vbd["VM"], "uuid")
            raise ApiError("OPERATION_NOT_ALLOWED", f"VBD '{vbd['uuid']}' still attached to '{vm_uuid}'")
        self.db.destroy("VBD", ref)

    def check_attachable(self, vbd: Row) -> None:
        """Raise VDI_IN_USE and its like when the disk cannot be attached now."""
        if vbd["empty"]:
            return
        vdi = self.db.row("VDI", vbd["VDI"])
        if "copy" in vdi["current_operations"].values() and vbd["mode"] == "RO":
            pass
        elif set(vdi["current_operations"].values()) - {"snapshot", "clone", "mirror"}:
            running = vdi["current_operations"]
            raise ApiError(
                "OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, *next(iter((v, k) for k, v in running.items()))
            )
        if not vdi["managed"]:
            raise ApiError("VDI_NOT_MANAGED", vbd.ref)
        others = [other for other in active_vbds(self.db, vdi) if other.ref != vbd.ref]
        if others and not vdi["sharable"] and (vbd["mode"] == "RW" or any(other["mode"] == "RW" for other in others)):
            raise ApiError("VDI_IN_USE", vdi.ref)
        self.toolstack.vdis.check_image(vdi)

    def attach(self, vbd_ref: str, vm: Row) -> None:
        """Show the device as attached, under the name the guest gives it."""
        vbd = self.db.row("VBD", vbd_ref)
        number = device_number(vbd["userdevice"]) or 0
        self.db.set("VBD", vbd_ref, currently_attached=True, device=device_name(number))
        self.toolstack.guests.device_changed(vm.ref)

    def detach(self, vbd_ref: str) -> None:
        self.db.set("VBD", vbd_ref, currently_attached=False, reserved=False)

    @call("VBD.plug", operation="plug")
    def plug(self, _caller, ref):
        vbd = self.db.row("VBD", ref)
        vm = self.db.row("VM", vbd["VM"])
        self.check_attachable(vbd)
        self.toolstack.guests.check_attach("VBD", ref)
        if not vbd["empty"]:
            self.toolstack.power.check_repository(vm, vbd, vm["resident_on"])
        self.attach(ref, vm)

    @call("VBD.unplug", operation="unplug")
    def unplug(self, _caller, ref):
        self.toolstack.guests.check_detach("VBD", ref)
        self.detach(ref)
        self.toolstack.guests.device_changed(self.db.get("VBD", ref, "VM"))

    @call("VBD.unplug_force", operation="unplug_force")
    def unplug_force(self, _caller, ref):
        self.detach(ref)
        self.toolstack.guests.device_changed(self.db.get("VBD", ref, "VM"))

    @call("VBD.pause", operation="pause")
    def pause(self, _caller, ref):
        """Let a disk's requests wait, and return the token that ends it."""
        return self._paused.setdefault(ref, str(uuid_module.uuid4()))

    @call("VBD.unpause", operation="unpause")
    def unpause(self, _caller, ref, token):
        if token and token != self._paused.get(ref):
            raise ApiError("INVALID_VALUE", "token", token)
        self._paused.pop(ref, None)

    @call("VBD.insert", operation="insert")
    def insert(self, _caller, ref, vdi_ref):
        self._check_disk(self.db.row("VDI", vdi_ref), "RO")
        self.db.set("VBD", ref, VDI=vdi_ref, empty=False)

    @call("VBD.eject", operation="eject")
    def eject(self, _caller, ref):
        self.db.set("VBD", ref, VDI=NULL, empty=True)

    @call("VBD.assert_attachable")
    def assert_attachable(self, _caller, ref):
        vbd = self.db.row("VBD", ref)
        self.toolstack.operations.check("VBD", ref, "attach")
        self.check_attachable(vbd)

    @call("VBD.set_mode")
    def set_mode(self, _caller, ref, value):
        vbd = self.db.row("VBD", ref)
        if vbd["currently_attached"]:
            raise ApiError("DEVICE_ALREADY_ATTACHED", ref)
        if vbd["type"] == "CD" and value == "RW":
            raise ApiError("VBD_CDS_MUST_BE_READONLY")
        self.db.set("VBD", ref, mode=value)

    @call("VBD.set_userdevice")
    def set_userdevice(self, _caller, ref, value):
        vbd = self.db.row("VBD", ref)
        number = device_number(value)
        if number is None:
            raise ApiError("INVALID_DEVICE", value)
        if any(device_number(other["userdevice"]) == number for other in self._of(vbd["VM"]) if other.ref != ref):
            raise ApiError("DEVICE_ALREADY_EXISTS", value)
        self.db.set("VBD", ref, userdevice=value)


def derived_mac(seed: str, device: str) -> str:
    """Return a locally administered address that depends on the VM's seed and the device alone."""
    low, high = zlib.crc32(f"{seed}/{device}".encode()), zlib.crc32(f"{device}/{seed}".encode())
    octets = [(low & 0xFC) | 0x02, *low.to_bytes(4, "big")[:3], *high.to_bytes(4, "big")[:2]]
    return ":".join(f"{octet:02x}" for octet in octets)


class Vifs(Noun):
    @call("VIF.create")
    def create(self, _caller, args):
        vm = self.db.row("VM", args["VM"])
        self.db.row("network", args["network"])
        device = args["device"]
        if not (device.isascii() and device.isdigit()):
            raise ApiError("INVALID_DEVICE", device)
        if any(self.db.get("VIF", ref, "device") == device for ref in vm["VIFs"]):
            raise ApiError("DEVICE_ALREADY_EXISTS", device)
        mac, is_autogenerated = args["MAC"], not args["MAC"]
        if is_autogenerated:
            mac = self.new_mac(vm.ref, device)
        elif not MAC.match(mac) or int(mac[:2], 16) & 1:
            raise ApiError("MAC_INVALID", mac)
        fields = {**args, "MAC": mac.lower(), "MAC_autogenerated": is_autogenerated, "currently_attached": False}
        return self.db.create("VIF", **fields)

    def new_mac(self, vm_ref: str, device: str) -> str:
        """Return the address that a device of the VM has when none is given."""
        return derived_mac(self.db.get("VM", vm_ref, "other_config").get("mac_seed", ""), device)

    @call("VIF.destroy")
    def destroy(self, _caller, ref):
        vif = self.db.row("VIF", ref)
        if vif["currently_attached"] and self.db.get("VM", vif["VM"], "power_state") == RUNNING:
            raise ApiError("OPERATION_NOT_ALLOWED", "VIF currently attached to a running VM")
        self.db.destroy("VIF", ref)

    def attach(self, ref: str, vm: Row) -> None:
        self.db.set("VIF", ref, currently_attached=True)
        self.toolstack.guests.device_changed(vm.ref)

    def detach(self, ref: str) -> None:
        self.db.set("VIF", ref, currently_attached=False)

    @call("VIF.plug", operation="plug")
    def plug(self, _caller, ref):
        vif = self.db.row("VIF", ref)
        vm = self.db.row("VM", vif["VM"])
        self.toolstack.networks.check_reachable(vm, vif["network"], vm["resident_on"])
        self.toolstack.guests.check_attach("VIF", ref)
        self.attach(ref, vm)

    @call("VIF.unplug", operation="unplug")
    def unplug(self, _caller, ref):
        self.toolstack.guests.check_detach("VIF", ref)
        self._unplugged(ref)

    @call("VIF.unplug_force", operation="unplug")
    def unplug_force(self, _caller, ref):
        self._unplugged(ref)

    def _unplugged(self, ref: str) -> None:
        self.detach(ref)
        self.toolstack.guests.device_changed(self.db.get("VIF", ref, "VM"))

    @call("VIF.move")
    def move(self, _caller, ref, network):
        self.db.row("network", network)
        vm = self.db.row("VM", self.db.get("VIF", ref, "VM"))
        if vm["power_state"] == RUNNING:
            self.toolstack.networks.check_reachable(vm, network, vm["resident_on"])
        self.db.set("VIF", ref, network=network)

    @call("VIF.configure_ipv4")
    def configure_ipv4(self, _caller, ref, mode, address, gateway):
        addresses = [address] if mode == "Static" else []
        self.db.set("VIF", ref, ipv4_configuration_mode=mode, ipv4_addresses=addresses, ipv4_gateway=gateway)

    @call("VIF.configure_ipv6")
    def configure_ipv6(self, _caller, ref, mode, address, gateway):
        addresses = [address] if mode == "Static" else []
        self.db.set("VIF", ref, ipv6_configuration_mode=mode, ipv6_addresses=addresses, ipv6_gateway=gateway)
