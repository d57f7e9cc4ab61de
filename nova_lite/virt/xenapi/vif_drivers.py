"""How interfaces reach the network: VIF drivers for Linux bridges and for one Open vSwitch integration bridge."""

import threading

import XenAPI

from nova_lite import exception


class NetworkNotOnHost(exception.NovaException):
    """The pool has no network, or more than one, for a bridge."""

    msg_fmt = "Found %(what)s network for bridge %(bridge)s"


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

    # Whether interfaces need more on the host once their VM runs: `wire` is then called for each.
    wires_started_vms = False

    def __init__(self, xenapi_session, conf=None):
        self._session = xenapi_session
        self._conf = conf
        self.networks = Networks(xenapi_session)

    def plug(self, instance, network, mapping, vm_ref=None, device=None) -> dict:
        """Return the VIF record of an interface; makes the network first where the driver has to."""
        raise NotImplementedError

    def unplug(self, instance, network, mapping) -> None:
        """Take down what plug made on the host."""

    def unplug_from(self, vm_ref: str | None, instance, network, mapping) -> None:
        """Like unplug, for a VM that is known: not always is it the one of the instance's name."""
        self.unplug(instance, network, mapping)

    def wire(self, vif: dict) -> None:
        """Connect the interface (a VIF record) of a VM that was just started."""

    def network_for_arrival(self, mapping: dict) -> str | None:
        """Return the network that a VM arriving from another host is to find its interface on; None: any."""
        return None

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
