"""The domain a VM ran in last, kept in its record: the console log of a guest that crashed is found by it."""

import threading

import XenAPI
from oslo_log import log as logging

from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.vm_cache import Vm, VmCache

LOG = logging.getLogger(__name__)

KEY = "last_dom_id"
SHOWS_WITHIN_S = 1.0


class DomainIds:
    """Writes VM.other_config['last_dom_id']: when we start a VM, and when a domain ends that is not noted yet."""

    def __init__(self, session, cache: VmCache):
        self._session = session
        self._cache = cache
        self._leaving: set[str] = set()
        self._lock = threading.Lock()

    def note_start(self, vm_ref: str) -> None:
        """Write the domain of a VM we just started."""
        domid = self._cache.wait_for_domain(vm_ref, SHOWS_WITHIN_S)
        known = self._cache.get(vm_ref)
        if domid >= 0 and known is not None:
            self._write(vm_ref, domid, known.other_config.get(KEY))

    def note_leaving(self, vm_ref: str) -> None:
        """A VM that is being destroyed needs no note of its domain's end."""
        with self._lock:
            self._leaving.add(vm_ref)

    def note_change(self, before: Vm | None, after: Vm | None) -> None:
        """Write the domain of a VM that stopped running, if it is not noted; called for every change of a VM."""
        if after is None:
            with self._lock:
                self._leaving.discard(before.ref if before else "")
            return
        if before is None or before.domid < 0 or after.domid >= 0 or not after.instance_uuid:
            return
        noted = after.other_config.get(KEY)
        if noted == str(before.domid) or after.ref in self._leaving:
            return
        self._write(after.ref, before.domid, noted)

    def _write(self, vm_ref: str, domid: int, noted: str | None) -> None:
        try:
            self._session.put_in_map("VM.other_config", vm_ref, KEY, str(domid), is_new=noted is None)
        except XenAPI.Failure as failure:
            # Only the log of a crashed guest is harder to find without it.
            if not errors.is_gone(failure):
                LOG.warning("The domain of %s is not noted: %s", vm_ref, errors.describe(failure))
