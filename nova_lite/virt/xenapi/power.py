"""Power operations. What a call finds done already counts as done."""

from collections.abc import Callable
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import busy, errors, instances
from nova_lite.virt.xenapi.domains import DomainIds
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.tasks import TaskLost, TaskTimeout
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)

START_OPERATIONS = ("start", "start_on")
VDI_UNAVAILABLE = "SR_BACKEND_FAILURE_46"
RESUME_OPERATIONS = ("resume", "resume_on")


class Power:
    """Starts, stops, freezes and reboots VMs."""

    def __init__(self, session, finder: VmFinder, cache: VmCache, domains: DomainIds,
                 bad_volumes_of: Callable[[str], list[str]], conf, after_start: Callable[[str], None]):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._domains = domains
        self._bad_volumes_of = bad_volumes_of
        self._conf = conf
        # Called with every VM that got a new domain.
        self._after_start = after_start

    def pause(self, instance: Any) -> None:
        """Freeze the VM."""
        self._finder.call(instance, lambda vm_ref: self._reach("Paused", "VM.pause", vm_ref))

    def unpause(self, instance: Any) -> None:
        """Let a frozen VM go on."""
        self._finder.call(instance, lambda vm_ref: self._reach("Running", "VM.unpause", vm_ref))

    def suspend(self, instance: Any) -> None:
        """Write the VM's memory to disk and stop it; it cannot be resumed but through us."""
        self._finder.call(instance, self._suspend)

    def _suspend(self, vm_ref: str) -> None:
        self._reach("Suspended", "VM.suspend", vm_ref, long=True)
        self.block(vm_ref, RESUME_OPERATIONS)

    def resume(self, instance: Any) -> None:
        """Continue a suspended VM."""
        self._finder.call(instance, self._resume)

    def _resume(self, vm_ref: str) -> None:
        self.release(vm_ref, RESUME_OPERATIONS)
        self._reach("Running", "VM.resume", vm_ref, False, True, long=True)
        self._after_start(vm_ref)

    def power_on(self, instance: Any) -> None:
        """Start the VM on our host."""
        self._finder.call(instance, self.start)

    def start(self, vm_ref: str, paused: bool = False) -> None:
        """Start the VM on our host, frozen if asked. Raises what the host refuses it with."""
        goal = "Paused" if paused else "Running"
        try:
            self._when_free(lambda: self._session.call_task(
                "VM.start_on", vm_ref, self._session.host_ref, paused, False,
                timeout_s=self._conf.xenserver.running_timeout))
        except XenAPI.Failure as failure:
            if not _is_there(failure, goal):
                raise
        except TaskLost:
            if self._session.call_xenapi("VM.get_power_state", vm_ref).lower() != goal.lower():
                raise
        self._cache.note_state(vm_ref, goal)
        self._domains.note_start(vm_ref)
        self._after_start(vm_ref)

    def power_off(self, instance: Any, timeout: float = 0) -> None:
        """Stop the VM: cleanly if that works within `timeout` seconds, else hard. One that is not there is off."""
        try:
            self._finder.call(instance, lambda vm_ref: self.stop(vm_ref, timeout))
        except exception.InstanceNotFound:
            LOG.warning("VM %s does not exist, it is off", self._finder.name(instance))

    def stop(self, vm_ref: str, timeout_s: float = 0) -> None:
        """Stop the VM as power_off does. Raises InstancePowerOffFailure."""
        known = self._cache.get(vm_ref)
        if known is not None and self._cache.synced and known.power_state.lower() == "halted":
            LOG.warning("VM %s is halted already", vm_ref)
            return
        if timeout_s and self._shut_down_cleanly(vm_ref, timeout_s):
            return
        try:
            self._reach("Halted", "VM.hard_shutdown", vm_ref, long=True)
        except XenAPI.Failure as failure:
            if errors.is_gone(failure):
                raise
            raise exception.InstancePowerOffFailure(reason=errors.describe(failure)) from failure

    def _shut_down_cleanly(self, vm_ref: str, timeout_s: float) -> bool:
        try:
            self._when_free(lambda: self._session.call_task("VM.clean_shutdown", vm_ref, timeout_s=timeout_s))
        except (XenAPI.Failure, TaskTimeout) as error:
            if isinstance(error, XenAPI.Failure) and errors.is_gone(error):
                raise
            if not _is_there(error, "Halted"):
                LOG.warning("VM %s does not shut down by itself (%s), switching it off", vm_ref, error)
                return False
        self._cache.note_state(vm_ref, "Halted")
        return True

    def soft_delete(self, instance: Any) -> None:
        """Stop the VM and keep anybody from starting it."""
        vm_ref = self._finder.require(instance)
        self.stop(vm_ref)
        self.block(vm_ref)

    def restore(self, instance: Any) -> None:
        """Start a soft-deleted VM again."""
        vm_ref = self._finder.require(instance)
        self.release(vm_ref)
        self.start(vm_ref)

    def reboot(self, instance: Any, reboot_type: str,
               bad_volumes_callback: Callable[[list[str]], None] | None = None) -> None:
        """Reboot the VM, 'HARD' or cleanly; one that is halted is started. A rescue VM goes first.

        Where volumes keep it from coming up, bad_volumes_callback(['/dev/xvdX', …]) is to detach those that do not
        answer, and the VM is started without them. Raises InstanceRebootFailure when a guest does not cooperate.
        """
        rescued = bool(self._cache.find(self._finder.name(instance) + instances.RESCUE,
                                        instances.read(instance, "uuid")))
        suffix = instances.RESCUE if rescued else ""
        self._finder.call(instance, lambda vm_ref: self._reboot(vm_ref, reboot_type, bad_volumes_callback), suffix)

    def _reboot(self, vm_ref: str, reboot_type: str,
                bad_volumes_callback: Callable[[list[str]], None] | None = None) -> None:
        method = "VM.hard_reboot" if reboot_type == "HARD" else "VM.clean_reboot"
        try:
            self._when_free(lambda: self._session.call_long(method, vm_ref, timeout_s=self._session.call_timeout_s))
        except XenAPI.Failure as failure:
            state = _actual_state(failure)
            if state == "halted":
                LOG.info("VM %s was halted, starting it", vm_ref)
                return self.start(vm_ref)
            if state == "paused" or state == "suspended":
                return self._reboot_from_rest(vm_ref, state)
            if errors.is_gone(failure):
                raise
            if bad_volumes_callback is not None and errors.is_code(failure, VDI_UNAVAILABLE):
                bad_volumes_callback(self._bad_volumes_of(vm_ref))
                return self.start(vm_ref)
            raise exception.InstanceRebootFailure(reason=errors.describe(failure)) from failure
        except HypervisorUnavailable as error:
            if method == "VM.hard_reboot" or not isinstance(error.__cause__, TimeoutError):
                raise
            raise exception.InstanceRebootFailure(reason="the guest does not shut down by itself") from error
        self._cache.note_state(vm_ref, "Running")
        return None

    def _reboot_from_rest(self, vm_ref: str, state: str) -> None:
        if state == "paused":
            self._reach("Running", "VM.unpause", vm_ref)
            self._session.call_long("VM.hard_reboot", vm_ref)
            self._cache.note_state(vm_ref, "Running")
            return
        self.release(vm_ref, RESUME_OPERATIONS)
        self._reach("Halted", "VM.hard_shutdown", vm_ref, long=True)
        self.start(vm_ref)

    def block(self, vm_ref: str, operations: tuple[str, ...] = START_OPERATIONS) -> None:
        """Keep everybody, users of the host's own tools included, from these operations."""
        self._set_blocked(vm_ref, {**self._blocked(vm_ref), **dict.fromkeys(operations, "")})

    def release(self, vm_ref: str, operations: tuple[str, ...] = START_OPERATIONS) -> None:
        """Allow these operations again."""
        # Set even where nothing seems blocked: the picture of the VM may be a moment old.
        self._set_blocked(vm_ref, {name: why for name, why in self._blocked(vm_ref).items() if name not in operations})

    def _blocked(self, vm_ref: str) -> dict[str, str]:
        known = self._cache.get(vm_ref) if self._cache.synced else None
        if known is not None:
            return known.blocked_operations
        return self._session.call_xenapi("VM.get_blocked_operations", vm_ref)

    def _set_blocked(self, vm_ref: str, blocked: dict[str, str]) -> None:
        self._session.call_xenapi("VM.set_blocked_operations", vm_ref, blocked)
        self._cache.note_blocked(vm_ref, blocked)

    def _when_free(self, call: Callable[[], Any]) -> None:
        # Its disks are part of the VM: another host may be about to let one go.
        busy.when_free(self._session.clock, busy.WITH_VDI, call)

    def _reach(self, goal: str, method: str, vm_ref: str, *args, long: bool = False) -> None:
        call = self._session.call_long if long else self._session.call_xenapi
        try:
            self._when_free(lambda: call(method, vm_ref, *args))
        except XenAPI.Failure as failure:
            if not _is_there(failure, goal):
                raise
        self._cache.note_state(vm_ref, goal)


def _actual_state(failure: Any) -> str | None:
    """Return the power state a VM_BAD_POWER_STATE found, in lower case."""
    if not errors.is_code(failure, errors.VM_BAD_POWER_STATE):
        return None
    return failure.details[-1].lower()


def _is_there(failure: BaseException, goal: str) -> bool:
    return _actual_state(failure) == goal.lower()
