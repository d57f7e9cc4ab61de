"""Virtual network interfaces: from the network model to VIF records, for Linux bridges and Open vSwitch."""

import ipaddress
import threading
from typing import Any

import XenAPI
from oslo_log import log as logging
from oslo_utils import importutils

from nova_lite import exception
from nova_lite.objects import network_model
from nova_lite.virt.xenapi import errors

LOG = logging.getLogger(__name__)


class NetworkNotOnHost(exception.NovaException):
    """The pool has no network, or more than one, for a bridge."""

    msg_fmt = "Found %(what)s network for bridge %(bridge)s"


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


def load_driver(name: str, session, conf):
    """Return the VIF driver `bridge`, `ovs`, or the class of that name."""
    classes = {"bridge": XenAPIBridgeDriver, "ovs": XenAPIOpenVswitchDriver}
    by_suffix = {cls.__name__: cls for cls in classes.values()}
    cls = classes.get(name) or by_suffix.get(name.rpartition(".")[2]) or importutils.import_class(name)
    return cls(xenapi_session=session, conf=conf)


class Networks:
    """The pool's networks by bridge, remembered for a while."""

    def __init__(self, session, keep_s: float = 120):
        self._session = session
        self._keep_s = keep_s
        self._by_bridge: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def by_bridge(self, bridge: str) -> str:
        """Return the network on this bridge or with this label. Raises NetworkNotOnHost unless there is one."""
        now = self._session.clock.monotonic()
        with self._lock:
            ref, until = self._by_bridge.get(bridge, (None, 0.0))
        if ref is not None and now < until:
            return ref
        found = self._find(bridge)
        if len(found) != 1:
            raise NetworkNotOnHost(what="non-unique" if found else "no", bridge=bridge)
        with self._lock:
            self._by_bridge[bridge] = (found[0], now + self._keep_s)
        return found[0]

    def _find(self, bridge: str) -> list[str]:
        if not bridge or '"' in bridge:
            raise NetworkNotOnHost(what="no", bridge=bridge)
        condition = f'field "name__label"="{bridge}" or field "bridge"="{bridge}"'
        return list(self._session.call_xenapi("network.get_all_records_where", condition))

    def by_label(self, label: str) -> str | None:
        """Return the network with this label, or None. Raises NetworkNotOnHost when there are several."""
        refs = self._session.call_xenapi("network.get_by_name_label", label)
        if len(refs) > 1:
            raise NetworkNotOnHost(what="non-unique", bridge=label)
        return refs[0] if refs else None

    def forget(self) -> None:
        """Ask the host again from now on."""
        with self._lock:
            self._by_bridge.clear()


class XenVIFDriver:
    """What VIF drivers share: the record, and finding the VM."""

    def __init__(self, xenapi_session, conf=None):
        self._session = xenapi_session
        self._conf = conf
        self.networks = Networks(xenapi_session)

    def plug(self, instance, network, mapping, vm_ref=None, device=None) -> dict:
        """Return the VIF record of an interface; makes the network first where the driver has to."""
        raise NotImplementedError

    def unplug(self, instance, network, mapping) -> None:
        """Take down what plug made on the host."""

    def _vm_ref(self, instance, vm_ref):
        if vm_ref is not None:
            return vm_ref
        refs = self._session.call_xenapi("VM.get_by_name_label", instance["name"])
        if len(refs) != 1:
            raise exception.InstanceNotFound(instance_id=instance["name"])
        return refs[0]

    def _record(self, vm_ref, network_ref, mapping, device, other_config=None, **qos) -> dict:
        return {
            "device": str(device or 0),
            "network": network_ref,
            "VM": vm_ref,
            "MAC": mapping["mac"],
            "MTU": "1500",
            "other_config": other_config or {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
            **qos,
        }


class XenAPIBridgeDriver(XenVIFDriver):
    """Interfaces on the pool's own networks, by bridge; VLAN networks are made when the network asks for it."""

    def plug(self, instance, network, mapping, vm_ref=None, device=None) -> dict:
        vm_ref = self._vm_ref(instance, vm_ref)
        if mapping.get("should_create_vlan"):
            network_ref = self._ensure_vlan_network(network)
        else:
            network_ref = self.networks.by_bridge(network["bridge"])
        return self._record(vm_ref, network_ref, mapping, device, **_rate_limit(mapping))

    def _ensure_vlan_network(self, network: dict) -> str:
        bridge, vlan = network["bridge"], int(network["vlan"])
        with self._session.locks.hold(f"xenapi-vlan-{bridge}"):
            network_ref = self.networks.by_label(bridge)
            if network_ref is None:
                return self._create_vlan_network(network, bridge, vlan)
        tags = {int(self._session.call_xenapi("PIF.get_VLAN", pif))
                for pif in self._session.call_xenapi("network.get_PIFs", network_ref)}
        if tags - {vlan}:
            raise exception.NovaException(
                f"The network {bridge} has interfaces with VLAN {sorted(tags)}, expected {vlan} alone")
        return network_ref

    def _create_vlan_network(self, network: dict, bridge: str, vlan: int) -> str:
        interface = (self._conf and self._conf.vlan_interface) or network["bridge_interface"]
        pifs = self._session.records_where("PIF", device=interface, VLAN="-1")
        if not pifs:
            raise exception.NovaException(f"Found no physical interface {interface} for VLAN {vlan}")
        network_ref = self._session.call_xenapi("network.create", {
            "name_label": bridge, "name_description": f"network for nova bridge {bridge}", "MTU": "1500",
            "other_config": {}})
        try:
            for pif_ref in pifs:
                self._session.call_xenapi("VLAN.create", pif_ref, str(vlan), network_ref)
        except XenAPI.Failure:
            self._session.call_xenapi("network.destroy", network_ref)
            raise
        return network_ref


def _rate_limit(mapping: dict) -> dict:
    if not mapping.get("rxtx_cap"):
        return {}
    return {"qos_algorithm_type": "ratelimit",
            "qos_algorithm_params": {"kbps": str(int(mapping["rxtx_cap"]) * 1024)}}


class XenAPIOpenVswitchDriver(XenVIFDriver):
    """Interfaces on the integration bridge, marked with the id the network controller knows them by."""

    def plug(self, instance, network, mapping, vm_ref=None, device=None) -> dict:
        vm_ref = self._vm_ref(instance, vm_ref)
        network_ref = self.networks.by_bridge(self._conf.xenserver.ovs_integration_bridge)
        iface_id = mapping.get("ovs_interfaceid") or mapping["vif_uuid"]
        return self._record(vm_ref, network_ref, mapping, device, {"nicira-iface-id": iface_id})


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

    def plug(self, instance: Any, network_info: Any) -> None:
        """Have the VIF driver prepare the host for every interface."""
        for device, (network, mapping) in enumerate(records(network_info)):
            self._driver.plug(instance, network, mapping, device=device)

    def unplug(self, instance: Any, network_info: Any) -> None:
        """Have the VIF driver take down what it made for every interface."""
        for network, mapping in records(network_info):
            self._driver.unplug(instance, network, mapping)

    def attach(self, instance: Any, vm_ref: str, network_info: Any) -> None:
        """Add interfaces to an existing VM, live when it runs. Raises InterfaceAttachFailed."""
        for network, mapping in records(network_info):
            with self._session.locks.hold(f"xenapi-vif-{vm_ref}"):
                self._attach_one(instance, vm_ref, network, mapping)

    def _attach_one(self, instance, vm_ref, network, mapping) -> None:
        devices = self._session.call_xenapi("VM.get_allowed_VIF_devices", vm_ref)
        if not devices:
            raise exception.InterfaceAttachFailed(instance=instance["uuid"])
        vif_ref = None
        try:
            vif_ref = self.create_one(vm_ref, instance, network, mapping, devices[0])
            if self._session.call_xenapi("VM.get_power_state", vm_ref).lower() == "running":
                self._session.call_xenapi("VIF.plug", vif_ref)
        except XenAPI.Failure as failure:
            LOG.warning("Attaching %s to %s failed: %s", mapping["mac"], instance["uuid"], errors.describe(failure))
            if vif_ref is not None:
                self._destroy(vif_ref)
            raise exception.InterfaceAttachFailed(instance=instance["uuid"]) from failure

    def detach(self, instance: Any, vm_ref: str, network_info: Any) -> None:
        """Remove the interfaces with these MACs; missing ones are no error. Raises InterfaceDetachFailed."""
        wanted = {mapping["mac"].lower() for _, mapping in records(network_info)}
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            if vif["MAC"].lower() not in wanted:
                continue
            try:
                if vif["currently_attached"]:
                    self._session.call_xenapi("VIF.unplug", vif_ref)
                self._destroy(vif_ref)
            except XenAPI.Failure as failure:
                raise exception.InterfaceDetachFailed(instance=instance["uuid"]) from failure
        self.unplug(instance, network_info)

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
