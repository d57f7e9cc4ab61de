"""Keeping what we say about power states in step with the hypervisor."""

import concurrent.futures
import threading

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.concurrency import Pool, TimeLimitExceeded
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, vm_states
from nova_lite.virt import event as virtevent

LOG = logging.getLogger(__name__)

WORKERS = 8
PATIENCE_S = 5
_EVENT_STATES = {
    virtevent.EVENT_LIFECYCLE_STARTED: power_state.RUNNING,
    virtevent.EVENT_LIFECYCLE_STOPPED: power_state.SHUTDOWN,
    virtevent.EVENT_LIFECYCLE_PAUSED: power_state.PAUSED,
    virtevent.EVENT_LIFECYCLE_RESUMED: power_state.RUNNING,
}
_DOWN = (power_state.SHUTDOWN, power_state.CRASHED)


class PowerSync:
    """Compares instances with their guests and acts, through the compute API, on those that differ."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here
        self._pool = Pool("power-sync", WORKERS)
        self._guard = threading.Lock()
        self._syncing: set[str] = set()

    def stop(self) -> None:
        """Let go of the workers."""
        self._pool.shutdown()

    def sync_all(self, context: RequestContext) -> None:
        """Reconcile every idle instance of this host, from one bulk query of the hypervisor and one of the database.

        Those that agree with their guests are not looked at again.
        """
        instances = self._here.instances(context)
        states = self._here.power_states(instances)
        if len(states) != len(instances):
            LOG.warning("Host %s has %s instances in the database and %s guests at the hypervisor",
                        self._here.name, len(instances), len(states))
        found = [(instance, states.get(instance.uuid, power_state.NOSTATE)) for instance in instances]
        jobs = [self._pool.submit(self._sync_isolated, context, instance, state) for instance, state in found
                if instance.task_state is None and not _agree(instance, state) and self._begin(instance.uuid)]
        concurrent.futures.wait(jobs)

    def _begin(self, uuid: str) -> bool:
        """Tell whether no other reconciliation of the instance is under way, and note ours."""
        with self._guard:
            if uuid in self._syncing:
                return False
            self._syncing.add(uuid)
            return True

    def _sync_isolated(self, context: RequestContext, instance: objects.Instance, state: int) -> None:
        try:
            self.sync(context.elevated(), instance.uuid, state, wait_s=PATIENCE_S)
        except TimeLimitExceeded:
            LOG.debug("Instance %s is worked on; its power state is compared next time", instance.uuid)
        except exception.InstanceNotFound:
            LOG.debug("Instance %s went while its power state was compared", instance.uuid)
        except Exception:  # one instance's trouble must not stop the others
            LOG.exception("Could not reconcile the power state of instance %s", instance.uuid)
        finally:
            with self._guard:
                self._syncing.discard(instance.uuid)

    def handle(self, event: virtevent.LifecycleEvent) -> None:
        """Reconcile the instance of a lifecycle event, unless the event is late or the instance is gone.

        Never waits for an action in progress: that may be waiting for the driver's next event itself, which comes
        on the thread we are on.
        """
        if not self._here.conf.workarounds.handle_virt_lifecycle_events:
            return
        told = _EVENT_STATES.get(event.get_transition())
        if told is None:
            LOG.warning("Unknown transition %s of instance %s", event.get_transition(), event.get_instance_uuid())
            return
        context = self._here.admin_context()
        uuid = event.get_instance_uuid()
        try:
            with self._here.locks.hold(uuid, timeout_s=0):
                self._handle(context, uuid, told)
        except TimeLimitExceeded:
            LOG.debug("Instance %s is worked on; the next comparison of power states sees to its event", uuid)
        except exception.InstanceNotFound:
            LOG.debug("Ignoring an event of instance %s, which is not ours or gone", uuid)

    def _handle(self, context: RequestContext, uuid: str, told: int) -> None:
        instance = self._here.load(context, uuid)
        if instance.task_state is not None:
            LOG.debug("Event of instance %s belongs to its task %s", uuid, instance.task_state)
            return
        now = self._here.power_state(instance)
        if now != told:
            LOG.debug("Dropping a late event of instance %s: told %s, found %s", uuid, told, now)
            return
        self._reconcile(context, instance, now)

    def sync(self, context: RequestContext, uuid: str, state: int, wait_s: float | None = None) -> None:
        """Reconcile one instance with its guest's power state.

        Raises InstanceNotFound, TimeLimitExceeded when the instance is not free within `wait_s`.
        """
        with self._here.locks.hold(uuid, timeout_s=wait_s):
            self._reconcile(context, self._here.load(context, uuid), state)

    def _reconcile(self, context: RequestContext, instance: objects.Instance, state: int) -> None:
        if instance.host != self._here.name or instance.task_state is not None:
            return
        if instance.power_state != state:
            state = self._here.power_state(instance)  # the bulk answer may be older than the last action
        if instance.power_state != state:
            self._here.update(context, instance, power_state=state, expected_task_state=None)
        self._act(context, instance, state)

    def _act(self, context: RequestContext, instance: objects.Instance, state: int) -> None:
        if instance.vm_state == vm_states.ACTIVE:
            self._act_on_active(context, instance, state)
        elif instance.vm_state == vm_states.STOPPED:
            if state not in (power_state.NOSTATE, *_DOWN):
                LOG.warning("Instance %s is stopped, but its guest is %s; stopping it",
                            instance.uuid, power_state.name(state))
                self._call_api("force_stop", context, instance)
        elif instance.vm_state == vm_states.PAUSED and state in _DOWN:
            LOG.warning("Instance %s is paused, but its guest is %s; noting that it stopped",
                        instance.uuid, power_state.name(state))
            self._call_api("force_stop", context, instance)
        elif (instance.vm_state in (vm_states.SOFT_DELETED, vm_states.DELETED)
              and state not in (power_state.NOSTATE, power_state.SHUTDOWN)):
            LOG.warning("Instance %s is %s, but its guest is %s",
                        instance.uuid, instance.vm_state, power_state.name(state))

    def _act_on_active(self, context: RequestContext, instance: objects.Instance, state: int) -> None:
        if state in (power_state.PAUSED, power_state.NOSTATE):
            LOG.warning("Instance %s is active, but its guest is %s", instance.uuid, power_state.name(state))
        elif state in (*_DOWN, power_state.SUSPENDED):
            method = "delete" if state in _DOWN and instance.shutdown_terminate else "stop"
            LOG.warning("Instance %s is active, but its guest is %s; calling %s",
                        instance.uuid, power_state.name(state), method)
            self._call_api(method, context, instance)

    def _call_api(self, method: str, context: RequestContext, instance: objects.Instance) -> None:
        """Go through the user-level API, so that its checks, events and messages apply."""
        try:
            getattr(self._here.services.compute_api, method)(context, instance)
        except exception.NovaException as error:
            LOG.warning("Could not %s instance %s: %s", method, instance.uuid, error)


def _agree(instance: objects.Instance, state: int) -> bool:
    """Tell whether there is nothing to write of an instance, and nothing to do or to warn of."""
    if instance.power_state != state:
        return False
    harmless = {
        vm_states.ACTIVE: (power_state.RUNNING,),
        vm_states.STOPPED: (power_state.NOSTATE, *_DOWN),
        vm_states.PAUSED: [other for other in power_state.valid_states() if other not in _DOWN],
        vm_states.SOFT_DELETED: (power_state.NOSTATE, power_state.SHUTDOWN),
        vm_states.DELETED: (power_state.NOSTATE, power_state.SHUTDOWN),
    }
    return instance.vm_state not in harmless or state in harmless[instance.vm_state]
