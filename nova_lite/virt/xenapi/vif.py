"""Virtual network interfaces of VMs: from the network model to VIFs, made with the VM, attached and detached later."""

import ipaddress
from typing import Any

import XenAPI
from oslo_log import log as logging
from oslo_utils import importutils

from nova_lite import exception
from nova_lite.objects import network_model
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.vif_drivers import XenAPIBridgeDriver, XenAPIOpenVswitchDriver, XenVIFDriver
from nova_lite.virt.xenapi.vif_ovs_ports import XenAPIOpenVswitchPortDriver

LOG = logging.getLogger(__name__)


def records(network_info: Any) -> list[tuple[dict, dict]]:
    """Return (network, mapping) pairs for the model, its JSON text, or pairs, which pass unchanged.

    A VIF without an IPv4 subnet is kept; the keys that need one are left out.
    """
    if network_info and not isinstance(network_info, str) and isinstance(network_info[0], (tuple, list)):
        return [tuple(pair) for pair in network_info]
    return [_pair(vif) for vif in network_model.NetworkInfo.hydrate(network_info or [])]


def _pair(vif: network_model.VIF) -> tuple[dict, dict]:
    network = vif.get("network") or {}
    subnets = network.get("subnets") or []
    v4 = [subnet for subnet in subnets if subnet["version"] == 4]
    v6 = [subnet for subnet in subnets if subnet["version"] == 6]
    meta = network.get("meta") or {}
    pair_network = {
        "id": network.get("id"),
        "bridge": network.get("bridge"),
        "vlan": meta.get("vlan"),
        "injected": meta.get("injected", False),
        "multi_host": meta.get("multi_host", False),
        "bridge_interface": meta.get("bridge_interface"),
        "cidr": v4[0]["cidr"] if v4 else None,
        "cidr_v6": v6[0]["cidr"] if v6 else None,
    }
    return pair_network, _mapping(vif, network, meta, v4, v6)


def _mapping(vif, network, meta, v4, v6) -> dict:
    vif_meta = vif.get("meta") or {}
    mapping = {
        "label": network.get("label"),
        "mac": vif["address"],
        "vif_uuid": vif["id"],
        "vif_type": vif.get("type"),
        "vif_devname": vif.get("devname"),
        "ovs_interfaceid": vif.get("ovs_interfaceid"),
        "rxtx_cap": vif_meta.get("rxtx_cap", 0),
        "should_create_bridge": meta.get("should_create_bridge", False),
        "should_create_vlan": meta.get("should_create_vlan", False),
        "ips": [_address(ip, subnet) for subnet in v4 for ip in subnet["ips"]],
        "dns": _unique(dns["address"] for subnet in v4 + v6 for dns in subnet["dns"]),
    }
    if v4:
        first = v4[0]
        mapping["broadcast"] = str(first.as_netaddr().broadcast_address)
        mapping["dhcp_server"] = first.get_meta("dhcp_server") or _address_of(first["gateway"])
        mapping["gateway"] = _address_of(first["gateway"])
        mapping["routes"] = [_route(route) for subnet in v4 for route in subnet["routes"]]
    if v6:
        mapping["ip6s"] = [_address(ip, subnet) for subnet in v6 for ip in subnet["ips"]]
        mapping["gateway_v6"] = _address_of(v6[0]["gateway"])
    return {key: value for key, value in mapping.items() if value is not None and value != []} | {
        "ips": mapping["ips"], "dns": mapping["dns"]}


def _address(ip, subnet) -> dict:
    net = subnet.as_netaddr()
    entry = {"ip": ip["address"], "netmask": str(net.netmask) if subnet["version"] == 4 else net.prefixlen,
             "enabled": "1"}
    if _address_of(subnet["gateway"]):
        entry["gateway"] = _address_of(subnet["gateway"])
    return entry


def _address_of(ip) -> str | None:
    return ip["address"] if ip else None


def _route(route) -> dict:
    net = ipaddress.ip_network(route["cidr"], strict=False)
    return {"route": str(net.network_address), "netmask": str(net.netmask), "gateway": _address_of(route["gateway"])}


def _unique(items) -> list:
    return list(dict.fromkeys(items))


# Not for the guest: how the host wires the interface.
_HOST_KEYS = ("vif_type", "vif_devname", "ovs_interfaceid", "qbh_params", "qbg_params")


def guest_configuration(mapping: dict) -> dict:
    """Return what the guest is told about the interface, under vm-data/networking."""
    return {key: value for key, value in mapping.items() if value is not None and key not in _HOST_KEYS}


def xenstore_location(mapping: dict) -> str:
    """Return the key of the interface's configuration: its MAC without colons."""
    return f"vm-data/networking/{mapping['mac'].replace(':', '')}"


DRIVERS = {"bridge": XenAPIBridgeDriver, "ovs": XenAPIOpenVswitchDriver, "ovs-ports": XenAPIOpenVswitchPortDriver}


def load_driver(name: str, session, conf) -> XenVIFDriver:
    """Return the VIF driver `bridge`, `ovs`, `ovs-ports`, or the class of that name."""
    by_suffix = {cls.__name__: cls for cls in DRIVERS.values()}
    cls = DRIVERS.get(name) or by_suffix.get(name.rpartition(".")[2]) or importutils.import_class(name)
    return cls(xenapi_session=session, conf=conf)


class Interfaces:
    """The interfaces of VMs: created with the VM, attached and detached later."""

    def __init__(self, session, vif_driver: XenVIFDriver, locking_mode: bool = False):
        self._session = session
        self._driver = vif_driver
        self._locked = locking_mode

    def create(self, vm_ref: str, instance: Any, network_info: Any) -> None:
        """Create a VIF for every entry. The records go with the VM."""
        for device, (network, mapping) in enumerate(records(network_info)):
            self.create_one(vm_ref, instance, network, mapping, device)

    def create_for(self, vm_ref: str, instance: Any, network_info: Any) -> None:
        """Like create, for a VM that may not be there: raises XenAPI.Failure for a reference that is none."""
        self._session.call_xenapi("VM.get_record", vm_ref)
        self.create(vm_ref, instance, network_info)

    def create_one(self, vm_ref: str, instance: Any, network: dict, mapping: dict, device: int | str) -> str:
        record = self._driver.plug(instance, network, mapping, vm_ref=vm_ref, device=device)
        if self._locked:
            record.update(anti_spoofing(mapping))
        try:
            return self._session.call_xenapi("VIF.create", record)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, errors.HANDLE_INVALID):
                raise
        # The network we remembered was replaced by another one.
        self._driver.networks.forget()
        record = self._driver.plug(instance, network, mapping, vm_ref=vm_ref, device=device)
        if self._locked:
            record.update(anti_spoofing(mapping))
        return self._session.call_xenapi("VIF.create", record)

    def after_start(self, vm_ref: str) -> None:
        """Have the VIF driver wire the interfaces of a VM that was just started."""
        if not self._driver.wires_started_vms:
            return
        for vif in self._session.records_where("VIF", VM=vm_ref).values():
            self._driver.wire(vif)

    def networks_at_destination(self, network_info: Any) -> dict[str, str]:
        """Return {port id: network here} for a VM that is about to arrive, where the VIF driver has such networks."""
        found = {mapping["vif_uuid"]: self._driver.network_for_arrival(mapping) for _, mapping in records(network_info)}
        return {port_id: network_ref for port_id, network_ref in found.items() if network_ref}

    def plug(self, instance: Any, network_info: Any) -> None:
        """Have the VIF driver prepare the host for every interface. Raises VirtualInterfacePlugException without VM."""
        for device, (network, mapping) in enumerate(records(network_info)):
            try:
                self._driver.plug(instance, network, mapping, device=device)
            except exception.InstanceNotFound as error:
                raise exception.VirtualInterfacePlugException(str(error)) from error

    def unplug(self, instance: Any, network_info: Any, vm_ref: str | None = None) -> None:
        """Have the VIF driver take down what it made for the interfaces of a VM (default: of the instance's name)."""
        for network, mapping in records(network_info):
            self._driver.unplug_from(vm_ref, instance, network, mapping)

    def attach(self, instance: Any, vm_ref: str, network_info: Any) -> None:
        """Add interfaces to an existing VM, live when it runs. Raises InterfaceAttachFailed."""
        for network, mapping in records(network_info):
            with self._session.locks.hold(f"xenapi-vif-{vm_ref}"):
                self._attach_one(instance, vm_ref, network, mapping)

    def _attach_one(self, instance, vm_ref, network, mapping) -> None:
        vif_ref = self._existing(vm_ref, mapping)
        try:
            if vif_ref is None:
                devices = self._session.call_xenapi("VM.get_allowed_VIF_devices", vm_ref)
                if not devices:
                    raise exception.InterfaceAttachFailed(instance=instance["uuid"])
                vif_ref = self.create_one(vm_ref, instance, network, mapping, devices[0])
            if self._session.call_xenapi("VM.get_power_state", vm_ref).lower() == "running":
                self._plug_live(vif_ref)
        except (XenAPI.Failure, exception.NovaException) as error:
            reason = errors.describe(error) if isinstance(error, XenAPI.Failure) else error
            LOG.warning("Attaching %s to %s failed: %s", mapping["mac"], instance["uuid"], reason)
            if vif_ref is not None:
                self._take_out(vif_ref)
            self._driver.unplug_from(vm_ref, instance, network, mapping)
            raise exception.InterfaceAttachFailed(instance=instance["uuid"]) from error

    def _existing(self, vm_ref: str, mapping: dict) -> str | None:
        """Return the interface with this MAC that an earlier attempt may have left, or None."""
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            if vif["MAC"].lower() == mapping["mac"].lower():
                return vif_ref
        return None

    def _plug_live(self, vif_ref: str) -> None:
        try:
            self._session.call_xenapi("VIF.plug", vif_ref)
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, "DEVICE_ALREADY_ATTACHED"):
                raise
        if self._driver.wires_started_vms:
            self._driver.wire(self._session.call_xenapi("VIF.get_record", vif_ref))

    def detach(self, instance: Any, vm_ref: str, network_info: Any) -> None:
        """Remove the interfaces with these MACs; missing ones are no error. Raises InterfaceDetachFailed."""
        wanted = {mapping["mac"].lower() for _, mapping in records(network_info)}
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            if vif["MAC"].lower() not in wanted:
                continue
            try:
                if vif["currently_attached"]:
                    self._unplug_live(vif_ref)
                self._destroy(vif_ref)
            except XenAPI.Failure as failure:
                raise exception.InterfaceDetachFailed(instance=instance["uuid"]) from failure
        self.unplug(instance, network_info, vm_ref)

    def _unplug_live(self, vif_ref: str) -> None:
        try:
            self._session.call_xenapi("VIF.unplug", vif_ref)
        except XenAPI.Failure as failure:
            if not (errors.is_code(failure, "DEVICE_ALREADY_DETACHED") or errors.is_gone(failure)):
                raise

    def _take_out(self, vif_ref: str) -> None:
        """Remove an interface that could not be brought into service; what hinders that is only told."""
        try:
            vif = self._session.get_rec("VIF", vif_ref)
            if vif and vif["currently_attached"]:
                self._unplug_live(vif_ref)
            self._destroy(vif_ref)
        except XenAPI.Failure as failure:
            LOG.warning("Interface %s stays: %s", vif_ref, errors.describe(failure))

    def _destroy(self, vif_ref: str) -> None:
        try:
            self._session.call_xenapi("VIF.destroy", vif_ref)
        except XenAPI.Failure as failure:
            if not errors.is_gone(failure):
                raise


def anti_spoofing(mapping: dict) -> dict:
    """Return the fields that keep an interface to its own addresses (Open vSwitch backend only)."""
    return {
        "locking_mode": "locked",
        "ipv4_allowed": [ip["ip"] for ip in mapping.get("ips", [])],
        "ipv6_allowed": [ip["ip"] for ip in mapping.get("ip6s", [])],
    }
