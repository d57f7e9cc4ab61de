"""Every method of a host takes what it is about as plain dicts, as 2.27 has them, and as versioned objects."""

import inspect

import pytest

from nova_lite import objects
from nova_lite.compute import rpcapi
from nova_lite.compute.manager import ComputeManager
from tests.functional.compute_messages import Incoming, deliver, prepared, world_of_two_hosts

LOAD = {
    "instance": lambda context, row: objects.Instance.get_by_uuid(context, row["uuid"]),
    "migration": lambda context, row: objects.Migration.get_by_id(context, row["id"]),
    "instance_type": lambda context, row: objects.Flavor.get_by_id(context, row["id"]),
    "bdms": lambda context, rows: objects.BlockDeviceMappingList.get_by_instance_uuid(context,
                                                                                      rows[0]["instance_uuid"]),
    "requested_networks": lambda context, rows: objects.NetworkRequestList.of(rows),
}
ABOUT_INSTANCES = {name for name in ComputeManager.remote_methods
                   if "instance" in inspect.signature(getattr(ComputeManager, name)).parameters}
REFUSED = {"detach_interface", "get_spice_console"}  # of a port that nobody has; not offered


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with world_of_two_hosts(tmp_path_factory.mktemp("forms")) as made:
        yield made


def arguments_of(world, method):
    """The arguments of a message, with all the optional ones that may be objects."""
    arguments = prepared(world, method)
    if method == "run_instance":
        arguments["requested_networks"] = [[world.network["uuid"], None, None]]
    if method in ("terminate_instance", "rebuild_instance"):
        volume = objects.BlockDeviceMapping(
            world.context, instance_uuid=arguments["instance"]["uuid"], source_type="volume", boot_index=-1,
            destination_type="volume", device_name="/dev/xvdf", volume_id=world.shelf.add("available"))
        volume.create()
        arguments["bdms"] = rpcapi.primitive([volume])
    return arguments


def as_objects(world, arguments):
    found = {name: load(world.context, arguments[name]) for name, load in LOAD.items() if arguments.get(name)}
    return {**arguments, **{name: objects.to_wire(value) for name, value in found.items()}}


def outcome(world, method, arguments, uuid):
    """How a message ended, and all that it did to its instance."""
    process = world.compute.create_rpc_dispatcher()
    world.notifier.sent.clear()
    deliver(world, Incoming(world.context, method, arguments, answered=True), process)
    seen = seen_of(world, uuid)
    world.compute.terminate_instance(world.context, instance={"uuid": uuid})  # its room is needed
    return {"counters": dict(process.counters), **seen}


def seen_of(world, uuid):
    context = world.context.elevated(read_deleted="yes")
    instance = objects.Instance.get_by_uuid(context, uuid)
    guest = world.guest(instance)
    return {
        "row": [instance[name] for name in ("vm_state", "task_state", "power_state", "host", "memory_mb")],
        "deleted": bool(instance.deleted),
        "guest": guest and guest.state,
        "faults": [fault["message"] for fault in world.faults(instance)],
        "events": world.events(instance),
        "devices": [bdm.device_name for bdm in
                    objects.BlockDeviceMappingList.get_by_instance_uuid(world.context, uuid)],
        "moves": [move.status for move in objects.MigrationList.get_by_filters(context, {"instance_uuid": uuid})],
        "told": [event for _, _, event, _ in world.notifier.sent],
    }


@pytest.mark.parametrize("method", sorted(ABOUT_INSTANCES))
def test_plain_dicts_and_versioned_objects_do_the_same(world, method):
    plain, versioned = arguments_of(world, method), arguments_of(world, method)
    uuids = plain["instance"]["uuid"], versioned["instance"]["uuid"]

    by_dicts = outcome(world, method, plain, uuids[0])
    by_objects = outcome(world, method, as_objects(world, versioned), uuids[1])

    assert by_objects == by_dicts
    assert by_objects["counters"].get("failed", 0) == (method in REFUSED)
    assert "refused" not in by_objects["counters"]
