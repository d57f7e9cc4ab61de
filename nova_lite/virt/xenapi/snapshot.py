"""Snapshots: a frozen copy of the root disk, streamed from the host into an image."""

import gzip
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import XenAPI
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.objects import task_states
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import busy, instances, upload_handlers
from nova_lite.virt.xenapi.direct_vhd import DirectVhd
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.local_devices import LocalDevices
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.transfer import CHUNK_B, TransferFailed, Transfers, chunks

LOG = logging.getLogger(__name__)

DEFAULT_COMPRESSION = 6


class CoalesceTimeout(exception.NovaException):
    """The host did not merge the parents of a disk in time."""

    msg_fmt = "VHD coalesce attempts exceeded (%(attempts)d), giving up... (parent %(parent)s, chain %(chain)s)"


class Snapshots:
    """Makes images of instances."""

    def __init__(self, session, finder: VmFinder, disks: Disks, storage: Storage, direct: DirectVhd,
                 local: LocalDevices, image_api, conf):
        self._session = session
        self._finder = finder
        self._disks = disks
        self._storage = storage
        self._direct = direct
        self._local = local
        self._image_api = image_api
        self._transfers = Transfers(session)
        self._conf = conf
        self._handler = upload_handlers.load(conf)
        self._way = upload_handlers.way(conf)

    def snapshot(self, context: Any, instance: Any, image_id: str,
                 update_task_state: Callable[..., None] | None = None) -> None:
        """Fill image `image_id` with the instance's root disk (VHD in a gzipped tar), as it is now.

        Raises ImageNotFound when the image was deleted meanwhile, CouldNotUploadImage, CoalesceTimeout.
        """
        report = update_task_state or (lambda **states: None)
        vdi_ref = self._disks.root_vdi_of(self._finder.require(instance))
        live, disks = self._look(vdi_ref)
        self._remove_leftovers(disks, live)
        chain = parents_of(live, disks)
        with Undo(f"snapshot {self._finder.name(instance)}") as undo:
            snapshot_ref = self._freeze(vdi_ref, live)
            undo.add(self._disks.destroy_vdi, snapshot_ref)
            self._session.call_xenapi("VDI.set_name_label", snapshot_ref, f"{self._finder.name(instance)}-snapshot")
            report(task_state=task_states.IMAGE_PENDING_UPLOAD)
            # Where others share the former parent (clones of a cached image), nothing is merged into it.
            if len(chain) > 1 and not has_siblings(live, disks):
                self.wait_for_coalesce(vdi_ref, live["SR"], chain)
            report(task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD)
            if self._handler is not None:
                self._handler.upload_image(context, self._session, instance, image_id,
                                           parents_of(*self._look(snapshot_ref)))
            elif self._is_sent_directly(live):
                self._send_directly(context, instance, image_id, snapshot_ref)
            else:
                self._upload(context, instance, image_id, snapshot_ref)
        self._disks.destroy_vdi(snapshot_ref)

    def _is_sent_directly(self, live: dict) -> bool:
        sr = self._storage.for_guests()
        return sr.ref == live["SR"] and is_vhd(live) and self._direct.is_usable(sr, self._way)

    def _send_directly(self, context: Any, instance: Any, image_id: str, snapshot_ref: str) -> None:
        chain = parents_of(*self._look(snapshot_ref))
        properties = self._image_meta(instance)["properties"]
        self._direct.send(context, image_id, chain, self._storage.for_guests(), properties)

    def _look(self, vdi_ref: str) -> tuple[dict, dict[str, dict]]:
        """Return the record of the disk, and {ref: record} of all disks in its repository."""
        live = self._session.call_xenapi("VDI.get_record", vdi_ref)
        return live, self._session.records_where("VDI", SR=live["SR"])

    def _freeze(self, vdi_ref: str, live: dict) -> str:
        """Snapshot the disk. When nobody knows whether the host did, the one it did make goes again."""
        try:
            return busy.when_free(self._session.clock, busy.WITH_VDI, self._session.call_long, "VDI.snapshot", vdi_ref,
                                  {})
        except HypervisorUnavailable:
            with suppress(XenAPI.Failure, exception.NovaException):
                for snapshot_ref in self._session.call_xenapi("VDI.get_snapshots", vdi_ref):
                    if snapshot_ref not in live["snapshots"]:
                        self._disks.destroy_vdi(snapshot_ref)
            raise

    def remove_interrupted(self, instance: Any) -> None:
        """Remove what a snapshot of the instance left that ended with the last run of the service."""
        live, disks = self._look(self._disks.root_vdi_of(self._finder.require(instance)))
        self._remove_leftovers(disks, live)

    def _remove_leftovers(self, disks: dict[str, dict], live: dict) -> None:
        """Remove snapshots of this disk that an earlier, interrupted upload left behind."""
        for snapshot_ref in live["snapshots"]:
            record = disks.get(snapshot_ref)
            if record and record["name_label"].endswith("-snapshot") and not record["VBDs"] \
                    and "image-id" not in record["other_config"]:
                LOG.warning("Removing the leftover snapshot %s", record["uuid"])
                with suppress(exception.StorageError):
                    self._disks.destroy_vdi(snapshot_ref)

    def wait_for_coalesce(self, vdi_ref: str, sr_ref: str, chain: list[str]) -> None:
        """Wait until the parent a snapshot put below the live disk was merged into one of the former parents.

        `chain` is the live disk's chain from before the snapshot, uuids, leaf first. Several merges may run at once, so
        any ancestor ends the wait. Raises CoalesceTimeout.
        """
        parent = None
        for attempt in range(self._conf.xenserver.vhd_coalesce_max_attempts):
            if attempt:
                self._session.clock.sleep(self._conf.xenserver.vhd_coalesce_poll_interval)
            self._storage.scan(sr_ref)
            parent = self._session.call_xenapi("VDI.get_sm_config", vdi_ref).get("vhd-parent")
            if not parent or parent in chain[1:]:
                return
        raise CoalesceTimeout(attempts=self._conf.xenserver.vhd_coalesce_max_attempts, parent=parent,
                              chain=" < ".join(chain))

    # Upload ---------------------------------------------------------------------------------------------------

    def _upload(self, context: Any, instance: Any, image_id: str, snapshot_ref: str) -> None:
        attempts = self._conf.glance_num_retries + 1
        for attempt in range(1, attempts + 1):
            try:
                return self._upload_once(context, instance, image_id, snapshot_ref)
            except (TransferFailed, OSError) as error:
                LOG.warning("Uploading image %s failed, attempt %d of %d: %s", image_id, attempt, attempts, error)
                if attempt == attempts:
                    raise exception.CouldNotUploadImage(image=image_id) from error
            self._session.clock.sleep(min(0.5 * 2 ** (attempt - 1), 15))
        return None

    def _upload_once(self, context: Any, instance: Any, image_id: str, snapshot_ref: str) -> None:
        with self._content(snapshot_ref) as (disk, size_b, name), tempfile.TemporaryFile() as archive:
            concurrency.run_blocking(_pack, disk, size_b, name, archive,
                                     self._conf.xenserver.image_compression_level or DEFAULT_COMPRESSION)
            archive.seek(0)
            self._image_api.update(context, image_id, self._image_meta(instance), archive)

    @contextmanager
    def _content(self, snapshot_ref: str) -> Iterator[tuple[BinaryIO, int, str]]:
        """Lend (stream, bytes, name in the archive) of the snapshot's content."""
        if self._way == upload_handlers.LOCAL:
            with self._local.attached(snapshot_ref) as path, open(path, "rb") as device:
                yield device, self._disks.virtual_size_b(snapshot_ref), "disk.raw"
            return
        # A tar member's size stands before its content, and the host does not tell it: the disk is spooled.
        with tempfile.TemporaryFile() as disk:
            with self._transfers.export_vdi(snapshot_ref, "vhd") as stream:
                for block in chunks(stream):
                    concurrency.run_blocking(disk.write, block)
            size_b = disk.tell()
            if not size_b:
                raise TransferFailed(verb="GET", path="/export_raw_vdi", reason="the host sent nothing")
            disk.seek(0)
            yield disk, size_b, "0.vhd"

    def _image_meta(self, instance: Any) -> dict[str, Any]:
        formats = ("raw", "tgz") if self._way == upload_handlers.LOCAL else ("vhd", "ovf")
        return {"disk_format": formats[0], "container_format": formats[1], "properties": {
            "auto_disk_config": str(bool(instances.follows_disk(instance))),
            "os_type": instances.read(instance, "os_type") or self._conf.xenserver.default_os_type}}


def _pack(disk: BinaryIO, size_b: int, name: str, archive: BinaryIO, level: int) -> None:
    with gzip.GzipFile(fileobj=archive, mode="wb", compresslevel=level) as packed, \
            tarfile.open(fileobj=packed, mode="w|", bufsize=CHUNK_B) as tar:
        member = tarfile.TarInfo(name)
        member.size = size_b
        tar.addfile(member, disk)


def is_vhd(record: dict) -> bool:
    """Tell whether a disk is a VHD, as far as the host says: later ones have other formats too."""
    told = record["sm_config"].get("vdi_type") or record["sm_config"].get("image-format") or "vhd"
    return told.lower() == "vhd"


def parents_of(live: dict, disks: dict[str, dict]) -> list[str]:
    """Return the uuids of a VHD and its parents, leaf first; only the leaf where the storage shows no parents."""
    by_uuid = {record["uuid"]: record for record in disks.values()}
    uuids = [live["uuid"]]
    parent = live["sm_config"].get("vhd-parent")
    while parent and parent not in uuids:
        uuids.append(parent)
        parent = by_uuid[parent]["sm_config"].get("vhd-parent") if parent in by_uuid else None
    return uuids


def has_siblings(live: dict, disks: dict[str, dict]) -> bool:
    """Tell whether other disks share the parent of this one."""
    parent = live["sm_config"].get("vhd-parent")
    return sum(record["sm_config"].get("vhd-parent") == parent for record in disks.values()) > 1
