"""Kernel and ramdisk files in dom0, for paravirtual guests whose image has none inside. Needs the `kernel` plugin."""

import uuid as uuidlib
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.images import Images
from nova_lite.virt.xenapi.plan import Undo

LOG = logging.getLogger(__name__)


class Kernels:
    """Brings kernels and ramdisks into dom0 and removes them."""

    def __init__(self, session, disks: Disks, images: Images, image_api, conf):
        self._session = session
        self._disks = disks
        self._images = images
        self._image_api = image_api
        self._conf = conf

    @staticmethod
    def _ids(instance: Any) -> tuple[str | None, str | None]:
        return instances.read(instance, "kernel_id") or None, instances.read(instance, "ramdisk_id") or None

    def check(self, instance: Any) -> None:
        """Raise InstanceUnacceptable for an instance with exactly one of kernel and ramdisk."""
        kernel_id, ramdisk_id = self._ids(instance)
        if bool(kernel_id) != bool(ramdisk_id):
            raise exception.InstanceUnacceptable(instance_id=instances.read(instance, "uuid"),
                                                 reason="instance has a kernel or ramdisk but not both")

    def fetch(self, context: Any, instance: Any, undo: Undo) -> tuple[str, str]:
        """Return the dom0 file names of kernel and ramdisk; '' for what the instance has not."""
        files = []
        for image_id in self._ids(instance):
            file_name = self._fetch_one(context, image_id, undo) if image_id else ""
            if file_name:
                undo.add(self.remove, file_name, "")
            files.append(file_name)
        return files[0], files[1]

    def _fetch_one(self, context: Any, image_id: str, undo: Undo) -> str:
        cached = self._conf.xenserver.cache_images != "none"
        if cached:
            file_name = self._session.call_plugin("kernel", "create_kernel_ramdisk", {
                "cached-image": image_id, "new-image-uuid": str(uuidlib.uuid4())})
            if file_name:
                return file_name
        image_meta = self._image_api.show(context, image_id)
        self._check_size(image_id, image_meta.get("size") or 0)
        with Undo(f"fetch kernel {image_id}") as passing, self._images.open(context, image_meta) as disk:
            size_b = disk.virtual_size_b
            self._check_size(image_id, size_b)
            vdi_ref = self._disks.import_disk(disk, f"kernel-{image_id}", {}, passing)
        try:
            arguments = {"vdi-ref": vdi_ref, "image-size": str(size_b)}
            if cached:
                arguments["cached-image"] = image_id
            return self._session.call_plugin("kernel", "copy_vdi", arguments)
        finally:
            self._disks.destroy_vdi(vdi_ref)

    def _check_size(self, image_id: str, size_b: int) -> None:
        limit_b = self._conf.xenserver.max_kernel_ramdisk_size
        if size_b > limit_b:
            raise exception.ImageUnacceptable(image_id=image_id, reason=f"{size_b} bytes, {limit_b} are allowed")

    def remove_for(self, instance: Any, vm_ref: str) -> None:
        """Remove the files of an instance's VM, named by the VM's record."""
        if not all(self._ids(instance)):
            return
        record = self._session.get_rec("VM", vm_ref)
        if record is not None and (record["PV_kernel"] or record["PV_ramdisk"]):
            self.remove(record["PV_kernel"], record["PV_ramdisk"])

    def remove(self, kernel: str, ramdisk: str) -> None:
        """Remove files; missing ones are no error, other failures are logged."""
        arguments = {key: value for key, value in (("kernel-file", kernel), ("ramdisk-file", ramdisk)) if value}
        try:
            self._session.call_plugin("kernel", "remove_kernel_ramdisk", arguments)
        except XenAPI.Failure as failure:
            LOG.warning("Removing kernel files %s failed: %s", arguments, errors.describe(failure))
