"""The VIF driver for Open vSwitch with a network of its own for every interface.

                    host's dom0
    VIF -- bridge of the interim network -- vifXXX | tapXXX -- qbrXXX -- qvbXXX | qvoXXX -- integration bridge

A Linux bridge (qbr) lies between the guest and the integration bridge, for the packet filters of the network service.
The names end with the first letters of the port's id, 14 characters in all.
"""

from dataclasses import dataclass
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, plugins
from nova_lite.virt.xenapi.vif_drivers import XenVIFDriver
from nova_lite.virt.xenapi.vm_cache import Vm

PORT_ID = "neutron-port-id"
LONGEST_NAME = 14


@dataclass(frozen=True)
class Names:
    """What is made in dom0 for one port, by its name."""

    port_id: str

    def _of(self, prefix: str) -> str:
        return (prefix + self.port_id)[:LONGEST_NAME]

    @property
    def network(self) -> str:
        return self._of("net-")

    @property
    def linux_bridge(self) -> str:
        return self._of("qbr")

    @property
    def to_integration(self) -> tuple[str, str]:
        """The pair from the Linux bridge to the integration bridge."""
        return self._of("qvb"), self._of("qvo")

    @property
    def to_guest(self) -> tuple[str, str]:
        """The pair from the Linux bridge to the bridge of the guest's network."""
        return self._of("tap"), self._of("vif")


Steps = list[dict[str, Any]]


def step(command: str, *, unless: str | None = None, where: str | None = None, may_fail: bool = False,
         **arguments: Any) -> dict[str, Any]:
    """Return one change of dom0's network, made `unless` a device is there, or only `where` it is."""
    return {"cmd": command, "args": arguments, "unless": unless, "where": where, "may_fail": may_fail}


def pair(first: str, second: str) -> Steps:
    """Two devices of which each receives what the other sends."""
    steps = [step("ip_link_add_veth_pair", unless=first, dev1_name=first, dev2_name=second)]
    for device in (first, second):
        steps += [step("ip_link_set_dev", device_name=device, option="up"),
                  step("ip_link_set_promisc", device_name=device, option="on")]
    return steps


def linux_bridge(name: str, *devices: str) -> Steps:
    """A bridge of these devices that forwards at once."""
    return [
        step("brctl_add_br", unless=name, bridge_name=name),
        step("brctl_set_fd", bridge_name=name, fd="0"),
        step("brctl_set_stp", bridge_name=name, stp_opt="off"),
        step("ip_link_set_dev", device_name=name, option="up"),
        # A device that is its port already cannot be added again.
        *(step("brctl_add_if", may_fail=True, bridge_name=name, interface_name=device) for device in devices),
    ]


def without_linux_bridge(name: str) -> Steps:
    return [step("ip_link_set_dev", where=name, device_name=name, option="down"),
            step("brctl_del_br", where=name, bridge_name=name)]


class XenAPIOpenVswitchPortDriver(XenVIFDriver):
    """Every interface has a network, a Linux bridge and a port of the integration bridge to itself.

    Needs the dom0 plugins.
    """

    wires_started_vms = True

    @property
    def _integration_bridge(self) -> str:
        return self._conf.xenserver.ovs_integration_bridge

    def plug(self, instance, network, mapping, vm_ref=None, device=None) -> dict:
        vm_ref = self._vm_ref(instance, vm_ref)
        return self._record(vm_ref, self._interim_network(mapping), mapping, device, {PORT_ID: mapping["vif_uuid"]})

    def network_for_arrival(self, mapping: dict) -> str | None:
        return self._interim_network(mapping)

    def _interim_network(self, mapping: dict) -> str:
        port_id = mapping["vif_uuid"]
        label = Names(port_id).network
        with self._session.locks.hold(f"xenapi-network-{label}"):
            return self.networks.by_label(label) or self._session.call_xenapi("network.create", {
                "name_label": label, "name_description": f"interim network for vif[{port_id}]", "MTU": "1500",
                "other_config": {"assume_network_is_shared": "true"}})

    def wire(self, vif: dict) -> None:
        port_id = vif["other_config"].get(PORT_ID)
        if port_id is None:
            return
        names = Names(port_id)
        inner, outer = names.to_integration
        tap, patch = names.to_guest
        self._change([
            *pair(inner, outer), *pair(tap, patch), *linux_bridge(names.linux_bridge, inner, tap),
            step("ovs_create_port", bridge=self._integration_bridge, port=outer, iface_id=port_id, mac=vif["MAC"],
                 status="active"),
            step("ovs_add_port", bridge=self._session.call_xenapi("network.get_bridge", vif["network"]), port=patch)])

    def _change(self, steps: Steps) -> None:
        """Change the network of our host's dom0. Raises PluginError."""
        try:
            self._session.call_plugin_serialized("xenhost", "change_network", steps)
        except XenAPI.Failure as failure:
            if errors.is_code(failure, *plugins.PLUGIN_FAILURES, *plugins.MISSING):
                raise exception.PluginError(reason=f"change_network: {errors.last_line(failure)}") from failure
            raise

    def unplug(self, instance, network, mapping) -> None:
        self.unplug_from(None, instance, network, mapping)

    def unplug_from(self, vm_ref, instance, network, mapping) -> None:
        """Take the interface from its VM, and down what was made for it. May be repeated.

        The wires stay while another VM of our host has the interface: the one an instance was resized from, or to.
        """
        names = Names(mapping["vif_uuid"])
        vm_refs = [vm_ref] if vm_ref else self._session.call_xenapi("VM.get_by_name_label", instance["name"])
        for found_ref in vm_refs:
            self._remove_interface(found_ref, mapping)
        steps = self._without_wires(names)
        network_ref = self.networks.by_label(names.network)
        if network_ref is not None:
            others = self._session.records_where("VIF", network=network_ref).values()
            if any(self._is_here(vif["VM"]) for vif in others):
                return
            bridge = self._session.call_xenapi("network.get_bridge", network_ref)
            steps.append(step("ovs_del_port", bridge=bridge, port=names.to_guest[1]))
            if others:  # on other hosts of the pool: theirs stay, the bridge here is not needed any more
                steps.append(step("ovs_del_br", bridge=bridge))
            else:
                self._session.call_xenapi("network.destroy", network_ref)
        self._change(steps)

    def _remove_interface(self, vm_ref: str, mapping: dict) -> None:
        for vif_ref, vif in self._session.records_where("VIF", VM=vm_ref).items():
            if vif["MAC"].lower() == mapping["mac"].lower() and self._is_here(vm_ref):
                if vif["currently_attached"]:
                    self._session.call_xenapi("VIF.unplug", vif_ref)
                self._session.call_xenapi("VIF.destroy", vif_ref)

    def _is_here(self, vm_ref: str) -> bool:
        """Tell whether the VM is one of our host's: one that left keeps its interfaces where it is."""
        record = self._session.get_rec("VM", vm_ref)
        return record is not None and Vm.from_record(vm_ref, record).belongs_to(
            self._session.host_ref, self._session.host_uuid)

    def _without_wires(self, names: Names) -> Steps:
        inner, outer = names.to_integration
        tap, _ = names.to_guest
        return [step("ovs_del_port", bridge=self._integration_bridge, port=outer),
                step("ip_link_del_dev", where=inner, device_name=inner),
                step("ip_link_del_dev", where=tap, device_name=tap), *without_linux_bridge(names.linux_bridge)]
