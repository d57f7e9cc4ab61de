"""Digests: short texts that differ when two cells' ideas of an instance differ."""

import collections
import datetime
import hashlib
import json
import threading
from collections.abc import Iterable
from typing import Any

from oslo_utils import timeutils

from nova_lite import objects
from nova_lite.cells import replica
from nova_lite.objects import base

_COMPARED = tuple(sorted(replica.REPLICATED_FIELDS - {"migration_context"}))
_LOCAL = frozenset(("id", "created_at", "updated_at", "deleted_at", "deleted"))  # of what is part of an instance
_SCALARS = frozenset((str, int, float, bool, type(None)))
_MAX_REMEMBERED = 50_000


class Digests:
    """The digests of a cell's instances, remembered as long as their rows stay what they were; bounded.

    Each change gives a row a new revision. From one comparison to the next most rows have not changed, and to load
    an instance with all its parts takes many times longer than to read its row.
    """

    def __init__(self, limit: int = _MAX_REMEMBERED):
        self._limit = limit
        self._by_uuid: collections.OrderedDict[str, tuple[Any, str]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def of(self, ctxt: Any, rows: Iterable[dict[str, Any]]) -> dict[str, str]:
        """Return {uuid: digest} of instances by their rows, joined with nothing. Reads those that are news."""
        found: dict[str, str] = {}
        changed: dict[str, Any] = {}
        for row in rows:
            with self._lock:
                version, known = self._by_uuid.get(row["uuid"], (None, ""))
            if version == _version(row):
                found[row["uuid"]] = known
            else:
                changed[row["uuid"]] = row
        if changed:
            for instance in objects.InstanceList.get_by_filters(ctxt, {"uuid": list(changed)}):
                found[instance.uuid] = digest(instance)
                self._remember(changed[instance.uuid], instance, found[instance.uuid])
        return found

    def _remember(self, row: dict[str, Any], instance: Any, known: str) -> None:
        if instance.revision != row["revision"]:
            return  # changed since its row was read
        with self._lock:
            self._by_uuid[instance.uuid] = (_version(row), known)
            self._by_uuid.move_to_end(instance.uuid)
            if len(self._by_uuid) > self._limit:
                self._by_uuid.popitem(last=False)


def digest(instance: Any) -> str:
    """Return the digest of an instance, all its parts loaded."""
    values = {name: plain(instance[name]) for name in _COMPARED if name in instance}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Return a field's value as it is compared: without what differs from one database to the next."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, datetime.datetime):  # fractions of a second do not travel
        return timeutils.normalize_time(value).replace(microsecond=0).isoformat()
    wire = base.to_wire(value)
    if isinstance(wire, dict) and "nova_object.data" in wire:
        return {key: item for key, item in wire["nova_object.data"].items() if key not in _LOCAL}
    return wire


def _version(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what differs after every change of an instance; the time, for a database that was put back."""
    return row["revision"], row["updated_at"], row["deleted"]
