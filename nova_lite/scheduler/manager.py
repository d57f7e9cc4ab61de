"""The scheduler's RPC methods (API 2.6, compute specification §11.1)."""

from typing import Any

from oslo_log import log as logging
from oslo_utils import importutils

from nova_lite import exception, manager, quota
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import vm_states
from nova_lite.scheduler.filter_scheduler import BuildRequest
from nova_lite.scheduler.live_migration import LiveMigrationScheduler
from nova_lite.scheduler.reporting import FailureReport

LOG = logging.getLogger(__name__)

# What a user may meet when he asks for a live migration; the instance goes on as it was.
EXPECTED_BEFORE_A_MOVE = (
    exception.NoValidHost, exception.ComputeServiceUnavailable, exception.InvalidHypervisorType,
    exception.UnableToMigrateToSelf, exception.DestinationHypervisorTooOld, exception.InvalidLocalStorage,
    exception.InvalidSharedStorage, exception.MigrationPreCheckError, exception.InstanceNotRunning,
)


class SchedulerManager(manager.Manager):
    """Chooses hosts of this cell. Runs inside every nova-cells; idle where there are no hosts."""

    RPC_API_VERSION = "2.6"
    at_most_once = True
    remote_methods = frozenset({"run_instance", "prep_resize", "live_migration", "update_service_capabilities",
                                "select_hosts", "show_host_resources", "get_backdoor_port"})

    def __init__(self, services: Services) -> None:
        super().__init__(services=services, service_name="scheduler")
        self._services = services
        conf = services.conf
        self._hosts = importutils.import_class(conf.scheduler_host_manager)(services)
        self._report = FailureReport(services)
        self._driver = importutils.import_class(conf.scheduler_driver)(services, self._hosts, self._report)
        self._moves = LiveMigrationScheduler(services, self._hosts, self._driver)
        self._compute = ComputeAPI(services)
        self._quotas = quota.QuotaEngine(services)

    def post_start_hook(self, context: RequestContext | None = None) -> None:
        """Ask the hosts what they can do, so that the first requests know."""
        if context is None:
            return
        try:
            self._compute.publish_service_capabilities(context)
        except exception.RpcUnavailable as error:
            LOG.warning("The hosts cannot be asked what they can do, they tell it by themselves later: %s", error)

    @manager.periodic_task(spacing=60)
    def _expire_reservations(self, context: RequestContext) -> None:
        """What was reserved by somebody who never said how it ended does not count any more."""
        self._quotas.expire(context)

    @manager.periodic_task(spacing=60)
    def _reconcile_quotas(self, context: RequestContext) -> None:
        """What a crash left counted, or uncounted, is put right (max_age)."""
        self._quotas.reconcile(context)

    def run_instance(self, context: RequestContext, request_spec: dict[str, Any], admin_password: str | None,
                     injected_files: list | None, requested_networks: list | None, is_first_time: bool,
                     filter_properties: dict[str, Any]) -> None:
        """Have the instances of the request built. When no host is found they fail, which is not raised on. Cast."""
        request = BuildRequest(request_spec, admin_password, injected_files, requested_networks, is_first_time,
                               filter_properties or {})
        uuids = request_spec["instance_uuids"]
        with compute_utils.EventReporter(context, self._services.db, "schedule", *uuids):
            try:
                self._driver.schedule_run_instance(context, request)
            except exception.NoValidHost as error:
                LOG.warning("No valid host for %s: %s", ", ".join(uuids), error)
                self._report.build_failed(context, error, request_spec, uuids, is_first_time)
            except Exception as error:  # the instances must not stay scheduling
                self._report.build_failed(context, error, request_spec, uuids, is_first_time)
                raise

    def prep_resize(self, context: RequestContext, image: dict, request_spec: dict[str, Any],
                    filter_properties: dict[str, Any], instance: Any, instance_type: dict[str, Any],
                    reservations: list | None) -> None:
        """Have the instance resized or moved. Without a host it stays as it was, with a fault. Cast."""
        uuid = instance["uuid"]
        with compute_utils.EventReporter(context, self._services.db, "schedule", uuid):
            try:
                self._driver.schedule_prep_resize(context, image, request_spec, filter_properties or {}, instance,
                                                  instance_type, reservations)
            except exception.NoValidHost as error:
                LOG.warning("No valid host to resize %s to: %s", uuid, error)
                self._release(context, reservations)
                self._report.operation_failed(context, "prep_resize", error, request_spec, uuid, task_state=None)
            except Exception as error:  # the instance must not stay busy
                self._release(context, reservations)
                self._report.operation_failed(context, "prep_resize", error, request_spec, uuid,
                                              vm_state=vm_states.ERROR, task_state=None)
                raise

    def live_migration(self, context: RequestContext, instance: Any, dest: str | None, block_migration: bool | None,
                       disk_over_commit: bool | None) -> None:
        """Check the move, choose a host unless `dest` names one, and start it. Call; raises what forbids it."""
        uuid, spec = instance["uuid"], {"instance_uuids": [instance["uuid"]], "instance_properties": instance}
        try:
            self._moves.start(context, uuid, dest, block_migration, disk_over_commit)
        except EXPECTED_BEFORE_A_MOVE as error:
            self._report.operation_failed(context, "live_migration", error, spec, uuid, task_state=None,
                                          expected_task_state=["migrating"])
            raise
        except Exception as error:  # the instance must not stay migrating
            self._report.operation_failed(context, "live_migration", error, spec, uuid, vm_state=vm_states.ERROR,
                                          task_state=None)
            raise

    def update_service_capabilities(self, context: RequestContext, service_name: str, host: str,
                                    capabilities: dict | list) -> None:
        """Remember what a host says it can do. Fan-out cast."""
        for one in capabilities if isinstance(capabilities, list) else [capabilities]:
            self._hosts.update_service_capabilities(service_name, host, one)

    def select_hosts(self, context: RequestContext, request_spec: dict[str, Any],
                     filter_properties: dict[str, Any]) -> list[str]:
        """Return a host for each instance of the request. Call. Raises NoValidHost."""
        return [selection.host
                for selection in self._driver.select_hosts(context, request_spec, filter_properties or {})]

    def show_host_resources(self, context: RequestContext, host: str) -> dict[str, Any]:
        """Return {'resource': what the host has and uses, 'usage': {project: {vcpus, memory_mb, …}}}. Call.

        Raises ComputeHostNotFound.
        """
        context = context.elevated()
        nodes = [node for node in self._services.db.compute_node_get_all(context) if node["host"] == host]
        if not nodes:
            raise exception.ComputeHostNotFound(host=host)
        columns = ("vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used")
        resource = {column: sum(node[column] or 0 for node in nodes) for column in columns}
        usage: dict[str, dict[str, int]] = {}
        for instance in self._services.db.instance_get_all_by_host(context, host):
            sizes = usage.setdefault(instance["project_id"],
                                     {"vcpus": 0, "memory_mb": 0, "root_gb": 0, "ephemeral_gb": 0})
            for column in sizes:
                sizes[column] += instance[column] or 0
        return {"resource": resource, "usage": usage}

    def get_backdoor_port(self, context: RequestContext) -> int | None:
        """Return the port of the debugging console, None without one. Call."""
        return self.backdoor_port

    def _release(self, context: RequestContext, reservations: list | None) -> None:
        if reservations:
            self._services.db.reservation_rollback(context, reservations)
