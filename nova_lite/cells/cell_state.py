"""One cell as another, or itself, knows it."""

import datetime
import re
from typing import Any

from nova_lite.cells import breaker, lean
from nova_lite.cells.passwords import mask_password

_NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_FIRST_HOST = re.compile(r"^[^:]+://(?:(?P<user>[^:@/,]*)(?::[^@/,]*)?@)?(?P<host>\[[^\]]*\]|[^:/,?]*)(?::(?P<port>\d+))?")
_PLAIN_FIELDS = ("is_parent", "transport_url", "weight_offset", "weight_scale", "api_url", "enabled", "draining")


class CellState:
    """This cell, or one of its neighbours.

    `peer_version` is the highest msg_version the neighbour has sent; None means the reference, or not heard of
    yet (`heard` tells them apart). `object_versions` are those it has said it reads. `full_name` is its path from
    the top, once it has told us. `load` and `round_trip_s` are as its last heartbeat told or took, None without one.
    """

    def __init__(self, cell_name, is_me=False, *, services=None, driver=None):
        self.name = cell_name
        self.is_me = is_me
        self.last_seen = _NEVER
        self.capabilities: dict[str, set[str]] = {}
        self.capacities: dict[str, Any] = {}
        self.db_info: dict[str, Any] = {}
        self.driver = driver
        self.peer_version: int | None = None
        self.object_versions: dict[str, str] = {}
        self.heard = False
        self.is_reachable = True
        self.breaker = breaker.Breaker(services.clock if services else None)
        self.full_name: str | None = None
        self.load: dict[str, Any] | None = None
        self.round_trip_s: float | None = None
        self._clock = services.clock if services else None
        self._known_since = self._clock.utcnow() if services else _NEVER

    @property
    def is_ours(self) -> bool:
        """Whether the neighbour runs nova_lite."""
        return self.peer_version is not None

    @property
    def reads_lean(self) -> bool:
        """Whether the neighbour reads the lean form of messages."""
        return isinstance(self.peer_version, int) and self.peer_version >= lean.VERSION

    @property
    def takes_at_once(self) -> bool:
        """Whether a lean message to this neighbour goes out without any waiting."""
        return self.reads_lean and self.breaker.state == breaker.CLOSED and self.driver.takes_at_once(self)

    @property
    def shared_key(self) -> str | None:
        return self.db_info.get("shared_key")

    @property
    def is_enabled(self) -> bool:
        return self.db_info.get("enabled", True) is not False

    @property
    def takes_builds(self) -> bool:
        return self.is_enabled and not self.db_info.get("draining")

    def update_db_info(self, cell_db_info):
        """Take over the row of the table `cells`."""
        self.db_info = {key: value for key, value in cell_db_info.items() if key != "name"}

    def update_capabilities(self, cell_metadata):
        self.last_seen = self._clock.utcnow()
        self.capabilities = cell_metadata

    def update_capacities(self, capacities):
        self.last_seen = self._clock.utcnow()
        self.capacities = capacities

    def hear_beat(self, load: dict[str, Any], round_trip_s: float | None) -> None:
        """The neighbour is there."""
        self.last_seen = self._clock.utcnow()
        self.load, self.round_trip_s = load, round_trip_s

    def is_mute(self, interval_s: float) -> bool:
        """Whether the cell has told nothing of itself for longer than `interval_s`."""
        return (self._clock.utcnow() - self.last_seen).total_seconds() > interval_s

    def is_silent(self, interval_s: float) -> bool:
        """As is_mute, but a cell that has just become a neighbour is given time to speak."""
        return (self._clock.utcnow() - max(self.last_seen, self._known_since)).total_seconds() > interval_s

    @property
    def has_spoken(self) -> bool:
        return self.last_seen is not _NEVER

    def get_cell_info(self) -> dict[str, Any]:
        """Return what may be shown to administrators; never the password of a broker."""
        shown = {"name": self.name, "capabilities": {key: sorted(v) for key, v in self.capabilities.items()}}
        if not self.db_info:
            return shown
        for key in ("is_parent", "weight_scale", "weight_offset"):
            shown[key] = self.db_info.get(key)
        found = _FIRST_HOST.match(self.db_info.get("transport_url") or "")
        parts = found.groupdict() if found else {}
        shown["username"] = parts.get("user")
        shown["rpc_host"] = parts.get("host")
        shown["rpc_port"] = int(parts["port"]) if parts.get("port") else None
        return shown

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as plain values, the broker's password masked."""
        plain = {"name": self.name, "capabilities": {key: sorted(v) for key, v in self.capabilities.items()}}
        plain.update((key, self.db_info[key]) for key in _PLAIN_FIELDS if key in self.db_info)
        if plain.get("transport_url"):
            plain["transport_url"] = mask_password(plain["transport_url"])
        return plain

    def send_message(self, message, server: str | None = None):
        """Send a message to this neighbour, to the one process `server` of it if given.

        `is_reachable` tells whether the last one went out. Raises RpcUnavailable, at once where it is to be expected.
        """
        self.is_reachable = False
        if server is None:
            self.breaker.send(self.name, lambda: self.driver.send_message_to_cell(self, message))
        else:  # that one process is gone does not mean that the cell is
            self.driver.send_message_to_cell(self, message, server=server)
        self.is_reachable = True

    def __repr__(self):
        return f"<Cell {self.name}{' (this one)' if self.is_me else ''}>"
