"""Interfaces with a network and an Open vSwitch port of their own, wired by the plugins in a simulated dom0."""

import pytest
import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi.vif_ovs_ports import Names
from nova_lite.xensim import Simulator
from tests.fixtures.dom0_network import Dom0Network
from tests.fixtures.xen_bench import make_instance, make_network_info


@pytest.fixture
def ported(make_bench):
    return make_bench(vif_driver="ovs-ports", ovs_integration_bridge="br-int")


@pytest.fixture
def network(ported):
    return Dom0Network(ported.simulator, ported.vmops._session.host_ref)


@pytest.fixture
def network_info():
    return make_network_info()


def interim_network(bench, network_info):
    refs = bench.api("network.get_by_name_label", ("net-" + network_info[0]["id"])[:14])
    return bench.api("network.get_record", refs[0]) if refs else None


def test_an_interface_has_a_network_and_a_port_of_its_own_as_long_as_its_instance_lives(ported, network, network_info):
    instance = ported.spawn(network_info=network_info)

    port_id, mac = network_info[0]["id"], network_info[0]["address"]
    names = Names(port_id)
    interim = interim_network(ported, network_info)
    assert interim["name_description"] == f"interim network for vif[{port_id}]"
    assert interim["other_config"]["assume_network_is_shared"] == "true"
    vif = ported.api("VIF.get_record", ported.vm(instance)["VIFs"][0])
    assert vif["other_config"] == {"neutron-port-id": port_id} and vif["qos_algorithm_type"] == ""
    inner, outer = names.to_integration
    tap, patch = names.to_guest
    assert network.bridges == {names.linux_bridge: [inner, tap]}
    assert network.ports["br-int"] == [outer] and network.ports[interim["bridge"]] == [patch]
    assert network.ids[outer] == {"iface-id": port_id, "iface-status": "active", "attached-mac": mac,
                                  "xs-vif-uuid": port_id}
    assert all(len(name) <= 14 for name in network.pairs)

    before = network.bridges
    ported.vmops.power_off(instance)
    ported.vmops.power_on(instance)
    assert network.bridges == before

    ported.vmops.destroy(instance, network_info)
    ported.vmops.unplug_vifs(instance, network_info)
    assert (network.bridges, network.pairs) == ({}, {}) and not any(network.ports.values())
    assert interim_network(ported, network_info) is None


def test_a_build_that_fails_after_it_was_wired_leaves_no_network(ported, network, network_info):
    ported.simulator.control.fail("VM.unpause", error=["INTERNAL_ERROR", "planted"])
    with pytest.raises(XenAPI.Failure, match="planted"):
        ported.spawn(network_info=network_info)
    assert (network.bridges, network.pairs) == ({}, {})
    assert interim_network(ported, network_info) is None


def test_an_interface_is_attached_live_and_a_repeated_attachment_takes_the_same_one(ported, network, network_info):
    instance = ported.spawn(network_info=[])
    ported.driver.attach_interface(instance, ported.image, network_info)
    ported.driver.attach_interface(instance, ported.image, network_info)
    assert len(ported.vm(instance)["VIFs"]) == 1
    assert list(network.bridges) == [Names(network_info[0]["id"]).linux_bridge]

    ported.driver.detach_interface(instance, network_info)
    assert ported.vm(instance)["VIFs"] == [] and network.bridges == {}
    assert interim_network(ported, network_info) is None


def test_a_network_that_other_hosts_use_stays_without_its_bridge_here(ported, network, network_info):
    network_ref = ported.vmops.vifs.networks_at_destination(network_info)[network_info[0]["id"]]
    vm_ref = ported.vmops.finder.require(ported.spawn(network_info=[], power_on=False))
    ported.api("VM.remove_from_other_config", vm_ref, "nova_host")
    ported.api("VM.add_to_other_config", vm_ref, "nova_host", "another host of the pool")
    ported.api("VIF.create", ported.vmops.vif_driver._record(vm_ref, network_ref, {"mac": "02:00:00:00:00:77"}, 0))

    ported.vmops.unplug_vifs(make_instance(), network_info)

    assert network.left_bridges == [ported.api("network.get_bridge", network_ref)]


def test_the_vm_an_instance_was_resized_to_keeps_its_interface_when_the_other_one_goes(ported, network, network_info):
    instance = ported.spawn(network_info=network_info)
    disk_info = ported.vmops.migrate_disk_and_power_off(None, instance, "127.0.0.1", instance["flavor"])
    ported.vmops.finish_migration(None, {}, instance, disk_info, network_info, ported.image, False)
    wired = network.bridges

    ported.vmops.confirm_migration({}, instance, network_info)

    assert len(ported.vm(instance)["VIFs"]) == 1 and network.bridges == wired != {}
    ported.vmops.destroy(instance, network_info)
    assert network.bridges == {} and interim_network(ported, network_info) is None


def test_a_vm_that_arrives_finds_a_network_for_every_port(ported, network_info):
    networks = ported.vmops.vifs.networks_at_destination(network_info)
    assert list(networks) == [network_info[0]["id"]]
    assert ported.api("network.get_name_label", networks[network_info[0]["id"]]) == Names(network_info[0]["id"]).network
    data = ported.driver.pre_live_migration(None, make_instance(), None, network_info, None,
                                            {"vif_uuid_map": {"": "OpaqueRef:other"}})
    assert data["vif_uuid_map"] == {"": "OpaqueRef:other", **networks}


def test_a_host_without_plugins_is_refused_at_start(make_bench, tmp_path):
    with Simulator(state_dir=str(tmp_path / "bare")) as simulator, \
            pytest.raises(exception.ConfigurationError, match="ovs-ports needs the dom0 plugins"):
        make_bench(at=simulator, vif_driver="ovs-ports")
