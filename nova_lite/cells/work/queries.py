"""Questions about services, hosts, tasks, actions and consoles, answered where the records are."""

from oslo_utils import uuidutils

from nova_lite import objects
from nova_lite.cells.operations import TARGETED, Route, operation
from nova_lite.objects import base


def _local_id(text) -> int | str:
    """Return the id that the item of 'path@id' means: a number, or a uuid as it is."""
    return text if uuidutils.is_uuid_like(text) else int(text)


@operation(Route.EVERY_CELL, replies=True, runs_locally=True, since="1.2")
def service_get_all(cell, message, filters=None):
    """Return the services of each cell whose attributes equal the filters ('disabled' among them)."""
    filters = dict(filters or {})
    services = objects.ServiceList.get_all(message.ctxt, disabled=filters.pop("disabled", None))
    return [service for service in services if all(service[key] == value for key, value in filters.items())]


@operation(Route.NAMED_CELL, replies=True, since="1.2", item=("host_name", "host_name"))
def service_get_by_compute_host(cell, message, host_name):
    """Return the compute service of a host."""
    return objects.Service.get_by_compute_host(message.ctxt, host_name)


@operation(Route.NAMED_CELL, replies=True, since="1.7", item=("host_name", "host_name"))
def service_update(cell, message, host_name, binary, params_to_update):
    """Change a service, e.g. {'disabled': True}; returns it."""
    service = objects.Service.get_by_args(message.ctxt, host_name, binary)
    for name, value in params_to_update.items():
        setattr(service, name, value)
    service.save()
    return service


@operation(Route.NAMED_CELL, replies=True, since="1.26", item=("cell_service_id", "service_id"))
def service_delete(cell, message, service_id):
    """Delete a service's record."""
    objects.Service.get_by_id(message.ctxt, _local_id(service_id)).destroy()


@operation(Route.NAMED_CELL, replies=True, since="1.17", client="(context, host_name)",
           item=("host_name", "host_name"))
def get_host_uptime(cell, message, host_name):
    """Return a host's uptime as text. Raises ComputeServiceUnavailable when its service is down."""
    return cell.host_api.get_host_uptime(message.ctxt, host_name)


@operation(Route.EVERY_CELL, replies=True, runs_locally=True, since="1.4")
def compute_node_get_all(cell, message, hypervisor_match=None):
    """Return the compute nodes of each cell, those whose name matches if asked."""
    if hypervisor_match is not None:
        return objects.ComputeNodeList.get_by_hypervisor(message.ctxt, hypervisor_match)
    return objects.ComputeNodeList.get_all(message.ctxt)


@operation(Route.EVERY_CELL, replies=True, runs_locally=True, since="1.4")
def compute_node_stats(cell, message):
    """Return sums over the compute nodes of each cell, all integers."""
    stats = cell.db.compute_node_statistics(message.ctxt)
    return {key: int(value or 0) for key, value in stats.items()}


@operation(Route.NAMED_CELL, replies=True, since="1.4", item=("compute_id", "compute_id"))
def compute_node_get(cell, message, compute_id):
    """Return a compute node by its id or uuid."""
    local_id = _local_id(compute_id)
    if isinstance(local_id, str):
        return objects.ComputeNode.get_by_uuid(message.ctxt, local_id)
    return objects.ComputeNode.get_by_id(message.ctxt, local_id)


@operation(Route.EVERY_CELL, also=TARGETED, replies=True, runs_locally=True, since="1.3", client=(
    "(ctxt, task_name, period_beginning, period_ending, host=None, state=None)"))
def task_log_get_all(cell, message, task_name, period_beginning, period_ending, host=None, state=None):
    """Return the task log rows of a period."""
    return base.to_wire(cell.db.task_log_get_all(message.ctxt, task_name, period_beginning, period_ending,
                                                 host=host, state=state))


@operation(Route.EVERY_CELL, also=TARGETED, replies=True, runs_locally=True, since="1.11")
def get_migrations(cell, message, filters):
    """Return migrations that match the filters."""
    return cell.compute_api.get_migrations(message.ctxt, filters)


@operation(Route.NAMED_CELL, replies=True)
def actions_get(cell, message, instance_uuid):
    """Return the actions taken on an instance, as dicts, the latest first."""
    return base.to_wire(cell.db.actions_get(message.ctxt, instance_uuid))


@operation(Route.NAMED_CELL, replies=True)
def action_get_by_request_id(cell, message, instance_uuid, request_id):
    """Return one action on an instance as a dict, or None."""
    return base.to_wire(cell.db.action_get_by_request_id(message.ctxt, instance_uuid, request_id))


@operation(Route.NAMED_CELL, replies=True)
def action_events_get(cell, message, action_id):
    """Return the events of an action as dicts."""
    return base.to_wire(cell.db.action_events_get(message.ctxt, action_id))


@operation(Route.NAMED_CELL, replies=True)
def validate_console_port(cell, message, instance_uuid, console_port, console_type):
    """Ask the instance's host whether this port is its console. Truthy when it is."""
    ctxt = message.ctxt
    instance = cell.load_instance(ctxt, instance_uuid)
    return cell.compute_client(instance.host).call(
        ctxt, "validate_console_port", version="2.26", instance=instance.to_legacy_dict(),
        port=console_port, console_type=console_type)
