"""Cached images: removing those no disk depends on any more."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.storage import Storage

LOG = logging.getLogger(__name__)

ABANDONED_S = 24 * 3600


class ImageCache:
    """The cached images in the repository of guests."""

    def __init__(self, session, storage: Storage, disks: Disks, keep_unused_s: float = ABANDONED_S):
        self._session = session
        self._storage = storage
        self._disks = disks
        self._keep_unused_s = keep_unused_s

    def sweep(self, dry_run: bool = False) -> list[str]:
        """Remove cached images that are old and shared with no disk, and imports that broke off; returns their ids.

        An image is unused when its chain of parents has no other child: a clone shares the parent.
        """
        vdis = self._session.records_where("VDI", SR=self._storage.for_guests().ref)
        children = _children_by_parent(vdis)
        removed = []
        for vdi_ref, vdi in vdis.items():
            if self._is_removable(vdi, children):
                LOG.info("Cached image %s (%s) is unused%s", vdi["name_label"], vdi["uuid"],
                         "" if dry_run else ", removing it")
                if dry_run or self._remove(vdi_ref):
                    removed.append(vdi["uuid"])
        return removed

    def _remove(self, vdi_ref: str) -> bool:
        try:
            self._disks.destroy_vdi(vdi_ref)
        except exception.StorageError as error:
            LOG.warning("%s", error)
            return False
        return True

    def _is_removable(self, vdi: dict[str, Any], children: dict[str, int]) -> bool:
        marks = vdi["other_config"]
        since = marks.get("cached-time") or marks.get("nova_import_started")
        is_cache = "image-id" in marks or "nova_import_started" in marks
        if not is_cache or vdi["VBDs"] or vdi["is_a_snapshot"] or since is None:
            return False
        parent = vdi["sm_config"].get("vhd-parent")
        if parent is not None and children.get(parent, 0) > 1:
            return False
        return self._session.clock.time() - float(since) > self._keep_unused_s


def _children_by_parent(vdis: dict[str, dict]) -> dict[str, int]:
    children: dict[str, int] = {}
    for vdi in vdis.values():
        parent = vdi["sm_config"].get("vhd-parent")
        if parent:
            children[parent] = children.get(parent, 0) + 1
    return children


class Janitor:
    """Tells about disks of instances nobody knows any more. It removes nothing: that is left to an operator."""

    def __init__(self, session, storage: Storage):
        self._session = session
        self._storage = storage
        self._seen: set[str] = set()

    def report(self, known_instance_uuids: set[str]) -> list[str]:
        """Return, and log, the uuids of detached disks of unknown instances that were so in the last round too."""
        suspects = set()
        for vdi in self._session.records_where("VDI", SR=self._storage.for_guests().ref).values():
            owner = vdi["other_config"].get("nova_instance_uuid")
            if owner and owner not in known_instance_uuids and not vdi["VBDs"] and vdi["managed"]:
                suspects.add(vdi["uuid"])
        orphans = sorted(suspects & self._seen)
        self._seen = suspects
        for uuid in orphans:
            LOG.warning("Disk %s belongs to an instance nobody knows; remove it with xe vdi-destroy if that is right",
                        uuid)
        return orphans
