"""Storage repositories: choosing the one for guests, scanning, how full it is."""

import threading
from dataclasses import dataclass

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors

LOG = logging.getLogger(__name__)

SCAN_ATTEMPTS = 4
# Which repository is the guests' is asked less often than how full it is.
CHOICES_COUNT_FOR = 30


@dataclass(frozen=True)
class StorageRepository:
    """A storage repository with a plugged PBD on our host. Sizes in bytes."""

    ref: str
    uuid: str
    type: str
    content_type: str
    shared: bool
    physical_size_b: int
    physical_utilisation_b: int
    virtual_allocation_b: int
    pbd_refs: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, ref: str, record: dict) -> "StorageRepository":
        return cls(ref=ref, uuid=record["uuid"], type=record["type"], content_type=record["content_type"],
                   shared=record["shared"], physical_size_b=int(record["physical_size"]),
                   physical_utilisation_b=int(record["physical_utilisation"]),
                   virtual_allocation_b=int(record["virtual_allocation"]), pbd_refs=tuple(record["PBDs"]))


class Storage:
    """The storage of our host, remembered for `keep_s` seconds."""

    def __init__(self, session, matching_filter: str, keep_s: float):
        self._session = session
        self._filter = matching_filter
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._guests: StorageRepository | None = None
        self._read_at = self._chosen_at = 0.0

    @property
    def chosen(self) -> list[tuple[str, str]]:
        """(class, ref) of what for_guests reads again: the repository of guests' disks once it was chosen."""
        return [("SR", self._guests.ref)] if self._guests is not None else []

    def for_guests(self, refresh: bool = False, just_read: dict[str, dict] | None = None) -> StorageRepository:
        """Return the repository of guests' disks; just_read: {ref: record} that are fresh.

        Raises StorageRepositoryNotFound.
        """
        with self._lock:
            now = self._session.clock.monotonic()
            if self._guests is None or now - self._chosen_at > CHOICES_COUNT_FOR * self._keep_s:
                self._guests = self._choose()
                self._read_at = self._chosen_at = now
            elif refresh or now - self._read_at > self._keep_s:
                self._guests = self._read_again(self._guests, just_read or {}) or self._choose()
                self._read_at = now
            return self._guests

    def _read_again(self, chosen: StorageRepository, just_read: dict[str, dict]) -> StorageRepository | None:
        record = just_read.get(chosen.ref) or self._session.get_rec("SR", chosen.ref)
        if record is None or tuple(record["PBDs"]) != chosen.pbd_refs:
            return None
        return StorageRepository.from_record(chosen.ref, record)

    def _choose(self) -> StorageRepository:
        criteria, _, pattern = self._filter.partition(":")
        if criteria == "other-config" and "=" in pattern:
            key, _, value = pattern.partition("=")
            chosen = self._by_other_config(key, value)
        elif self._filter == "default-sr:true":
            chosen = self._default()
        else:
            LOG.warning("[xenserver] sr_matching_filter = %s is neither default-sr:true nor other-config:KEY=VALUE",
                        self._filter)
            chosen = None
        if chosen is None:
            raise exception.StorageRepositoryNotFound(
                f"No storage repository for guests: [xenserver] sr_matching_filter = {self._filter} matches none that "
                "is plugged on this host")
        return chosen

    def _default(self) -> StorageRepository | None:
        pool = next(iter(self._session.call_xenapi("pool.get_all_records").values()))
        if pool["default_SR"] == errors.NULL_REF:
            return None
        record = self._session.get_rec("SR", pool["default_SR"])
        if record is None or not self._plugged_here(record):
            return None
        return StorageRepository.from_record(pool["default_SR"], record)

    def for_isos(self) -> StorageRepository:
        """Return the local repository of ISO images. Raises NotFound."""
        found = self._by_other_config("i18n-key", "local-storage-iso", content_type="iso")
        if found is None:
            raise exception.NotFound("Cannot find SR of content-type ISO")
        return found

    def _by_other_config(self, key: str, value: str, content_type: str | None = None) -> StorageRepository | None:
        for ref, record in self._session.get_all_refs_and_recs("SR"):
            if record["other_config"].get(key) == value and content_type in (None, record["content_type"]) \
                    and self._plugged_here(record):
                return StorageRepository.from_record(ref, record)
        return None

    def _plugged_here(self, sr_record: dict) -> bool:
        for pbd_ref in sr_record["PBDs"]:
            pbd = self._session.get_rec("PBD", pbd_ref)
            if pbd and pbd["host"] == self._session.host_ref and pbd["currently_attached"]:
                return True
        return False

    def is_here(self, sr_ref: str) -> bool:
        """Tell whether the repository is plugged on our host."""
        record = self._session.get_rec("SR", sr_ref)
        return record is not None and self._plugged_here(record)

    def scan(self, sr_ref: str) -> None:
        """Have the host look what is in the repository, one scan of it at a time.

        A scan of the host's own that began before a file arrived may be joined with ours, hence the lock, and the
        repetition for the passing error 40.
        """
        with self._session.locks.hold(f"sr-scan-{sr_ref}"):
            for attempt in range(1, SCAN_ATTEMPTS + 1):
                try:
                    self._session.call_long("SR.scan", sr_ref)
                    return
                except XenAPI.Failure as failure:
                    if not errors.is_code(failure, "SR_BACKEND_FAILURE_40") or attempt == SCAN_ATTEMPTS:
                        raise
                    self._session.clock.sleep(2 ** attempt)
