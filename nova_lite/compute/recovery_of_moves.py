"""Resizes and migrations whose process died: each ends finished or reverted, and no record stays in between."""

from collections.abc import Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states, vm_states

LOG = logging.getLogger(__name__)

OF_RESIZES = ("resize", "migration")
_UNDER_WAY = ("pre-migrating", "migrating", "post-migrating", "finished", "reverting", "reverted_dest", "error")
# Not begun to change the guest, or gone before it had: what the source writes, and nobody will change any more.
_NOT_LEFT = ("accepted", "pre-migrating", "preparing", "running", "migrating", "post-migrating")
_ON_ITS_WAY = ("preparing", "running")  # a live migration
_ARRIVING = (task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH)


class MoveRecovery:
    """This host's part of a move that broke off; what has to be done again is done by the manager's own actions."""

    def __init__(self, here: ComputeHost, actions: Any) -> None:
        self._here = here
        self._actions = actions

    def settle_resize(self, context: RequestContext, instance: objects.Instance) -> bool:
        """Finish or revert the resize the instance is in; False when nothing is known of one.

        An arrival whose guest runs has succeeded; the disks of any other may be incomplete, and the source still has
        its own. A revert goes on where it stopped, on whichever host it has reached.
        """
        migration = self.latest(context, instance, OF_RESIZES, _UNDER_WAY)
        if migration is None:
            return False
        if instance.task_state in _ARRIVING:
            self._settle_arrival(context, instance, migration)
        elif self._is_back(instance, migration):
            self._actions.finish_revert_resize(context, instance=instance, migration=migration)
        else:
            self._actions.revert_resize(context, instance=instance, migration=migration)
        return True

    def latest(self, context: RequestContext, instance: objects.Instance, kinds: Sequence[str],
               statuses: Sequence[str]) -> objects.Migration | None:
        """Return the instance's latest move of some kinds that is in one of these states, None without any."""
        found = objects.MigrationList.get_by_filters(context, {
            "instance_uuid": instance.uuid, "migration_type": list(kinds), "status": list(statuses)}).objects
        return found[-1] if found else None

    def _is_back(self, instance: objects.Instance, migration: objects.Migration) -> bool:
        """Tell whether the destination has done its part of a revert."""
        at_source = migration.source_compute == self._here.name == instance.host
        return at_source and (migration.status == "reverted_dest" or migration.dest_compute != self._here.name)

    def _settle_arrival(self, context: RequestContext, instance: objects.Instance,
                        migration: objects.Migration) -> None:
        here = self._here
        state = here.power_state(instance)
        if instance.task_state == task_states.RESIZE_FINISH and state == power_state.RUNNING:
            self._set_status(migration, "finished")
            here.update(context, instance, vm_state=vm_states.RESIZED, task_state=None, power_state=state,
                        launched_at=here.clock.utcnow())
            return
        LOG.warning("The resize of instance %s broke off; it is reverted", instance.uuid)
        self._set_status(migration, "reverting")
        here.update(context, instance, task_state=task_states.RESIZE_REVERTING)
        self._actions.revert_resize(context, instance=instance, migration=migration)

    def close_records(self, context: RequestContext, instance: objects.Instance) -> None:
        """Note that moves from here that had not left have failed: else they would hold room where they went."""
        for migration in objects.MigrationList.get_by_filters(context, {
                "instance_uuid": instance.uuid, "source_compute": self._here.name, "status": list(_NOT_LEFT),
                "migration_type": [*OF_RESIZES, "live-migration"]}):
            self._set_status(migration, "error")

    def close_moves(self, context: RequestContext, older_than_s: float = 0) -> None:
        """End the moves from here whose last steps broke off so long ago; a failure is the record's own.

        A revert that got as far as to put the instance back into service lacks only the end of its record, and so
        does a live migration whose guest its destination has taken over.
        """
        end = {"confirming": self._confirm, "reverted_dest": self._end_revert}
        for migration in objects.MigrationList.get_by_filters(context, {
                "source_compute": self._here.name, "status": [*end, *_ON_ITS_WAY],
                "migration_type": [*OF_RESIZES, "live-migration"]}):
            if older_than_s == 0 or self._here.is_older(migration.updated_at or migration.created_at, older_than_s):
                end.get(migration.status, self._end_live_migration)(context, migration)

    def _end_live_migration(self, context: RequestContext, migration: objects.Migration) -> None:
        try:
            instance = self._here.load(context, migration.instance_uuid)
        except exception.InstanceNotFound:
            self._set_status(migration, "error")
            return
        if instance.task_state != task_states.MIGRATING:
            self._set_status(migration, "error" if instance.host == self._here.name else "completed")

    def _end_revert(self, context: RequestContext, migration: objects.Migration) -> None:
        try:
            instance = self._here.load(context, migration.instance_uuid)
        except exception.InstanceNotFound:
            self._set_status(migration, "error")
            return
        if instance.host == self._here.name and instance.task_state != task_states.RESIZE_REVERTING:
            self._set_status(migration, "reverted")

    def _confirm(self, context: RequestContext, migration: objects.Migration) -> None:
        try:
            instance = self._here.load(context, migration.instance_uuid)
            LOG.info("Confirming the resize of instance %s, which broke off", instance.uuid)
            self._actions.confirm_resize(context, instance=instance, migration=migration)
        except exception.InstanceNotFound:
            self._set_status(migration, "error")
        except Exception:  # tried again later; the others must not wait for it
            LOG.exception("Could not confirm migration %s", migration.id)

    def is_recent(self, context: RequestContext, instance: objects.Instance, younger_than_s: float) -> bool:
        """Tell whether a move of the instance has got on lately, perhaps on another host."""
        moves = objects.MigrationList.get_by_filters(context, {"instance_uuid": instance.uuid})
        return any(not self._here.is_older(move.updated_at or move.created_at, younger_than_s) for move in moves)

    @staticmethod
    def _set_status(migration: objects.Migration, status: str) -> None:
        migration.status = status
        migration.save()
