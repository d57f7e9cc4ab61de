"""What is done to the host itself: pools, power, maintenance, packet filters."""

import pytest

from nova_lite import exception


def an_aggregate(world):
    return world.db.aggregate_create(world.context, {"name": "pool"})


def watching(world, **raising):
    """Have the driver's pool methods note how they are called, and raise what is given for them."""
    called = []

    def noting(name):
        def call(*args, **kwargs):
            called.append((name, args[1:], kwargs))
            if name in raising:
                raise raising[name]
        return call

    for name in ("add_to_aggregate", "remove_from_aggregate", "undo_aggregate_operation"):
        setattr(world.compute.driver, name, noting(name))
    return called


@pytest.mark.parametrize(("method", "driver_method"), [
    ("add_aggregate_host", "add_to_aggregate"), ("remove_aggregate_host", "remove_from_aggregate")])
@pytest.mark.parametrize("by_id", [True, False])
def test_a_pool_is_changed_by_the_driver_however_the_aggregate_is_named(world, method, driver_method, by_id):
    aggregate, called = an_aggregate(world), watching(world)
    named = {"aggregate_id": aggregate["id"]} if by_id else {"aggregate": aggregate}

    getattr(world.compute, method)(world.context, host="other", slave_info={"url": "x"}, **named)

    [(name, (found, host), kwargs)] = called
    assert (name, found["id"], host, kwargs) == (driver_method, aggregate["id"], "other", {"slave_info": {"url": "x"}})


@pytest.mark.parametrize(("method", "driver_method", "error", "undone_by", "set_error"), [
    ("add_aggregate_host", "add_to_aggregate", exception.AggregateError, "aggregate_host_delete", ()),
    ("remove_aggregate_host", "remove_from_aggregate", exception.AggregateError, "aggregate_host_add", (True,)),
    ("remove_aggregate_host", "remove_from_aggregate", exception.InvalidAggregateAction, "aggregate_host_add",
     (False,)),
])
def test_what_the_driver_could_not_do_to_a_pool_is_undone_in_the_database(
        world, method, driver_method, error, undone_by, set_error):
    aggregate = an_aggregate(world)
    called = watching(world, **{driver_method: error(aggregate_id=aggregate["id"], action="move", reason="no")})

    with pytest.raises(error):
        getattr(world.compute, method)(world.context, host="other", aggregate=aggregate)

    name, (undo, found, host, *rest), _ = called[1]
    assert (name, undo.__name__, found["id"], host, tuple(rest)) == (
        "undo_aggregate_operation", undone_by, aggregate["id"], "other", set_error)
    assert [(event, priority) for _, priority, event, _ in world.notifier.sent] == [(method, "ERROR")]


def test_another_failure_of_the_driver_undoes_nothing(world):
    called = watching(world, add_to_aggregate=RuntimeError("away"))
    with pytest.raises(RuntimeError):
        world.compute.add_aggregate_host(world.context, host="other", aggregate=an_aggregate(world))
    assert [name for name, _, _ in called] == ["add_to_aggregate"]


ANSWERS = [
    ("host_power_action", {"action": "reboot"}, "reboot"),
    ("host_maintenance_mode", {"host": "here", "mode": True}, "on_maintenance"),
    ("host_maintenance_mode", {"host": "here", "mode": False}, "off_maintenance"),
    ("set_host_enabled", {"enabled": False}, "disabled"),
    ("set_host_enabled", {"enabled": True}, "enabled"),
    ("get_host_uptime", {}, "up 1 days, 0:00"),
    ("get_console_pool_info", {"console_type": "x"},
     {"address": "127.0.0.1", "username": "fakeuser", "password": "fakepassword"}),
    ("refresh_security_group_rules", {"security_group_id": 1}, True),
    ("refresh_security_group_members", {"security_group_id": 1}, True),
    ("refresh_provider_fw_rules", {}, None),
    ("get_backdoor_port", {}, None),
]


def test_what_the_driver_answers_is_the_answer(world):
    for method, arguments, answer in ANSWERS:
        assert getattr(world.compute, method)(world.context, **arguments) == answer, method


def test_the_rules_of_an_instance_are_refreshed_with_its_row_as_it_is(world):
    instance, seen = world.boot(), []
    world.compute.driver.refresh_instance_security_rules = lambda found: seen.append(found.host) or True
    assert world.compute.refresh_instance_security_rules(world.context, instance={"uuid": instance.uuid}) is True
    assert seen == ["here"]
