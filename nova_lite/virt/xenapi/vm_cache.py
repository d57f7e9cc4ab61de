"""What the pool's VMs look like now, kept by one event.from long poll, so that asking costs no API call."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import XenAPI
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.objects import power_state
from nova_lite.virt.driver import HypervisorLoginRefused
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.session import LONGEST_BACK_OFF_S
from nova_lite.virt.xenapi.tasks import STREAM_LOST

LOG = logging.getLogger(__name__)

POWER_STATES = {
    "halted": power_state.SHUTDOWN,
    "running": power_state.RUNNING,
    "paused": power_state.PAUSED,
    "suspended": power_state.SUSPENDED,
    "crashed": power_state.CRASHED,
}
POLL_S = 60.0
# The host counts the logins it refuses, and slows down everybody's.
LOGIN_REFUSED_PAUSE_S = 600.0
# How long what we just did to a VM outweighs events that do not show it yet; the first that does ends it.
OWN_CHANGE_COUNTS_S = 2.0


@dataclass(frozen=True)
class Vm:
    """The part of a VM record the driver looks at."""

    ref: str
    uuid: str
    name_label: str
    power_state: str
    domid: int
    resident_on: str
    affinity: str
    is_template: bool
    is_snapshot: bool
    is_control_domain: bool
    memory_static_max_b: int
    memory_dynamic_max_b: int
    vcpus: int
    vbd_refs: tuple[str, ...] = ()
    vif_refs: tuple[str, ...] = ()
    other_config: dict = field(default_factory=dict, hash=False)
    blocked_operations: dict = field(default_factory=dict, hash=False)
    last_domid: int = -1

    @classmethod
    def from_record(cls, ref: str, record: dict) -> "Vm":
        domid = int(record["domid"])
        return cls(ref=ref, uuid=record["uuid"], name_label=record["name_label"], power_state=record["power_state"],
                   domid=domid, resident_on=record["resident_on"], affinity=record["affinity"],
                   is_template=record["is_a_template"], is_snapshot=record["is_a_snapshot"],
                   is_control_domain=record["is_control_domain"],
                   memory_static_max_b=int(record["memory_static_max"]),
                   memory_dynamic_max_b=int(record["memory_dynamic_max"]), vcpus=int(record["VCPUs_max"]),
                   vbd_refs=tuple(record["VBDs"]), vif_refs=tuple(record["VIFs"]),
                   other_config=dict(record["other_config"]),
                   blocked_operations=dict(record["blocked_operations"]), last_domid=domid)

    @property
    def state(self) -> int:
        """The power state as ours; one we do not know is NOSTATE."""
        return POWER_STATES.get(self.power_state.lower(), power_state.NOSTATE)

    @property
    def facts(self) -> dict[str, int]:
        """State, memory in KiB, CPUs; CPU time, which the host does not count, is 0."""
        return {"state": self.state, "max_mem": self.memory_static_max_b >> 10, "mem": self.memory_dynamic_max_b >> 10,
                "num_cpu": self.vcpus, "cpu_time": 0}

    @property
    def instance_uuid(self) -> str | None:
        return self.other_config.get("nova_uuid")

    @property
    def is_guest(self) -> bool:
        return not (self.is_template or self.is_snapshot or self.is_control_domain)

    def belongs_to(self, host_ref: str, host_uuid: str) -> bool:
        """Tell whether the VM is on this host: it runs here, or it is halted and was put here."""
        if self.resident_on != errors.NULL_REF:
            return self.resident_on == host_ref
        owner = self.other_config.get("nova_host")
        return owner == host_uuid if owner else self.affinity == host_ref


class VmCache:
    """All VMs of the pool by reference.

    Filled by a thread that long-polls on a session of its own. While it is not `synced` (first seconds, connection
    lost) every question is answered from one bulk call instead. Changes made by ourselves are entered with note_*,
    since the event that shows them comes a moment after the call that made them returned.
    """

    def __init__(self, session):
        self._session = session
        self._vms: dict[str, Vm] = {}
        self._own_states: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._shown = threading.Condition(self._lock)
        self._synced = threading.Event()
        self._stopping = threading.Event()
        self._member = None
        self._thread: concurrency.Task | None = None
        # Grows with everything that may change the memory or the disks in use on the host.
        self.changes = 0
        self.on_change: Callable[[Vm | None, Vm | None], None] = lambda before, after: None

    # Questions ------------------------------------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait for the first full picture."""
        return self._synced.wait(timeout_s)

    def get(self, ref: str) -> Vm | None:
        """Return the VM as last seen, or None."""
        with self._lock:
            return self._seen(self._vms.get(ref))

    def all(self) -> list[Vm]:
        """Return every VM of the pool; one API call when the long poll is not up."""
        if not self.synced:
            self._replace(self._session.get_all_refs_and_recs("VM"))
        with self._lock:
            return [self._seen(vm) for vm in self._vms.values()]

    def here(self) -> list[Vm]:
        """Return the guests of our host, halted ones included."""
        return [vm for vm in self.all()
                if vm.is_guest and vm.belongs_to(self._session.host_ref, self._session.host_uuid)]

    def find(self, name_label: str, instance_uuid: str | None = None) -> list[Vm]:
        """Return what is known under this label, the instance's own first. Never asks the host."""
        with self._lock:
            found = [vm for vm in self._vms.values() if vm.name_label == name_label and not vm.is_control_domain]
        own = [vm for vm in found if instance_uuid and vm.instance_uuid == instance_uuid]
        return own or found

    def wait_for_domain(self, ref: str, timeout_s: float) -> int:
        """Return the domain id of a VM that was just started, -1 when it does not show in time. Never asks the host."""
        deadline = self._session.clock.monotonic() + timeout_s
        with self._shown:
            while self.synced and (left_s := deadline - self._session.clock.monotonic()) > 0:
                vm = self._vms.get(ref)
                if vm is not None and vm.domid >= 0:
                    return vm.domid
                self._shown.wait(left_s)
        return -1

    def _seen(self, vm: Vm | None) -> Vm | None:
        if vm is None:
            return None
        own = self._own_states.get(vm.ref)
        if own is None:
            return vm
        state, until = own
        if state == vm.power_state or self._session.clock.monotonic() > until:
            del self._own_states[vm.ref]
            return vm
        return replace(vm, power_state=state, domid=vm.domid if state in ("Running", "Paused") else -1)

    # What we did ourselves ------------------------------------------------------------------------------------

    def note_created(self, ref: str, record: dict) -> None:
        """Enter a VM this process just created from `record`."""
        self.changes += 1
        whole = {"uuid": "", "domid": "-1", "resident_on": errors.NULL_REF, "power_state": "Halted", "VBDs": (),
                 "VIFs": (), "is_a_snapshot": False, "is_control_domain": False, **record}
        with self._lock:
            self._vms.setdefault(ref, Vm.from_record(ref, whole))

    def note_state(self, ref: str, power_state_name: str) -> None:
        """Enter the power state a call of ours just brought about."""
        until = self._session.clock.monotonic() + OWN_CHANGE_COUNTS_S
        self.changes += 1
        with self._lock:
            shown = self._vms.get(ref)
            if ref in self._own_states or shown is None or shown.power_state != power_state_name:
                self._own_states[ref] = (power_state_name, until)

    def note_label(self, ref: str, name_label: str) -> None:
        """Enter a label we just set."""
        with self._lock:
            if ref in self._vms:
                self._vms[ref] = replace(self._vms[ref], name_label=name_label)

    def note_blocked(self, ref: str, blocked_operations: dict[str, str]) -> None:
        """Enter the blocked operations we just set."""
        with self._lock:
            if ref in self._vms:
                self._vms[ref] = replace(self._vms[ref], blocked_operations=dict(blocked_operations))

    def note_gone(self, ref: str) -> None:
        """Drop a VM that we destroyed, or that a call reported gone."""
        self.changes += 1
        with self._lock:
            self._vms.pop(ref, None)
            self._own_states.pop(ref, None)

    # The long poll --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen."""
        if self._thread is None:
            self._thread = concurrency.spawn(self._listen)

    def stop(self) -> None:
        """End the long poll and its session."""
        self._stopping.set()
        self._synced.clear()
        member = self._member
        if member is not None:
            member.transport.abort()
        if self._thread is not None:
            with suppress(TimeoutError, concurrency.TimeLimitExceeded):
                self._thread.wait(5)
            self._thread = None

    def _listen(self) -> None:
        delay_s, told = 1.0, ""
        while not self._stopping.is_set():
            try:
                self._member = self._session.log_in()
                delay_s, told = 1.0, ""
                self._follow(self._member)
            except (XenAPI.Failure, exception.NovaException, *errors.CONNECTION_ERRORS) as error:
                if isinstance(error, HypervisorLoginRefused):
                    delay_s = LOGIN_REFUSED_PAUSE_S
                if not self._stopping.is_set():
                    # One line for each reason, however often it is tried.
                    level, told = logging.DEBUG if str(error) == told else logging.WARNING, str(error)
                    LOG.log(level, "The event stream of %s broke (%s), trying again in %.0f s", self._session, error,
                            delay_s)
            finally:
                self._synced.clear()
                if self._member is not None:
                    self._member.log_out()
                    self._member = None
            self._session.clock.wait(self._stopping, delay_s)
            delay_s = min(2 * delay_s, LONGEST_BACK_OFF_S)

    def _follow(self, member) -> None:
        token, handle = "", None
        while not self._stopping.is_set():
            if member.handle != handle:
                # The client logged in again on its own: what happened in between is not in the stream.
                token, handle = "", member.handle
            try:
                batch = member.call("event.from", (["vm"], token, POLL_S if token else 0.0), POLL_S + 30)
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, *STREAM_LOST):
                    raise
                token = ""
                continue
            if token:
                self._apply(batch["events"])
            elif member.handle == handle:
                self._replace([(event["ref"], event["snapshot"]) for event in batch["events"]
                               if event["operation"] != "del"])
                self._synced.set()
            token = batch["token"]

    def _replace(self, records: Iterable[tuple[str, dict]]) -> None:
        fresh = {ref: Vm.from_record(ref, record) for ref, record in records}
        with self._lock:
            before, self._vms = self._vms, {ref: _keeping_domid(vm, self._vms.get(ref)) for ref, vm in fresh.items()}
        self.changes += 1
        for ref, vm in fresh.items():
            self._tell(before.get(ref), vm)

    def _apply(self, events: list[dict]) -> None:
        for event in events:
            ref = event["ref"]
            with self._lock:
                before = self._vms.get(ref)
                if event["operation"] == "del":
                    after = None
                    self._vms.pop(ref, None)
                else:
                    after = self._vms[ref] = _keeping_domid(Vm.from_record(ref, event["snapshot"]), before)
                    self._end_own_state(after)
                self._shown.notify_all()
            self.changes += not _uses_the_same(before, after)
            self._tell(before, after)

    def _end_own_state(self, vm: Vm) -> None:
        """What we did is shown now: what the host tells next counts at once. Expects the lock."""
        if self._own_states.get(vm.ref, (None,))[0] == vm.power_state:
            del self._own_states[vm.ref]

    def _tell(self, before: Vm | None, after: Vm | None) -> None:
        try:
            self.on_change(before, after)
        except Exception:
            LOG.exception("the listener for changes of VMs failed")


def _uses_the_same(before: Vm | None, after: Vm | None) -> bool:
    """Tell whether a VM takes as much of its host as before."""
    if before is None or after is None:
        return before is after
    return (before.power_state, before.resident_on, before.memory_dynamic_max_b, before.vbd_refs) == (
        after.power_state, after.resident_on, after.memory_dynamic_max_b, after.vbd_refs)


def _keeping_domid(vm: Vm, before: Vm | None) -> Vm:
    if vm.domid >= 0 or before is None:
        return vm
    return replace(vm, last_domid=before.last_domid)
