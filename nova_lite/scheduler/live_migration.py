"""Whether an instance may move while it runs, and where to (compute specification §11.6)."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, servicegroup
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance, power_state
from nova_lite.scheduler.filters import resources
from nova_lite.scheduler.host_manager import HostManager

LOG = logging.getLogger(__name__)


class LiveMigrationScheduler:
    """Checks a live migration and sends it to the source host. `driver` chooses when no destination is named."""

    def __init__(self, services: Services, host_manager: HostManager, driver: Any) -> None:
        self._services = services
        self._hosts = host_manager
        self._driver = driver
        self._compute = ComputeAPI(services)
        self._servicegroup = servicegroup.API(services)

    def start(self, context: RequestContext, instance_uuid: str, dest: str | None, block_migration: bool | None,
              disk_over_commit: bool | None) -> None:
        """Start the move of the instance to `dest`, or to a host that suits it. Raises what forbids it."""
        instance = Instance.get_by_uuid(context, instance_uuid)
        self._check_source(context, instance)
        if dest is None:
            dest, migrate_data = self._find_destination(context, instance, block_migration, disk_over_commit)
        else:
            self._check_named(context, instance, dest)
            migrate_data = self._check_pair(context, instance, dest, block_migration, disk_over_commit)
        try:
            self._compute.live_migration(context, instance, dest, block_migration, instance.host, migrate_data)
        except exception.RpcUnavailable as error:
            raise exception.ComputeServiceUnavailable(host=instance.host) from error

    def _check_source(self, context: RequestContext, instance: Instance) -> None:
        if instance.power_state != power_state.RUNNING:
            raise exception.InstanceNotRunning(instance_id=instance.uuid)
        self._check_up(context, instance.host)

    def _check_up(self, context: RequestContext, host: str) -> None:
        try:
            service = self._services.db.service_get_by_compute_host(context.elevated(), host)
        except exception.NotFound as error:
            raise exception.ComputeServiceUnavailable(host=host) from error
        if not self._servicegroup.service_is_up(service):
            raise exception.ComputeServiceUnavailable(host=host)

    def _check_named(self, context: RequestContext, instance: Instance, dest: str) -> None:
        if dest == instance.host:
            raise exception.UnableToMigrateToSelf(instance_id=instance.uuid, host=dest)
        self._check_up(context, dest)
        states = [state for state in self._hosts.get_all_host_states(context) if state.host == dest]
        ratio = self._services.conf.ram_allocation_ratio
        if not any(resources.has_memory(state, instance.memory_mb, ratio) for state in states):
            raise exception.MigrationPreCheckError(
                reason=f"{dest} has not the {instance.memory_mb} MB that instance {instance.uuid} needs")

    def _check_pair(self, context: RequestContext, instance: Instance, dest: str, block_migration: bool | None,
                    disk_over_commit: bool | None) -> dict[str, Any]:
        """Compare the two hypervisors, then have the destination check; returns its migrate_data."""
        source_node, dest_node = self._node(context, instance.host), self._node(context, dest)
        if source_node["hypervisor_type"] != dest_node["hypervisor_type"]:
            raise exception.InvalidHypervisorType()
        if (source_node["hypervisor_version"] or 0) > (dest_node["hypervisor_version"] or 0):
            raise exception.DestinationHypervisorTooOld()
        try:
            return self._compute.check_can_live_migrate_destination(context, instance, dest, block_migration,
                                                                    disk_over_commit)
        except (exception.RpcUnavailable, exception.RpcTimeout) as error:  # the check has changed nothing
            raise exception.ComputeServiceUnavailable(host=dest) from error

    def _node(self, context: RequestContext, host: str) -> dict[str, Any]:
        for node in self._services.db.compute_node_get_all(context.elevated()):
            if node["host"] == host:
                return node
        raise exception.ComputeServiceUnavailable(host=host)

    def _find_destination(self, context: RequestContext, instance: Instance, block_migration: bool | None,
                          disk_over_commit: bool | None) -> tuple[str, dict[str, Any]]:
        ignored = [instance.host]
        request_spec = self._request_spec(instance)
        while True:  # ends in NoValidHost: each round takes a host away
            chosen = self._driver.select_hosts(context, request_spec, {"ignore_hosts": ignored})[0].host
            try:
                return chosen, self._check_pair(context, instance, chosen, block_migration, disk_over_commit)
            except (exception.Invalid, exception.MigrationPreCheckError) as error:
                LOG.info("Instance %s cannot move to %s: %s", instance.uuid, chosen, error)
                ignored = [*ignored, chosen]

    def _request_spec(self, instance: Instance) -> dict[str, Any]:
        properties = instance.to_legacy_dict()
        image = {"id": instance.image_ref, "properties": {
            key.removeprefix("image_"): value for key, value in (instance.system_metadata or {}).items()
            if key.startswith("image_")}}
        return {"instance_properties": properties, "instance_uuids": [instance.uuid], "image": image,
                "instance_type": instance.get_flavor().to_dict()}
