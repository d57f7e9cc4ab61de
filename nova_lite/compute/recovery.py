"""Putting instances in order when the service starts: nothing stays busy with what died with the last process."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.delete import Deleter
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.networking import Networking
from nova_lite.compute.policy import record_fault
from nova_lite.compute.recovery_of_interfaces import InterfaceRecovery
from nova_lite.compute.recovery_of_moves import MoveRecovery
from nova_lite.compute.recovery_of_volumes import VolumeRecovery
from nova_lite.compute.volumes import Volumes
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states

LOG = logging.getLogger(__name__)

_BUILD = (task_states.SCHEDULING, task_states.BLOCK_DEVICE_MAPPING, task_states.NETWORKING, task_states.SPAWNING)
_REBUILD = (task_states.REBUILDING, task_states.REBUILD_BLOCK_DEVICE_MAPPING, task_states.REBUILD_SPAWNING)
_SNAPSHOT = (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_SNAPSHOT_PENDING, task_states.IMAGE_PENDING_UPLOAD,
             task_states.IMAGE_UPLOADING, task_states.IMAGE_BACKUP)
_REBOOT_ASKED = {task_states.REBOOTING: "SOFT", task_states.REBOOT_PENDING: "SOFT",
                 task_states.REBOOTING_HARD: "HARD", task_states.REBOOT_PENDING_HARD: "HARD"}
_REBOOT_STARTED = (task_states.REBOOT_STARTED, task_states.REBOOT_STARTED_HARD)
# Interrupted by the end of the process, with an outcome that only the guest can tell.
_ASK_THE_GUEST = (
    task_states.SUSPENDING, task_states.RESUMING, task_states.RESCUING, task_states.UNRESCUING,
    task_states.SOFT_DELETING, task_states.RESTORING, task_states.UPDATING_PASSWORD,
    task_states.RESIZE_CONFIRMING, task_states.PAUSING, task_states.UNPAUSING, *_REBOOT_STARTED,
)
_UNAMBIGUOUS = {
    power_state.RUNNING: vm_states.ACTIVE,
    power_state.PAUSED: vm_states.PAUSED,
    power_state.SUSPENDED: vm_states.SUSPENDED,
}

Step = Callable[..., None]


class Recovery:
    """The rules of recovery; what has to be done again is done by the manager's own actions."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, deleter: Deleter, volumes: Volumes,
                 networking: Networking, actions: Any) -> None:
        self._here = here
        self._block_devices = block_devices
        self._deleter = deleter
        self._actions = actions
        self.moves = MoveRecovery(here, actions)
        self.interfaces = InterfaceRecovery(here, networking)
        self.volumes = VolumeRecovery(here, block_devices, volumes, actions)

    def recover_all(self, context: RequestContext) -> None:
        """Recover every instance of this host. The failure of one is recorded as its fault and stops no other."""
        instances = self._here.instances(context)
        idle = [instance for instance in instances if instance.task_state is None]
        for instance in instances:
            try:
                self.recover(context, instance)
            except Exception as error:  # start-up must survive any one instance
                LOG.exception("Could not recover instance %s", instance.uuid)
                self._give_up(context, instance, error)
        self.moves.close_moves(context)
        self.interfaces.settle(context, instances)
        self.volumes.settle(context, idle)

    def _give_up(self, context: RequestContext, instance: objects.Instance, error: Exception) -> None:
        try:
            compute_utils.add_instance_fault_from_exc(context, self._here.conductor, instance, error,
                                                      (type(error), error, error.__traceback__))
            self._here.conductor.instance_update(context, instance.uuid, vm_state=vm_states.ERROR, task_state=None)
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone", instance.uuid)

    def recover(self, context: RequestContext, instance: objects.Instance) -> None:
        """Apply the first rule that fits; without one, plug the guest's interfaces and see that it is as it was."""
        if instance.host != self._here.name:
            LOG.warning("Instance %s is on host %s, not recovered here", instance.uuid, instance.host)
            return
        rule = self._rule_for(instance)
        if rule is not None:
            LOG.info("Recovering instance %s, found %s with task %s",
                     instance.uuid, instance.vm_state, instance.task_state)
            rule(context, instance)
            return
        self._forget_harmless_task(context, instance)
        self._restore_guest(context, instance)

    def _rule_for(self, instance: objects.Instance) -> Step | None:
        vm_state, task = instance.vm_state, instance.task_state
        if vm_state == vm_states.SOFT_DELETED and task not in (task_states.DELETING, task_states.RESTORING):
            return self._leave_alone
        if vm_state == vm_states.ERROR and task not in (task_states.RESIZE_MIGRATING, task_states.DELETING):
            return self._leave_alone
        if vm_state == vm_states.DELETED or task == task_states.DELETING:
            return self._delete_again
        if vm_state == vm_states.BUILDING:
            return self._end_build
        if task in _BUILD:
            return self._fail
        if vm_state in (vm_states.ACTIVE, vm_states.STOPPED) and task in _REBUILD:
            return self._fail
        if task in _REBOOT_ASKED or task in _REBOOT_STARTED:
            return self._reboot_again
        return {
            task_states.UNPAUSING: self._unpause_again,
            task_states.POWERING_OFF: self._stop_again,
            task_states.STOPPING: self._stop_again,
            task_states.POWERING_ON: self._start_again,
            task_states.STARTING: self._start_again,
            task_states.RESIZE_MIGRATING: self._revert_migration,
            task_states.RESIZE_MIGRATED: self._settle_resize,
            task_states.RESIZE_FINISH: self._settle_resize,
            task_states.RESIZE_REVERTING: self._settle_resize,
            task_states.MIGRATING: self._follow_guest,
            task_states.SOFT_DELETING: self._soft_delete_again,
            task_states.RESTORING: self._restore_again,
        }.get(task, self._ask_guest if task in _ASK_THE_GUEST else None)

    # --- Rules ---

    def _leave_alone(self, context: RequestContext, instance: objects.Instance) -> None:
        """A deleted or failed instance waits for its user; only the task that died is cleared."""
        if instance.task_state is not None:
            self._here.update(context, instance, task_state=None)

    def _fail(self, context: RequestContext, instance: objects.Instance) -> None:
        self._here.update(context, instance, vm_state=vm_states.ERROR, task_state=None)

    def _end_build(self, context: RequestContext, instance: objects.Instance) -> None:
        """Nobody knows how far the build came, so what there is of it goes; the failure is reported."""
        error = exception.InstanceDeployFailure(reason="the compute service was restarted during the build")
        try:
            self._deleter.shut_down(context, instance, self._block_devices.of(context, instance))
        except Exception:  # it goes with the instance, when that is deleted
            LOG.exception("Could not clear away the unfinished build of instance %s", instance.uuid)
        record_fault(self._here.conductor, context, instance, error)
        self._here.update(context, instance, vm_state=vm_states.ERROR, task_state=None,
                          power_state=self._here.power_state(instance))
        self._here.notify_error(context, instance, "create", error)

    def _delete_again(self, context: RequestContext, instance: objects.Instance) -> None:
        self._actions.terminate_instance(context, instance=instance)

    def _reboot_again(self, context: RequestContext, instance: objects.Instance) -> None:
        runs = self._here.power_state(instance) == power_state.RUNNING
        if instance.task_state in _REBOOT_STARTED and runs:
            self._ask_guest(context, instance)
            return
        hard = not runs or _REBOOT_ASKED.get(instance.task_state) == "HARD"
        self._here.update(context, instance,
                          task_state=task_states.REBOOTING_HARD if hard else task_states.REBOOTING)
        self._actions.reboot_instance(context, instance=instance, reboot_type="HARD" if hard else "SOFT")

    def _unpause_again(self, context: RequestContext, instance: objects.Instance) -> None:
        if self._here.power_state(instance) == power_state.PAUSED:
            self._actions.unpause_instance(context, instance=instance)
        else:
            self._ask_guest(context, instance)

    def _stop_again(self, context: RequestContext, instance: objects.Instance) -> None:
        self._power_again(self._actions.stop_instance, context, instance)

    def _start_again(self, context: RequestContext, instance: objects.Instance) -> None:
        self._power_again(self._actions.start_instance, context, instance)

    def _power_again(self, action: Step, context: RequestContext, instance: objects.Instance) -> None:
        """A guest that does not take it is as it was: the action leaves a fault and no task, and no ERROR."""
        try:
            action(context, instance=instance)
        except Exception:
            LOG.exception("Could not repeat %s of instance %s", instance.task_state, instance.uuid)

    def _soft_delete_again(self, context: RequestContext, instance: objects.Instance) -> None:
        if self._here.power_state(instance) == power_state.SHUTDOWN:
            self._ask_guest(context, instance)
        else:
            self._actions.soft_delete_instance(context, instance=instance)

    def _restore_again(self, context: RequestContext, instance: objects.Instance) -> None:
        if self._here.power_state(instance) == power_state.RUNNING:
            self._ask_guest(context, instance)
        else:
            self._actions.restore_instance(context, instance=instance)

    def _settle_resize(self, context: RequestContext, instance: objects.Instance) -> None:
        if not self.moves.settle_resize(context, instance):
            self._ask_guest(context, instance)

    def _revert_migration(self, context: RequestContext, instance: objects.Instance) -> None:
        here = self._here
        network_info = here.for_driver(compute_utils.get_nw_info_for_instance(instance))
        try:
            here.driver.finish_revert_migration(instance, network_info, self._block_devices.info(context, instance))
            if instance.vm_state == vm_states.STOPPED:
                here.driver.power_off(instance)
        except Exception:  # the guest may not have been touched yet; its task ends in any case
            LOG.exception("Could not revert the migration of instance %s", instance.uuid)
        self.moves.close_records(context, instance)
        here.update(context, instance, task_state=None, power_state=here.power_state(instance))

    def _follow_guest(self, context: RequestContext, instance: objects.Instance) -> None:
        """A guest that is still here goes on as before; the destination takes one over that has gone there."""
        here = self._here
        here.driver.settle_interrupted(instance, instance.task_state)
        migration = self.moves.latest(context, instance, ["live-migration"], ["preparing", "running"])
        if migration is None or here.power_state(instance) != power_state.NOSTATE:
            self._forget_harmless_task(context, instance)
            self._restore_guest(context, instance)
            return
        here.network_api.migrate_instance_start(
            context, instance, {"source_compute": here.name, "dest_compute": migration.dest_compute})
        self._actions.compute_rpcapi.post_live_migration_at_destination(context, instance, True,
                                                                        migration.dest_compute)
        migration.status = "completed"
        migration.save()

    def _ask_guest(self, context: RequestContext, instance: objects.Instance) -> None:
        settled = self._here.driver.settle_interrupted(instance, instance.task_state)
        state = self._here.power_state(instance)
        if settled is not None:
            self._here.update(context, instance, vm_state=settled, task_state=None, power_state=state)
            return
        vm_state = _UNAMBIGUOUS.get(state, vm_states.ERROR)
        if instance.task_state == task_states.SOFT_DELETING and state == power_state.SHUTDOWN:
            vm_state = vm_states.SOFT_DELETED
        elif instance.vm_state == vm_states.STOPPED and state == power_state.SHUTDOWN:
            vm_state = vm_states.STOPPED
        self._here.update(context, instance, vm_state=vm_state, task_state=None, power_state=state)

    # --- Instances that only lost their process ---

    def _forget_harmless_task(self, context: RequestContext, instance: objects.Instance) -> None:
        """Snapshots and moves that had not begun to change the guest, or had not left: the guest is as it was."""
        if instance.task_state in (*_SNAPSHOT, task_states.RESIZE_PREP, task_states.MIGRATING):
            LOG.info("Instance %s is no longer %s", instance.uuid, instance.task_state)
            if instance.task_state in _SNAPSHOT:
                self._clear_snapshot(instance)
            else:
                self.moves.close_records(context, instance)
            self._here.update(context, instance, task_state=None)

    def _clear_snapshot(self, instance: objects.Instance) -> None:
        try:
            self._here.driver.settle_interrupted(instance, instance.task_state)
        except Exception:  # the guest is well; what is left takes room only
            LOG.exception("Could not clear away the unfinished snapshot of instance %s", instance.uuid)

    def _restore_guest(self, context: RequestContext, instance: objects.Instance) -> None:
        network_info = self._here.for_driver(compute_utils.get_nw_info_for_instance(instance))
        try:
            self._here.driver.plug_vifs(instance, network_info)
        except NotImplementedError:
            LOG.debug("The driver plugs no interfaces")
        except exception.VirtualInterfacePlugException as error:
            LOG.error("Could not plug the interfaces of instance %s: %s", instance.uuid, error)
            self._fail(context, instance)
            return
        state = self._here.power_state(instance)
        expected_to_run = instance.power_state == power_state.RUNNING
        if expected_to_run and state != power_state.RUNNING and self._here.conf.resume_guests_state_on_host_boot:
            self._resume(context, instance, network_info)
        elif state == power_state.RUNNING:
            self._ensure_filtering(instance, network_info)

    def _resume(self, context: RequestContext, instance: objects.Instance, network_info: Any) -> None:
        try:
            self._here.driver.resume_state_on_host_boot(context, instance, network_info,
                                                        self._block_devices.info(context, instance))
        except NotImplementedError:
            LOG.warning("The driver cannot start guests when the host comes up; instance %s stays down",
                        instance.uuid)
        except Exception:  # a guest that cannot be started is in error, whatever the reason
            LOG.exception("Could not start instance %s again", instance.uuid)
            self._fail(context, instance)

    def _ensure_filtering(self, instance: objects.Instance, network_info: Any) -> None:
        try:
            self._here.driver.ensure_filtering_rules_for_instance(instance, network_info)
        except NotImplementedError:
            LOG.debug("The driver filters no traffic")
