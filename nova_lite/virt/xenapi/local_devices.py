"""Disks attached to the machine of this service itself, which then is a guest of the host it manages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, records
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.own_vm import own_vm_uuid

LOG = logging.getLogger(__name__)

DEVICES = "/dev"
LOOKS_EVERY_S = 0.1
XEN_PREFIX = "xvd"
# Marks what is attached here for a while.
LENT = {"nova_lent": "True"}


class LocalDevices:
    """Attaches disks here for a while."""

    def __init__(self, session, disks: Disks, conf, folder: str = DEVICES):
        self._session = session
        self._disks = disks
        self._conf = conf
        self._folder = folder

    @cached_property
    def _vm_ref(self) -> str:
        return self._session.call_xenapi("VM.get_by_uuid", own_vm_uuid() or "")

    @contextmanager
    def attached(self, vdi_ref: str) -> Iterator[str]:
        """Lend the path of the device under which the disk can be read here. Raises StorageError, XenAPI.Failure."""
        # An HVM guest has no read-only disks.
        read_only = self._session.call_xenapi("VDI.get_read_only", vdi_ref)
        vbd_ref = self._session.call_xenapi("VBD.create", records.vbd(
            self._vm_ref, vdi_ref, "autodetect", read_only=read_only, other_config=LENT))
        try:
            self._disks.plug(self._vm_ref, vbd_ref)
            try:
                yield self._path(self._session.call_xenapi("VBD.get_device", vbd_ref))
            finally:
                self._disks.unplug(self._vm_ref, vbd_ref)
        finally:
            self._disks.destroy_vbd(vbd_ref)

    def _path(self, device: str) -> str:
        """Return the path of a device when it is there: the kernel makes it a moment after the plug."""
        options = self._conf.xenserver
        if options.remap_vbd_dev and device.startswith(XEN_PREFIX):
            device = options.remap_vbd_dev_prefix + device.removeprefix(XEN_PREFIX)
        path = os.path.join(self._folder, device)
        deadline = self._session.clock.monotonic() + options.block_device_creation_timeout
        while not os.path.exists(path):
            if self._session.clock.monotonic() > deadline:
                raise exception.StorageError(f"Timeout waiting for device {device} to be created")
            self._session.clock.sleep(LOOKS_EVERY_S)
        return path

    def detach_leftovers(self) -> None:
        """Detach disks that an earlier run left attached here; called before any work begins.

        What is not marked stays: this machine's own disks may be those of an instance too.
        """
        for vbd_ref, vbd in self._disks.vbds_of(self._vm_ref).items():
            if not LENT.items() <= vbd["other_config"].items():
                continue
            try:
                LOG.warning("Detaching %s, which an earlier run left attached here", vbd["device"])
                if vbd["currently_attached"]:
                    self._disks.unplug(self._vm_ref, vbd_ref)
                self._disks.destroy_vbd(vbd_ref)
            except (XenAPI.Failure, exception.StorageError) as error:
                if not errors.is_gone(error):
                    LOG.warning("%s stays attached here: %s", vbd["device"], error)
