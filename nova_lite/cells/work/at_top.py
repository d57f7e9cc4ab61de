"""What other cells tell the top: cells on the way relay these messages, only a cell without parents acts."""

import functools
from collections.abc import Callable

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_lite import exception, objects
from nova_lite.cells import replica, routing
from nova_lite.cells.operations import Route, operation

LOG = logging.getLogger(__name__)

_OWN_BDM_KEYS = ("uuid", "revision")
_LOCAL_BDM_KEYS = frozenset(("id", "revision", "instance", "created_at", "updated_at", "deleted", "deleted_at"))


def at_top(work: Callable) -> Callable:
    """Do the work only in a cell without parents; elsewhere the answer is None."""
    @functools.wraps(work)
    def only_at_top(cell, message, *args, **kwargs):
        return work(cell, message, *args, **kwargs) if cell.is_top else None
    return only_at_top


def _is_foreign(cell, message, instance_uuid: str) -> bool:
    """Whether a message tells of an instance that another cell has."""
    return not cell.runner.replica.is_told_by_owner(message.ctxt, instance_uuid, owner_of(message))


def owner_of(message) -> str:
    """Return the full name of the cell the message started from: told by its route, never by its content."""
    return routing.reverse_path(message.routing_path)


@operation(Route.TOP)
@at_top
def instance_update_at_top(cell, message, instance, *, revision=None, snapshot=False):
    """Bring the top's row of an instance up to date; create it if it is missing."""
    cell.runner.replica.update(message.ctxt, [replica.Update(instance, owner_of(message), revision, snapshot)])


@operation(Route.TOP)
@at_top
def instance_destroy_at_top(cell, message, instance, *, revision=None):
    """Delete the top's row of an instance."""
    cell.runner.replica.destroy(message.ctxt, instance, owner_of(message))


@operation(Route.TOP)
@at_top
def instance_fault_create_at_top(cell, message, instance_fault, *, revision=None):
    """Record an instance's fault at the top, too."""
    if _is_foreign(cell, message, instance_fault["instance_uuid"]):
        return
    cell.runner.replica.create_fault(message.ctxt, dict(instance_fault.items()))


@operation(Route.TOP, client=(
    "(ctxt, uuid, mac, start_period, bw_in, bw_out, last_ctr_in, last_ctr_out, last_refreshed=None)"))
@at_top
def bw_usage_update_at_top(cell, message, bw_update_info, *, revision=None):
    """Record what an instance's interface transferred in a period."""
    if _is_foreign(cell, message, bw_update_info["uuid"]):
        return
    usage = dict(bw_update_info)
    for key in ("start_period", "last_refreshed"):
        if isinstance(usage.get(key), str):
            usage[key] = timeutils.normalize_time(timeutils.parse_isotime(usage[key]))
    cell.db.bw_usage_update(message.ctxt, **usage)


def _bdm_for_reference(kwargs: dict) -> dict:
    plain = {key: value for key, value in kwargs["bdm"].items() if key not in _OWN_BDM_KEYS}
    return {**kwargs, "bdm": plain}


@operation(Route.TOP, for_reference=_bdm_for_reference)
@at_top
def bdm_update_or_create_at_top(cell, message, bdm, create=None):
    """Write a block device mapping of an instance at the top: `create` True inserts, False updates, None either."""
    if _is_foreign(cell, message, bdm["instance_uuid"]):
        return
    values = {key: value for key, value in dict(bdm.items()).items() if key not in _LOCAL_BDM_KEYS}
    ctxt = message.ctxt
    known = _known_bdm(cell, ctxt, values)
    if known is not None and (create is not True or values.get("uuid") == known.get("uuid") is not None):
        cell.db.block_device_mapping_update(ctxt, known["id"], values, replicate=False)
    elif create is None or create:
        cell.db.block_device_mapping_create(ctxt, values, replicate=False)
    else:
        LOG.warning("No block device of instance %s matches the one to be updated", values.get("instance_uuid"))


def _known_bdm(cell, ctxt, values: dict) -> dict | None:
    """Return the row an update means: by uuid, else by device name, else by volume."""
    rows = cell.db.block_device_mapping_get_all_by_instance(ctxt, values["instance_uuid"])
    for key in ("uuid", "device_name", "volume_id"):
        wanted = values.get(key)
        found = [row for row in rows if wanted and row.get(key) == wanted]
        if found:
            return found[0]
    return None


@operation(Route.TOP)
@at_top
def bdm_destroy_at_top(cell, message, instance_uuid, device_name=None, volume_id=None):
    """Delete a block device mapping at the top, found by device name, else by volume."""
    if _is_foreign(cell, message, instance_uuid):
        return
    if device_name:
        cell.db.block_device_mapping_destroy_by_instance_and_device(message.ctxt, instance_uuid, device_name,
                                                                    replicate=False)
    elif volume_id:
        cell.db.block_device_mapping_destroy_by_instance_and_volume(message.ctxt, instance_uuid, volume_id,
                                                                    replicate=False)


@operation(Route.TOP, since="1.6")
@at_top
def consoleauth_delete_tokens(cell, message, instance_uuid):
    """Make the console tokens of an instance invalid."""
    if _is_foreign(cell, message, instance_uuid):
        return
    cell.services.console_tokens.delete_tokens_for_instance(message.ctxt, instance_uuid)


@operation(Route.TOP, replies=True)
@at_top
def get_keypair_at_top(cell, message, user_id, name):
    """Return a user's key pair, None where there is none."""
    try:
        return objects.KeyPair.get_by_name(message.ctxt, user_id, name)
    except exception.KeypairNotFound:
        return None


@operation(Route.TOP, own=True)
@at_top
def deletion_refused(cell, message, instance_uuid):
    """A cell cannot delete an instance of its own, and has told why: the order is not to be repeated."""
    if not _is_foreign(cell, message, instance_uuid):
        cell.runner.deletions.forget(message.ctxt, instance_uuid)


@operation(Route.TOP, own=True)
@at_top
def build_moved_on(cell, message, instance_uuids, *, failed_child=None):
    """A cell below, or the child of it that is named, failed to build instances, another one is about to try."""
    failed = routing.append(owner_of(message), failed_child) if failed_child else owner_of(message)
    cell.runner.replica.release(message.ctxt, instance_uuids, failed, and_below=failed_child is not None)
