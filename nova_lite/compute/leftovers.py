"""Guests and disks that are here although their instances are deleted, or moved, or both."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite import objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.delete import Deleter
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.pacing import each_in_turn
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, vm_states
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

# Deleted instances looked at in one pass.
BATCH = 100
# How long after a deletion what live migrations may have left is looked for, once by each run of the service.
LOOKED_FOR_S = 24 * 3600


class Leftovers:
    """Periodic clean-up after deletions and resizes. One instance's trouble never stops the others."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, deleter: Deleter) -> None:
        self._here = here
        self._block_devices = block_devices
        self._deleter = deleter
        self._attempts: dict[str, int] = {}
        self._settled: set[int] = set()  # migrations that have left nothing here

    def reclaim_deleted(self, context: RequestContext) -> None:
        """Delete for good what was softly deleted longer than reclaim_instance_interval ago."""
        interval_s = self._here.conf.reclaim_instance_interval
        if interval_s <= 0:
            return
        due = [instance for instance in self._here.find(context, vm_state=vm_states.SOFT_DELETED, task_state=None)
               if instance.deleted_at is None or self._here.is_older(instance.deleted_at, interval_s)]
        self._each(self._reclaim, context, due)

    def _reclaim(self, context: RequestContext, instance: objects.Instance) -> None:
        with self._here.locks.hold(instance.uuid, timeout_s=0):
            instance = self._here.load(context, instance.uuid)
            if (instance.vm_state, instance.task_state) != (vm_states.SOFT_DELETED, None):
                LOG.info("Instance %s was restored in time", instance.uuid)
                return
            LOG.info("Reclaiming softly deleted instance %s", instance.uuid)
            self._deleter.delete(context, instance)

    def clean_running_deleted(self, context: RequestContext) -> None:
        """Do what running_deleted_instance_action says about guests whose rows are deleted."""
        action = self._here.conf.running_deleted_instance_action
        if action == "noop":
            return
        act = {"log": self._log_running, "shutdown": self._shut_running, "reap": self._reap}[action]
        context = context.elevated(read_deleted="yes")
        timeout_s = self._here.conf.running_deleted_instance_timeout
        due = [instance for instance in self._known_to_driver(context)
               if instance.deleted and (instance.deleted_at is None
                                        or self._here.is_older(instance.deleted_at, timeout_s))]
        self._each(act, context, due)

    def _known_to_driver(self, context: RequestContext) -> Iterable[objects.Instance]:
        try:
            uuids = list(self._here.driver.list_instance_uuids())
        except NotImplementedError:
            return self._known_by_name(context)
        found = list(objects.InstanceList.get_by_filters(context, {"uuid": uuids})) if uuids else []
        for uuid in set(uuids) - {instance.uuid for instance in found}:
            LOG.error("Guest %s is on host %s, but no instance of it is known", uuid, self._here.name)
        return found

    def _known_by_name(self, context: RequestContext) -> list[objects.Instance]:
        by_name = {instance.name: instance for instance in
                   objects.InstanceList.get_by_host(context, self._here.name)}
        names = set(self._here.driver.list_instances())
        for name in names - by_name.keys():
            LOG.error("Guest %s is on host %s, but no instance of it is known", name, self._here.name)
        return [by_name[name] for name in names & by_name.keys()]

    def _log_running(self, context: RequestContext, instance: objects.Instance) -> None:
        LOG.warning("Instance %s (%s) is deleted, but its guest is still on host %s",
                    instance.uuid, instance.name, self._here.name)

    def _shut_running(self, context: RequestContext, instance: objects.Instance) -> None:
        if self._here.power_state(instance) == power_state.RUNNING:
            LOG.warning("Switching off the guest of deleted instance %s", instance.uuid)
            self._here.driver.power_off(instance)

    def _reap(self, context: RequestContext, instance: objects.Instance) -> None:
        LOG.warning("Removing the guest of deleted instance %s", instance.uuid)
        bdms = self._block_devices.of(context, instance)
        self._deleter.shut_down(context, instance, bdms)
        self._block_devices.delete_flagged(context, instance, bdms)

    # --- What deletions and resizes that broke off have left ---

    def finish_deletions(self, context: RequestContext) -> None:
        """Remove what halted guests of deleted instances still hold here, and note which instances left nothing.

        Running guests are clean_running_deleted's. Each is tried maximum_instance_delete_attempts times by one run
        of the service. Asks the hypervisor once for all guests.
        """
        context = context.elevated(read_deleted="yes")
        deleted = [instance for instance in objects.InstanceList.get_not_cleaned(context, self._here.name, BATCH)
                   if self._attempts.get(instance.uuid, 0) < self._here.conf.maximum_instance_delete_attempts]
        if deleted:
            states = self._here.power_states(deleted)
            self._each(self._finish_deletion, context, deleted, states)

    def _finish_deletion(self, context: RequestContext, instance: objects.Instance, states: dict[str, int]) -> None:
        state = states.get(instance.uuid)
        if state == power_state.RUNNING:
            return
        if state is not None:
            self._attempts[instance.uuid] = self._attempts.get(instance.uuid, 0) + 1
            LOG.info("Removing the guest that deleted instance %s has left here", instance.uuid)
            self._destroy(context, instance)
        self._here.db.instance_update(context, instance.uuid, {"cleaned": 1}, replicate=False, columns_to_join=())
        self._attempts.pop(instance.uuid, None)

    def clean_up_migrations(self, context: RequestContext) -> None:
        """Remove the guests that failed moves left here whose instances were deleted meanwhile.

        The record stays as it is: the other host looks for its own.
        """
        failed = [migration for migration in objects.MigrationList.get_by_filters(context, {
            "host": self._here.name, "status": "error", "migration_type": ["resize", "migration", "live-migration"]})
            if migration.id not in self._settled]
        if failed:
            context = context.elevated(read_deleted="yes")
            uuids = sorted({migration.instance_uuid for migration in failed})
            instances = {instance.uuid: instance
                         for instance in objects.InstanceList.get_by_filters(context, {"uuid": uuids})}
            guests = set(self._here.driver.list_instance_uuids())
            self._each(self._clean_up_migration, context, failed, instances, guests)

    def _clean_up_migration(self, context: RequestContext, migration: objects.Migration,
                            instances: dict[str, objects.Instance], guests: set[str]) -> None:
        instance = instances.get(migration.instance_uuid)
        if instance is None:
            self._settled.add(migration.id)
            return
        if not instance.deleted:
            return
        if migration.migration_type == "live-migration":
            # Its disks may have come without it, which no list of guests tells.
            if not self._here.is_older(instance.deleted_at, LOOKED_FOR_S):
                self._destroy(context, instance)
        elif instance.uuid in guests:
            LOG.info("Removing the guest that migration %s of deleted instance %s has left here",
                     migration.id, instance.uuid)
            # What awaited a revert, and what was made instead of it: either host has one of them, or one host both.
            self._here.driver.confirm_migration(migration, instance, self._here.for_driver(NetworkInfo()))
            self._destroy(context, instance)
        self._settled.add(migration.id)

    def _destroy(self, context: RequestContext, instance: objects.Instance) -> None:
        self._here.driver.destroy(instance, self._here.for_driver(NetworkInfo()),
                                  self._block_devices.info(context, instance))

    def _each(self, act: Callable[..., Any], context: RequestContext, items: Sequence[Any], *args: Any) -> None:
        each_in_turn(self._here.clock, act, context, items, *args)
