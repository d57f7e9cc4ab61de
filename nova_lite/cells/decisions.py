"""Why builds went where they went: what each filter and weigher said, kept for a while."""

import collections
import threading
from typing import Any

_LIMIT = 1000


class Decisions:
    """The last choices of a cell's scheduler, in memory; bounded."""

    def __init__(self, limit: int = _LIMIT):
        self._kept: collections.deque[dict[str, Any]] = collections.deque(maxlen=limit)
        self._lock = threading.Lock()

    def begin(self, request_id: str, cell: str, instance_uuids: list[str], now_s: float, cells: list) -> "Decision":
        """Keep a new decision, to be filled in while it is made."""
        record: dict[str, Any] = {"cell": cell, "request_id": request_id, "instances": instance_uuids, "time": now_s,
                                  "candidates": [one.name for one in cells], "filters": [], "weights": [],
                                  "outcome": "under way"}
        with self._lock:
            self._kept.append(record)
        return Decision(record)

    def of(self, request_id: str) -> list[dict[str, Any]]:
        """Return what was decided for a request (its id, or the uuid of one of its instances), the oldest first."""
        with self._lock:
            return [record for record in self._kept
                    if record["request_id"] == request_id or request_id in record["instances"]]


class Decision:
    """One choice while it is made."""

    def __init__(self, record: dict[str, Any]):
        self._record = record

    def filtered(self, name: str, before: list, after: list | None) -> None:
        """A filter was asked; `after` is None when it took care of the request itself."""
        if after is None:
            self._record["filters"].append({"filter": name, "dropped": [], "handled": True})
            self._record["outcome"] = f"sent on by {name}"
            return
        left = {cell.name for cell in after}
        dropped = [cell.name for cell in before if cell.name not in left]
        self._record["filters"].append({"filter": name, "dropped": dropped, "handled": False})

    def weighed(self, weights: list[tuple[float, Any]], weighers: list, weight_properties: dict[str, Any]) -> None:
        """Cells were weighed; `weights` as weights.weigh returns them, the best first."""
        self._record["weights"] = [
            {"cell": cell.name, "weight": weight,
             "raw": {type(one).__name__: one.raw_weight(cell, weight_properties) for one in weighers}}
            for weight, cell in weights]

    def split(self, sizes: list[int]) -> None:
        self._record["outcome"] = f"split into requests of {', '.join(str(size) for size in sizes)}"

    def chose(self, cell_name: str, could_build: bool) -> None:
        self._record["outcome"] = f"{'built in' if could_build else 'refused by'} {cell_name}"

    def failed(self, reason: str) -> None:
        self._record["outcome"] = f"failed: {reason}"
