"""Repositories that hold volumes: made known to the host while a volume is in use, forgotten afterwards."""

from contextlib import suppress
from dataclasses import dataclass, field

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import errors
from nova_lite.virt.xenapi.plan import Undo, ignoring_gone
from nova_lite.virt.xenapi.storage import Storage

LOG = logging.getLogger(__name__)

ISCSI = "iscsi"
# Begins the labels of repositories that a volume was introduced by.
TEMPORARY = "tempSR-"
# From this version on, disks of iSCSI repositories are to be served by the kernel's own back end.
NAMES_BACK_END = (6, 5)
PASSWORD, PASSWORD_SECRET = "chappassword", "chappassword_secret"  # keys of a device_config


@dataclass(frozen=True)
class VolumeRepository:
    """A repository as the host is to know it. `params` (device_config) may hold a password."""

    uuid: str
    label: str
    params: dict[str, str] = field(repr=False)
    type: str = ISCSI
    description: str = ""


class VolumeRepositories:
    """Introduces repositories, plugs them on our host, forgets them. What they hold is never changed."""

    def __init__(self, session, storage: Storage):
        self._session = session
        self._storage = storage

    def bring(self, wanted: VolumeRepository, undo: Undo) -> str:
        """Return the repository, known to our host and plugged there. Raises XenAPI.Failure."""
        sr_ref = self.find(wanted.uuid)
        if sr_ref is None:
            return self._introduce(wanted, undo)
        if not self._storage.is_here(sr_ref):
            self._plug_again(sr_ref, wanted, undo)
        return sr_ref

    def find(self, sr_uuid: str) -> str | None:
        """Return the repository with this uuid, or None."""
        try:
            return self._session.call_xenapi("SR.get_by_uuid", sr_uuid)
        except XenAPI.Failure as failure:
            if errors.is_code(failure, errors.UUID_INVALID):
                return None
            raise

    def _introduce(self, wanted: VolumeRepository, undo: Undo) -> str:
        try:
            sr_ref = self._session.call_xenapi("SR.introduce", wanted.uuid, wanted.label, wanted.description,
                                               wanted.type, "", False, self._sm_config(wanted))
        except HypervisorUnavailable:  # nobody knows whether the host did
            with suppress(XenAPI.Failure, exception.NovaException):
                if unseen_ref := self.find(wanted.uuid):
                    self.forget(unseen_ref)
            raise
        undo.add(self.forget, sr_ref)
        self._plug_here(sr_ref, wanted, undo)
        return sr_ref

    def _sm_config(self, wanted: VolumeRepository) -> dict[str, str]:
        if wanted.type == ISCSI and self._session.product_version >= NAMES_BACK_END:
            return {"backend-kind": "vbd"}
        return {}

    def _plug_again(self, sr_ref: str, wanted: VolumeRepository, undo: Undo) -> None:
        """Plug a repository that is known: to another host of the pool, or to ours from an attempt that broke off."""
        for pbd_ref in self._session.records_where("PBD", SR=sr_ref, host=self._session.host_ref):
            self._session.call_xenapi("PBD.plug", pbd_ref)
            return
        # Introduced for one host alone; from now on two reach it.
        self._session.call_xenapi("SR.set_shared", sr_ref, True)
        self._plug_here(sr_ref, wanted, undo)

    def _plug_here(self, sr_ref: str, wanted: VolumeRepository, undo: Undo) -> None:
        pbd_ref = self._session.call_xenapi("PBD.create", {
            "host": self._session.host_ref, "SR": sr_ref, "device_config": self._device_config(wanted, undo)})
        undo.add(self._unplug_here, pbd_ref)
        self._session.call_xenapi("PBD.plug", pbd_ref)

    def _device_config(self, wanted: VolumeRepository, undo: Undo) -> dict[str, str]:
        """Return the parameters with the password in an object of its own, which only the host itself reads."""
        password = wanted.params.get(PASSWORD)
        if not password:
            return wanted.params
        try:
            secret_ref = self._session.call_xenapi("secret.create", {"value": password, "other_config": {}})
        except XenAPI.Failure as failure:
            if errors.is_code(failure, "MESSAGE_METHOD_UNKNOWN"):
                return wanted.params  # older than secrets
            raise
        undo.add(ignoring_gone, self._session.call_xenapi, "secret.destroy", secret_ref)
        others = {key: value for key, value in wanted.params.items() if key != PASSWORD}
        return {**others, PASSWORD_SECRET: self._session.call_xenapi("secret.get_uuid", secret_ref)}

    def _unplug_here(self, pbd_ref: str) -> None:
        for method in ("PBD.unplug", "PBD.destroy"):
            ignoring_gone(self._session.call_xenapi, method, pbd_ref)

    def purge(self, sr_ref: str) -> None:
        """Forget the repository unless a disk in it is still attached somewhere."""
        for vdi in self._session.records_where("VDI", SR=sr_ref).values():
            if vdi["VBDs"]:
                return
        self.forget(sr_ref)

    def forget(self, sr_ref: str) -> None:
        """Unplug and forget a repository, and the password it was plugged with. A problem is only logged."""
        try:
            self.drop(sr_ref)
        except XenAPI.Failure as failure:
            LOG.warning("Forgetting SR %s failed: %s", sr_ref, errors.code_of(failure))

    def drop(self, sr_ref: str) -> None:
        """Like forget, but raises XenAPI.Failure when the repository stays."""
        pbds = self._session.records_where("PBD", SR=sr_ref)
        for pbd_ref in pbds:
            try:
                self._session.call_xenapi("PBD.unplug", pbd_ref)
            except XenAPI.Failure as failure:
                LOG.warning("Unplugging %s failed: %s", pbd_ref, errors.code_of(failure))
        ignoring_gone(self._session.call_xenapi, "SR.forget", sr_ref)
        for pbd in pbds.values():
            self._forget_secret(pbd["device_config"].get(PASSWORD_SECRET))

    def _forget_secret(self, secret_uuid: str | None) -> None:
        if secret_uuid is None:
            return
        try:
            self._session.call_xenapi("secret.destroy", self._session.call_xenapi("secret.get_by_uuid", secret_uuid))
        except XenAPI.Failure as failure:
            if not errors.is_gone(failure):
                LOG.warning("Removing the password of a forgotten repository failed: %s", errors.code_of(failure))
