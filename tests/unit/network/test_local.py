"""Addresses out of the cell's own database."""

import threading

import pytest

from nova_lite import exception, network
from nova_lite.network.local import eui64
from nova_lite.objects import InstanceInfoCache


@pytest.fixture
def port(cell):
    return cell.services.network_api


def make_network(cell, cidr="10.1.0.0/29", **values):
    return cell.db.network_create(
        cell.admin(), {"label": "private", "cidr": cidr, "bridge": "xenbr0", "dns1": "8.8.8.8", **values})


def addresses(info):
    return [ip["address"] for ip in info.fixed_ips()]


def cached(cell, instance):
    return InstanceInfoCache.get_by_instance_uuid(cell.admin(), instance.uuid).network_info


def test_an_instance_gets_an_interface_on_every_network_of_nobody(cell, port):
    first, second = make_network(cell), make_network(cell, "10.2.0.0/24", label="other", vlan=7)
    make_network(cell, "10.3.0.0/24", project_id="blue")
    instance = cell.instance()

    info = port.allocate_for_instance(cell.context(), instance)

    assert [vif["network"]["id"] for vif in info] == [first["uuid"], second["uuid"]]
    assert addresses(info) == ["10.1.0.2", "10.2.0.2"]
    subnet = info[0]["network"]["subnets"][0]
    assert (subnet["gateway"]["address"], subnet["dns"][0]["address"]) == ("10.1.0.1", "8.8.8.8")
    assert info[0]["address"].startswith("fa:16:3e:")
    assert (info[1]["network"]["bridge"], info[1]["network"].get_meta("vlan")) == ("xenbr0", 7)
    assert cached(cell, instance) == info


def test_a_project_with_networks_of_its_own_gets_those(cell, port):
    make_network(cell)
    own = make_network(cell, "10.3.0.0/24", project_id="red")

    info = port.allocate_for_instance(cell.context(), cell.instance())

    assert [vif["network"]["id"] for vif in info] == [own["uuid"]]


def test_a_given_network_and_address_are_used(cell, port):
    make_network(cell)
    wanted = make_network(cell, "10.2.0.0/24")
    requested = [(wanted["uuid"], "10.2.0.77", None)]

    port.validate_networks(cell.context(), requested)
    info = port.allocate_for_instance(cell.context(), cell.instance(), requested_networks=requested)

    assert addresses(info) == ["10.2.0.77"]


def test_allocating_again_changes_nothing(cell, port):
    make_network(cell)
    instance = cell.instance()
    before = port.allocate_for_instance(cell.context(), instance)

    assert port.allocate_for_instance(cell.context(), instance) == before


def test_parallel_builds_never_share_an_address(cell, port):
    make_network(cell, "10.1.0.0/27")
    instances = [cell.instance() for _ in range(8)]
    taken, errors = [], []

    def allocate(instance):
        try:
            taken.extend(addresses(port.allocate_for_instance(cell.context(), instance)))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=allocate, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(set(taken)) == 8


def test_when_addresses_are_used_up_nothing_stays_behind(cell, port):
    make_network(cell, "10.1.0.0/30")
    port.allocate_for_instance(cell.context(), cell.instance())
    late = cell.instance()

    with pytest.raises(exception.NoMoreFixedIps):
        port.allocate_for_instance(cell.context(), late)

    assert cell.db.virtual_interface_get_by_instance(cell.admin(), late.uuid) == []


def test_what_is_given_back_can_be_given_out_again(cell, port):
    make_network(cell, "10.1.0.0/30")
    first, second = cell.instance(), cell.instance()
    port.allocate_for_instance(cell.context(), first)

    port.deallocate_for_instance(cell.context(), first)

    assert cached(cell, first) == []
    assert addresses(port.allocate_for_instance(cell.context(), second)) == ["10.1.0.2"]


def test_giving_back_nothing_is_fine(cell, port):
    instance = cell.instance()
    instance.destroy()

    port.deallocate_for_instance(cell.context(), instance)


def test_hosts_can_say_which_mac_addresses_they_want(cell, port):
    make_network(cell)

    info = port.allocate_for_instance(cell.context(), cell.instance(), macs={"00:16:3e:00:00:01"})

    assert [vif["address"] for vif in info] == ["00:16:3e:00:00:01"]
    with pytest.raises(exception.VirtualInterfaceMacAddressException):
        port.allocate_for_instance(cell.context(), cell.instance(), macs={"00:16:3e:00:00:01"})


@pytest.mark.parametrize(("address", "error"), [
    ("10.9.0.1", exception.FixedIpInvalid), ("nonsense", exception.FixedIpInvalid),
    ("10.1.0.1", exception.FixedIpAlreadyInUse), ("10.1.0.2", exception.FixedIpAlreadyInUse),
    ("10.1.0.7", exception.FixedIpAlreadyInUse)])
def test_an_address_that_cannot_be_had_is_refused(cell, port, address, error):
    made = make_network(cell)
    port.allocate_for_instance(cell.context(), cell.instance())

    with pytest.raises((error, ValueError)):
        port.validate_networks(cell.context(), [(made["uuid"], address, None)])


def test_a_network_of_another_project_is_not_found(cell, port):
    made = make_network(cell, project_id="blue")

    with pytest.raises(exception.NetworkNotFound):
        port.validate_networks(cell.context(), [(made["uuid"], None, None)])


def test_there_are_no_ports_here(cell, port):
    with pytest.raises(exception.PortNotFound):
        port.validate_networks(cell.context(), [(None, None, "3d1f0c0e-1111-4222-8333-444455556666")])


def test_an_address_more_and_one_less(cell, port):
    made = make_network(cell)
    instance = cell.instance()
    port.allocate_for_instance(cell.context(), instance)

    port.add_fixed_ip_to_instance(cell.context(), instance, made["uuid"])
    assert addresses(cached(cell, instance)) == ["10.1.0.2", "10.1.0.3"]
    assert len(cached(cell, instance)) == 1

    port.remove_fixed_ip_from_instance(cell.context(), instance, "10.1.0.2")
    assert addresses(cached(cell, instance)) == ["10.1.0.3"]
    with pytest.raises(exception.FixedIpNotFoundForSpecificInstance):
        port.remove_fixed_ip_from_instance(cell.context(), instance, "10.1.0.2")


def test_an_interface_more_and_one_less(cell, port):
    made = make_network(cell)
    instance = cell.instance()
    port.allocate_for_instance(cell.context(), instance)

    new = port.allocate_port_for_instance(cell.context(), instance, None, made["uuid"], "10.1.0.5")
    assert addresses(new) == ["10.1.0.5"]
    assert addresses(cached(cell, instance)) == ["10.1.0.2", "10.1.0.5"]

    left = port.deallocate_port_for_instance(cell.context(), instance, new[0]["id"])
    assert addresses(left) == ["10.1.0.2"]
    with pytest.raises(exception.PortNotFound):
        port.deallocate_port_for_instance(cell.context(), instance, new[0]["id"])


def test_asking_brings_the_cache_up_to_date(cell, port):
    make_network(cell)
    instance = cell.instance()
    info = port.allocate_for_instance(cell.context(), instance)
    cell.db.instance_info_cache_update(cell.admin(), instance.uuid, {"network_info": "[]"})

    assert port.get_instance_nw_info(cell.context(), instance) == info
    assert cached(cell, instance) == info


def test_addresses_follow_the_instance_to_another_host(cell, port):
    make_network(cell)
    instance = cell.instance()
    port.allocate_for_instance(cell.context(), instance)

    port.migrate_instance_start(cell.context(), instance, {"source_compute": "h1", "dest_compute": "h2"})
    port.migrate_instance_finish(cell.context(), instance, {"source_compute": "h1", "dest_compute": "h2"})

    rows = cell.db.fixed_ip_get_by_instance(cell.admin(), instance.uuid)
    assert [row["host"] for row in rows] == ["h2"]


def test_a_network_may_have_ipv6_addresses_too(cell, port):
    make_network(cell, cidr_v6="2001:db8::/64", gateway_v6="2001:db8::1")

    info = port.allocate_for_instance(cell.context(), cell.instance(), macs={"00:16:3e:00:00:01"})

    assert addresses(info) == ["10.1.0.2", "2001:db8::216:3eff:fe00:1"]


def test_eui64_addresses_are_those_of_the_standard():
    assert eui64("2001:db8::/64", "34:56:78:9a:bc:de") == "2001:db8::3656:78ff:fe9a:bcde"


def test_an_unknown_backend_is_an_operators_mistake(tmp_path):
    from tests.fixtures.services import make_conf

    with pytest.raises(exception.ConfigurationError, match="elsewhere"):
        network.load(make_conf(tmp_path, overrides={("network", "backend"): "elsewhere"}))
