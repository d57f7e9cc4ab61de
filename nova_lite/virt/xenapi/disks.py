"""Disks of guests: importing images, the image cache, cloning, growing, attaching, destroying."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import busy, errors, records
from nova_lite.virt.xenapi.direct_vhd import DirectVhd
from nova_lite.virt.xenapi.images import DiskImage, Images, ImageType
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.storage import Storage, StorageRepository
from nova_lite.virt.xenapi.transfer import TransferFailed, Transfers

LOG = logging.getLogger(__name__)

ROOT, RESCUE, SWAP, CONFIG_DRIVE, EPHEMERAL = 0, 1, 2, 3, 4
CD = 1
# xapi rounds sizes up to this.
GRANULE_B = 2 * records.MIB


@dataclass
class Disk:
    """A disk of a guest: the VDI and how it is attached."""

    vdi_ref: str
    userdevice: int
    kind: str = "root"
    bootable: bool = False
    read_only: bool = False
    is_cd: bool = False
    # False: the disk belongs to something else (a volume, the instance in rescue) and is never destroyed here.
    own: bool = True
    other_config: dict | None = None


# Disks that a guest sees as CDs: an HVM guest has no other read-only ones.
CD_KINDS = ("iso", "configdrive")


def cd(vdi_ref: str, userdevice: int, kind: str, bootable: bool = False) -> Disk:
    """Return a disk of one of CD_KINDS; the mark tells it from the CDs of a library."""
    return Disk(vdi_ref, userdevice, kind, bootable=bootable, read_only=True, is_cd=True,
                other_config={"nova_disk_type": kind})


@dataclass(frozen=True)
class Base:
    """A cached image."""

    vdi_ref: str
    virtual_size_b: int


class Disks:
    """Makes and removes the disks of guests."""

    def __init__(self, session, storage: Storage, images: Images, direct: DirectVhd, conf):
        self._session = session
        self._storage = storage
        self._images = images
        self._direct = direct
        self._transfers = Transfers(session)
        self._conf = conf
        self._image_used_at: dict[str, float] = {}

    # Images ---------------------------------------------------------------------------------------------------

    def root_from_image(self, context: Any, instance: Any, image_meta: dict, name_label: str, root_gb: int,
                        undo: Undo) -> Disk:
        """Return the root disk made from the image, grown to the flavor (0: as large as the image).

        Raises FlavorDiskSmallerThanImage, and what Images.open and the host raise.
        """
        sr = self._storage.for_guests()
        size_b = root_gb * records.GIB
        owner = self.marks(instance["uuid"], "root")
        if self._is_cached(image_meta):
            vdi_ref, actual_b = self._clone_of_image(context, image_meta, sr, size_b)
            undo.add(self.destroy_vdi, vdi_ref)
            # First whose it is: until then it looks like the cached image.
            self._session.call_xenapi("VDI.set_other_config", vdi_ref, owner)
            self._session.call_xenapi("VDI.set_name_label", vdi_ref, name_label)
        else:
            vdi_ref, actual_b = self._import_image(context, image_meta, sr, name_label, owner, size_b)
            undo.add(self.destroy_vdi, vdi_ref)
        self.grow(vdi_ref, actual_b, size_b)
        return Disk(vdi_ref, ROOT, "root", bootable=True)

    def marks(self, instance_uuid: str, kind: str) -> dict[str, str]:
        """Return the other_config of a disk we make for an instance: whose it is, what it is, which host made it."""
        return {"nova_instance_uuid": instance_uuid, "nova_disk_type": kind, "nova_host": self._session.host_uuid}

    def iso_from_image(self, context: Any, instance: Any, image_meta: dict, undo: Undo,
                       as_file: bool = False) -> Disk:
        """Return the installation CD made from the image; as_file: in the repository of ISO files, for dom0 to read."""
        sr = self._storage.for_isos() if as_file else self._storage.for_guests()
        owner = self.marks(instance["uuid"], "iso")
        vdi_ref, _ = self._import_image(context, image_meta, sr, f"{image_meta['id']}.iso", owner, 0)
        undo.add(self.destroy_vdi, vdi_ref)
        return cd(vdi_ref, CD, "iso", bootable=True)

    def _is_cached(self, image_meta: dict) -> bool:
        if ImageType.of(image_meta) is ImageType.ISO:
            return False
        if self._conf.xenserver.cache_images == "some":
            return str((image_meta.get("properties") or {}).get("cache_in_nova", "")).lower() == "true"
        return self._conf.xenserver.cache_images == "all"

    def last_use_of_image(self, image_id: str | None) -> float:
        """Return when this process last used a cached image, epoch seconds; 0 if it did not."""
        return self._image_used_at.get(image_id or "", 0.0)

    def _clone_of_image(self, context: Any, image_meta: dict, sr: StorageRepository, limit_b: int) -> tuple[str, int]:
        """Return (VDI, virtual size) of a new copy of the cached image; fetches it where it is not cached."""
        for may_be_gone in (True, False):
            base = self._base(context, image_meta, sr, limit_b)
            _check_fits(base.virtual_size_b, limit_b)
            try:
                return self._clone(base, sr), base.virtual_size_b
            except XenAPI.Failure as failure:
                # Removed from the cache since we looked, here or by another host.
                if not (may_be_gone and errors.is_gone(failure)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _base(self, context: Any, image_meta: dict, sr: StorageRepository, limit_b: int) -> Base:
        image_id = image_meta["id"]
        label = f"Glance Image {image_id}"
        self._image_used_at[image_id] = self._session.clock.time()
        with self._session.locks.hold(f"xenapi-image-cache{image_id}"):
            for vdi_ref, vdi in self._session.records_where("VDI", name__label=label, SR=sr.ref).items():
                # The key is set last: without it an import is under way elsewhere, or broke off.
                if vdi["other_config"].get("image-id") == image_id and not vdi["is_a_snapshot"]:
                    return Base(vdi_ref, int(vdi["virtual_size"]))
            now = str(int(self._session.clock.time()))
            # Clones take over the description that the kind of disk becomes.
            started = {"nova_import_started": now, "nova_host": self._session.host_uuid, "nova_disk_type": "root"}
            vdi_ref, size_b = self._import_image(context, image_meta, sr, label, started, limit_b)
            cached = {"image-id": image_id, "cached-time": now}
            with Undo(f"cache image {image_id}") as undo:
                undo.add(self.destroy_vdi, vdi_ref)
                self._session.call_xenapi("VDI.set_other_config", vdi_ref, cached)
            return Base(vdi_ref, size_b)

    def _import_image(self, context: Any, image_meta: dict, sr: StorageRepository, name_label: str,
                      other_config: dict, limit_b: int) -> tuple[str, int]:
        """Return (VDI, virtual size). Repeats what may pass, glance_num_retries times."""
        if self._direct.serves(image_meta, sr):
            return self._fetch_directly(context, image_meta, sr, name_label, other_config, limit_b)
        attempts = self._conf.glance_num_retries + 1
        for attempt in range(1, attempts + 1):
            try:
                with Undo(f"fetch image {image_meta['id']}") as undo:
                    with self._images.open(context, image_meta) as disk:
                        _check_fits(disk.virtual_size_b, limit_b)
                        imported = self._import_disk(disk, sr, name_label, other_config)
                        undo.add(self.destroy_vdi, imported[0])
                    return imported
            except (TransferFailed, exception.CouldNotFetchImage, ConnectionError, TimeoutError) as error:
                LOG.warning("Fetching image %s failed, attempt %d of %d: %s", image_meta["id"], attempt, attempts,
                            error)
                if attempt == attempts:
                    raise exception.CouldNotFetchImage(image=image_meta["id"]) from error
                self._session.clock.sleep(min(0.5 * 2 ** (attempt - 1), 15))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _fetch_directly(self, context: Any, image_meta: dict, sr: StorageRepository, name_label: str,
                        other_config: dict, limit_b: int) -> tuple[str, int]:
        vdi_ref, size_b = self._direct.fetch(context, image_meta, sr, limit_b // records.GIB)
        with Undo(f"fetch image {image_meta['id']}") as undo:
            undo.add(self.destroy_vdi, vdi_ref)
            _check_fits(size_b, limit_b)
            self._session.call_xenapi("VDI.set_name_label", vdi_ref, name_label)
            self._session.call_xenapi("VDI.set_name_description", vdi_ref, other_config["nova_disk_type"])
            self._session.call_xenapi("VDI.set_other_config", vdi_ref, other_config)
        return vdi_ref, size_b

    def _import_disk(self, disk: DiskImage, sr: StorageRepository, name_label: str,
                     other_config: dict) -> tuple[str, int]:
        size_b = _rounded(disk.virtual_size_b)
        record = records.vdi(sr.ref, name_label, size_b, other_config=other_config)
        vdi_ref = self._create(record)
        with Undo(f"import {name_label}") as undo:
            undo.add(self.destroy_vdi, vdi_ref)
            self._transfers.import_vdi(vdi_ref, disk.blocks, disk.length_b, disk.format)
        return vdi_ref, size_b

    def _create(self, record: dict) -> str:
        """Create a VDI. When nobody knows whether the host did, one that it did make goes again."""
        try:
            return self._session.call_xenapi("VDI.create", record)
        except HypervisorUnavailable:
            with suppress(XenAPI.Failure, exception.NovaException):
                found = self._session.records_where("VDI", name__label=record["name_label"], SR=record["SR"])
                for vdi_ref, vdi in found.items():
                    if record["other_config"] and vdi["other_config"] == record["other_config"] and not vdi["VBDs"]:
                        self.destroy_vdi(vdi_ref)
            raise

    def import_disk(self, disk: DiskImage, name_label: str, other_config: dict, undo: Undo) -> str:
        """Return a new VDI with the content of `disk`."""
        vdi_ref, _ = self._import_disk(disk, self._storage.for_guests(), name_label, other_config)
        undo.add(self.destroy_vdi, vdi_ref)
        return vdi_ref

    def blank(self, name_label: str, size_b: int, other_config: dict, undo: Undo) -> str:
        """Return a new empty VDI."""
        sr = self._storage.for_guests()
        record = records.vdi(sr.ref, name_label, _rounded(size_b), other_config=other_config)
        vdi_ref = self._create(record)
        undo.add(self.destroy_vdi, vdi_ref)
        return vdi_ref

    # Copies and sizes -----------------------------------------------------------------------------------------

    def _clone(self, base: Base, sr: StorageRepository) -> str:
        if self._conf.use_cow_images:
            try:
                # Others may be cloning it too, and the host does one thing at a time with a disk.
                return busy.when_free(self._session.clock, busy.WITH_VDI, self._session.call_xenapi, "VDI.clone",
                                      base.vdi_ref, {}, pauses_s=busy.LONG_PAUSES_S)
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, "SR_OPERATION_NOT_SUPPORTED"):
                    raise
        return self._session.call_task("VDI.copy", base.vdi_ref, sr.ref)

    def grow(self, vdi_ref: str, actual_b: int, wanted_b: int) -> None:
        """Grow the disk to the wanted size; 0 leaves it. Raises ResizeError for a smaller one."""
        if not wanted_b or wanted_b == actual_b:
            return
        if wanted_b < actual_b:
            raise exception.ResizeError(reason=f"the disk has {actual_b} bytes and cannot shrink to {wanted_b}")
        method, other = "VDI.resize", "VDI.resize_online"
        brand, version = self._session.product_brand, self._session.product_version
        if (brand == "XCP" and version < (1, 2)) or (brand == "XenServer" and version[0] < 6):
            method, other = other, method
        try:
            self._session.call_xenapi(method, vdi_ref, str(wanted_b))
        except XenAPI.Failure as failure:
            if not errors.is_code(failure, *errors.NO_SUCH_CALL):
                raise
            LOG.info("%s does not know %s, calling %s", self._session, method, other)
            self._session.call_xenapi(other, vdi_ref, str(wanted_b))

    def has_root_of(self, instance_uuid: str) -> bool:
        """Tell whether the root disk of this instance lies in storage our host can reach."""
        for _, vdi in self._session.get_all_refs_and_recs("VDI"):
            marks = vdi["other_config"]
            if marks.get("nova_instance_uuid") == instance_uuid and marks.get("nova_disk_type") == "root" \
                    and self._storage.is_here(vdi["SR"]):
                return True
        return False

    def virtual_size_b(self, vdi_ref: str) -> int:
        return int(self._session.call_xenapi("VDI.get_virtual_size", vdi_ref))

    # Attaching ------------------------------------------------------------------------------------------------

    def attach(self, vm_ref: str, disk: Disk) -> str:
        """Create the VBD of a disk in a VM; the record goes with the VM."""
        record = records.vbd(vm_ref, disk.vdi_ref, disk.userdevice, bootable=disk.bootable, read_only=disk.read_only,
                             kind="CD" if disk.is_cd else "Disk", other_config=disk.other_config)
        return self._session.call_xenapi("VBD.create", record)

    def vbds_of(self, vm_ref: str) -> dict[str, dict]:
        """Return {ref: record} of the VM's VBDs."""
        return self._session.records_where("VBD", VM=vm_ref)

    def root_vdi_of(self, vm_ref: str) -> str:
        """Return the VDI at userdevice 0. Raises StorageError when there is none."""
        for vbd in self.vbds_of(vm_ref).values():
            if vbd["userdevice"] == str(ROOT) and not vbd["empty"]:
                return vbd["VDI"]
        raise exception.StorageError(f"VM {vm_ref} has no root disk")

    @staticmethod
    def own(vbds: dict[str, dict]) -> list[str]:
        """Return the VDIs that go when the VM is destroyed: no volumes, no borrowed disks, no CDs of a library."""
        return [vbd["VDI"] for vbd in vbds.values() if _is_own(vbd)]

    def destroy_vdi(self, vdi_ref: str) -> None:
        """Destroy the VDI; one that is gone is no error, one the host is busy with is waited for. Raises StorageError.

        A broken import keeps the disk busy for a moment after its connection ended.
        """
        try:
            busy.when_free(self._session.clock, busy.WITH_VDI, self._session.call_xenapi, "VDI.destroy", vdi_ref)
        except XenAPI.Failure as failure:
            if not errors.is_gone(failure):
                raise exception.StorageError(
                    f"Unable to destroy VDI {vdi_ref}: {errors.describe(failure)}") from failure

    def unplug(self, vm_ref: str, vbd_ref: str) -> None:
        """Unplug a VBD, waiting out a guest or another operation that holds it. Raises StorageError."""
        attempts = self._conf.xenserver.num_vbd_unplug_retries + 1
        with self._session.locks.hold(f"vbd-{vm_ref}"):
            for attempt in range(1, attempts + 1):
                try:
                    self._session.call_xenapi("VBD.unplug", vbd_ref)
                    return
                except XenAPI.Failure as failure:
                    if errors.is_code(failure, "DEVICE_ALREADY_DETACHED"):
                        return
                    if not errors.is_code(failure, *RETRY_UNPLUG):
                        raise exception.StorageError(
                            f"Unable to unplug VBD {vbd_ref}: {errors.describe(failure)}") from failure
                if attempt < attempts:
                    self._session.clock.sleep(1)
            try:
                self._session.call_xenapi("VBD.unplug_force", vbd_ref)
            except XenAPI.Failure as failure:
                raise exception.StorageError(
                    f"Reached maximum number of retries trying to unplug VBD {vbd_ref}") from failure

    def plug(self, vm_ref: str, vbd_ref: str) -> None:
        """Plug a VBD into a running VM."""
        with self._session.locks.hold(f"vbd-{vm_ref}"):
            try:
                self._session.call_xenapi("VBD.plug", vbd_ref)
            except XenAPI.Failure as failure:
                if not errors.is_code(failure, "DEVICE_ALREADY_ATTACHED"):
                    raise

    def destroy_vbd(self, vbd_ref: str) -> None:
        """Destroy a VBD; one that is gone is no error. Raises StorageError."""
        try:
            self._session.call_xenapi("VBD.destroy", vbd_ref)
        except XenAPI.Failure as failure:
            if not errors.is_gone(failure):
                raise exception.StorageError(
                    f"Unable to destroy VBD {vbd_ref}: {errors.describe(failure)}") from failure


RETRY_UNPLUG = ("DEVICE_DETACH_REJECTED", "INTERNAL_ERROR", "VM_MISSING_PV_DRIVERS", "OPERATION_NOT_ALLOWED",
                "OTHER_OPERATION_IN_PROGRESS", "DEVICE_DETACH_TIMEOUT")


def _is_own(vbd: dict) -> bool:
    marks = vbd["other_config"]
    if vbd["empty"] or vbd["VDI"] == errors.NULL_REF or marks.get("osvol") or marks.get("nova_borrowed"):
        return False
    # A CD we made for the instance is marked; any other belongs to a library of ISO images.
    return vbd["type"].lower() != "cd" or marks.get("nova_disk_type") in CD_KINDS


def _rounded(size_b: int) -> int:
    return max(GRANULE_B, -(-size_b // GRANULE_B) * GRANULE_B)


def _check_fits(image_b: int, flavor_b: int) -> None:
    if flavor_b and _rounded(image_b) > flavor_b:
        raise exception.FlavorDiskSmallerThanImage(flavor_size=flavor_b, image_size=image_b)
