"""Network information of an instance: interfaces, their networks, subnets and addresses.

Everything is a dict, so that it can be kept and sent as JSON; keyword arguments a constructor does not know are
merged into ``meta`` (compute specification §9.5).
"""

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from nova_lite import exception

VIF_TYPE_OVS = "ovs"
VIF_TYPE_BRIDGE = "bridge"
VIF_TYPE_802_QBG = "802.1qbg"
VIF_TYPE_802_QBH = "802.1qbh"
VIF_TYPE_OTHER = "other"

# The kernel's limit is 15 with the terminating zero.
NIC_NAME_LEN = 14


class InvalidIpAddressError(exception.Invalid):
    """An address that is neither IPv4 nor IPv6."""

    msg_fmt = "%(address)s is not a valid IP v4/6 address."


class Model(dict):
    """A dict with a ``meta`` part."""

    def _take(self, fields: dict[str, Any], extra: dict[str, Any]) -> None:
        meta = dict(extra.pop("meta", None) or {})
        meta.update(extra)
        self.update(fields)
        self["meta"] = meta

    def get_meta(self, key: str, default: Any = None) -> Any:
        """Return a value of ``meta``."""
        return self["meta"].get(key, default)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class IP(Model):
    """An address; ``version`` is derived from it. Raises InvalidIpAddressError."""

    def __init__(self, address: str | None = None, type: str | None = None, **kwargs: Any):
        super().__init__()
        version = kwargs.pop("version", None)
        if address and not version:
            version = _version_of(address)
        self._take({"address": address, "type": type, "version": version}, kwargs)

    def is_in_subnet(self, subnet: "Subnet") -> bool:
        """Return whether the address lies in the subnet."""
        if not self["address"] or not subnet["cidr"]:
            return False
        return ipaddress.ip_address(self["address"]) in ipaddress.ip_network(subnet["cidr"], strict=False)

    @classmethod
    def hydrate(cls, ip: dict | None) -> "IP | None":
        """Return an IP of its plain form."""
        return cls(**ip) if ip else None


class FixedIP(IP):
    """An address of an interface, with the floating addresses that lead to it."""

    def __init__(self, floating_ips: Iterable[dict] | None = None, **kwargs: Any):
        kwargs.setdefault("type", "fixed")
        super().__init__(**kwargs)
        self["floating_ips"] = list(floating_ips or [])

    def add_floating_ip(self, floating_ip: dict) -> None:
        """Add a floating address unless it is there."""
        if floating_ip not in self["floating_ips"]:
            self["floating_ips"].append(floating_ip)

    def floating_ip_addresses(self) -> list[str]:
        """Return the floating addresses as text."""
        return [floating["address"] for floating in self["floating_ips"]]

    @classmethod
    def hydrate(cls, fixed_ip: dict | None) -> "FixedIP | None":
        """Return a FixedIP of its plain form."""
        if not fixed_ip:
            return None
        hydrated = cls(**fixed_ip)
        hydrated["floating_ips"] = [IP.hydrate(floating) for floating in fixed_ip.get("floating_ips") or []]
        return hydrated

    def __eq__(self, other: object) -> bool:
        keys = ("address", "type", "version", "floating_ips")
        return isinstance(other, FixedIP) and all(self[key] == other[key] for key in keys)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


class Route(Model):
    """A route of a subnet."""

    def __init__(self, cidr: str | None = None, gateway: IP | None = None, interface: str | None = None,
                 **kwargs: Any):
        super().__init__()
        self._take({"cidr": cidr, "gateway": gateway, "interface": interface}, kwargs)

    @classmethod
    def hydrate(cls, route: dict) -> "Route":
        """Return a Route of its plain form."""
        return cls(**{**route, "gateway": IP.hydrate(route.get("gateway"))})


class Subnet(Model):
    """A subnet and those of its addresses that an interface has. Equal by cidr; ``version`` is derived from it."""

    def __init__(self, cidr: str | None = None, dns: list[IP] | None = None, gateway: IP | None = None,
                 ips: list[FixedIP] | None = None, routes: list[Route] | None = None, **kwargs: Any):
        super().__init__()
        version = kwargs.pop("version", None)
        if cidr and not version:
            version = _version_of(cidr.split("/")[0])
        self._take({"cidr": cidr, "dns": dns or [], "gateway": gateway, "ips": ips or [], "routes": routes or [],
                    "version": version}, kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subnet) and self["cidr"] == other["cidr"]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def add_route(self, route: Route) -> None:
        """Add a route unless it is there."""
        if route not in self["routes"]:
            self["routes"].append(route)

    def add_dns(self, dns: IP) -> None:
        """Add a name server unless it is there."""
        if dns not in self["dns"]:
            self["dns"].append(dns)

    def add_ip(self, ip: FixedIP) -> None:
        """Add an address unless it is there."""
        if ip not in self["ips"]:
            self["ips"].append(ip)

    def as_netaddr(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """Return the cidr as a network."""
        return ipaddress.ip_network(self["cidr"], strict=False)

    @classmethod
    def hydrate(cls, subnet: dict) -> "Subnet":
        """Return a Subnet of its plain form."""
        return cls(**{
            **subnet,
            "dns": [IP.hydrate(dns) for dns in subnet.get("dns") or []],
            "ips": [FixedIP.hydrate(ip) for ip in subnet.get("ips") or []],
            "routes": [Route.hydrate(route) for route in subnet.get("routes") or []],
            "gateway": IP.hydrate(subnet.get("gateway")),
        })


class Network(Model):
    """A network and its subnets."""

    def __init__(self, id: str | None = None, bridge: str | None = None, label: str | None = None,
                 subnets: list[Subnet] | None = None, **kwargs: Any):
        super().__init__()
        self._take({"id": id, "bridge": bridge, "label": label, "subnets": subnets or []}, kwargs)

    def add_subnet(self, subnet: Subnet) -> None:
        """Add a subnet unless it is there."""
        if subnet not in self["subnets"]:
            self["subnets"].append(subnet)

    @classmethod
    def hydrate(cls, network: dict | None) -> "Network | None":
        """Return a Network of its plain form."""
        if not network:
            return None
        return cls(**{**network, "subnets": [Subnet.hydrate(subnet) for subnet in network.get("subnets") or []]})


class VIF(Model):
    """An interface. Equal by id."""

    def __init__(self, id: str | None = None, address: str | None = None, network: Network | None = None,
                 type: str | None = None, devname: str | None = None, ovs_interfaceid: str | None = None,
                 qbh_params: dict | None = None, qbg_params: dict | None = None, **kwargs: Any):
        super().__init__()
        self._take({"id": id, "address": address, "network": network or None, "type": type, "devname": devname,
                    "ovs_interfaceid": ovs_interfaceid, "qbh_params": qbh_params, "qbg_params": qbg_params}, kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VIF) and self["id"] == other["id"]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def subnets(self) -> list[Subnet]:
        """Return the subnets of its network."""
        return self["network"]["subnets"] if self["network"] else []

    def fixed_ips(self) -> list[FixedIP]:
        """Return its addresses, in the order of the subnets."""
        return [ip for subnet in self.subnets() for ip in subnet["ips"]]

    def floating_ips(self) -> list[dict]:
        """Return the floating addresses that lead to it."""
        return [floating for ip in self.fixed_ips() for floating in ip["floating_ips"]]

    def labeled_ips(self) -> dict[str, Any] | None:
        """Return {network_label, network_id, ips}; None without a network."""
        if not self["network"]:
            return None
        return {"network_label": self["network"]["label"], "network_id": self["network"]["id"], "ips": self.fixed_ips()}

    def legacy_pair(self) -> tuple[dict, dict]:
        """Return the (network, mapping) pair; what an IPv4 subnet would tell is None or empty without one."""
        network = self["network"] or Network()
        v4, v6 = _first(network["subnets"], 4), _first(network["subnets"], 6)
        return _legacy_network(network, v4, v6), _legacy_mapping(self, network, v4, v6)

    @classmethod
    def hydrate(cls, vif: dict) -> "VIF":
        """Return a VIF of its plain form."""
        return cls(**{**vif, "network": Network.hydrate(vif.get("network"))})


class NetworkInfo(list):
    """The interfaces of an instance."""

    def fixed_ips(self) -> list[FixedIP]:
        """Return the addresses of all interfaces."""
        return [ip for vif in self for ip in vif.fixed_ips()]

    def floating_ips(self) -> list[dict]:
        """Return the floating addresses of all interfaces."""
        return [ip for vif in self for ip in vif.floating_ips()]

    @classmethod
    def hydrate(cls, network_info: "str | list | NetworkInfo | None") -> "NetworkInfo":
        """Return the model of JSON text, of a list of plain dicts, or of a model; None is empty."""
        if isinstance(network_info, cls):
            return network_info
        if isinstance(network_info, str):
            network_info = json.loads(network_info) if network_info else []
        return cls([VIF.hydrate(vif) for vif in network_info or []])

    def json(self) -> str:
        """Return the model as JSON text."""
        return json.dumps(self)

    def legacy(self) -> list[tuple[dict, dict]]:
        """Return (network, mapping) pairs; interfaces without network or subnets are skipped.

        Raises NovaException for an interface without an IPv4 subnet.
        """
        connected = [vif for vif in self if vif.subnets()]
        for vif in connected:
            if _first(vif.subnets(), 4) is None:
                raise exception.NovaException(f"Interface {vif['id']} has no IPv4 subnet, which the legacy form needs")
        return [vif.legacy_pair() for vif in connected]


def _version_of(address: str) -> int:
    try:
        return ipaddress.ip_address(address).version
    except ValueError as exc:
        raise InvalidIpAddressError(address=address) from exc


def _first(subnets: list[Subnet], version: int) -> Subnet | None:
    return next((subnet for subnet in subnets if subnet["version"] == version), None)


def _legacy_network(network: Network, v4: Subnet | None, v6: Subnet | None) -> dict:
    return {
        "bridge": network["bridge"],
        "id": network["id"],
        "cidr": v4["cidr"] if v4 else None,
        "cidr_v6": v6["cidr"] if v6 else None,
        "vlan": network.get_meta("vlan"),
        "injected": network.get_meta("injected", False),
        "multi_host": network.get_meta("multi_host", False),
        "bridge_interface": network.get_meta("bridge_interface"),
    }


def _legacy_mapping(vif: VIF, network: Network, v4: Subnet | None, v6: Subnet | None) -> dict:
    mapping = {
        "label": network["label"],
        "broadcast": None,
        "mac": vif["address"],
        "vif_type": vif["type"],
        "vif_devname": vif["devname"],
        "vif_uuid": vif["id"],
        "ovs_interfaceid": vif["ovs_interfaceid"],
        "qbh_params": vif["qbh_params"],
        "qbg_params": vif["qbg_params"],
        "rxtx_cap": vif.get_meta("rxtx_cap"),
        "dns": [],
        "ips": [_legacy_ip(ip, subnet) for subnet in network["subnets"] if subnet["version"] == 4
                for ip in subnet["ips"]],
        "should_create_bridge": network.get_meta("should_create_bridge", False),
        "should_create_vlan": network.get_meta("should_create_vlan", False),
        "dhcp_server": None,
    }
    if v4:
        mapping.update(_of_ipv4(v4))
    if v6:
        mapping["ip6s"] = [_legacy_ip(ip, v6) for ip in v6["ips"]]
        if v6["gateway"]:
            mapping["gateway_v6"] = v6["gateway"]["address"]
    return mapping


def _of_ipv4(subnet: Subnet) -> dict:
    gateway = subnet["gateway"]["address"] if subnet["gateway"] else None
    told = {
        "broadcast": str(subnet.as_netaddr().broadcast_address),
        "dns": [dns["address"] for dns in subnet["dns"]],
        "dhcp_server": subnet.get_meta("dhcp_server", gateway),
    }
    if gateway:
        told["gateway"] = gateway
    routes = [_legacy_route(route) for route in subnet["routes"]]
    if routes:
        told["routes"] = routes
    return told


def _legacy_ip(ip: FixedIP, subnet: Subnet) -> dict:
    network = subnet.as_netaddr()
    return {
        "ip": ip["address"],
        "enabled": "1",
        "netmask": str(network.netmask) if network.version == 4 else network.prefixlen,
        "gateway": subnet["gateway"]["address"] if subnet["gateway"] else None,
    }


def _legacy_route(route: Route) -> dict:
    network = ipaddress.ip_network(route["cidr"], strict=False)
    return {
        "route": str(network.network_address),
        "netmask": str(network.netmask),
        "gateway": route["gateway"]["address"] if route["gateway"] else None,
    }
