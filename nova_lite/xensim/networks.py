"""Networks and what the hosts connect to them."""

from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.devices import MAC
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack


class Networks(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._cards: dict[str, dict[str, str]] = {}

    def check_reachable(self, vm: Row, network_ref: str, host_ref: str) -> None:
        """Raise VM_REQUIRES_NETWORK when a network with interfaces has none on the host."""
        pifs = [self.db.row("PIF", ref) for ref in self.db.get("network", network_ref, "PIFs")]
        if pifs and not any(pif["host"] == host_ref for pif in pifs):
            raise ApiError("VM_REQUIRES_NETWORK", vm.ref, network_ref)

    def free_bridge(self) -> str:
        taken = {network["bridge"] for network in self.db.rows("network")}
        return next(name for number in range(100_000) if (name := f"xapi{number}") not in taken)

    @call("network.create")
    def create(self, _caller, args):
        bridge = args.get("bridge") or self.free_bridge()
        if args.get("bridge") and any(self.db.select("network", bridge=bridge)):
            raise ApiError("BRIDGE_NAME_EXISTS", bridge)
        return self.db.create("network", **{**args, "bridge": bridge})

    @call("network.destroy")
    def destroy(self, _caller, ref):
        network = self.db.row("network", ref)
        if network["PIFs"]:
            raise ApiError("NETWORK_CONTAINS_PIF", *network["PIFs"])
        attached = [vif for vif in network["VIFs"] if self.db.get("VIF", vif, "currently_attached")]
        if attached:
            raise ApiError("NETWORK_CONTAINS_VIF", *attached)
        if network["other_config"].get("is_host_internal_management_network") == "true":
            raise ApiError("CANNOT_DESTROY_SYSTEM_NETWORK", ref)
        for vif in network["VIFs"]:
            self.db.destroy("VIF", vif)
        self.toolstack.blobs.drop_all(list(network["blobs"].values()))
        self.db.destroy("network", ref)

    @call("network.set_default_locking_mode")
    def set_default_locking_mode(self, _caller, ref, value):
        attached = [vif for vif in self.db.get("network", ref, "VIFs") if self.db.get("VIF", vif, "currently_attached")]
        if attached:
            raise ApiError("NETWORK_CONTAINS_VIF", *attached)
        self.db.set("network", ref, default_locking_mode=value)

    # VLANs

    @call("VLAN.create")
    def create_vlan(self, _caller, tagged_ref, tag, network_ref):
        return self.db.get("PIF", self._add_vlan(tagged_ref, tag, network_ref), "VLAN_master_of")

    @call("PIF.create_VLAN")
    def create_vlan_on_device(self, _caller, device, network_ref, host_ref, tag):
        found = self.db.select("PIF", device=device, host=host_ref, VLAN=-1)
        tagged = next(found, None)
        if tagged is None:
            raise ApiError("PIF_DEVICE_NOT_FOUND")
        return self._add_vlan(tagged.ref, tag, network_ref)

    @call("pool.create_VLAN_from_PIF")
    def create_vlan_everywhere(self, _caller, pif_ref, network_ref, tag):
        device = self.db.get("PIF", pif_ref, "device")
        tagged = [pif.ref for pif in self.db.rows("PIF") if pif["device"] == device and pif["VLAN"] == -1]
        return [self._add_vlan(ref, tag, network_ref) for ref in tagged]

    @call("pool.create_VLAN")
    def create_vlan_on_pool(self, _caller, device, network_ref, tag):
        tagged = [pif.ref for pif in self.db.rows("PIF") if pif["device"] == device and pif["VLAN"] == -1]
        return [self._add_vlan(ref, tag, network_ref) for ref in tagged]

    def _add_vlan(self, tagged_ref: str, tag: int, network_ref: str) -> str:
        tagged = self.db.row("PIF", tagged_ref)
        self.db.row("network", network_ref)
        if not 0 <= tag <= 4094:
            raise ApiError("VLAN_TAG_INVALID", str(tag))
        if tagged["VLAN"] != -1:
            raise ApiError("PIF_IS_VLAN", tagged_ref)
        if any(self.db.select("PIF", host=tagged["host"], device=tagged["device"], VLAN=tag)):
            raise ApiError("PIF_VLAN_EXISTS", tagged_ref)
        for other in self.db.select("PIF", host=tagged["host"], network=network_ref):
            raise ApiError("NETWORK_ALREADY_CONNECTED", tagged["host"], other.ref)
        untagged_ref = self.db.create(
            "PIF",
            device=tagged["device"],
            network=network_ref,
            host=tagged["host"],
            MAC=tagged["MAC"],
            MTU=self.db.get("network", network_ref, "MTU"),
            VLAN=tag,
            metrics=tagged["metrics"],
            currently_attached=False,
        )
        vlan_ref = self.db.create("VLAN", tagged_PIF=tagged_ref, untagged_PIF=untagged_ref, tag=tag)
        self.db.set("PIF", untagged_ref, VLAN_master_of=vlan_ref, currently_attached=tagged["currently_attached"])
        return untagged_ref

    @call("VLAN.destroy")
    def destroy_vlan(self, _caller, ref):
        vlan = self.db.row("VLAN", ref)
        self._check_unused(vlan["untagged_PIF"])
        self.db.destroy("PIF", vlan["untagged_PIF"])
        self.db.destroy("VLAN", ref)

    @call("PIF.destroy")
    def destroy_pif(self, caller, ref):
        pif = self.db.row("PIF", ref)
        if pif["VLAN"] == -1:
            raise ApiError("PIF_IS_PHYSICAL", ref)
        self.destroy_vlan(caller, pif["VLAN_master_of"])

    def _check_unused(self, pif_ref: str) -> None:
        pif = self.db.row("PIF", pif_ref)
        if pif["management"]:
            raise ApiError("PIF_IS_MANAGEMENT_INTERFACE", pif_ref)

    # PIFs

    @call("PIF.plug")
    def plug(self, _caller, ref):
        self.db.set("PIF", ref, currently_attached=True)

    @call("PIF.unplug")
    def unplug(self, _caller, ref):
        pif = self.db.row("PIF", ref)
        if pif["disallow_unplug"]:
            raise ApiError("PIF_DOES_NOT_ALLOW_UNPLUG", ref)
        self._check_unused(ref)
        self.db.set("PIF", ref, currently_attached=False)

    def _nics(self, host_ref: str) -> dict[str, str]:
        """Return {MAC: device} of the network cards in a host: those it had interfaces for when it came."""
        if host_ref not in self._cards:
            self.db.row("host", host_ref)
            physical = self.db.select("PIF", host=host_ref, physical=True)
            self._cards[host_ref] = {pif["MAC"]: pif["device"] for pif in physical}
        return self._cards[host_ref]

    @call("PIF.scan")
    def scan(self, _caller, host_ref):
        nics = self._nics(host_ref)
        known = {pif["MAC"] for pif in self.db.select("PIF", host=host_ref, physical=True)}
        for mac in [mac for mac in nics if mac not in known]:
            self._add_physical(host_ref, mac, nics[mac], managed=True)

    @call("PIF.forget")
    def forget(self, _caller, ref):
        self._check_unused(ref)
        pif = self.db.row("PIF", ref)
        if pif["VLAN_slave_of"]:
            raise ApiError("PIF_VLAN_STILL_EXISTS", ref)
        if not is_null(pif["bond_slave_of"]):
            raise ApiError("PIF_ALREADY_BONDED", ref)
        if not pif["physical"]:
            raise ApiError("PIF_IS_NOT_PHYSICAL", ref)
        if pif["MAC"] in self._nics(pif["host"]):
            raise ApiError("MAC_STILL_EXISTS", pif["MAC"])
        self.db.destroy("PIF", ref)

    @call("PIF.introduce")
    def introduce(self, _caller, host_ref, mac, device, managed):
        nics, mac = self._nics(host_ref), mac.lower()
        if not MAC.match(mac):
            raise ApiError("MAC_INVALID", mac)
        if mac not in nics:
            raise ApiError("MAC_DOES_NOT_EXIST", mac)
        if nics[mac] != device:
            raise ApiError("COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS", device, mac)
        if any(self.db.select("PIF", host=host_ref, MAC=mac, physical=True)):
            raise ApiError("DUPLICATE_PIF_DEVICE_NAME", device)
        return self._add_physical(host_ref, mac, device, managed=managed)

    def _add_physical(self, host_ref: str, mac: str, device: str, *, managed: bool) -> str:
        label = f"Pool-wide network associated with {device}"
        found = next(self.db.select("network", name_label=label), None)
        bridge = f"xenbr{device.removeprefix('eth')}"
        network_ref = found.ref if found else self.db.create("network", name_label=label, bridge=bridge)
        metrics_ref = self.db.create("PIF_metrics", carrier=True, speed=10000, duplex=True, device_name="simulated")
        return self.db.create(
            "PIF", device=device, network=network_ref, host=host_ref, MAC=mac, MTU=1500, VLAN=-1,
            physical=True, metrics=metrics_ref, currently_attached=False, managed=managed,
        )  # fmt: skip

    @call("PIF.db_introduce")
    def db_introduce(self, _caller, *values):
        names = "device network host MAC MTU VLAN physical ip_configuration_mode IP netmask gateway DNS bond_slave_of"
        names += " VLAN_master_of management other_config disallow_unplug ipv6_configuration_mode IPv6 ipv6_gateway"
        names += " primary_address_type managed properties"
        fields = dict(zip(names.split(), values, strict=True))
        self.db.row("network", fields["network"])
        self.db.row("host", fields["host"])
        metrics_ref = self.db.create("PIF_metrics", carrier=False)
        return self.db.create("PIF", **fields, metrics=metrics_ref)

    @call("PIF.db_forget")
    def db_forget(self, _caller, ref):
        self._nics(self.db.get("PIF", ref, "host"))
        self.db.destroy("PIF", ref)

    @call("PIF.reconfigure_ip")
    def reconfigure_ip(self, _caller, ref, mode, address, netmask, gateway, dns):
        values = {"IP": address, "netmask": netmask, "gateway": gateway, "DNS": dns}
        if mode != "Static":
            values = dict.fromkeys(values, "") if mode == "None" else {}
        self.db.set("PIF", ref, ip_configuration_mode=mode, **values)

    @call("PIF.set_property")
    def set_property(self, _caller, ref, name, value):
        self.db.set("PIF", ref, properties={**self.db.get("PIF", ref, "properties"), name: value})

    @call("PIF.reconfigure_ipv6")
    def reconfigure_ipv6(self, _caller, ref, mode, address, gateway, dns):
        addresses = [address] if mode == "Static" else []
        self.db.set("PIF", ref, ipv6_configuration_mode=mode, IPv6=addresses, ipv6_gateway=gateway, DNS=dns)
