"""Messages that come twice, late or in another order have one effect, whichever method they are for."""

import inspect

import pytest

from nova_lite import objects
from nova_lite.compute import rpcapi
from nova_lite.compute.manager import ComputeManager
from nova_lite.objects import task_states, vm_states
from tests.functional.compute_messages import (
    WAITING,
    Incoming,
    deliver,
    effects,
    prepared,
    world_of_two_hosts,
)

CHANGING_CALLS = {  # of those that are answered, what changes more than the fake hypervisor
    "attach_interface", "pre_live_migration", "post_live_migration_at_destination", "remove_volume_connection",
    "reserve_block_device_name", "set_admin_password", "set_host_enabled", "confirm_resize", "stop_instance"}
# What the fake hypervisor does not show.
UNSEEN = {"detach_interface", "add_aggregate_host", "remove_aggregate_host", "change_instance_metadata", "inject_file",
          "inject_network_info", "publish_service_capabilities", "refresh_instance_security_rules",
          "refresh_provider_fw_rules", "refresh_security_group_members", "refresh_security_group_rules",
          "reset_network"}
REFUSED = {"detach_interface"}  # of a port that nobody has
UNOFFERED = {"get_spice_console"}  # unless the configuration has it
# Asking twice is two wishes: only the memory of a process tells a repeated message from a second one.
ONLY_REMEMBERED = {
    "live_migration", "prep_resize",  # the other host, which would end the wait, only listens here
}


class _Recorder:
    """Notes how a client of the RPC API sends what."""

    def __init__(self):
        self.calls, self.casts = set(), set()

    def cast(self, ctxt, method, **_):
        self.casts.add(method)

    def call(self, ctxt, method, **_):
        self.calls.add(method)


def modes():
    """Send one of everything that the RPC API has, both ways where it has two; return what was called and cast."""
    recorder, instance = _Recorder(), {"uuid": "x", "host": "here"}
    for api in (rpcapi.ComputeAPI, rpcapi.SecurityGroupAPI):
        client = api.__new__(api)
        client._client, client._cap = recorder, None
        for name, method in inspect.getmembers(client, inspect.ismethod):
            parameters = list(inspect.signature(method).parameters)
            given = {each: instance if each == "instance" else "x" for each in parameters[1:]}
            for cast in (True, False) if "cast" in parameters else (None,):
                if not name.startswith("_"):
                    method(None, **{**given, **({} if cast is None else {"cast": cast})})
    return recorder.calls, recorder.casts


CALLS, CASTS = modes()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with world_of_two_hosts(tmp_path_factory.mktemp("deliveries")) as made:
        yield made


def test_there_is_no_method_but_those_that_are_delivered_here():
    assert ComputeManager.remote_methods == CALLS | CASTS
    assert CALLS >= CHANGING_CALLS


@pytest.mark.parametrize("method", sorted(CALLS))
def test_a_call_has_one_effect_however_often_it_comes_and_none_when_its_caller_waits_no_more(world, method):
    arguments = prepared(world, method)
    before, process, later = effects(world), *(world.compute.create_rpc_dispatcher() for _ in range(2))
    message = Incoming(world.context, method, arguments, answered=True)

    deliver(world, message, process)
    once = effects(world)
    deliver(world, message, process)
    if method not in ONLY_REMEMBERED:
        deliver(world, message)
    world.clock.advance(600)
    deliver(world, message, later)

    assert effects(world) == once
    assert process.counters == {"received": 2, "repeated": 1, **({"failed": 1} if method in UNOFFERED else {})}
    assert later.counters == {"received": 1, "expired": 1}
    assert (once != before) is (method in CHANGING_CALLS)


@pytest.mark.parametrize("method", sorted(CASTS))
def test_a_message_has_one_effect_however_often_and_late_it_comes(world, method):
    arguments = prepared(world, method)
    before, process = effects(world), world.compute.create_rpc_dispatcher()

    deliver(world, Incoming(world.context, method, arguments), process)
    once = effects(world)
    world.clock.advance(600)
    deliver(world, Incoming(world.context, method, arguments), process)
    twice = effects(world)

    assert process.counters["received"] == 2
    assert process.counters["failed"] == (method in REFUSED)
    assert twice == once
    assert (once != before) is (method not in UNSEEN)
    if method not in ONLY_REMEMBERED:
        deliver(world, Incoming(world.context, method, arguments))
        assert effects(world) == once


@pytest.mark.parametrize("method", sorted(WAITING.keys() - {"terminate_instance", "confirm_resize"}))
def test_a_message_that_finds_another_task_changes_nothing(world, method):
    arguments = prepared(world, method)
    uuid = arguments["instance"]["uuid"]
    other = task_states.POWERING_OFF if method != "stop_instance" else task_states.PAUSING
    world.db.instance_update(world.context, uuid, {"task_state": other, "vm_state": vm_states.ACTIVE})
    before = effects(world)

    deliver(world, Incoming(world.context, method, arguments))

    assert effects(world) == before


@pytest.mark.parametrize("method", sorted(CASTS | CALLS))
def test_a_message_for_an_instance_that_is_gone_is_dropped_without_a_failure(world, method):
    if "instance" not in world.compute.create_rpc_dispatcher()._interfaces[0].handlers[method].names:
        pytest.skip("concerns no instance")
    arguments = prepared(world, method)
    objects.Instance.get_by_uuid(world.context, arguments["instance"]["uuid"]).destroy()
    before, process = effects(world), world.compute.create_rpc_dispatcher()

    deliver(world, Incoming(world.context, method, arguments), process)

    assert effects(world) == before


def test_a_reserved_device_name_is_given_again_when_it_is_asked_for_again(world):
    arguments = prepared(world, "reserve_block_device_name")
    first = world.compute.reserve_block_device_name(world.context, **arguments)

    assert world.compute.reserve_block_device_name(world.context, **arguments) == first


# --- Messages that come after what undid them ---

def attached_and_detached(world):
    arguments = prepared(world, "attach_volume")
    deliver(world, Incoming(world.context, "attach_volume", arguments))
    world.shelf.begin_detaching(world.context, arguments["volume_id"])
    world.compute.detach_volume(world.context, arguments["volume_id"], arguments["instance"])
    return "attach_volume", arguments


def reverted_after_a_confirmation_was_sent(world):
    arguments = prepared(world, "confirm_resize")
    world.db.migration_update(world.context, arguments["migration"]["id"], {"status": "reverted"})
    world.db.instance_update(world.context, arguments["instance"]["uuid"], {"vm_state": vm_states.ACTIVE})
    return "confirm_resize", arguments


def arrived_at_the_second_attempt(world):
    arguments = prepared(world, "rollback_live_migration_at_destination")
    world.db.instance_update(world.context, arguments["instance"]["uuid"], {"host": "here", "node": "here-node"})
    return "rollback_live_migration_at_destination", arguments


@pytest.mark.parametrize("undo", [attached_and_detached, reverted_after_a_confirmation_was_sent,
                                  arrived_at_the_second_attempt], ids=lambda undo: undo.__name__)
def test_a_message_that_comes_after_what_undid_it_changes_nothing(world, undo):
    method, arguments = undo(world)
    before, process = effects(world), world.compute.create_rpc_dispatcher()

    deliver(world, Incoming(world.context, method, arguments), process)

    assert effects(world) == before
    assert process.counters == {"received": 1}
