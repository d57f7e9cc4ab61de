"""Interfaces and addresses that were on their way when the process died, and messages that come again after it."""

import contextlib
import copy

import pytest

from nova_lite import exception


class Death(BaseException):
    """What no `except Exception` sees: the process is gone."""


def addresses(world, instance):
    network_info = world.services.network_api.get_instance_nw_info(world.context, instance)
    return [ip["address"] for ip in network_info.fixed_ips()]


def message(world, operation_id="one"):
    """Return the context of a message; those of one operation are one message that comes again."""
    context = copy.copy(world.context)
    context.operation_id = operation_id
    return context


@contextlib.contextmanager
def dying(thing, method, after=False):
    """Have the process die before a call, or after it."""
    original = getattr(thing, method)

    def call(*args, **kwargs):
        if after:
            original(*args, **kwargs)
        raise Death

    setattr(thing, method, call)
    try:
        with pytest.raises(Death):
            yield
    finally:
        setattr(thing, method, original)


def restart(world):
    world.compute.init_host()


def attach(world, instance, context=None):
    return world.compute.attach_interface(context or message(world), instance, world.network["uuid"], None)


def add(world, instance, context=None):
    world.compute.add_fixed_ip_to_instance(context or message(world), world.network["uuid"], instance)


NETWORK, DRIVER = (lambda world: world.services.network_api), (lambda world: world.compute.driver)


@pytest.mark.parametrize(("thing", "method", "after"), [
    (NETWORK, "allocate_port_for_instance", False), (NETWORK, "allocate_port_for_instance", True),
    (DRIVER, "attach_interface", True)])
def test_an_interface_that_was_half_attached_is_taken_back(world, thing, method, after):
    instance = world.boot()
    with dying(thing(world), method, after):
        attach(world, instance)

    restart(world)

    assert len(addresses(world, instance)) == 1
    assert world.compute.driver._interfaces == {}
    attach(world, instance, message(world, "two"))
    assert len(addresses(world, instance)) == 2


@pytest.mark.parametrize(("thing", "method", "after"), [
    (DRIVER, "detach_interface", False), (DRIVER, "detach_interface", True),
    (NETWORK, "deallocate_port_for_instance", True)])
def test_an_interface_that_was_half_detached_goes(world, thing, method, after):
    instance = world.boot()
    _, mapping = attach(world, instance)
    with dying(thing(world), method, after):
        world.compute.detach_interface(message(world, "two"), instance, mapping["vif_uuid"])

    restart(world)

    assert len(addresses(world, instance)) == 1
    assert world.compute.driver._interfaces == {}


@pytest.mark.parametrize(("thing", "method", "after"), [
    (NETWORK, "add_fixed_ip_to_instance", False), (NETWORK, "add_fixed_ip_to_instance", True),
    (DRIVER, "inject_network_info", False)])
def test_an_address_that_was_being_added_is_there_once_and_the_guest_knows(world, thing, method, after):
    instance, told = world.boot(), []
    with dying(thing(world), method, after):
        add(world, instance)
    world.compute.driver.inject_network_info = lambda instance, info: told.append(len(info.fixed_ips()))

    restart(world)
    add(world, instance)

    assert len(addresses(world, instance)) == 2
    assert told == [2]


def test_an_address_that_was_being_removed_is_gone_and_the_guest_knows(world):
    instance, told = world.boot(), []
    add(world, instance)
    [kept, removed] = addresses(world, instance)
    with dying(world.services.network_api, "remove_fixed_ip_from_instance", after=True):
        world.compute.remove_fixed_ip_from_instance(message(world, "two"), removed, instance)
    world.compute.driver.inject_network_info = lambda instance, info: told.append(len(info.fixed_ips()))

    restart(world)

    assert (addresses(world, instance), told) == ([kept], [1])


def test_what_was_lost_is_settled_in_time_without_a_restart(world):
    instance = world.boot()
    with dying(world.compute.driver, "attach_interface"):
        attach(world, instance)
    world.compute._recover_stuck_instances(world.context)
    assert len(addresses(world, instance)) == 2

    world.clock.advance(1801)
    world.compute._recover_stuck_instances(world.context)

    assert len(addresses(world, instance)) == 1


def test_a_message_that_comes_again_is_answered_with_the_interface_it_made(world):
    instance = world.boot()
    first = attach(world, instance)

    assert attach(world, instance) == first
    assert len(addresses(world, instance)) == 2


def test_a_message_that_comes_again_after_its_interface_was_detached_makes_none(world):
    instance = world.boot()
    _, mapping = attach(world, instance)
    world.compute.detach_interface(message(world, "two"), instance, mapping["vif_uuid"])

    with pytest.raises(exception.InterfaceAttachFailed):
        attach(world, instance)
    assert len(addresses(world, instance)) == 1


def test_a_message_that_comes_again_after_it_failed_is_tried_again(world):
    instance = world.boot()
    with world.failing("attach_interface", RuntimeError()), pytest.raises(exception.InterfaceAttachFailed):
        attach(world, instance)

    attach(world, instance)

    assert len(addresses(world, instance)) == 2


def test_two_messages_of_one_request_are_two(world):
    instance = world.boot()

    for operation_id in ("one", "two"):
        attach(world, instance, message(world, operation_id))
        add(world, instance, message(world, operation_id))

    assert len(addresses(world, instance)) == 5
