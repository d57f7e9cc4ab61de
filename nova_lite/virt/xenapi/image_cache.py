"""Cached images: removing those no disk depends on any more."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.records import GIB
from nova_lite.virt.xenapi.storage import Storage

LOG = logging.getLogger(__name__)

# Imports under way are given this long.
ABANDONED_S = 24 * 3600


class ImageCache:
    """The cached images in the repository of guests, bounded in age and size."""

    def __init__(self, session, storage: Storage, disks: Disks, conf):
        self._session = session
        self._storage = storage
        self._disks = disks
        self._conf = conf

    def sweep(self, dry_run: bool = False) -> list[str]:
        """Remove cached images no disk depends on: old ones, and the longest unused while all are too large together.

        Imports that broke off go too. Returns the uuids of what was removed. An image is unused when its chain of
        parents has no other child: a clone shares the parent.
        """
        vdis = self._session.records_where("VDI", SR=self._storage.for_guests().ref)
        children = _children_by_parent(vdis)
        unused = {ref: vdi for ref, vdi in vdis.items() if self._is_unused(vdi, children)}
        old = [ref for ref, vdi in unused.items() if self._is_old(vdi)]
        chosen = old + self._excess(vdis, unused, old)
        return [vdis[ref]["uuid"] for ref in chosen if self._remove(ref, vdis[ref], dry_run)]

    def _excess(self, vdis: dict[str, dict], unused: dict[str, dict], old: list[str]) -> list[str]:
        """Return the images, longest unused first, whose removal brings the cache to its size."""
        limit_b = self._conf.xenserver.image_cache_max_size_gb * GIB
        if not limit_b:
            return []
        size_b = sum(int(vdi["physical_utilisation"]) for ref, vdi in vdis.items()
                     if "image-id" in vdi["other_config"] and ref not in old)
        chosen = []
        for ref in sorted((ref for ref in unused if ref not in old), key=lambda ref: self._last_use(unused[ref])):
            if size_b <= limit_b:
                break
            size_b -= int(unused[ref]["physical_utilisation"])
            chosen.append(ref)
        return chosen

    def _last_use(self, vdi: dict) -> float:
        """When the image was cached, or used by this process; epoch seconds."""
        marks = vdi["other_config"]
        cached = float(marks.get("cached-time") or marks.get("nova_import_started") or 0)
        return max(cached, self._disks.last_use_of_image(marks.get("image-id")))

    def _remove(self, vdi_ref: str, vdi: dict, dry_run: bool) -> bool:
        LOG.info("Cached image %s (%s) is unused%s", vdi["name_label"], vdi["uuid"], "" if dry_run else ", removing it")
        if dry_run:
            return True
        try:
            self._disks.destroy_vdi(vdi_ref)
        except exception.StorageError as error:
            LOG.warning("%s", error)
            return False
        return True

    @staticmethod
    def _is_unused(vdi: dict[str, Any], children: dict[str, int]) -> bool:
        marks = vdi["other_config"]
        if not ("image-id" in marks or "nova_import_started" in marks) or vdi["VBDs"] or vdi["is_a_snapshot"]:
            return False
        parent = vdi["sm_config"].get("vhd-parent")
        return parent is None or children.get(parent, 0) <= 1

    def _is_old(self, vdi: dict[str, Any]) -> bool:
        age_s = self._session.clock.time() - self._last_use(vdi)
        if "image-id" not in vdi["other_config"]:
            return age_s > ABANDONED_S
        return 0 < self._conf.xenserver.image_cache_max_age < age_s


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
