"""Network info and block devices: from form to form."""

import json

import pytest

from nova_lite import exception, objects
from nova_lite.objects import block_device, power_state, vm_mode
from nova_lite.objects import network_model as model


def network_info():
    v4 = model.Subnet(cidr="10.0.0.0/24", gateway=model.IP(address="10.0.0.1"), dns=[model.IP(address="8.8.8.8")],
                      ips=[model.FixedIP(address="10.0.0.2")],
                      routes=[model.Route(cidr="10.9.0.0/16", gateway=model.IP(address="10.0.0.9"))])
    v6 = model.Subnet(cidr="fd00::/64", gateway=model.IP(address="fd00::1"), ips=[model.FixedIP(address="fd00::2")])
    network = model.Network(id="n1", bridge="xenbr0", label="net", subnets=[v4, v6], vlan=7, injected=True)
    return model.NetworkInfo([model.VIF(id="v1", address="02:00:01", network=network, type="bridge", rxtx_cap=3)])


def test_network_info_survives_json():
    before = network_info()
    before[0]["network"]["subnets"][0]["ips"][0].add_floating_ip(model.IP(address="1.2.3.4", type="floating"))

    after = model.NetworkInfo.hydrate(before.json())

    assert json.loads(after.json()) == json.loads(before.json())
    assert [ip["address"] for ip in after.fixed_ips()] == ["10.0.0.2", "fd00::2"]
    assert [ip["address"] for ip in after.floating_ips()] == ["1.2.3.4"]
    assert after[0]["network"].get_meta("vlan") == 7
    assert after[0]["network"]["subnets"][1]["version"] == 6
    assert after[0].labeled_ips()["network_label"] == "net"
    assert model.NetworkInfo.hydrate(None) == model.NetworkInfo.hydrate("") == []


def test_the_legacy_pair():
    [(network, mapping)] = network_info().legacy()

    assert network == {"bridge": "xenbr0", "id": "n1", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64", "vlan": 7,
                       "injected": True, "multi_host": False, "bridge_interface": None}
    assert mapping["ips"] == [{"ip": "10.0.0.2", "enabled": "1", "netmask": "255.255.255.0", "gateway": "10.0.0.1"}]
    assert mapping["ip6s"] == [{"ip": "fd00::2", "enabled": "1", "netmask": 64, "gateway": "fd00::1"}]
    assert mapping["routes"] == [{"route": "10.9.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"}]
    assert (mapping["dhcp_server"], mapping["broadcast"], mapping["rxtx_cap"]) == ("10.0.0.1", "10.0.0.255", 3)
    assert (mapping["gateway"], mapping["gateway_v6"], mapping["dns"]) == ("10.0.0.1", "fd00::1", ["8.8.8.8"])


def test_interfaces_without_a_network_have_no_legacy_form_and_those_without_ipv4_are_an_error():
    info = network_info()
    del info[0]["network"]["subnets"][0]

    assert model.NetworkInfo([model.VIF(id="v2")]).legacy() == []
    with pytest.raises(exception.NovaException, match="v1"):
        info.legacy()


def test_one_interface_has_a_legacy_pair_without_ipv4_too():
    [vif] = network_info()
    del vif["network"]["subnets"][0]

    network, mapping = vif.legacy_pair()

    assert (network["cidr"], network["cidr_v6"], mapping["mac"]) == (None, "fd00::/64", "02:00:01")
    assert (mapping["ips"], mapping["dns"], mapping["broadcast"], mapping["dhcp_server"]) == ([], [], None, None)
    assert (mapping["ip6s"][0]["ip"], mapping["gateway_v6"]) == ("fd00::2", "fd00::1")
    assert mapping.keys().isdisjoint({"gateway", "routes"})
    assert model.VIF(id="v2").legacy_pair()[1]["vif_uuid"] == "v2"


def test_a_bad_address_is_refused():
    with pytest.raises(model.InvalidIpAddressError):
        model.IP(address="10.0.0.300")


LEGACY = [
    {"device_name": "/dev/xvda", "volume_id": "v1", "delete_on_termination": True, "connection_info": None},
    {"device_name": "/dev/xvdd", "virtual_name": "ephemeral1", "volume_size": 2},
    {"device_name": "/dev/xvdc", "virtual_name": "ephemeral0", "volume_size": 1},
    {"device_name": "/dev/xvdb", "virtual_name": "swap", "volume_size": 512},
    {"device_name": "/dev/xvde", "snapshot_id": "s1", "volume_size": 9},
    {"device_name": "/dev/xvdf", "no_device": True},
]


def test_legacy_devices_become_new_ones():
    rows = block_device.from_legacy_list(LEGACY, "xvda", "ext3")

    kinds = [(row["source_type"], row["destination_type"], row.get("guest_format"), row.get("boot_index"))
             for row in rows]
    assert kinds == [("volume", "volume", None, 0), ("blank", "local", "ext3", -1), ("blank", "local", "ext3", -1),
                     ("blank", "local", "swap", -1), ("snapshot", "volume", None, -1), (None, None, None, None)]


def test_new_devices_become_the_legacy_ones_they_were():
    rows = block_device.from_legacy_list(LEGACY, "/dev/xvda")
    root = {"source_type": "image", "destination_type": "local", "boot_index": 0}

    back = block_device.to_legacy_list([root, *objects.BlockDeviceMappingList.of(None, rows)])

    wanted = ("device_name", "virtual_name", "volume_id", "snapshot_id", "no_device", "delete_on_termination")
    assert [{name: row[name] for name in wanted} for row in back] == [
        {**dict.fromkeys(wanted), "no_device": False, "delete_on_termination": False,
         **{name: row[name] for name in wanted if name in row}} for row in LEGACY]


def test_a_device_that_is_nothing_is_refused():
    with pytest.raises(exception.InvalidBDM, match="xvdz"):
        block_device.from_legacy({"device_name": "xvdz"})


def test_what_the_driver_gets():
    rows = block_device.from_legacy_list(LEGACY, "/dev/xvda")
    rows[0]["connection_info"] = '{"driver_volume_type": "iscsi", "data": {}}'
    rows[4].update(volume_id="v2", connection_info='{"reserved": true}')

    assert block_device.driver_swap(rows) == {"device_name": "/dev/xvdb", "swap_size": 512}
    assert [(one["num"], one["device_name"]) for one in block_device.driver_ephemerals(rows)] == [
        (1, "/dev/xvdd"), (0, "/dev/xvdc")]
    assert block_device.driver_volumes(rows) == [{
        "connection_info": {"serial": "v1", "driver_volume_type": "iscsi", "data": {}}, "mount_device": "/dev/xvda",
        "delete_on_termination": True}]


def test_accessors_tolerate_nothing():
    assert block_device.root_device_name(None) is None
    assert block_device.swap(None) == {"device_name": None, "swap_size": 0}
    assert block_device.ephemerals(None) == block_device.mapping({}) == []
    assert block_device.swap_is_usable({"device_name": "/dev/xvdb", "swap_size": 1})
    assert not block_device.swap_is_usable(block_device.swap(None))


@pytest.mark.parametrize("given, mode", [(None, None), ("PV", "xen"), ("hv", "hvm"), ("xen", "xen")])
def test_vm_modes_have_one_spelling(given, mode):
    assert vm_mode.get_from_instance({"vm_mode": given}) == mode


def test_unknown_modes_and_states():
    with pytest.raises(exception.Invalid):
        vm_mode.get_from_instance({"vm_mode": "vms"})
    with pytest.raises(KeyError):
        power_state.name(2)
    assert power_state.name(power_state.SHUTDOWN) == "shutdown"
