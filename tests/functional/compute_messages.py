"""Messages for every method of the compute service that somebody has good reason to send, and what they have done."""

import base64
import contextlib
import json

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
ARRIVALS = {"pre_live_migration": task_states.MIGRATING, "post_live_migration_at_destination": task_states.MIGRATING,
            "check_can_live_migrate_destination": task_states.MIGRATING,
            "rollback_live_migration_at_destination": None}  # the source has given the move up
BEFORE = {"restore_instance": vm_states.SOFT_DELETED, "power_on_instance": vm_states.SOFT_DELETED,
          "start_instance": vm_states.STOPPED, "unpause_instance": vm_states.PAUSED,
          "resume_instance": vm_states.SUSPENDED, "unrescue_instance": vm_states.RESCUED,
          "confirm_resize": vm_states.RESIZED, "revert_resize": vm_states.RESIZED,
          "finish_revert_resize": vm_states.RESIZED}


class Incoming:
    """A message as a broker hands it over: a cast, or a call whose caller waits for a minute."""

    def __init__(self, context, method, arguments, answered=False):
        self.ctxt = {**context.to_local_dict(), "operation_id": f"op-{method}"}
        self.message = {"method": method, "version": "2.27", "args": json.loads(json.dumps(arguments))}
        self.reply_q = None
        if answered:
            self.reply_q, self.msg_id = "replies", f"call-{method}"
            self.ctxt["deadline"] = context.services.clock.time() + 60

    def reply(self, reply=None, failure=None):
        """Nobody here reads what is answered."""


@contextlib.contextmanager
def world_of_two_hosts(directory):
    """A cell with the host `here`, and `there`, which only listens."""
    made = World(directory, cidr="10.1.0.0/23")
    made.add_host("there").stop()
    there = made.rpc.server("compute", [Listener(ComputeManager.remote_methods)], server_name="there",
                            bind=made.services)
    there.start()
    try:
        yield made
    finally:
        there.stop()
        there.wait(5)
        made.close()


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
        "devices": [(bdm["instance_uuid"], bdm["device_name"], bdm["volume_id"], bdm["deleted"] != 0) for bdm in
                    world.db.block_device_mapping_get_all_by_instance_uuids(admin, [row["uuid"] for row in rows])],
        "mounts": {name: sorted(mounts) for name, mounts in world.compute.driver._mounts.items()},
        "interfaces": sorted(world.compute.driver._interfaces),
        "room": world.compute.compute_host.trackers.of("here-node").compute_node["memory_mb_used"],
        "takes_guests": world.compute.driver.get_host_stats()["enabled"],
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
               "dest_check_data": {}, "mode": False, "action": "reboot", "enabled": False, "port_id": "no-such-port"}
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
    if method == "attach_interface":
        special["port_id"] = None  # a new one
    if "aggregate" in method:
        special["aggregate"] = world.db.aggregate_create(world.context, {"name": f"pool-{method}"})
    if method in ARRIVALS:
        special["instance"] = world.busy(instance, ARRIVALS[method], host="there", node="there-node")
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
