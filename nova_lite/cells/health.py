"""What an operator may want to know of this cell and of its neighbours."""

from typing import Any


class Health:
    """Tells how a cell's process does."""

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services

    def info(self, routing_path: str) -> dict[str, Any]:
        """Return what an operator may want to know of this cell."""
        state = self._runner.state_manager
        return {
            "cell": routing_path, "host": self._runner.host, **self._runner.heartbeats.load(),
            "counts": dict(self._runner.counts), "outbox": dict(self._runner.outbox.counts),
            "capacities": state.get_our_capacities(include_children=False),
            "neighbours": self.neighbours(),
        }

    def neighbours(self) -> list[dict[str, Any]]:
        """Return what this cell knows of each neighbour, children first.

        [{'name', 'is_parent', 'is_ours', 'enabled', 'draining', 'sending' (of the breaker), 'waiting' (requests that
        wait for its answer), 'is_mute' and 'last_seen' (ISO; None where nothing can be known of that), 'round_trip_s',
        'load' (as its last beat told, None without one), 'capacities' (children)}].
        """
        waiting = self._runner.response_queues.by_neighbour()
        return [self._neighbour(cell, waiting) for cell in self._runner.state_manager.get_neighbours()]

    def _neighbour(self, cell, waiting: dict[str, int]) -> dict[str, Any]:
        is_parent = bool(cell.db_info.get("is_parent"))
        # A parent of the reference's kind tells nothing of itself.
        speaks = not is_parent or cell.has_spoken
        info = {"name": cell.name, "is_parent": is_parent, "is_ours": cell.is_ours, "enabled": cell.is_enabled,
                "draining": bool(cell.db_info.get("draining")), "sending": cell.breaker.info(),
                "waiting": waiting.get(cell.name, 0), "round_trip_s": cell.round_trip_s, "load": cell.load,
                "is_mute": cell.is_mute(self._services.conf.cells.mute_child_interval) if speaks else None,
                "last_seen": cell.last_seen.isoformat() if cell.has_spoken else None}
        return info if is_parent else {**info, "capacities": cell.capacities}
