"""What a guest finds in its xenstore, key by key and bit for bit."""

import json
import threading

import pytest
from oslo_config import cfg

from nova_lite.objects import network_model as model
from nova_lite.virt.xenapi import vif
from tests.fixtures.xen_bench import make_instance, make_network_info

# The example of the agents' documentation.
PUBLIC = {
    "label": "public", "mac": "DE:AD:BE:EF:00:01", "broadcast": "192.168.1.255", "gateway": "192.168.1.1",
    "ips": [{"ip": "192.168.1.100", "netmask": "255.255.255.0", "enabled": "1", "gateway": "192.168.1.1"},
            {"ip": "192.168.1.101", "netmask": "255.255.255.0", "enabled": "1", "gateway": "192.168.1.1"},
            {"ip": "10.7.0.9", "netmask": "255.255.0.0", "enabled": "1"}],
    "gateway_v6": "fe80::1",
    "ip6s": [{"ip": "2001:db8:0:1:dcad:beff:feef:1", "netmask": 64, "enabled": "1", "gateway": "fe80::1"}],
    "routes": [{"route": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "192.168.1.254"}],
    "dns": ["192.168.1.3", "192.168.1.4", "2001:db8::53"]}
# What Essex adds.
ADDED = {"vif_uuid": "vif-1", "rxtx_cap": 0, "dhcp_server": "192.168.1.1", "should_create_bridge": False,
         "should_create_vlan": False}


@pytest.fixture(scope="module")
def options():
    return {"provider_data": ["region=north=1", 'roles=["web", "db"]']}


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.fixture(scope="module")
def running(lasting_bench):
    return lasting_bench.spawn(network_info=[])


def ip(address, kind="dns"):
    return model.IP(address=address, type=kind)


def public_network():
    first = model.Subnet(
        cidr="192.168.1.0/24", gateway=ip("192.168.1.1", "gateway"), dns=[ip("192.168.1.3"), ip("192.168.1.4")],
        ips=[model.FixedIP(address="192.168.1.100"), model.FixedIP(address="192.168.1.101")],
        routes=[model.Route(cidr="10.0.0.0/8", gateway=ip("192.168.1.254", "gateway"))])
    second = model.Subnet(cidr="10.7.0.0/16", dns=[ip("192.168.1.3")], ips=[model.FixedIP(address="10.7.0.9")])
    six = model.Subnet(cidr="2001:db8:0:1::/64", gateway=ip("fe80::1", "gateway"), dns=[ip("2001:db8::53")],
                       ips=[model.FixedIP(address="2001:db8:0:1:dcad:beff:feef:1")])
    network = model.Network(id="net-1", bridge="xenbr0", label="public", subnets=[first, six, second])
    return model.NetworkInfo([model.VIF(id="vif-1", address="DE:AD:BE:EF:00:01", network=network, type="bridge")])


def ipv6_network():
    six = model.Subnet(cidr="fd00::/48", ips=[model.FixedIP(address="fd00::7")])
    network = model.Network(id="net-2", bridge="xenbr0", label="inside", subnets=[six])
    return model.NetworkInfo([model.VIF(id="vif-2", address="02:00:00:00:00:0a", network=network, type="bridge")])


def told(bench, instance):
    return bench.vm(instance)["xenstore_data"]


def test_the_network_is_told_in_the_agents_form(bench):
    instance = bench.spawn(make_instance(metadata={}, auto_disk_config=None), network_info=public_network(),
                           power_on=False)
    data = told(bench, instance)
    assert {key for key in data if "provider_data" not in key} == {
        "vm-data/hostname", "vm-data/allowvssprovider", "vm-data/networking/DEADBEEF0001"}
    assert data["vm-data/hostname"] == instance["hostname"] and data["vm-data/allowvssprovider"] == "false"
    assert json.loads(data["vm-data/networking/DEADBEEF0001"]) == PUBLIC | ADDED


def test_what_an_interface_has_not_is_left_out(bench):
    found, = vif.records(ipv6_network())
    assert vif.guest_configuration(found[1]) == {
        "label": "inside", "mac": "02:00:00:00:00:0a", "ips": [], "dns": [], "vif_uuid": "vif-2", "rxtx_cap": 0,
        "ip6s": [{"ip": "fd00::7", "netmask": 48, "enabled": "1"}], "should_create_bridge": False,
        "should_create_vlan": False}


@pytest.mark.parametrize("form", [lambda network: network, lambda network: json.dumps(network), vif.records])
def test_network_information_is_taken_in_every_form(bench, running, form):
    bench.vmops.remove_from_param_xenstore(running, "vm-data/networking/DEADBEEF0001")
    bench.vmops.inject_network_info(running, form(public_network()), bench.vmops.finder.require(running))
    assert json.loads(told(bench, running)["vm-data/networking/DEADBEEF0001"]) == PUBLIC | ADDED


def test_metadata_of_any_name_and_text_reach_the_guest(bench):
    metadata = {"color": "blue", "a/b c.d": "1", "ünï-@_": 'say "hï"\n', "empty": ""}
    instance = make_instance(metadata=metadata, system_metadata={"image_secret": "not for guests"})
    data = told(bench, bench.spawn(instance, network_info=[], power_on=False))
    assert not any("not for guests" in value for value in data.values())
    found = {key.removeprefix("vm-data/user-metadata/"): json.loads(value) for key, value in data.items()
             if key.startswith("vm-data/user-metadata/")}
    assert found == {"color": "blue", "a_b_c_d": "1", "_n_-@_": 'say "hï"\n', "empty": ""}


@pytest.mark.parametrize(("said", "expected"), [(True, "True"), (False, "False"), (None, None)])
def test_a_guest_is_told_whether_its_disk_is_to_fill_up(bench, said, expected):
    data = told(bench, bench.spawn(make_instance(auto_disk_config=said), network_info=[], power_on=False))
    assert data.get("vm-data/auto-disk-config") == expected


@pytest.mark.parametrize(("os_type", "hostname", "expected"), [
    ("linux", "a-rather-long-host-name", "a-rather-long-host-name"),
    ("windows", "a-rather-long-host-name", "a-rather-long-h"), ("windows", "short", "short")])
def test_windows_host_names_are_cut(bench, os_type, hostname, expected):
    instance = make_instance(os_type=os_type, hostname=hostname)
    assert told(bench, bench.spawn(instance, network_info=[], power_on=False))["vm-data/hostname"] == expected
    bench.vmops.inject_hostname(instance, bench.vmops.finder.require(instance), hostname)
    assert told(bench, instance)["vm-data/hostname"] == expected


def test_what_the_provider_tells_stands_as_it_is(bench, running):
    data = told(bench, running)
    assert {key: value for key, value in data.items() if "provider_data" in key} == {
        "vm-data/provider_data/region": "north=1", "vm-data/provider_data/roles": '["web", "db"]'}


@pytest.mark.parametrize("entry", ["region", "a b=1", "=1"])
def test_data_of_the_provider_without_a_key_are_refused(make_conf, entry):
    with pytest.raises((cfg.ConfigFileValueError, ValueError)):
        make_conf(provider_data=[entry])


def test_a_running_guest_is_told_as_far_as_its_host_can(bench, running):
    network_info = make_network_info()
    bench.vmops.inject_network_info(running, network_info)
    bench.vmops.change_instance_metadata(running, {"color": ["-"], "size": ["+", "XL"]})
    data = told(bench, running)
    assert f"vm-data/networking/{network_info[0]['address'].replace(':', '')}" in data
    assert json.loads(data["vm-data/user-metadata/size"]) == "XL" and "vm-data/user-metadata/color" not in data


def test_writers_of_one_key_do_not_meet(bench, running):
    errors = []

    def write(number):
        try:
            bench.vmops.add_to_param_xenstore(running, "vm-data/turn", number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = bench.vmops.read_from_param_xenstore(running, "vm-data/turn")
    assert errors == [] and found["vm-data/turn"] in range(4)


def test_metadata_of_an_instance_without_vm_are_no_error(bench):
    bench.vmops.change_instance_metadata(make_instance(), {"color": ["+", "red"]})


def test_a_live_change_goes_to_the_domain_the_guest_has_now(bench, running, monkeypatch):
    asked = []
    monkeypatch.setattr(bench.vmops._session, "call_plugin", lambda *call: asked.append(call) or "null")
    bench.vmops.change_instance_metadata(running, {"a b": ["+", "x"], "c": ["-"]})
    domid = bench.vm(running)["domid"]
    assert asked == [
        ("xenstore.py", "write_record", {"dom_id": domid, "path": "vm-data/user-metadata/a_b", "value": '"x"'}),
        ("xenstore.py", "delete_record", {"dom_id": domid, "path": "vm-data/user-metadata/c"})]


def test_keys_are_removed_the_deepest_first(bench, running, monkeypatch):
    removed = []

    def plugin(name, function, args):
        if function == "delete_record":
            removed.append(args["path"])
        return json.dumps({"a": 1})

    monkeypatch.setattr(bench.vmops._session, "call_plugin", plugin)
    bench.vmops.remove_from_xenstore(running, "data", ["a", "a/b/c", "a/b"])
    bench.vmops.remove_from_xenstore(running, "", "alone")
    assert removed == ["data/a/b/c", "data/a/b", "data/a", "alone"]


def test_an_instance_is_found_by_its_number_too(bench, running):
    bench.compute.instance_get = lambda context, number: {running["id"]: running}[number]
    assert bench.vmops.read_from_param_xenstore(running["id"], "vm-data/hostname") == {
        "vm-data/hostname": running["hostname"]}
