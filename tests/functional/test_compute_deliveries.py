"""Messages that come twice, late or in another order have one effect, whichever method they are for."""

import base64
import contextlib
import json

import pytest
from oslo_messaging import ExpectedException

from nova_lite import objects
from nova_lite.compute import rpcapi
from nova_lite.compute.manager import ComputeManager
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states
from tests.fixtures.one_cell import Listener
from tests.unit.compute.world import World

WAITING = {  # what the API has set before it sent the message
    "soft_delete_instance": task_states.SOFT_DELETING, "restore_instance": task_states.RESTORING,
    "power_off_instance": task_states.SOFT_DELETING, "power_on_instance": task_states.RESTORING,
    "stop_instance": task_states.POWERING_OFF, "start_instance": task_states.POWERING_ON,
    "pause_instance": task_states.PAUSING, "unpause_instance": task_states.UNPAUSING,
    "suspend_instance": task_states.SUSPENDING, "resume_instance": task_states.RESUMING,
    "reboot_instance": task_states.REBOOTING, "rebuild_instance": task_states.REBUILDING,
    "rescue_instance": task_states.RESCUING, "unrescue_instance": task_states.UNRESCUING,
    "snapshot_instance": task_states.IMAGE_SNAPSHOT, "terminate_instance": task_states.DELETING,
    "set_admin_password": task_states.UPDATING_PASSWORD, "prep_resize": task_states.RESIZE_PREP,
    "resize_instance": task_states.RESIZE_PREP, "finish_resize": task_states.RESIZE_MIGRATED,
    "revert_resize": task_states.RESIZE_REVERTING, "finish_revert_resize": task_states.RESIZE_REVERTING,
    "live_migration": task_states.MIGRATING, "run_instance": task_states.SCHEDULING, "confirm_resize": None,
}
BEFORE = {"restore_instance": vm_states.SOFT_DELETED, "power_on_instance": vm_states.SOFT_DELETED,
          "start_instance": vm_states.STOPPED, "unpause_instance": vm_states.PAUSED,
          "resume_instance": vm_states.SUSPENDED, "unrescue_instance": vm_states.RESCUED,
          "confirm_resize": vm_states.RESIZED, "revert_resize": vm_states.RESIZED,
          "finish_revert_resize": vm_states.RESIZED}
CALLS = {  # answered: their callers wait, so nobody sends them again, and most only read
    "attach_interface", "check_can_live_migrate_destination", "check_can_live_migrate_source", "get_backdoor_port",
    "get_console_output", "get_console_pool_info", "get_console_topic", "get_diagnostics", "get_host_uptime",
    "get_spice_console", "get_vnc_console", "host_maintenance_mode", "host_power_action",
    "post_live_migration_at_destination", "pre_live_migration", "remove_volume_connection",
    "reserve_block_device_name", "set_admin_password", "set_host_enabled", "validate_console_port"}
# What the fake hypervisor does not show.
UNSEEN = {"detach_interface", "add_aggregate_host", "remove_aggregate_host", "change_instance_metadata", "inject_file",
          "inject_network_info", "publish_service_capabilities", "refresh_instance_security_rules",
          "refresh_provider_fw_rules", "refresh_security_group_members", "refresh_security_group_rules",
          "reset_network"}
REFUSED = {"detach_interface"}  # of a port that nobody has
# Asking twice is two wishes: only the memory of a process tells a repeated message from a second one.
ONLY_REMEMBERED = {
    "add_fixed_ip_to_instance",
    "live_migration", "prep_resize",  # the other host, which would end the wait, only listens here
}


class Incoming:
    """A message as a broker hands it over; a cast, nobody waits for an answer."""

    reply_q = None

    def __init__(self, context, method, arguments):
        self.ctxt = {**context.to_local_dict(), "operation_id": f"op-{method}"}
        self.message = {"method": method, "version": "2.27", "args": json.loads(json.dumps(arguments))}


def deliver(world, message, dispatcher=None):
    """Deliver to this process, or (without its dispatcher) to one that remembers nothing; failures go no further."""
    with contextlib.suppress(ExpectedException):
        (dispatcher or world.compute.create_rpc_dispatcher()).dispatch(message)


def effects(world):
    """All that anybody can see of what the host has done."""
    admin = RequestContext("admin", "admin", is_admin=True, read_deleted="yes").bind(world.services)
    rows = world.db.instance_get_all_by_filters(admin, {})
    seen = ("uuid", "vm_state", "task_state", "power_state", "host", "deleted", "metadata", "system_metadata",
            "memory_mb", "instance_type_id", "launched_at", "display_name")
    return {
        "rows": [[row[name] for name in seen] for row in rows],
        "guests": {name: guest.state for name, guest in world.compute.driver.instances.items()},
        "addresses": sorted(ip["address"] for ip in world.db.fixed_ip_get_by_network(admin, world.network["id"])
                            if ip["allocated"]),
        "volumes": {key: dict(volume) for key, volume in world.shelf.volumes.items()},
        "connections": set(world.shelf.connections),
        "devices": [[(bdm["device_name"], bdm["volume_id"], bdm["deleted"] != 0) for bdm in
                     world.db.block_device_mapping_get_all_by_instance(admin, row["uuid"])] for row in rows],
        "images": sorted(image["id"] for image in world.services.image_api.detail(world.context)),
        "moves": [(move["status"], move["dest_compute"]) for move in world.db.migration_get_all_by_filters(admin, {})],
    }


def prepared(world, method):
    """Return the arguments of a message that somebody has good reason to send."""
    if method == "run_instance":
        return {"instance": rpcapi.primitive(world.create()), "request_spec": {}, "filter_properties": {}}
    instance = world.boot()
    special = {"instance": instance, "mountpoint": "/dev/xvdc", "device": "/dev/xvdd", "path": "/etc/motd",
               "file_contents": base64.b64encode(b"hi").decode(), "diff": {"a": ["+", "b"]},
               "network_id": world.network["uuid"], "host": "here", "dest": "there", "console_type": "novnc",
               "image": {}, "image_ref": world.image["id"], "orig_image_ref": world.image["id"], "port": 6969,
               "new_pass": "secret", "injected_files": [], "security_group_id": 1, "disk_info": "{}",
               "dest_check_data": {}, "mode": False, "action": "reboot", "enabled": True, "port_id": "no-such-port"}
    if method == "remove_fixed_ip_from_instance":
        special["address"] = instance.info_cache.network_info[0]["network"]["subnets"][0]["ips"][0]["address"]
    if "volume" in method or method == "reserve_block_device_name":
        special["volume_id"] = world.shelf.add("attaching")
    if method in ("detach_volume", "remove_volume_connection"):
        world.compute.attach_volume(world.context, special["volume_id"], "/dev/xvdc", instance)
        world.shelf.begin_detaching(world.context, special["volume_id"])
    if method == "snapshot_instance":
        special["image_id"] = world.services.image_api.create(world.context, {"name": "snapshot"})["id"]
    if "resize" in method:
        special["instance_type"] = objects.Flavor.get_by_flavor_id(world.context, "2")
        special["migration"] = resize_of(world, instance, method)
    if "aggregate" in method:
        special["aggregate"] = world.db.aggregate_create(world.context, {"name": f"pool-{method}"})
    if method in WAITING:
        elsewhere = {"host": "there", "node": "there-node"} if method == "prep_resize" else {}
        special["instance"] = world.busy(instance, WAITING[method], vm_state=BEFORE.get(method, vm_states.ACTIVE),
                                         **elsewhere)
    accepted = world.compute.create_rpc_dispatcher()._interfaces[0].handlers[method].names
    unwanted = {"host"} if method == "prep_resize" else set()
    return rpcapi.primitive({name: value for name, value in special.items() if name in accepted - unwanted})


def resize_of(world, instance, method):
    """A move that this host has the next part of."""
    arriving = method in ("finish_resize", "revert_resize")
    source, dest = ("there", "here") if arriving else ("here", "there")
    if method in ("finish_resize", "revert_resize", "finish_revert_resize"):
        instance.new_flavor = objects.Flavor.get_by_flavor_id(world.context, "2")
        instance.old_flavor = instance.flavor
        instance.save()
    migration = objects.Migration(
        world.context, instance_uuid=instance.uuid, source_compute=source, source_node=f"{source}-node",
        dest_compute=dest, dest_node=f"{dest}-node", dest_host="192.0.2.1", old_instance_type_id=1,
        new_instance_type_id=2, migration_type="resize",
        status="finished" if "confirm" in method or "revert" in method else "pre-migrating")
    migration.create()
    return migration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("deliveries"), cidr="10.1.0.0/24")
    there = made.rpc.server("compute", [Listener(ComputeManager.remote_methods)], server_name="there",
                            bind=made.services)
    there.start()
    yield made
    there.stop()
    there.wait(5)
    made.close()


CASTS = sorted(ComputeManager.remote_methods - CALLS)


@pytest.mark.parametrize("method", CASTS)
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


@pytest.mark.parametrize("method", CASTS)
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
