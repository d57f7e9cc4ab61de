"""The manager behind its RPC server, and its client."""

import inspect
import json
import threading

import pytest

from nova_lite import exception, objects
from nova_lite.compute import rpcapi
from nova_lite.objects import power_state, task_states, vm_states


@pytest.fixture
def client(world):
    world.serve(world.compute)
    return rpcapi.ComputeAPI(world.services)


class RecordingClient:
    def __init__(self):
        self.sent = []

    def cast(self, ctxt, method, *, version=None, server=None, fanout=False, **args):
        self.sent.append(("cast", method, version, server, args))

    def call(self, ctxt, method, *, version=None, server=None, **args):
        self.sent.append(("call", method, version, server, args))


@pytest.fixture
def recorded(world):
    api = rpcapi.ComputeAPI(world.services)
    api._client = RecordingClient()
    return api


def wait_until_idle(world, instance):
    pause = threading.Event()
    for _ in range(500):
        instance = world.reload(instance)
        if instance.task_state is None:
            return instance
        pause.wait(0.01)
    raise AssertionError(f"still {instance}")


def test_a_cast_reaches_the_host_of_the_instance(world, client):
    instance = world.busy(world.boot(), task_states.PAUSING)
    client.pause_instance(world.context, instance)
    assert wait_until_idle(world, instance).vm_state == vm_states.PAUSED


def test_a_call_brings_the_answer_back(world, client):
    assert client.get_diagnostics(world.context, world.boot())["memory"] == 524288
    assert client.get_host_uptime(world.context, "here") == "up 1 days, 0:00"
    assert client.get_console_topic(world.context, "here").startswith("console.")


def test_a_call_brings_the_error_back(world, client):
    with pytest.raises(exception.ConsoleTypeInvalid):
        client.get_vnc_console(world.context, world.boot(), "carrier-pigeon")


def test_a_whole_build_goes_through_messages(world, client):
    instance = world.create()
    client.run_instance(world.context, instance, "here", {}, {}, None, [], "pw", True, "here-node")
    pause = threading.Event()
    for _ in range(500):
        if world.reload(instance).vm_state == vm_states.ACTIVE:
            break
        pause.wait(0.01)
    assert world.guest(instance).state == power_state.RUNNING


@pytest.mark.parametrize("method", ["init_host", "pre_start_hook", "_instance_update", "handle_events",
                                    "update_available_resource", "periodic_tasks"])
def test_C9_what_is_not_meant_for_peers_is_refused(world, client, method):
    raw = world.rpc.client("compute", version="2.0")
    with pytest.raises(exception.NovaException):
        raw.call(world.context, method, server="here", timeout=2)


def test_a_newer_version_than_ours_is_refused(world, client):
    raw = world.rpc.client("compute", version="2.0")
    with pytest.raises(exception.NovaException):
        raw.call(world.context, "get_host_uptime", version="2.28", server="here", timeout=2)


def test_every_client_method_sends_arguments_that_its_manager_method_takes(world, recorded):
    instance = world.boot()
    samples = {"instance": instance, "host": "here", "destination": "here", "host_param": "other"}
    for name, method in inspect.getmembers(recorded, inspect.ismethod):
        if name.startswith("_"):
            continue
        parameters = list(inspect.signature(method).parameters)[1:]
        method(world.context, **{parameter: samples.get(parameter, "x") for parameter in parameters})
        _, sent_method, _, _, arguments = recorded._client.sent[-1]
        inspect.signature(getattr(world.compute, sent_method)).bind(world.context, **arguments)
        assert sent_method in world.compute.remote_methods
        json.dumps(arguments)


def test_arguments_newer_than_2_27_travel_only_when_they_differ(world, recorded):
    instance = world.boot()
    recorded.stop_instance(world.context, instance)
    assert set(recorded._client.sent[-1][4]) == {"instance"}
    recorded.stop_instance(world.context, instance, clean_shutdown=False)
    assert recorded._client.sent[-1][4]["clean_shutdown"] is False


def test_instances_travel_as_plain_dicts(world, recorded):
    recorded.pause_instance(world.context, world.boot())
    sent = recorded._client.sent[-1][4]["instance"]
    assert sent["host"] == "here"
    assert {"key": "instance_type_name", "value": "m1.tiny"} in sent["system_metadata"]


@pytest.mark.parametrize(("method", "arguments", "mode", "version"), [
    ("confirm_resize", {"migration": None, "host": "there", "cast": False}, "call", "2.7"),
    ("confirm_resize", {"migration": None, "host": None}, "cast", "2.7"),
    ("stop_instance", {"cast": False}, "call", "2.0"),
    ("terminate_instance", {"bdms": None}, "cast", "2.27"),
    ("validate_console_port", {"port": 1, "console_type": "novnc"}, "call", "2.26"),
])
def test_messages_have_the_documented_mode_and_version(world, recorded, method, arguments, mode, version):
    getattr(recorded, method)(world.context, instance=world.boot(), **arguments)
    sent_mode, _, sent_version, server, _ = recorded._client.sent[-1]
    assert (sent_mode, sent_version, server) == (mode, version, arguments.get("host") or "here")


def test_an_instance_without_host_cannot_be_addressed(world, recorded):
    with pytest.raises(exception.NovaException, match=r"[0-9a-f-]{36}"):
        recorded.pause_instance(world.context, world.create())
    with pytest.raises(exception.NovaException):
        rpcapi.target_host(None, None)


def test_objects_become_json_with_times_of_no_zone(world):
    migration = objects.Migration(world.context, instance_uuid=world.boot().uuid, status="accepted",
                                  migration_type="resize")
    migration.create()
    plain = rpcapi.primitive(migration)
    assert plain["created_at"].startswith("2026-11-21T12:00:00.")
    json.dumps(plain)
