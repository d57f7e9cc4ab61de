"""What neighbours of our kind tell each other every few seconds: that they are there, how far away, what waits."""

import datetime
from typing import Any

from nova_lite.cells import routing


class Heartbeats:
    """A cell's beats go to its parents, who send them back. Capacities are not told in them: those have their time.

    A beat's load is {'outbox_rows', 'outbox_oldest_s', 'waiting', 'round_trip_s'}: updates that the top has not
    acknowledged, the age of the oldest, requests that wait for an answer, and how long the beat before took there and
    back (None before there was one).
    """

    def __init__(self, runner):
        self._runner = runner
        self._clock = runner.clock

    def beat(self, ctxt) -> None:
        """Tell the parents."""
        parents = [parent for parent in self._runner.state_manager.get_parent_cells() if parent.is_ours]
        if not parents:
            return
        load = self.load()
        for parent in parents:
            self._send(ctxt, parent, routing.UP, {**load, "round_trip_s": parent.round_trip_s})

    def heard(self, message, load: dict[str, Any], sent_at_s: float) -> None:
        """A child's beat, which is sent back; or one of ours, which a parent has sent back."""
        is_echo = message.direction == routing.DOWN
        state = self._runner.state_manager
        name = message.came_from
        neighbour = state.get_parent_cell(name) if is_echo else state.get_child_cell(name)
        if neighbour is None:
            return
        neighbour.hear_beat(load, max(0.0, self._clock.time() - sent_at_s) if is_echo else load.get("round_trip_s"))
        if not is_echo:
            self._send(message.ctxt, neighbour, routing.DOWN, self.load(), sent_at_s)

    def load(self) -> dict[str, Any]:
        """Return what waits in this process, and in this cell's outbox."""
        db, ctxt = self._runner.services.db, self._runner.admin_context()
        oldest = next(iter(db.outbox_pending(ctxt, limit=1)), None)
        return {"outbox_rows": db.outbox_count(ctxt), "outbox_oldest_s": self._age_s(oldest),
                "waiting": len(self._runner.response_queues)}

    def _age_s(self, row: dict[str, Any] | None) -> float:
        if row is None or row["created_at"] is None:
            return 0.0
        age = self._clock.utcnow() - row["created_at"].replace(tzinfo=datetime.UTC)
        return round(max(0.0, age.total_seconds()), 1)

    def _send(self, ctxt, neighbour, direction: str, load: dict[str, Any], sent_at_s: float | None = None) -> None:
        self._runner.send_targeted(
            ctxt, "heartbeat", {"load": load, "sent_at_s": self._clock.time() if sent_at_s is None else sent_at_s},
            direction, neighbour, fanout=direction == routing.UP)
