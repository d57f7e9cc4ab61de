"""What this cell tells its parents of itself as soon as it changes, beside the regular reports."""

from typing import Any

_ASK_AGAIN_S = 3.0


class Reports:
    """Remembers what each parent was told last, and tells it again when that is no longer so or did not arrive."""

    def __init__(self, runner):
        self._runner = runner
        self._asked_at_s = runner.clock.monotonic()
        self._told: dict[str, tuple[Any, Any]] = {}

    def tell_changes(self, ctxt) -> None:
        """Tell the parents this cell's capabilities and capacities if any of them does not know the present ones."""
        state = self._runner.state_manager
        parents = state.get_parent_cells()
        if not parents:
            return
        now = (state.get_our_capabilities(), state.get_our_capacities())
        if all(parent.is_reachable and self._told.get(parent.name) == now for parent in parents) and not (
                self._should_ask(parents)):
            return
        were_away = [parent for parent in parents if not parent.is_reachable]
        self._runner.tell_parents_our_capabilities(ctxt)
        self._runner.tell_parents_our_capacities(ctxt)
        if any(parent.is_reachable for parent in were_away):
            self._runner.outbox.kick()
        self._told = {parent.name: now for parent in parents}

    def _should_ask(self, parents: list) -> bool:
        """Whether to tell again, since a parent of our kind greets whoever tells it something, and none did yet."""
        now_s = self._runner.clock.monotonic()
        if now_s < self._asked_at_s + _ASK_AGAIN_S or not any(map(self._runner.outbox.is_unknown, parents)):
            return False
        self._asked_at_s = now_s
        return True
