"""Periodic checks on instances that take too long, and on what is remembered of them."""

from collections.abc import Callable, Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.pacing import each_in_turn
from nova_lite.compute.policy import record_fault
from nova_lite.compute.recovery import Recovery
from nova_lite.compute.volumes import is_connected
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states

LOG = logging.getLogger(__name__)


# While these last, another host may be at work on an instance of ours.
_PERHAPS_ELSEWHERE = (
    task_states.MIGRATING, task_states.RESIZE_PREP, task_states.RESIZE_MIGRATING, task_states.RESIZE_MIGRATED,
    task_states.RESIZE_FINISH, task_states.RESIZE_REVERTING, task_states.REBUILDING,
)
# Between two tasks of a build or a deletion; nobody waits in these.
_ON_THE_WAY = (vm_states.BUILDING, vm_states.DELETED)
HEALED_AT_ONCE = 50


def _is_unfinished(instance: objects.Instance) -> bool:
    return instance.task_state is not None or instance.vm_state in _ON_THE_WAY


class Watch:
    """Looks after this host's instances from time to time. One instance's trouble never stops the others."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, recovery: Recovery) -> None:
        self._here = here
        self._recovery = recovery
        self._block_devices = block_devices
        self._to_heal: list[str] = []

    # --- Things that take too long; each is off when its option is 0 ---

    def fail_slow_builds(self, context: RequestContext) -> None:
        """Set builds older than instance_build_timeout to ERROR, with a fault."""
        timeout_s = self._here.conf.instance_build_timeout
        if timeout_s <= 0:
            return
        slow = [instance for instance in self._here.find(context, vm_state=vm_states.BUILDING)
                if self._here.is_older(instance.created_at, timeout_s)]
        self._each(self._fail_build, context, slow, timeout_s)

    def _fail_build(self, context: RequestContext, instance: objects.Instance, timeout_s: int) -> None:
        record_fault(self._here.conductor, context, instance,
                     exception.InstanceDeployFailure(reason=f"not built within {timeout_s} s"))
        self._here.set_error(context, instance)

    def recover_stuck(self, context: RequestContext, older_than_s: float) -> None:
        """Recover, with a fault, instances whose task nobody here works on any more: its message was lost.

        So are builds and deletions that broke off between two tasks, records of moves that were to be closed, and
        interfaces that were to come or go.
        """
        instances = self._here.instances(context)
        stuck = [instance for instance in instances
                 if _is_unfinished(instance) and self._here.is_older(instance.updated_at, older_than_s)]
        self._each(self._recover_stuck, context, stuck, older_than_s)
        self._recovery.moves.close_moves(context, older_than_s)
        self._recovery.interfaces.settle(context, instances, older_than_s)

    def _recover_stuck(self, context: RequestContext, instance: objects.Instance, older_than_s: float) -> None:
        moves = self._recovery.moves
        if instance.task_state in _PERHAPS_ELSEWHERE and moves.is_recent(context, instance, older_than_s):
            return
        with self._here.locks.hold(instance.uuid, timeout_s=0):
            now = self._here.load(context, instance.uuid)
            if now.task_state == instance.task_state and now.updated_at == instance.updated_at:
                record_fault(self._here.conductor, context, now, exception.InstanceUnacceptable(
                    instance_id=now.uuid, reason=f"task {now.task_state or now.vm_state} was never done"))
                self._recovery.recover(context, now)

    def force_slow_reboots(self, context: RequestContext) -> None:
        """Have the driver reboot hard what has been rebooting for longer than reboot_timeout."""
        timeout_s = self._here.conf.reboot_timeout
        if timeout_s > 0:
            hung = objects.InstanceList.get_hung_in_rebooting(context, timeout_s, host=self._here.name)
            self._here.driver.poll_rebooting_instances(timeout_s, list(hung))

    def end_old_rescues(self, context: RequestContext) -> None:
        """Unrescue what has been in rescue mode for longer than rescue_timeout."""
        timeout_s = self._here.conf.rescue_timeout
        if timeout_s <= 0:
            return
        old = [instance for instance in self._here.find(context, vm_state=vm_states.RESCUED, task_state=None)
               if self._here.is_older(instance.launched_at, timeout_s)]
        self._each(self._unrescue, context, old)

    def _unrescue(self, context: RequestContext, instance: objects.Instance) -> None:
        self._here.services.compute_api.unrescue(context, instance)

    def confirm_old_resizes(self, context: RequestContext) -> None:
        """Confirm resizes to this host that have waited for longer than resize_confirm_window."""
        window_s = self._here.conf.resize_confirm_window
        if window_s <= 0:
            return
        waiting = objects.MigrationList.get_unconfirmed_by_dest_compute(context, window_s, self._here.name)
        self._each(self._confirm, context, list(waiting))

    def _confirm(self, context: RequestContext, migration: objects.Migration) -> None:
        complaint, instance = self._unconfirmable(context, migration)
        if complaint:
            LOG.warning("Migration %s cannot be confirmed: %s", migration.id, complaint)
            migration.status = "error"
            migration.save()
            return
        self._here.services.compute_api.confirm_resize(context, instance, migration=migration)

    def _unconfirmable(self, context: RequestContext,
                       migration: objects.Migration) -> tuple[str | None, objects.Instance | None]:
        try:
            instance = self._here.load(context, migration.instance_uuid)
        except exception.InstanceNotFound:
            return f"instance {migration.instance_uuid} is gone", None
        if (instance.vm_state, instance.task_state) != (vm_states.RESIZED, None):
            return f"instance {instance.uuid} is {instance.vm_state} with task {instance.task_state}", instance
        return None, instance

    # --- Caches ---

    def heal_info_cache(self, context: RequestContext) -> None:
        """Refresh the cached network info of the next idle instances of the round. Whatever goes wrong is logged."""
        if not self._to_heal:
            self._to_heal = [instance.uuid for instance in self._here.instances(context)]
        uuids, self._to_heal = self._to_heal[:HEALED_AT_ONCE], self._to_heal[HEALED_AT_ONCE:]
        idle = self._here.find(context, uuid=uuids, task_state=None) if uuids else []
        try:
            self._here.network_api.heal_info_caches(context, idle)
        except Exception:
            LOG.exception("Could not refresh what %d instances have of the network", len(idle))

    def drop_stale_reservations(self, context: RequestContext, older_than_s: int) -> None:
        """Drop device names that were reserved for volumes nobody is attaching any more, and settle half-done ones.

        A volume that is `attaching` since then, with nothing done for it, is given back: its message was lost.
        """
        instances = self._here.instances(context)
        bdms = self._block_devices.of_all(context, instances)
        stale = [bdm for mappings in bdms.values() for bdm in mappings
                 if self._is_reservation(bdm) and self._here.is_older(bdm.created_at, older_than_s)]
        self._each(self._drop_reservation, context, stale)
        idle = [instance for instance in instances if instance.task_state is None]
        self._recovery.volumes.settle(context, idle, older_than_s)

    @staticmethod
    def _is_reservation(bdm: objects.BlockDeviceMapping) -> bool:
        return bdm.destination_type == "volume" and bdm.source_type == "volume" and not is_connected(bdm)

    def _drop_reservation(self, context: RequestContext, bdm: objects.BlockDeviceMapping) -> None:
        with self._here.locks.hold(bdm.instance_uuid, timeout_s=0):
            if bdm.volume_id and self._here.volume_api.get(context, bdm.volume_id)["status"] == "attaching":
                return
            LOG.warning("Dropping the stale reservation of %s on instance %s", bdm.device_name, bdm.instance_uuid)
            bdm.destroy()

    def _each(self, act: Callable[..., Any], context: RequestContext, items: Sequence[Any], *args: Any) -> None:
        each_in_turn(self._here.clock, act, context, items, *args)
