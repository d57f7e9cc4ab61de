"""Operations on one instance, done in the cell that has it."""

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.cells.operations import Route, operation
from nova_lite.objects import task_states

LOG = logging.getLogger(__name__)

_DELETE_TYPES = ("delete", "force_delete", "soft_delete")
# Fields that the top may change here: those it has authority over, or shares.
_SETTABLE_FROM_TOP = frozenset((
    "display_name", "display_description", "access_ip_v4", "access_ip_v6", "auto_disk_config", "locked", "locked_by"))
_STATES = frozenset(("vm_state", "task_state"))


@operation(Route.INSTANCE_CELL, since="1.16")
def instance_update_from_api(cell, message, instance, expected_vm_state, expected_task_state, admin_state_reset):
    """Write the changed fields that belong to the top; states only when an administrator resets them."""
    allowed = _SETTABLE_FROM_TOP | (_STATES if admin_state_reset else frozenset())
    instance.obj_reset_changes(set(instance.obj_what_changed()) - allowed)
    try:
        instance.save(expected_vm_state=expected_vm_state, expected_task_state=expected_task_state, replicate=False)
    except exception.InstanceNotFound:
        cell.disown(message.ctxt, instance.uuid)
        raise


@operation(Route.INSTANCE_CELL, since="1.12")
def start_instance(cell, message, instance):
    """Start a stopped instance."""
    cell.act(message, instance, "start")


@operation(Route.INSTANCE_CELL, since="1.31")
def stop_instance(cell, message, instance, clean_shutdown=True):
    """Stop an instance, letting its guest shut down first if `clean_shutdown`."""
    return cell.act(message, instance, "stop", do_cast=not message.need_response, clean_shutdown=clean_shutdown)


@operation(Route.INSTANCE_CELL, since="1.14", client="(ctxt, instance, block_device_info, reboot_type)")
def reboot_instance(cell, message, instance, reboot_type):
    """Reboot an instance; `reboot_type` is SOFT or HARD."""
    cell.act(message, instance, "reboot", reboot_type=reboot_type)


@operation(Route.INSTANCE_CELL, since="1.15")
def suspend_instance(cell, message, instance):
    """Suspend an instance to disk."""
    cell.act(message, instance, "suspend")


@operation(Route.INSTANCE_CELL, since="1.15")
def resume_instance(cell, message, instance):
    """Resume a suspended instance."""
    cell.act(message, instance, "resume")


@operation(Route.INSTANCE_CELL, since="1.36",
           client="(ctxt, instance, bdms, reservations=None, delete_type='delete')")
def terminate_instance(cell, message, instance, delete_type="delete"):
    """Delete an instance; `delete_type` is delete or force_delete."""
    if delete_type not in _DELETE_TYPES:
        raise exception.Invalid(f"delete_type must be one of {', '.join(_DELETE_TYPES)}, not {delete_type!r}")
    try:
        cell.act(message, instance, delete_type)
    except exception.InstanceNotFound:
        raise
    except exception.NovaException:
        cell.runner.deletions.refused(message.ctxt, instance["uuid"])
        raise


@operation(Route.INSTANCE_CELL, since="1.18", client="(ctxt, instance, reservations=None)")
def soft_delete_instance(cell, message, instance):
    """Mark an instance deleted; it can be restored until it is reclaimed."""
    cell.act(message, instance, "soft_delete")


@operation(Route.INSTANCE_CELL, since="1.19")
def pause_instance(cell, message, instance):
    """Pause an instance in memory."""
    cell.act(message, instance, "pause")


@operation(Route.INSTANCE_CELL, since="1.19")
def unpause_instance(cell, message, instance):
    """Let a paused instance run on."""
    cell.act(message, instance, "unpause")


@operation(Route.INSTANCE_CELL, since="1.33", client=(
    "(ctxt, instance, extra_instance_updates, scheduler_hint, flavor, reservations, clean_shutdown=True)"))
def resize_instance(cell, message, instance, flavor, extra_instance_updates, clean_shutdown=True):
    """Resize an instance to another flavor, or migrate it with its own."""
    cell.act(message, instance, "resize", flavor_id=flavor["flavorid"], clean_shutdown=clean_shutdown,
             **_with_flavor(cell, message.ctxt, flavor), **(extra_instance_updates or {}))


def _with_flavor(cell, ctxt, flavor) -> dict:
    """Return {'flavor': the message's} when this cell does not know the flavor and the message has all of it."""
    try:
        objects.Flavor.get_by_flavor_id(ctxt, flavor["flavorid"])
    except exception.FlavorNotFound:
        if "memory_mb" not in flavor or "vcpus" not in flavor:
            raise
        LOG.info("Flavor %s is not known in this cell, taking it as the message describes it", flavor["flavorid"])
        return {"flavor": flavor}
    return {}


@operation(Route.INSTANCE_CELL, since="1.20",
           client="(ctxt, instance, host_name, block_migration, disk_over_commit, request_spec=None)")
def live_migrate_instance(cell, message, instance, block_migration, disk_over_commit, host_name):
    """Move a running instance to another host of its cell."""
    cell.act(message, instance, "live_migrate", block_migration, disk_over_commit, host_name)


@operation(Route.INSTANCE_CELL, since="1.21", client="(ctxt, instance, migration, host, reservations)")
def revert_resize(cell, message, instance):
    """Take a resized instance back to where and how it was."""
    cell.act(message, instance, "revert_resize")


@operation(Route.INSTANCE_CELL, since="1.21", client="(ctxt, instance, migration, host, reservations, cast=True)")
def confirm_resize(cell, message, instance):
    """Give up what a resized instance would need to go back."""
    cell.act(message, instance, "confirm_resize")


@operation(Route.INSTANCE_CELL, since="1.22")
def reset_network(cell, message, instance):
    """Have the guest set up its network again."""
    cell.act(message, instance, "reset_network")


@operation(Route.INSTANCE_CELL, since="1.23")
def inject_network_info(cell, message, instance):
    """Write the instance's network settings where its guest finds them."""
    cell.act(message, instance, "inject_network_info")


@operation(Route.INSTANCE_CELL, since="1.24")
def snapshot_instance(cell, message, instance, image_id):
    """Take a snapshot into an image that the top has created already."""
    _take_image(cell, message, instance, task_states.IMAGE_SNAPSHOT, "createImage", image_id, "snapshot")


@operation(Route.INSTANCE_CELL, since="1.24")
def backup_instance(cell, message, instance, image_id, backup_type, rotation):
    """Take a backup into an image that the top has created already, keeping `rotation` of its type."""
    _take_image(cell, message, instance, task_states.IMAGE_BACKUP, "createBackup", image_id, "backup",
                backup_type=backup_type, rotation=rotation)


def _take_image(cell, message, instance, task_state, action, image_id, image_type, **rotation) -> None:
    ctxt = message.ctxt

    def begin():
        cell.refresh(ctxt, instance)
        instance.task_state = task_state
        instance.save(expected_task_state=[None])
        objects.InstanceAction.action_start(ctxt, instance.uuid, action)
        args = {"instance": instance.to_legacy_dict(), "image_id": image_id, "image_type": image_type,
                "backup_type": None, "rotation": None, **rotation}
        cell.compute_client(instance.host).cast(ctxt, "snapshot_instance", version="2.0", **args)

    cell.reported(message, instance, begin)


@operation(Route.INSTANCE_CELL, since="1.25", client=(
    "(ctxt, instance, new_pass, injected_files, image_ref, orig_image_ref, orig_sys_metadata, bdms, recreate=False, "
    "on_shared_storage=False, host=None, preserve_ephemeral=False, kwargs=None)"),
    sends={"image_href": "image_ref", "admin_password": "new_pass", "files_to_inject": "injected_files"})
def rebuild_instance(cell, message, instance, image_href, admin_password, files_to_inject, preserve_ephemeral, kwargs):
    """Rebuild an instance from an image, keeping its identity and addresses."""
    cell.act(message, instance, "rebuild", image_href, admin_password, files_to_inject,
             preserve_ephemeral=preserve_ephemeral, **(kwargs or {}))


@operation(Route.INSTANCE_CELL, since="1.29")
def set_admin_password(cell, message, instance, new_pass):
    """Set the password of the guest's administrator."""
    cell.act(message, instance, "set_admin_password", new_pass)


@operation(Route.EVERY_CELL, since="1.27")
def instance_delete_everywhere(cell, message, instance, delete_type):
    """Delete an instance wherever below it is, or may yet be built; `delete_type` is soft or hard."""
    ctxt = message.ctxt
    cell.db.tombstone_create(ctxt, instance.uuid)
    method = cell.compute_api.soft_delete if delete_type == "soft" else cell.compute_api.delete
    try:
        instance.refresh()
    except exception.InstanceNotFound:
        LOG.debug("Instance %s is not here, nothing to delete", instance.uuid)
        return
    except exception.InstanceInfoCacheNotFound:
        pass
    method(ctxt, instance)
