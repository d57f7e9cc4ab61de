import itertools

import pytest

from nova_lite import exception
from nova_lite.virt.xenapi import firewall_drivers, vif
from nova_lite.virt.xenapi.vif_drivers import NetworkNotOnHost
from tests.fixtures.xen_bench import make_instance, make_network_info

bridges = itertools.count(100)


@pytest.fixture
def vm_ref(bench):
    return bench.vmops.finder.require(bench.spawn(network_info=[], power_on=False))


def with_cap(cap):
    network_info = make_network_info()
    network_info[0]["meta"]["rxtx_cap"] = cap
    return network_info


@pytest.mark.parametrize(("cap", "kind", "parameters"), [
    (3, "ratelimit", {"kbps": "3072"}), (0, "", {}), (None, "", {})])
def test_interfaces_are_as_fast_as_their_flavor_allows_and_0_is_no_limit(bench, vm_ref, cap, kind, parameters):
    bench.vmops.create_vifs(vm_ref, make_instance(), with_cap(cap))
    record = bench.api("VIF.get_record", bench.api("VM.get_VIFs", vm_ref)[0])
    assert (record["qos_algorithm_type"], record["qos_algorithm_params"]) == (kind, parameters)


def vlan_network(tag, bridge=None, interface="eth0"):
    network_info = make_network_info(bridge=bridge or f"br{next(bridges)}")
    network_info[0]["network"]["meta"].update(should_create_vlan=True, vlan=tag, bridge_interface=interface)
    return network_info


def test_a_network_of_a_vlan_is_made_once(bench, vm_ref):
    network_info = vlan_network(711)
    bridge = network_info[0]["network"]["bridge"]
    for _ in range(2):
        bench.vmops.plug_vifs(bench.spawn(network_info=[], power_on=False), network_info)
    network_ref, = bench.api("network.get_by_name_label", bridge)
    assert bench.api("network.get_name_description", network_ref) == f"network for nova bridge {bridge}"
    assert {bench.api("PIF.get_VLAN", pif) for pif in bench.api("network.get_PIFs", network_ref)} == {"711"}

    with pytest.raises(exception.NovaException, match=r"VLAN \[711\], expected 712"):
        bench.vmops.create_vifs(vm_ref, make_instance(), vlan_network(712, bridge))


def test_the_interface_of_vlans_may_be_set_and_has_to_be_there(bench, vm_ref):
    bench.conf.set_override("vlan_interface", "eth0")
    try:
        bench.vmops.create_vifs(vm_ref, make_instance(), vlan_network(713, interface="eth77"))
    finally:
        bench.conf.clear_override("vlan_interface")
    before = len(bench.api("network.get_all"))
    with pytest.raises(exception.NovaException, match="no physical interface eth77"):
        bench.vmops.create_vifs(vm_ref, make_instance(), vlan_network(714, interface="eth77"))
    assert len(bench.api("network.get_all")) == before


def test_open_vswitch_interfaces_are_on_the_integration_bridge_with_the_controllers_id(make_bench):
    bench = make_bench(vif_driver="nova.virt.xenapi.vif.XenAPIOpenVswitchDriver", ovs_integration_bridge="xenbr0")
    network_info = make_network_info(bridge="br-nowhere")
    record = bench.api("VIF.get_record", bench.vm(bench.spawn(network_info=network_info))["VIFs"][0])
    assert record["other_config"] == {"nicira-iface-id": network_info[0]["id"]}
    assert bench.api("network.get_bridge", record["network"]) == "xenbr0"
    assert record["qos_algorithm_type"] == ""


def test_a_bridge_that_is_missing_ambiguous_or_no_name_is_told(bench):
    networks = bench.vmops.vif_driver.networks
    for _ in range(2):
        bench.api("network.create", {"name_label": "twice", "name_description": "", "MTU": "1500", "other_config": {}})
    for bridge, told in (("nowhere", "no network"), ("twice", "non-unique"), ('x" or true', "no network"), ("", "no")):
        with pytest.raises(NetworkNotOnHost, match=told):
            networks.by_bridge(bridge)
    with pytest.raises(NetworkNotOnHost, match="non-unique"):
        networks.by_label("twice")
    assert networks.by_label("nowhere") is None


@pytest.mark.parametrize("name", ["IptablesFirewallDriver", "nova.virt.firewall.IptablesFirewallDriver", "unheard.of"])
def test_interfaces_are_locked_to_their_addresses_where_the_filter_asks_for_it(bench, vm_ref, name):
    driver = firewall_drivers.load(name, virtapi=None, xenapi_session=bench.vmops._session)
    vif.Interfaces(bench.vmops._session, bench.vmops.vif_driver, driver.locks_vifs).create(
        vm_ref, make_instance(), make_network_info())
    record = bench.api("VIF.get_record", bench.api("VM.get_VIFs", vm_ref)[0])
    assert record["locking_mode"] == "locked" and record["ipv4_allowed"] == ["192.168.1.101"]
    assert record["ipv6_allowed"] == ["2001:db8:0:1:dcad:beff:feef:1"]


def test_interfaces_of_a_vm_that_is_not_there_cannot_be_plugged_and_nobody_minds_unplugging(bench):
    instance, network_info = make_instance(), make_network_info()
    with pytest.raises(exception.VirtualInterfacePlugException, match=instance["name"]):
        bench.driver.plug_vifs(instance, network_info)
    bench.driver.unplug_vifs(instance, network_info)


@pytest.fixture
def running(bench):
    return bench.spawn(network_info=[])


def vifs_of(bench, instance):
    return [bench.api("VIF.get_record", ref) for ref in bench.vm(instance)["VIFs"]]


def test_a_guest_takes_as_many_interfaces_as_its_host_allows(bench, running):
    for _ in range(7):
        bench.driver.attach_interface(running, {}, make_network_info())
    with pytest.raises(exception.InterfaceAttachFailed):
        bench.driver.attach_interface(running, {}, make_network_info())
    assert sorted(vif["device"] for vif in vifs_of(bench, running)) == list("0123456")


@pytest.mark.parametrize("bridge", ["xenbr0", "no-such-bridge"])
def test_an_interface_that_cannot_be_attached_leaves_nothing(bench, running, bridge):
    bench.simulator.control.fail("VIF.plug", error=["DEVICE_ATTACH_TIMEOUT", "VIF", "vif"])
    with pytest.raises(exception.InterfaceAttachFailed):
        bench.driver.attach_interface(running, {}, make_network_info(bridge=bridge))
    assert vifs_of(bench, running) == []


def test_an_interface_that_cannot_be_wired_is_taken_out_of_the_running_guest(bench, running, monkeypatch):
    def wire(vif):
        raise exception.PluginError(reason="no such port")

    monkeypatch.setattr(bench.vmops.vif_driver, "wires_started_vms", True, raising=False)
    monkeypatch.setattr(bench.vmops.vif_driver, "wire", wire)
    with pytest.raises(exception.InterfaceAttachFailed):
        bench.driver.attach_interface(running, {}, make_network_info())
    assert vifs_of(bench, running) == []


@pytest.mark.parametrize("error", [["DEVICE_ALREADY_DETACHED", "vif"], ["HANDLE_INVALID", "VIF", "vif"]])
def test_an_interface_that_was_unplugged_by_others_is_detached_all_the_same(bench, running, error):
    network_info = make_network_info()
    bench.driver.attach_interface(running, {}, network_info)
    vif_ref = bench.vm(running)["VIFs"][0]
    bench.simulator.control.fail("VIF.unplug", error=error)
    bench.simulator.control.fail("VIF.destroy", error=["HANDLE_INVALID", "VIF", vif_ref])
    bench.driver.detach_interface(running, network_info)


def test_an_interface_the_guest_does_not_let_go_stays_and_can_be_detached_later(bench, running):
    network_info = make_network_info()
    bench.driver.attach_interface(running, {}, network_info)
    bench.simulator.control.fail("VIF.unplug", error=["DEVICE_DETACH_REJECTED", "VIF", "vif", "in use"])
    with pytest.raises(exception.InterfaceDetachFailed):
        bench.driver.detach_interface(running, network_info)
    assert len(vifs_of(bench, running)) == 1
    bench.driver.detach_interface(running, network_info)
    assert vifs_of(bench, running) == []
