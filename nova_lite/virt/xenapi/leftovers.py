"""What the last run of this service had in hand on our host when it ended: found and put away when the next one starts.

Everything a running operation makes says whose it is: tasks name the host they work for, disks carry `nova_host` and,
while they are made, `nova_import_started`, or the instance they are for. One service manages a host, so when it starts
nothing of that can be in use.
"""

from collections import defaultdict
from contextlib import suppress

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.volume_repositories import TEMPORARY

LOG = logging.getLogger(__name__)

TASK_MARK = "for host "
IMPORT_MARK = "nova_import_started"


class Leftovers:
    """Puts away what was left, and remembers the disks of instances that no VM has, until their instance goes."""

    def __init__(self, session, disks, storage, volumes):
        self._session = session
        self._disks = disks
        self._storage = storage
        self._volumes = volumes
        self._loose: dict[str, list[str]] = {}

    def clear_up(self) -> None:
        """Run once, before any work begins. A problem with one thing is logged and stops nothing."""
        try:
            self._end_tasks()
            vdis = self._session.get_all_refs_and_recs("VDI")
            self._sort_disks(vdis)
            self._forget_volumes({vdi["SR"] for _, vdi in vdis if vdi["VBDs"]})
        except XenAPI.Failure as failure:
            LOG.warning("What an earlier run may have left could not be looked for: %s", errors.describe(failure))

    def _end_tasks(self) -> None:
        for task_ref, task in self._session.get_all_refs_and_recs("task"):
            if not task["name_description"].endswith(TASK_MARK + self._session.host_uuid):
                continue
            LOG.info("Ending the task %s of an earlier run", task["name_label"])
            for method in ("task.cancel", "task.destroy"):
                with suppress(XenAPI.Failure):
                    self._session.call_xenapi(method, task_ref)

    # Disks ----------------------------------------------------------------------------------------------------

    def _sort_disks(self, vdis: list[tuple[str, dict]]) -> None:
        detached = [(ref, vdi) for ref, vdi in vdis if not vdi["VBDs"] and vdi["managed"]]
        mine = [(ref, vdi) for ref, vdi in detached if vdi["other_config"].get("nova_host") == self._session.host_uuid]
        self._loose = defaultdict(list)
        for ref, vdi in mine:
            owner = vdi["other_config"].get("nova_instance_uuid")
            if IMPORT_MARK in vdi["other_config"] or (vdi["is_a_snapshot"] and vdi["name_label"].endswith("-snapshot")):
                self._remove(ref, vdi)
            elif owner:
                self._loose[owner].append(ref)
        self._remove_second_copies(detached)

    def _remove(self, ref: str, vdi: dict) -> None:
        LOG.info("Removing disk %s (%s), which an earlier run did not finish", vdi["uuid"], vdi["name_label"])
        try:
            self._disks.destroy_vdi(ref)
        except exception.StorageError as error:
            LOG.warning("%s", error)

    def _remove_second_copies(self, detached: list[tuple[str, dict]]) -> None:
        """A clone of a cached image that was not yet made an instance's looks like the image itself.

        On storage that other hosts use too it may be a clone they are just making: it stays, as one more cached copy.
        """
        cached: dict[tuple[str, str], list[tuple[str, dict]]] = defaultdict(list)
        for ref, vdi in detached:
            image_id = vdi["other_config"].get("image-id")
            if image_id and vdi["name_label"] == f"Glance Image {image_id}" and not vdi["is_a_snapshot"]:
                cached[(vdi["SR"], image_id)].append((ref, vdi))
        for (sr_ref, _), copies in cached.items():
            if len(copies) > 1 and self._is_ours_alone(sr_ref):
                for ref, vdi in copies[1:]:
                    self._remove(ref, vdi)

    def _is_ours_alone(self, sr_ref: str) -> bool:
        return not self._session.call_xenapi("SR.get_shared", sr_ref) and self._storage.is_here(sr_ref)

    # Volumes --------------------------------------------------------------------------------------------------

    def _forget_volumes(self, used_srs: set[str]) -> None:
        """Forget the repositories of volumes that were not attached, or detached and no more than that."""
        for sr_ref, sr in self._session.get_all_refs_and_recs("SR"):
            if sr["name_label"].startswith(TEMPORARY) and sr_ref not in used_srs and not sr["current_operations"] \
                    and self._is_known_here_alone(sr_ref):
                LOG.info("Forgetting repository %s (%s), whose volume no VM has", sr["uuid"], sr["name_label"])
                self._volumes.forget(sr_ref)

    def _is_known_here_alone(self, sr_ref: str) -> bool:
        """Tell whether no other host of the pool has to do with a repository; it may be about to where none has."""
        hosts = {pbd["host"] for pbd in self._session.records_where("PBD", SR=sr_ref).values()} \
            or set(self._session.call_xenapi("host.get_all"))
        return hosts == {self._session.host_ref}

    # Later ----------------------------------------------------------------------------------------------------

    def remove_disks_of(self, instance_uuid: str, name_label: str | None = None) -> None:
        """Destroy the disks an interrupted build left for this instance (only those labelled so), if no VM has them."""
        for ref in self._loose.pop(instance_uuid, []):
            vdi = self._session.get_rec("VDI", ref)
            if vdi is None:
                continue
            if name_label is not None and vdi["name_label"] != name_label:
                self._loose.setdefault(instance_uuid, []).append(ref)
            elif not vdi["VBDs"] and vdi["other_config"].get("nova_instance_uuid") == instance_uuid:
                self._remove(ref, vdi)

    def clear_disks_of(self, instance_uuid: str) -> None:
        """Destroy the disks of an instance that no VM has, whenever they were left."""
        self.look_for_disks_of(instance_uuid)
        self.remove_disks_of(instance_uuid)

    def look_for_disks_of(self, instance_uuid: str) -> None:
        """Find the disks of an instance whose VM is not there, whenever they were left.

        Those that a live migration from another pool did not get further with bear the mark of the host they come from.
        """
        found = {ref: vdi["other_config"].get("nova_host") for ref, vdi in self._session.get_all_refs_and_recs("VDI")
                 if vdi["other_config"].get("nova_instance_uuid") == instance_uuid and not vdi["VBDs"]
                 and vdi["managed"]}
        if not found:
            return
        neighbours = {host["uuid"] for _, host in self._session.get_all_refs_and_recs("host")}
        neighbours.discard(self._session.host_uuid)
        self._loose[instance_uuid] = [ref for ref, maker in found.items() if maker not in neighbours]
