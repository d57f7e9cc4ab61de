"""Snapshots and backups of guests as images."""

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects import power_state, task_states

LOG = logging.getLogger(__name__)

_ASKED = {
    "snapshot": (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_SNAPSHOT_PENDING),
    "backup": (task_states.IMAGE_BACKUP,),
}

EXPECTED = tuple(state for states in _ASKED.values() for state in states)


def check_rotation(image_type: str, rotation: int | None) -> None:
    """Raise what is wrong with the combination, before anything is made.

    Invalid for an unknown type, ImageRotationNotAllowed, RotationRequiredForBackup.
    """
    if image_type not in _ASKED:
        raise exception.Invalid(f"image_type must be snapshot or backup, not {image_type!r}")
    if image_type == "snapshot" and rotation:
        raise exception.ImageRotationNotAllowed()
    if image_type == "backup" and (rotation is None or rotation < 0):
        raise exception.RotationRequiredForBackup()


class Snapshots:
    """Makes images of guests, and keeps the number of backups in bounds."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def snapshot(self, context: RequestContext, instance: objects.Instance, image_id: str, image_type: str,
                 backup_type: str | None, rotation: int | None) -> None:
        """Fill the image with the guest's disks; a backup then deletes the oldest of its kind beyond `rotation`.

        A failure deletes the image. An image that its user deletes meanwhile ends the snapshot without an error.
        """
        check_rotation(image_type, rotation)
        try:
            self._fill(context, instance, image_id, _ASKED[image_type])
        except exception.ImageNotFound:
            LOG.info("Image %s was deleted while instance %s was uploaded to it", image_id, instance.uuid)
            self._here.update(context, instance, task_state=None, expected_task_state=instance.task_state)
            return
        except Exception:  # nobody would ever finish the image
            self._discard(context, instance, image_id)
            raise
        if image_type == "backup":
            self._rotate(context, instance, backup_type, rotation)

    def _fill(self, context: RequestContext, instance: objects.Instance, image_id: str,
              asked: tuple[str, ...]) -> None:
        here = self._here
        state = here.power_state(instance)
        if state != power_state.RUNNING:
            LOG.warning("Taking a snapshot of instance %s, which does not run: power state %s", instance.uuid, state)
        here.update(context, instance, power_state=state, expected_task_state=asked)

        def update_task_state(task_state: str, expected_state: str | tuple[str, ...] = asked) -> None:
            here.update(context, instance, task_state=task_state, expected_task_state=expected_state)

        here.driver.snapshot(context, instance, image_id, update_task_state)
        here.update(context, instance, task_state=None, expected_task_state=task_states.IMAGE_UPLOADING)

    def _discard(self, context: RequestContext, instance: objects.Instance, image_id: str) -> None:
        try:
            self._here.image_api.delete(context, image_id)
        except exception.ImageNotFound:
            LOG.debug("Image %s is gone already", image_id)
        except Exception:  # the failure of the snapshot is the one to report
            LOG.exception("Could not delete the unfinished image %s of instance %s", image_id, instance.uuid)

    def _rotate(self, context: RequestContext, instance: objects.Instance, backup_type: str | None,
                rotation: int) -> None:
        backups = self._here.image_api.detail(context, filters={
            "property-image_type": "backup",
            "property-backup_type": backup_type,
            "property-instance_uuid": instance.uuid,
        }, sort_key="created_at", sort_dir="desc")
        for image in backups[rotation:]:
            LOG.info("Deleting backup %s of instance %s: only %d are kept", image["id"], instance.uuid, rotation)
            try:
                self._here.image_api.delete(context, image["id"])
            except exception.ImageNotFound:
                LOG.debug("Backup %s is gone already", image["id"])
