"""What this cell tells its parents of itself as soon as it changes, beside the regular reports."""

from typing import Any

from nova_lite import exception

_ASK_AGAIN_S = 3.0


def checked_capabilities(report: Any) -> dict[str, list[str]]:
    """Return a child's capabilities. Raises Invalid for what are none: they would be added up again and again."""
    if not (isinstance(report, dict) and all(isinstance(values, (list, tuple, set)) and
                                             all(isinstance(value, str) for value in values)
                                             for values in report.values())):
        raise exception.Invalid("Capabilities have to be lists of texts by name")
    return report


def checked_capacities(report: Any) -> dict[str, Any]:
    """Return a child's capacities. Raises Invalid for what are none."""
    if not isinstance(report, dict) or not all(_is_sum(kind) for kind in report.values()):
        raise exception.Invalid("Capacities have to be numbers by name and size")
    return report


def _is_sum(kind: Any) -> bool:
    return (isinstance(kind, dict) and _is_number(kind.get("total_mb", 0)) and
            isinstance(units := kind.get("units_by_mb", {}), dict) and
            all(size.isdecimal() and _is_number(count) for size, count in units.items()))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
