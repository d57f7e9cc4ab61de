"""What every network service has to do; on the cell's database, and on what the network API of OpenStack says."""

import pytest

from nova_lite import exception
from nova_lite.objects import InstanceInfoCache
from nova_lite.objects.network_model import NetworkInfo
from tests.fixtures.one_cell import OneCell
from tests.fixtures.openstack import NetworkService


class LocalNetworks:
    options: dict = {}

    def bind(self, cell):
        self.cell = cell

    def make(self, name, cidr, **values):
        project = values.get("tenant_id")
        return self.cell.db.network_create(self.cell.admin(), {
            "label": name, "cidr": cidr, "bridge": "xenbr0", "dns1": "9.9.9.9", "project_id": project})["uuid"]


class NeutronNetworks:
    def __init__(self, service, url):
        self.service = service
        self.options = {("network", "backend"): "neutron", ("openstack", "network_endpoint"): f"{url}/v2.0"}

    def bind(self, cell):
        """The service is elsewhere."""

    def make(self, name, cidr, **values):
        return self.service.network(name, cidr, shared="tenant_id" not in values, **values)


@pytest.fixture
def neutron():
    service = NetworkService()
    with service.serve() as url:
        yield NeutronNetworks(service, url)


@pytest.fixture(params=["local", "neutron"])
def networks(request):
    return LocalNetworks() if request.param == "local" else request.getfixturevalue("neutron")


@pytest.fixture
def cell(networks, tmp_path):
    made = OneCell(tmp_path, grouped=networks.options)
    networks.bind(made)
    yield made
    made.close()


@pytest.fixture
def port(cell):
    return cell.services.network_api


def addresses(info):
    return [ip["address"] for ip in info.fixed_ips()]


def cached(cell, instance):
    return InstanceInfoCache.get_by_instance_uuid(cell.admin(), instance.uuid).network_info


def test_an_instance_gets_an_interface_on_every_network_of_everybody(cell, port, networks):
    made = [networks.make("first", "10.1.0.0/24"), networks.make("second", "10.2.0.0/24"),
            networks.make("third", "10.4.0.0/24")]
    networks.make("others", "10.3.0.0/24", tenant_id="blue")
    instance = cell.instance()

    info = port.allocate_for_instance(cell.context(), instance)

    assert [vif["network"]["id"] for vif in info] == made
    assert addresses(info) == ["10.1.0.2", "10.2.0.2", "10.4.0.2"]
    subnet = info[0]["network"]["subnets"][0]
    assert (subnet["cidr"], subnet["gateway"]["address"], subnet["dns"][0]["address"]) == (
        "10.1.0.0/24", "10.1.0.1", "9.9.9.9")
    assert (info[0]["network"]["label"], info[0]["address"][:8]) == ("first", "fa:16:3e")
    assert cached(cell, instance) == info == port.get_instance_nw_info(cell.context(), instance)


def test_what_several_instances_have_is_cached_again(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    instances = [cell.instance() for _ in range(3)]
    infos = [port.allocate_for_instance(cell.context(), instance) for instance in instances[:2]]
    for instance in instances[:2]:
        InstanceInfoCache(cell.admin(), instance_uuid=instance.uuid, network_info=NetworkInfo()).save(
            update_cells=False)

    port.heal_info_caches(cell.context(), instances)

    assert [cached(cell, instance) for instance in instances] == [*infos, NetworkInfo()]


def test_a_project_with_networks_of_its_own_gets_those(cell, port, networks):
    networks.make("everybody's", "10.1.0.0/24")
    own = networks.make("own", "10.3.0.0/24", tenant_id="red")

    info = port.allocate_for_instance(cell.context(), cell.instance())

    assert [vif["network"]["id"] for vif in info] == [own]


def test_a_given_network_and_address_are_used(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    requested = [(networks.make("second", "10.2.0.0/24"), "10.2.0.77", None)]

    port.validate_networks(cell.context(), requested)
    info = port.allocate_for_instance(cell.context(), cell.instance(), requested_networks=requested)

    assert addresses(info) == ["10.2.0.77"]
    with pytest.raises(exception.FixedIpAlreadyInUse):
        port.validate_networks(cell.context(), requested)


def test_allocating_again_changes_nothing(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    before = port.allocate_for_instance(cell.context(), instance)

    assert port.allocate_for_instance(cell.context(), instance) == before


def test_without_addresses_for_all_networks_none_is_kept(cell, port, networks):
    first, full = networks.make("first", "10.1.0.0/24"), networks.make("full", "10.2.0.0/30")
    port.allocate_for_instance(cell.context(), cell.instance(), requested_networks=[(full, None, None)])
    instance = cell.instance()

    with pytest.raises(exception.NoMoreFixedIps):
        port.allocate_for_instance(cell.context(), instance,
                                   requested_networks=[(full, None, None), (first, None, None)])

    assert port.get_instance_nw_info(cell.context(), instance) == []


def test_everything_is_taken_back_and_can_be_had_again(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    port.allocate_for_instance(cell.context(), instance)

    port.deallocate_for_instance(cell.context(), instance)
    port.deallocate_for_instance(cell.context(), instance)

    assert cached(cell, instance) == []
    assert len(addresses(port.allocate_for_instance(cell.context(), cell.instance()))) == 1


def test_an_interface_comes_and_goes(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    first = port.allocate_for_instance(cell.context(), instance)

    second = port.allocate_port_for_instance(cell.context(), instance, None, networks.make("second", "10.2.0.0/24"))
    left = port.deallocate_port_for_instance(cell.context(), instance, second[0]["id"])

    assert addresses(second) == ["10.2.0.2"]
    assert left == first
    with pytest.raises(exception.PortNotFound):
        port.deallocate_port_for_instance(cell.context(), instance, second[0]["id"])


def test_an_address_comes_and_goes(cell, port, networks):
    network_id = networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    port.allocate_for_instance(cell.context(), instance)

    port.add_fixed_ip_to_instance(cell.context(), instance, network_id)
    assert addresses(cached(cell, instance)) == ["10.1.0.2", "10.1.0.3"]
    port.remove_fixed_ip_from_instance(cell.context(), instance, "10.1.0.2")

    assert addresses(cached(cell, instance)) == ["10.1.0.3"]
    with pytest.raises(exception.FixedIpNotFoundForSpecificInstance):
        port.remove_fixed_ip_from_instance(cell.context(), instance, "10.1.0.2")


@pytest.mark.parametrize(("requested", "error"), [
    (("00000000-0000-0000-0000-00000000000a", None, None), exception.NetworkNotFound),
    ((None, None, "00000000-0000-0000-0000-00000000000b"), exception.PortNotFound),
])
def test_what_is_not_there_is_named(cell, port, networks, requested, error):
    with pytest.raises(error):
        port.validate_networks(cell.context(), [requested])


@pytest.mark.parametrize("address", ["10.9.0.1", "nonsense"])
def test_an_address_of_another_network_is_refused(cell, port, networks, address):
    with pytest.raises(exception.FixedIpInvalid):
        port.validate_networks(cell.context(), [(networks.make("first", "10.1.0.0/24"), address, None)])


def test_a_move_is_noted_and_interfaces_become_usable(cell, port, networks):
    networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    info = port.allocate_for_instance(cell.context(), instance)

    port.migrate_instance_start(cell.context(), instance, {"source_compute": "a", "dest_compute": "b"})
    port.migrate_instance_finish(cell.context(), instance, {"source_compute": "a", "dest_compute": "b"})
    port.wait_active(cell.context(), instance, [vif["id"] for vif in info], 5)

    assert port.get_instance_nw_info(cell.context(), instance) == info


# --- What only a service with ports of its own has ---

@pytest.fixture
def outside(neutron, tmp_path):
    made = OneCell(tmp_path, grouped=neutron.options)
    yield made, made.services.network_api, neutron
    made.close()


def test_a_users_port_is_given_back_and_not_deleted(outside):
    cell, port, networks = outside
    network_id = networks.make("first", "10.1.0.0/24")
    users = networks.service._port({"network_id": network_id, "tenant_id": "red"}, {})
    instance = cell.instance()

    info = port.allocate_for_instance(cell.context(), instance, requested_networks=[(None, None, users["id"])])
    with pytest.raises(exception.PortInUse):
        port.validate_networks(cell.context(), [(None, None, users["id"])])
    port.deallocate_for_instance(cell.context(), instance)

    assert [vif["id"] for vif in info] == [users["id"]]
    assert networks.service.things["ports"][users["id"]]["device_id"] == ""


def test_an_interface_that_never_becomes_active_is_given_up(outside):
    cell, port, networks = outside
    networks.make("first", "10.1.0.0/24")
    instance = cell.instance()
    info = port.allocate_for_instance(cell.context(), instance)
    networks.service.things["ports"][info[0]["id"]]["status"] = "DOWN"

    with pytest.raises(exception.VirtualInterfacePlugException):
        port.wait_active(cell.context(), instance, [info[0]["id"]], 30)


def test_a_service_that_is_away_or_refuses_is_one_line(tmp_path):
    from tests.fixtures.ports import free_port

    cell = OneCell(tmp_path, grouped={
        ("network", "backend"): "neutron", ("openstack", "network_endpoint"): f"http://127.0.0.1:{free_port()}",
        ("openstack", "connect_retries"): 0})
    with pytest.raises(exception.ServiceUnavailable) as caught:
        cell.services.network_api.allocate_for_instance(cell.context(), cell.instance())
    cell.close()

    assert "network service" in str(caught.value) and "\n" not in str(caught.value)
