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
            "cell": routing_path, "host": self._runner.host, "waiting": len(self._runner.response_queues),
            "counts": dict(self._runner.counts), "outbox": dict(self._runner.outbox.counts),
            "outbox_rows": self._services.db.outbox_count(self._runner.admin_context()),
            "capacities": state.get_our_capacities(include_children=False),
            "neighbours": self.neighbours(),
        }

    def neighbours(self) -> list[dict[str, Any]]:
        """Return what this cell knows of each neighbour, children first."""
        return [self._neighbour_info(cell) for cell in self._runner.state_manager.get_neighbours()]

    def _neighbour_info(self, cell) -> dict[str, Any]:
        info = {"name": cell.name, "is_parent": bool(cell.db_info.get("is_parent")), "is_ours": cell.is_ours,
                "enabled": cell.is_enabled, "draining": bool(cell.db_info.get("draining")),
                "sending": cell.breaker.info()}
        if not info["is_parent"]:  # parents tell nothing of themselves
            info["is_mute"] = cell.is_mute(self._services.conf.cells.mute_child_interval)
            info["last_seen"] = cell.last_seen.isoformat() if cell.has_spoken else None
            info["capacities"] = cell.capacities
        return info
