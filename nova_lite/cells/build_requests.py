"""Builds that this process is busy with, or has sent on."""

import collections
import threading
from collections.abc import Iterable
from typing import Any

_MAX_REQUESTS = 1000
_REQUEST_LIFE_S = 3600


class Request:
    """A build that was sent on: what is needed to send it somewhere else."""

    def __init__(self, build_inst_kwargs: dict[str, Any], routing_path: str, tried: frozenset[str],
                 cells_tried: tuple[str, ...], only_cell: str | None, expires_s: float):
        self.build_inst_kwargs = build_inst_kwargs
        self.routing_path = routing_path
        self.tried = tried  # neighbours, by name
        self.cells_tried = cells_tried  # all that have failed, by full name
        self.only_cell = only_cell  # the path of the cell that was asked for; no other one will do
        self.expires_s = expires_s


class BuildRequests:
    """The builds sent on from here, by instance uuid; bounded, and forgotten after an hour."""

    def __init__(self, clock, limit: int = _MAX_REQUESTS):
        self._clock = clock
        self._limit = limit
        self._by_uuid: collections.OrderedDict[str, Request] = collections.OrderedDict()
        self._lock = threading.Lock()

    def remember(self, message, kwargs: dict[str, Any], tried: frozenset[str], cells_tried: tuple[str, ...],
                 only_cell: str | None = None) -> None:
        request = Request(kwargs, message.routing_path, tried, cells_tried, only_cell,
                          self._clock.time() + _REQUEST_LIFE_S)
        with self._lock:
            for instance in kwargs["instances"]:
                self._by_uuid[instance["uuid"]] = request
            while len(self._by_uuid) > self._limit:
                self._by_uuid.popitem(last=False)

    def take(self, uuids: list[str]) -> Request | None:
        """Return the request all these instances belong to, once."""
        with self._lock:
            found = {id(request): request for request in (self._by_uuid.pop(uuid, None) for uuid in uuids)
                     if request is not None}
        if len(found) != 1:
            return None
        request = next(iter(found.values()))
        return request if request.expires_s > self._clock.time() else None


class InHand:
    """The instances for which this process is just looking for a cell, or will again in a moment."""

    def __init__(self):
        self._uuids: set[str] = set()
        self._lock = threading.Lock()

    def add(self, uuids: Iterable[str]) -> None:
        with self._lock:
            self._uuids.update(uuids)

    def remove(self, uuids: Iterable[str]) -> None:
        with self._lock:
            self._uuids.difference_update(uuids)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._uuids
