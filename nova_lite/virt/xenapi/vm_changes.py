"""What becomes of the changes of VMs that the host tells: events for the compute service, notes in the records."""

from collections.abc import Callable

from oslo_log import log as logging

from nova_lite import concurrency
from nova_lite.objects import power_state
from nova_lite.virt import event
from nova_lite.virt.xenapi.domains import DomainIds
from nova_lite.virt.xenapi.vm_cache import Vm

LOG = logging.getLogger(__name__)

EVENTS_WAITING = 1000
LIFECYCLE = {
    power_state.RUNNING: event.EVENT_LIFECYCLE_STARTED,
    power_state.SHUTDOWN: event.EVENT_LIFECYCLE_STOPPED,
    power_state.CRASHED: event.EVENT_LIFECYCLE_STOPPED,
    power_state.PAUSED: event.EVENT_LIFECYCLE_PAUSED,
    power_state.SUSPENDED: event.EVENT_LIFECYCLE_STOPPED,
}


class VmChanges:
    """Tells `emit` the lifecycle events of instances, in a thread of its own, and notes domains that left."""

    def __init__(self, domains: DomainIds, emit: Callable[[event.Event], None], is_heard: Callable[[], bool]):
        self._domains = domains
        self._emit = emit
        self._is_heard = is_heard
        self._events = concurrency.Pool("vm-events", 1, queue_size=EVENTS_WAITING)

    def stop(self) -> None:
        """Tell nothing more."""
        self._events.shutdown()

    def changed(self, before: Vm | None, after: Vm | None) -> None:
        """A VM changed in the host's eyes; tell the compute service when its state did."""
        if after is None or (before is not None and before.domid != after.domid):
            self._later(self._domains.note_change, before, after)
        transition = _transition(before, after)
        if transition is not None and self._is_heard():
            self._later(self._emit, event.LifecycleEvent(after.instance_uuid, transition))

    def _later(self, act: Callable, *args) -> None:
        """Act outside the thread that follows the host: what listens may take its time."""
        try:
            self._events.submit(act, *args)
        except concurrency.PoolFull:
            LOG.warning("Too many events wait, dropping one")


def _transition(before: Vm | None, after: Vm | None) -> int | None:
    """Return the event of an instance whose state changed; None for everything else."""
    if before is None or after is None or before.state == after.state or not after.instance_uuid:
        return None
    if not after.is_guest or after.name_label.endswith(("-rescue", "-orig")):
        return None
    if before.state == power_state.PAUSED and after.state == power_state.RUNNING:
        return event.EVENT_LIFECYCLE_RESUMED
    return LIFECYCLE.get(after.state)
