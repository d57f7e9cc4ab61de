"""CellsManager: what the rest of a cell asks of its `nova-cells`, over topic cells 1.37."""

from typing import Any

import oslo_messaging
from oslo_log import log as logging

from nova_lite import exception, manager, objects
from nova_lite.cells import legacy, operations, own_methods, routing, utils
from nova_lite.cells.lost_builds import LostBuilds
from nova_lite.cells.lost_orders import LostOrders
from nova_lite.cells.messaging import MessageRunner
from nova_lite.cells.partial import PartialResults
from nova_lite.cells.remote_exceptions import first_line
from nova_lite.cells.reports import Reports
from nova_lite.cells.state import CellStateManager
from nova_lite.objects import base

LOG = logging.getLogger(__name__)

_TOLD_BY_RPC = ("get_cell_info_for_neighbors", "get_capacities", "cell_create", "cell_update", "cell_delete",
                "cell_get", "build_instances", "run_compute_api_method", "proxy_rpc_to_manager")


@operations.manager_methods
class CellsManager(manager.Manager):
    """The manager of a `nova-cells` process. Only the local cell calls it; other cells reach its runner."""

    target = oslo_messaging.Target(version="1.37")
    remote_methods = frozenset(_TOLD_BY_RPC) | {
        op.name for op in operations.registry
        if not op.own and op.route not in (operations.Route.NEIGHBOUR, operations.Route.ORIGIN)}
    at_most_once = True
    split_item = staticmethod(utils.split_cell_and_item)

    def __init__(self, *args, **kwargs):
        state_manager_class = kwargs.pop("cell_state_manager", None) or CellStateManager
        super().__init__(*args, service_name="cells", **kwargs)
        self.state_manager = state_manager_class(services=self.services)
        self.msg_runner = MessageRunner(self.state_manager, services=self.services)
        self.reports = Reports(self.msg_runner)
        self.lost_builds = LostBuilds(self.msg_runner)
        self.lost_orders = LostOrders(self.msg_runner, self.lost_builds)
        self.driver = utils.load_class(self.services.conf.cells.driver)(self.services)
        self.partial_results = PartialResults(self.services)
        self.own_methods = own_methods.OwnCellsMethods(self.msg_runner, self.partial_results)
        self.additional_endpoints = [self.own_methods]
        self.serializer = utils.ProxyObjectSerializer()

    # -- life

    def post_start_hook(self):
        """Begin to hear from other cells, and tell them of this one."""
        LOG.info("Neighbours of another implementation have to be upgraded in lockstep, those of ours in any order")
        self.driver.start_servers(self.msg_runner)
        self.msg_runner.outbox.start()
        ctxt = self.msg_runner.admin_context()
        if self.state_manager.get_child_cells():
            self.msg_runner.ask_children_for_capabilities(ctxt)
            self.msg_runner.ask_children_for_capacities(ctxt)
        else:
            self._update_our_parents(ctxt)

    def stop(self):
        """Stop to hear from other cells; what is being processed ends first."""
        self.driver.stop_servers()
        self.msg_runner.scheduler.stop()
        self.msg_runner.outbox.stop()

    def reset(self):
        """The configuration was read again: look at the neighbours at once."""
        self.state_manager.refresh()

    @manager.periodic_task(spacing=60)
    def _update_our_parents(self, ctxt):
        self.msg_runner.tell_parents_our_capabilities(ctxt)
        self.msg_runner.tell_parents_our_capacities(ctxt)

    @manager.periodic_task(spacing=15)
    def _tell_parents_we_are_there(self, ctxt):
        self.msg_runner.heartbeats.beat(ctxt)

    @manager.periodic_task(spacing=1)
    def _report_changes(self, ctxt):
        """A host that came up below, or a parent that was not there a moment ago, must not wait for the next report."""
        self.state_manager.recount_if_stale()
        self.reports.tell_changes(ctxt)

    @manager.periodic_task(spacing=60)
    def _heal_instances(self, ctxt):
        """Tell the top again what it may have missed: what differs where it can be compared, else some of all."""
        if not self.state_manager.get_parent_cells():
            return
        healer = self.msg_runner.healer
        try:
            if healer.heal(ctxt) is None:
                healer.heal_some(ctxt, self.services.conf.cells.instance_update_num_instances,
                                 lambda instance: self._sync_instance(ctxt, instance))
        except exception.NovaException as error:
            LOG.warning("Instances could not be compared with the top, or not be told to it: %s", first_line(error))

    @manager.periodic_task(spacing=3600)
    def _forget_deletions(self, ctxt):
        """Late messages that would build what was deleted are not expected any more."""
        self.services.db.tombstone_purge(ctxt)

    @manager.periodic_task(spacing=5)
    def _repeat_lost_orders(self, ctxt):
        """A build whose order was lost on its way is ordered again."""
        self.msg_runner.orders.look_through(ctxt)

    @manager.periodic_task(spacing=60)
    def _end_lost_builds(self, ctxt):
        """A build that was lost on its way must not be waited for for ever, nor what else nobody can carry out."""
        self.lost_builds.end(ctxt)
        self.lost_orders.end(ctxt)

    @manager.periodic_task(spacing=60)
    def _settle_disputes(self, ctxt):
        """Two cells that have the same instance must not both keep it."""
        self.msg_runner.disputes.settle(ctxt)

    def _sync_instance(self, ctxt, instance):
        self.msg_runner.healer.push(ctxt, instance.uuid)

    # -- cells

    def get_cell_info_for_neighbors(self, _ctxt):
        """Return what may be shown of the neighbours, children first."""
        return self.state_manager.get_cell_info_for_neighbors()

    def get_capacities(self, ctxt, cell_name):
        """Return capacities of this cell with its children, or of one child. Raises CellNotFound."""
        return self.state_manager.get_capacities(cell_name)

    def cell_create(self, ctxt, values):
        """Insert a neighbour; returns its row. Raises CellExists, Invalid, CellsUpdateUnsupported."""
        return self.state_manager.cell_create(ctxt, values)

    def cell_update(self, ctxt, cell_name, values):
        """Change a neighbour; returns its row. Raises CellNotFound, Invalid, CellsUpdateUnsupported."""
        return self.state_manager.cell_update(ctxt, cell_name, values)

    def cell_delete(self, ctxt, cell_name):
        """Delete a neighbour; returns the number of rows deleted. Raises CellsUpdateUnsupported."""
        return self.state_manager.cell_delete(ctxt, cell_name)

    def cell_get(self, ctxt, cell_name):
        """Return a neighbour as a dict, passwords masked. Raises CellNotFound."""
        return self.state_manager.cell_get(ctxt, cell_name).to_dict()

    # -- building, passing through

    def build_instances(self, ctxt, build_inst_kwargs):
        """Have instances built: this cell's scheduler chooses where."""
        self.msg_runner.build_instances(ctxt, self.state_manager.get_my_state(), _modern(ctxt, build_inst_kwargs))

    def run_compute_api_method(self, ctxt, cell_name, method_info, call):
        """Run a method of the compute API in a cell; returns its result if `call`."""
        response = self.msg_runner.run_compute_api_method(ctxt, cell_name, method_info, call)
        return response.value_or_raise() if call else None

    def proxy_rpc_to_manager(self, ctxt, topic, rpc_message, call, timeout):
        """Pass an RPC message to a host: `topic` is <compute topic>.<path>@<host>. Returns the result if `call`."""
        cell_name, host_name = utils.split_cell_and_item(topic.partition(".")[2])
        response = self.msg_runner.proxy_rpc_to_manager(ctxt, cell_name, host_name, topic, rpc_message, call, timeout)
        return response.value_or_raise() if call else None

    # -- upwards: written down first, so that nothing is lost on the way

    def instance_update_at_top(self, ctxt, instance):
        """Tell the top what changed of an instance."""
        wire = base.to_wire(legacy.update_of(ctxt, instance))
        self._enqueue(ctxt, instance["uuid"], "instance_update_at_top", {"instance": wire})

    def instance_destroy_at_top(self, ctxt, instance):
        """Tell the top that an instance is gone."""
        wire = base.to_wire(legacy.instance_of(ctxt, instance))
        self._enqueue(ctxt, instance["uuid"], "instance_destroy_at_top", {"instance": wire})

    def instance_fault_create_at_top(self, ctxt, instance_fault):
        """Tell the top of a fault."""
        self._enqueue(ctxt, instance_fault["instance_uuid"], "instance_fault_create_at_top",
                      {"instance_fault": base.to_wire(instance_fault)})

    def bw_usage_update_at_top(self, ctxt, bw_update_info):
        """Tell the top what an interface transferred."""
        self._enqueue(ctxt, bw_update_info["uuid"], "bw_usage_update_at_top",
                      {"bw_update_info": base.to_wire(bw_update_info)})

    def bdm_update_or_create_at_top(self, ctxt, bdm, create=None):
        """Tell the top of a block device mapping."""
        values = {key: value for key, value in dict(bdm.items()).items() if key != "instance"}
        self._enqueue(ctxt, values["instance_uuid"], "bdm_update_or_create_at_top",
                      {"bdm": base.to_wire(values), "create": create})

    def bdm_destroy_at_top(self, ctxt, instance_uuid, device_name=None, volume_id=None):
        """Tell the top that a block device mapping is gone."""
        self._enqueue(ctxt, instance_uuid, "bdm_destroy_at_top",
                      {"instance_uuid": instance_uuid, "device_name": device_name, "volume_id": volume_id})

    def _enqueue(self, ctxt, uuid: str, method: str, kwargs: dict[str, Any]) -> None:
        self.msg_runner.outbox.enqueue(ctxt, uuid, method, kwargs)

    def get_keypair_at_top(self, ctxt, user_id, name):
        """Return a key pair that a cell above has, or None. Raises a failure only when nobody has it."""
        responses = self.msg_runner.get_keypair_at_top(ctxt, user_id, name)
        found = [response for response in responses if not response.failure and response.value is not None]
        if len(found) > 1:
            LOG.warning("Several cells have key pair %s: %s", name, ", ".join(one.cell_name for one in found))
        if found:
            return found[0].value
        for response in responses:
            response.value_or_raise()
        return None

    # -- downwards, to all

    def instance_delete_everywhere(self, ctxt, instance, delete_type):
        """Delete an instance wherever below it is; `delete_type` is soft or hard."""
        self.msg_runner.instance_delete_everywhere(ctxt, legacy.instance_of(ctxt, instance), delete_type)

    def _answers(self, operation: str, responses):
        """Return the answers that came; which cells are missing is told by `cell_failures` of our own namespace."""
        return self.partial_results.answered(operation, responses)

    def service_get_all(self, ctxt, filters):
        """Return the services of all cells; id and host name the cell."""
        answers = self._answers("service_get_all", self.msg_runner.service_get_all(ctxt, filters))
        return [utils.add_cell_to_service(service, response.cell_name)
                for response in answers for service in response.value]

    def compute_node_get_all(self, ctxt, hypervisor_match=None):
        """Return the compute nodes of all cells; id and host name the cell."""
        answers = self._answers("compute_node_get_all", self.msg_runner.compute_node_get_all(ctxt, hypervisor_match))
        return [utils.add_cell_to_compute_node(node, response.cell_name)
                for response in answers for node in response.value]

    def compute_node_stats(self, ctxt):
        """Return the statistics of all cells added up."""
        sums: dict[str, int] = {}
        for response in self._answers("compute_node_stats", self.msg_runner.compute_node_stats(ctxt)):
            for key, value in response.value.items():
                sums[key] = sums.get(key, 0) + value
        return sums

    def task_log_get_all(self, ctxt, task_name, period_beginning, period_ending, host=None, state=None):
        """Return task log rows of all cells, or of the cell (and host) that `host` names as 'path[@host]'."""
        cell_name, host_name = None, None
        if host is not None:
            cell_name, host_name = utils.split_cell_and_item(host)
            if cell_name is None:
                cell_name, host_name = host, None
        rows = []
        responses = self.msg_runner.task_log_get_all(ctxt, cell_name, task_name, period_beginning, period_ending,
                                                     host=host_name, state=state)
        for response in self._answers("task_log_get_all", responses):
            for row in response.value:
                utils.add_cell_to_task_log(row, response.cell_name)
                rows.append(row)
        return rows

    def get_migrations(self, ctxt, filters):
        """Return migrations of all cells below, or of the one below this that filters['cell_name'] names."""
        filters = dict(filters or {})
        below = filters.pop("cell_name", None)
        cell_name = routing.append(self.msg_runner.our_name, below) if below else None
        answers = self._answers("get_migrations", self.msg_runner.get_migrations(ctxt, cell_name, False, filters))
        return [migration for response in answers for migration in response.value]

    # -- one cell

    def service_get_by_compute_host(self, ctxt, host_name):
        """Return the compute service of 'path@host'."""
        cell_name, host = utils.split_cell_and_item(host_name)
        response = self.msg_runner.service_get_by_compute_host(ctxt, cell_name, host)
        return utils.add_cell_to_service(response.value_or_raise(), response.cell_name)

    def service_update(self, ctxt, host_name, binary, params_to_update):
        """Change a service of 'path@host', e.g. {'disabled': True}; returns it."""
        cell_name, host = utils.split_cell_and_item(host_name)
        response = self.msg_runner.service_update(ctxt, cell_name, host, binary, params_to_update)
        return utils.add_cell_to_service(response.value_or_raise(), response.cell_name)

    def service_delete(self, ctxt, cell_service_id):
        """Delete the service 'path@id'."""
        cell_name, service_id = utils.split_cell_and_item(cell_service_id)
        self.msg_runner.service_delete(ctxt, cell_name, service_id)

    def compute_node_get(self, ctxt, compute_id):
        """Return the compute node 'path@id'."""
        cell_name, node_id = utils.split_cell_and_item(compute_id)
        response = self.msg_runner.compute_node_get(ctxt, cell_name, node_id)
        return utils.add_cell_to_compute_node(response.value_or_raise(), cell_name)

    def validate_console_port(self, ctxt, instance_uuid, console_port, console_type):
        """Ask an instance's cell whether this is its console. Raises InstanceUnknownCell."""
        instance = objects.Instance.get_by_uuid(ctxt, instance_uuid)
        if not instance.cell_name:
            raise exception.InstanceUnknownCell(instance_uuid=instance_uuid)
        return self.msg_runner.validate_console_port(
            ctxt, instance.cell_name, instance_uuid, console_port, console_type).value_or_raise()

    def stop_instance(self, ctxt, instance, do_cast=True, clean_shutdown=True):
        """Stop an instance; unless `do_cast`, wait and return the result. Raises InstanceUnknownCell then."""
        response = self.msg_runner.stop_instance(ctxt, instance, do_cast=do_cast, clean_shutdown=clean_shutdown)
        if do_cast:
            return None
        if response is None:
            raise exception.InstanceUnknownCell(instance_uuid=instance["uuid"])
        return response.value_or_raise()


def _modern(ctxt, build_inst_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a build with objects where an older client sent dicts."""
    kwargs = dict(build_inst_kwargs)
    properties = dict(kwargs.get("filter_properties") or {})
    flavor = properties.get("instance_type")
    if isinstance(flavor, dict):
        properties["instance_type"] = objects.Flavor(
            ctxt, **{key: value for key, value in flavor.items() if key in objects.Flavor.fields})
    if "filter_properties" in kwargs:
        kwargs["filter_properties"] = properties
    kwargs["instances"] = [legacy.instance_of(ctxt, instance) for instance in kwargs["instances"]]
    return kwargs
