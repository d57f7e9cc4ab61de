"""Instances whose operation was interrupted: brought to one side of it when the service starts."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import task_states, vm_states
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.destroy import Destroyer
from nova_lite.virt.xenapi.leftovers import Leftovers
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.power import Power
from nova_lite.virt.xenapi.snapshot import Snapshots
from nova_lite.virt.xenapi.tasks import TaskTimeout

LOG = logging.getLogger(__name__)

MOVES = ("migrate_send", "pool_migrate")
LOOK_AGAIN_S = 0.5
_SNAPSHOT = (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_SNAPSHOT_PENDING, task_states.IMAGE_PENDING_UPLOAD,
             task_states.IMAGE_UPLOADING, task_states.IMAGE_BACKUP)


class Settling:
    """Finishes or takes back what was interrupted half way."""

    def __init__(self, session, finder: VmFinder, power: Power, destroyer: Destroyer, leftovers: Leftovers,
                 snapshots: Snapshots):
        self._session = session
        self._finder = finder
        self._power = power
        self._destroyer = destroyer
        self._leftovers = leftovers
        self._snapshots = snapshots

    def settle(self, instance: Any, task_state: str | None) -> str | None:
        """Return the vm_state that now holds, None where the guest's power state tells it.

        A rescue whose VM runs is done, any other is taken back. The end of a rescue is carried through. What an upload
        has left of its snapshot goes. A move that the host is still at is waited for. Raises TaskTimeout when it does
        not end in task_timeout seconds.
        """
        if task_state == task_states.RESCUING:
            return self._settle_rescue(instance)
        if task_state == task_states.UNRESCUING:
            self._return_from_rescue(instance, start=True)
            return vm_states.ACTIVE
        if task_state == task_states.MIGRATING:
            self._await_move(instance)
        elif task_state in _SNAPSHOT:
            self._snapshots.remove_interrupted(instance)
        return None

    def _settle_rescue(self, instance: Any) -> str:
        rescue_ref = self._finder.of(instance, instances.RESCUE)
        if rescue_ref is not None and self._finder.fresh(rescue_ref).power_state.lower() == "running":
            return vm_states.RESCUED
        LOG.info("Taking back the unfinished rescue of %s", self._finder.name(instance))
        before = instances.read(instance, "vm_state")
        self._return_from_rescue(instance, start=before == vm_states.ACTIVE)
        return before

    def _return_from_rescue(self, instance: Any, start: bool) -> None:
        vm_ref = self._finder.require(instance)
        rescue_ref = self._finder.of(instance, instances.RESCUE)
        if rescue_ref is not None:
            self._destroyer.destroy_rescue_vm(rescue_ref, vm_ref)
        self._leftovers.remove_disks_of(instance["uuid"], self._finder.name(instance) + instances.RESCUE)
        self._power.release(vm_ref)
        if start and self._finder.fresh(vm_ref).power_state.lower() == "halted":
            self._power.start(vm_ref)

    def _await_move(self, instance: Any) -> None:
        vm_ref = self._finder.of(instance)
        deadline = self._session.clock.monotonic() + self._session.task_timeout_s
        while vm_ref is not None:
            record = self._session.get_rec("VM", vm_ref)
            if record is None or not any(move in MOVES for move in record["current_operations"].values()):
                break
            if self._session.clock.monotonic() > deadline:
                raise TaskTimeout(task="live migration", timeout_s=self._session.task_timeout_s)
            self._session.clock.sleep(LOOK_AGAIN_S)
        try:
            self._finder.call(instance, self._finder.fresh)
        except exception.InstanceNotFound:
            LOG.info("%s moved while nobody watched", self._finder.name(instance))
