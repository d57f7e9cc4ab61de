"""Operations that name what is to be called: a method of the compute API, an RPC method of a host."""

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells.operations import Route, operation

LOG = logging.getLogger(__name__)

_EXPECTED_ATTRS = ["metadata", "system_metadata", "security_groups", "info_cache"]

ALLOWED_METHODS = frozenset((
    "restore", "rescue", "unrescue", "evacuate", "attach_volume", "detach_volume", "attach_interface",
    "detach_interface", "add_fixed_ip", "remove_fixed_ip", "update_instance_metadata", "delete_instance_metadata",
    "inject_file", "get_diagnostics", "get_console_output", "get_vnc_connect_info", "get_spice_connect_info",
    "lock", "unlock", "start", "stop", "reboot", "pause", "unpause", "suspend", "resume", "delete", "force_delete",
    "soft_delete", "resize", "confirm_resize", "revert_resize", "live_migrate", "rebuild", "snapshot", "backup",
    "set_admin_password", "reset_network", "inject_network_info", "update", "get_migrations"))

UNSUPPORTED_METHODS = frozenset((
    "shelve", "shelve_offload", "unshelve", "swap_volume", "associate_floating_ip", "get_instance_diagnostics",
    "get_rdp_connect_info", "get_serial_console_connect_info", "get_mks_console", "trigger_crash_dump",
    "live_migrate_abort", "live_migrate_force_complete", "volume_snapshot_create", "volume_snapshot_delete",
    "external_instance_event"))

UPDATABLE_FIELDS = frozenset((
    "display_name", "display_description", "access_ip_v4", "access_ip_v6", "locked", "auto_disk_config"))


@operation(Route.NAMED_CELL)
def run_compute_api_method(cell, message, method_info):
    """Run a method of the compute API on an instance of this cell.

    method_info: {'method', 'method_args' (the instance's uuid first), 'method_kwargs'}. Only methods meant for it
    can be run. Raises CellServiceAPIMethodNotFound, InstanceNotFound and what the method raises.
    """
    method = str(method_info["method"])
    args = list(method_info.get("method_args") or ())
    kwargs = dict(method_info.get("method_kwargs") or {})
    if method in UNSUPPORTED_METHODS:
        _refuse_unsupported(cell, message, method, args)
    if method not in ALLOWED_METHODS:
        cell.runner.counts["refused_method"] += 1
        raise exception.CellServiceAPIMethodNotFound(detail=f"{method!r} cannot be run from another cell")
    if method == "update":
        _check_update(kwargs)
    if method == "get_migrations":
        return cell.compute_api.get_migrations(message.ctxt, *args, **kwargs)
    instance = cell.load_instance(message.ctxt, _uuid_of(args), expected_attrs=_EXPECTED_ATTRS)
    args[0] = instance
    return cell.reported(message, instance, lambda: getattr(cell.compute_api, method)(message.ctxt, *args, **kwargs))


def _uuid_of(args: list) -> str:
    if not args:
        raise exception.CellServiceAPIMethodNotFound(detail="the uuid of an instance must be the first argument")
    first = args[0]
    return first if isinstance(first, str) else first["uuid"]


def _refuse_unsupported(cell, message, method: str, args: list) -> None:
    error = exception.CellServiceAPIMethodNotFound(detail=f"{method} is not supported by this cell")
    if not message.need_response and args:
        # The top has set a task state for it already: nobody else would clear that.
        cell.report_failure(message.ctxt, _uuid_of(args), method, error)
    raise error


def _check_update(kwargs: dict) -> None:
    refused = sorted(set(kwargs) - UPDATABLE_FIELDS)
    if refused:
        raise exception.Invalid(f"update from another cell cannot change {', '.join(refused)}")


@operation(Route.NAMED_CELL)
def proxy_rpc_to_manager(cell, message, host_name, rpc_message, topic, timeout):
    """Pass an RPC message {'method', 'namespace', 'version', 'args'} on to a host of this cell.

    `topic` is the service's, with or without a server behind the first dot; the server is `host_name`. Waits for
    the result if the caller does. Raises ComputeHostNotFound for a host without a compute service.
    """
    ctxt = message.ctxt
    cell.db.service_get_by_compute_host(ctxt, host_name)
    client = cell.services.rpc.client(topic.partition(".")[0], version=rpc_message.get("version") or "1.0",
                                      namespace=rpc_message.get("namespace"), server=host_name)
    args = rpc_message.get("args") or {}
    if message.need_response:
        return client.call(ctxt, rpc_message["method"], timeout=timeout, **args)
    client.cast(ctxt, rpc_message["method"], **args)
    return None
