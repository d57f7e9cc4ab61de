"""Addresses and interfaces of guests."""

import pytest

from nova_lite import exception
from nova_lite.objects import network_model


def addresses(world, instance):
    network_info = world.services.network_api.get_instance_nw_info(world.context, instance)
    return [ip["address"] for ip in network_info.fixed_ips()]


def test_a_booted_guest_has_an_address_that_goes_with_it(world):
    instance = world.boot()
    assert len(addresses(world, instance)) == 1
    world.busy(instance, "deleting")
    world.compute.terminate_instance(world.context, instance=instance)
    again = world.boot()
    assert len(addresses(world, again)) == 1


def test_an_added_address_reaches_guest_and_listeners(world):
    instance, injected = world.boot(), []
    world.compute.driver.inject_network_info = lambda instance, info: injected.append(len(info.fixed_ips()))

    world.compute.add_fixed_ip_to_instance(world.context, world.network["uuid"], instance)

    assert len(addresses(world, instance)) == 2
    assert injected == [2]
    assert world.notifier.events() == ["create_ip.start", "create_ip.end"]
    assert len(world.notifier.payload("create_ip.end")["fixed_ips"]) == 2


def test_a_removed_address_is_gone(world):
    instance = world.boot()
    world.compute.add_fixed_ip_to_instance(world.context, world.network["uuid"], instance)
    first, second = addresses(world, instance)
    world.compute.remove_fixed_ip_from_instance(world.context, second, instance)
    assert addresses(world, instance) == [first]
    assert world.notifier.events()[-2:] == ["delete_ip.start", "delete_ip.end"]


def test_an_attached_interface_is_answered_in_the_legacy_form(world):
    instance = world.boot()
    network, mapping = world.compute.attach_interface(world.context, instance, world.network["uuid"], None)
    assert network["bridge"] == "xenbr0"
    assert mapping["ips"][0]["ip"] in addresses(world, instance)
    assert mapping["vif_uuid"] in world.compute.driver._interfaces


def test_an_attached_interface_needs_no_ipv4(world):
    instance = world.boot()
    subnet = network_model.Subnet(cidr="fd00::/64", ips=[network_model.FixedIP(address="fd00::2")])
    port = network_model.VIF(id="port", address="02:00:00:00:00:01",
                             network=network_model.Network(id="n6", bridge="xenbr0", subnets=[subnet]))
    world.services.network_api.allocate_port_for_instance = lambda *args, **kwargs: network_model.NetworkInfo([port])

    network, mapping = world.compute.attach_interface(world.context, instance, None, "port")

    assert (network["cidr"], network["cidr_v6"]) == (None, "fd00::/64")
    assert (mapping["ips"], mapping["ip6s"][0]["ip"]) == ([], "fd00::2")
    assert "port" in world.compute.driver._interfaces


def test_C28_a_failed_interface_gives_its_port_back(world):
    instance = world.boot()
    before = addresses(world, instance)
    with world.failing("attach_interface", RuntimeError()), pytest.raises(exception.InterfaceAttachFailed):
        world.compute.attach_interface(world.context, instance, world.network["uuid"], None)
    assert addresses(world, instance) == before


def test_an_interface_needs_no_image_that_is_still_there(world):
    instance, seen = world.boot(system_metadata={"image_hw_vif_model": "e1000"}), []
    world.compute.driver.attach_interface = lambda instance, image_meta, network_info: seen.append(image_meta)
    world.services.image_api.delete(world.context, world.image["id"])

    world.compute.attach_interface(world.context, instance, world.network["uuid"], None)

    assert seen == [{"id": world.image["id"], "properties": {"hw_vif_model": "e1000"}}]


def test_an_image_service_that_is_away_has_the_port_given_back(world):
    instance = world.boot()
    before = addresses(world, instance)

    def away(*args):
        raise ConnectionError("the image service is away")

    world.services.image_api.show = away
    with pytest.raises(exception.InterfaceAttachFailed):
        world.compute.attach_interface(world.context, instance, world.network["uuid"], None)
    assert addresses(world, instance) == before


def test_a_detached_interface_leaves_the_driver_before_its_port_goes(world):
    instance = world.boot()
    _, mapping = world.compute.attach_interface(world.context, instance, world.network["uuid"], None)
    still_there = []
    detach = world.compute.driver.detach_interface

    def watched(guest, network_info):
        still_there.append(len(addresses(world, instance)))
        detach(guest, network_info)

    world.compute.driver.detach_interface = watched
    world.compute.detach_interface(world.context, instance, mapping["vif_uuid"])
    assert still_there == [2]
    assert len(addresses(world, instance)) == 1


def test_an_interface_that_is_not_there_cannot_be_detached(world):
    with pytest.raises(exception.PortNotFound):
        world.compute.detach_interface(world.context, world.boot(), "no-such-port")


def test_network_info_is_written_and_reset_on_request(world):
    instance, seen = world.boot(), []
    world.compute.driver.inject_network_info = lambda instance, info: seen.append("inject")
    world.compute.driver.reset_network = lambda instance: seen.append("reset")
    world.compute.inject_network_info(world.context, instance)
    world.compute.reset_network(world.context, instance)
    assert seen == ["inject", "reset"]


def test_access_addresses_are_filled_from_the_named_network_on_the_first_build_only(make_world):
    world = make_world(default_access_ip_network_name="net")
    first, again = world.create(), world.create()
    world.compute.run_instance(world.context, instance=first, is_first_time=True)
    world.compute.run_instance(world.context, instance=again)
    assert str(world.reload(first).access_ip_v4) == addresses(world, first)[0]
    assert world.reload(again).access_ip_v4 is None


def test_access_addresses_are_those_of_the_first_interface_in_the_named_network(make_world):
    world = make_world(default_access_ip_network_name="net")
    instance, twice = world.create(), [[world.network["uuid"], None, None]] * 2

    world.compute.run_instance(world.context, instance=instance, is_first_time=True, requested_networks=twice)

    found = addresses(world, instance)
    assert len(found) == 2
    assert str(world.reload(instance).access_ip_v4) == found[0]
