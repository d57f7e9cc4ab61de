"""Moving running guests, on both hosts.

Flow: API -> scheduler -> check_destination -> check_source; then live_migration on the source: pre on the destination,
the driver, and either `_succeeded` (post on the destination) or `_failed` (clean-up on the destination).
"""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.policy import record_fault
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states

LOG = logging.getLogger(__name__)


class LiveMigrator:
    """One side of a live migration."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, computes: ComputeAPI) -> None:
        self._here = here
        self._block_devices = block_devices
        self._computes = computes

    # --- Is it possible? ---

    def check_destination(self, context: RequestContext, instance: objects.Instance, block_migration: bool | None,
                          disk_over_commit: bool | None) -> dict[str, Any]:
        """Let both drivers judge the move; return what they want to know again when it happens (migrate_data).

        Raises ComputeHostNotFound, MigrationPreCheckError and what else a driver objects with.
        """
        driver = self._here.driver
        dest_check_data = driver.check_can_live_migrate_destination(
            context, instance, self._node_of(context, instance.host), self._node_of(context, self._here.name),
            block_migration, disk_over_commit)
        try:
            migrate_data = self._computes.check_can_live_migrate_source(context, instance, dest_check_data)
        finally:
            driver.check_can_live_migrate_destination_cleanup(context, dest_check_data)
        return {**(migrate_data or {}), **(dest_check_data or {}).get("migrate_data", {})}

    def _node_of(self, context: RequestContext, host: str) -> dict[str, Any]:
        nodes = objects.ComputeNodeList.get_all_by_host(context, host)
        if not nodes.objects:
            raise exception.ComputeHostNotFound(host=host)
        return dict(nodes[0].items())

    def check_source(self, context: RequestContext, instance: objects.Instance,
                     dest_check_data: dict[str, Any]) -> dict[str, Any]:
        """Let the source's driver judge what the destination found; returns migrate_data."""
        dest_check_data = {**(dest_check_data or {}), "is_volume_backed": self._is_volume_backed(context, instance)}
        return self._here.driver.check_can_live_migrate_source(context, instance, dest_check_data)

    def _is_volume_backed(self, context: RequestContext, instance: objects.Instance) -> bool:
        bdms = self._block_devices.of(context, instance)
        return self._here.services.compute_api.is_volume_backed_instance(context, instance, bdms)

    # --- Destination: get ready ---

    def pre(self, context: RequestContext, instance: objects.Instance, disk: Any,
            migrate_data: dict[str, Any] | None) -> Any:
        """Claim room, connect volumes and networks for a guest that is about to arrive.

        Raises ComputeResourcesUnavailable, FixedIpNotFoundForInstance.
        """
        here = self._here
        with here.announced(context, instance, "live_migration.pre"):
            network_info = here.network_info(context, instance)
            if not network_info.fixed_ips():
                raise exception.FixedIpNotFoundForInstance(instance_uuid=instance.uuid)
            tracker = here.trackers.of(here.driver.get_available_nodes()[0])
            with tracker.arrival_claim(context, instance):
                info = self._block_devices.reconnect(context, instance)
                wanted = here.for_driver(network_info)
                result = here.driver.pre_live_migration(context, instance, info, wanted, disk, migrate_data)
                here.network_api.setup_networks_on_host(context, instance, here.name)
                _if_implemented(here.driver.ensure_filtering_rules_for_instance, instance, wanted)
        return result

    # --- Source: go ---

    def migrate(self, context: RequestContext, dest: str, instance: objects.Instance, block_migration: bool | None,
                migrate_data: dict[str, Any] | None) -> None:
        """Move the guest to `dest`; a failure puts things back as they were, and is raised."""
        migration = self._record(context, instance, dest)
        disk = self._here.driver.get_instance_disk_info(instance.name) if block_migration else None
        try:
            self._computes.pre_live_migration(context, instance, block_migration, disk, dest, migrate_data)
        except Exception as error:  # the guest has not been touched, the destination may have been
            self._failed(context, instance, dest, block_migration, migrate_data, migration, error)
            raise
        migration.status = "running"
        migration.save()

        def succeeded(ctxt: RequestContext, instance: Any, dest: str, block_migration: bool | None = False,
                      migrate_data: dict[str, Any] | None = None) -> None:
            self._succeeded(ctxt, self._here.load(ctxt, instance["uuid"]), dest, block_migration, migrate_data,
                            migration)

        def failed(ctxt: RequestContext, instance: Any, dest: str, block_migration: bool | None = False,
                   migrate_data: dict[str, Any] | None = None) -> None:
            self._failed(ctxt, self._here.load(ctxt, instance["uuid"]), dest, block_migration, migrate_data,
                         migration, None)

        self._here.driver.live_migration(context, instance, dest, succeeded, failed, block_migration, migrate_data)

    def _record(self, context: RequestContext, instance: objects.Instance, dest: str) -> objects.Migration:
        migration = objects.Migration(
            context.elevated(), instance_uuid=instance.uuid, source_compute=self._here.name,
            source_node=instance.node, dest_compute=dest, old_instance_type_id=instance.instance_type_id,
            new_instance_type_id=instance.instance_type_id, migration_type="live-migration", status="preparing")
        migration.create()
        return migration

    def _succeeded(self, context: RequestContext, instance: objects.Instance, dest: str,
                   block_migration: bool | None, migrate_data: dict[str, Any] | None,
                   migration: objects.Migration) -> None:
        here = self._here
        with here.announced(context, instance, "live_migration._post"):
            self._block_devices.disconnect(context, instance)
            network_info = here.for_driver(here.network_info(context, instance))
            _if_implemented(here.driver.unfilter_instance, instance, network_info)
            move = {"source_compute": here.name, "dest_compute": dest}
            here.network_api.migrate_instance_start(context, instance, move)
            problem = self._hand_over(context, instance, block_migration, dest)
            if block_migration or not (migrate_data or {}).get("is_shared_storage", True):
                here.driver.destroy(instance, network_info)
            else:
                _if_implemented(here.driver.unplug_vifs, instance, network_info)
            here.network_api.setup_networks_on_host(context, instance, here.name, teardown=True)
        migration.status = "error" if problem else "completed"
        migration.save()
        here.services.cells_notifier.delete_console_tokens(context, instance.uuid)
        here.trackers.of(migration.source_node).forget(context, instance)
        if problem:
            raise problem

    def _hand_over(self, context: RequestContext, instance: objects.Instance, block_migration: bool | None,
                   dest: str) -> Exception | None:
        """Have the destination take the guest over; return its failure: the guest has left here all the same."""
        try:
            self._computes.post_live_migration_at_destination(context, instance, block_migration, dest)
        except Exception as error:  # told when what is left here is gone
            LOG.error("Host %s did not take instance %s over as it should: %s", dest, instance.uuid,
                      type(error).__name__)
            return error
        return None

    def _failed(self, context: RequestContext, instance: objects.Instance, dest: str, block_migration: bool | None,
                migrate_data: dict[str, Any] | None, migration: objects.Migration,
                error: Exception | None) -> None:
        here = self._here
        with here.announced(context, instance, "live_migration._rollback"):
            state = here.power_state(instance)
            lost = state in (power_state.NOSTATE, power_state.SHUTDOWN, power_state.CRASHED)
            here.update(context, instance, vm_state=vm_states.ERROR if lost else instance.vm_state, power_state=state,
                        task_state=None, expected_task_state=task_states.MIGRATING)
            if error is not None:
                record_fault(here.conductor, context, instance, error)
            here.network_api.setup_networks_on_host(context, instance, here.name)
            if state == power_state.NOSTATE:
                LOG.error("Instance %s is not here any more: what host %s has of it stays there", instance.uuid, dest)
            else:
                self._clear_away(context, instance, dest, block_migration, migrate_data or {})
        migration.status = "error"
        migration.save()

    def _clear_away(self, context: RequestContext, instance: objects.Instance, dest: str, block_migration: bool | None,
                    migrate_data: dict[str, Any]) -> None:
        """Remove what the destination has made for the guest."""
        for bdm in self._block_devices.of(context, instance):
            if bdm.volume_id:
                self._remove_connection(context, instance, bdm.volume_id, dest)
        on_volumes_alone = migrate_data.get("is_volume_backed") and not migrate_data.get("is_shared_storage", True)
        if block_migration or on_volumes_alone:
            self._computes.rollback_live_migration_at_destination(context, instance, dest)

    def _remove_connection(self, context: RequestContext, instance: objects.Instance, volume_id: str,
                           dest: str) -> None:
        try:
            self._computes.remove_volume_connection(context, instance, volume_id, dest)
        except exception.NovaException as error:
            LOG.warning("Volume %s of instance %s may still be connected to host %s: %s",
                        volume_id, instance.uuid, dest, error)

    # --- Destination: take over, or clean up ---

    def post_at_destination(self, context: RequestContext, instance: objects.Instance,
                            block_migration: bool | None) -> None:
        """Take the guest that has arrived over; one that was taken over before is left alone.

        The guest is here whatever fails now: then it is in ERROR here, rather than migrating for ever.
        """
        here = self._here
        if instance.host == here.name and instance.task_state != task_states.MIGRATING:
            LOG.info("Instance %s has arrived already", instance.uuid)
            return
        with here.announced(context, instance, "live_migration.post.dest"):
            here.network_api.setup_networks_on_host(context, instance, here.name)
            move = {"source_compute": instance.host, "dest_compute": here.name}
            here.network_api.migrate_instance_finish(context, instance, move)
            try:
                here.driver.post_live_migration_at_destination(
                    context, instance, here.for_driver(here.network_info(context, instance)), block_migration,
                    self._block_devices.info(context, instance))
            except Exception as error:  # perhaps the hypervisor cannot be reached: it is not asked
                self._note_arrival(context, instance, instance.power_state, vm_states.ERROR)
                record_fault(here.conductor, context, instance, error)
                raise
            state = here.power_state(instance)
            self._note_arrival(context, instance, state,
                               vm_states.PAUSED if state == power_state.PAUSED else vm_states.ACTIVE)
            tracker = here.trackers.of(instance.node)
            tracker.arrival_ended(instance)
            tracker.track(context, instance)
            here.network_api.setup_networks_on_host(context, instance, here.name)

    def _note_arrival(self, context: RequestContext, instance: objects.Instance, state: int | None,
                      vm_state: str) -> None:
        """Note that the instance is here now."""
        here = self._here
        nodes = objects.ComputeNodeList.get_all_by_host(context, here.name).objects
        here.update(context, instance, host=here.name, node=nodes[0].hypervisor_hostname if nodes else None,
                    power_state=state, vm_state=vm_state, task_state=None,
                    expected_task_state=task_states.MIGRATING)

    def rollback_at_destination(self, context: RequestContext, instance: objects.Instance) -> None:
        """Remove what `pre` made for a guest that did not arrive. A message that comes after a guest did is dropped."""
        here = self._here
        if instance.host == here.name:
            LOG.warning("Instance %s lives here; nothing of it is rolled back", instance.uuid)
            return
        with here.announced(context, instance, "live_migration.rollback.dest"):
            network_info = here.for_driver(here.network_info(context, instance))
            here.network_api.setup_networks_on_host(context, instance, here.name, teardown=True)
            here.driver.destroy(instance, network_info, self._block_devices.info(context, instance))
            here.trackers.of(here.driver.get_available_nodes()[0]).arrival_ended(instance)


def _if_implemented(method: Any, *args: Any) -> None:
    try:
        method(*args)
    except NotImplementedError:
        LOG.debug("%s is nothing to this driver", method.__name__)
