"""Where this cell is in the tree, as far as the cells above are of our kind and have told."""

from nova_lite.cells import routing


class Place:
    """Learns the way to the top from the parents, and tells the children theirs."""

    def __init__(self, runner):
        self._runner = runner
        self._state = runner.state_manager

    def greet(self, ctxt, child_name: str) -> None:
        """Tell a child of our kind our full name, if we know it, so that it knows the way to the top."""
        child = self._state.get_child_cell(child_name)
        full_name = self.full_name()
        if child is not None and child.is_ours and full_name is not None:
            self._runner.send_targeted(ctxt, "greet", {"full_name": full_name}, routing.DOWN, child, fanout=True)

    def greeted(self, ctxt, parent_name: str, full_name: str) -> None:
        """A parent has told its full name: this cell now knows its own; its children are told."""
        parent = self._state.get_parent_cell(parent_name)
        if parent is None or routing.last_name(full_name) != parent_name:
            return
        is_news = parent.full_name != full_name
        parent.full_name = full_name
        if is_news:
            for child in self._state.get_child_cells():
                self.greet(ctxt, child.name)
        self._runner.outbox.kick()

    def full_name(self) -> str | None:
        """Return this cell's path from the top; None while no parent has told it."""
        parents = self._state.get_parent_cells()
        if not parents:
            return self._runner.our_name
        known = [parent.full_name for parent in parents if parent.full_name]
        return routing.append(known[0], self._runner.our_name) if known else None

    def path_to_top(self, parent=None) -> str | None:
        """Return the way up (by one parent), None where it is not known or leads over a reference cell."""
        parents = [parent] if parent is not None else self._state.get_parent_cells()
        for one in parents:
            if one.is_ours and one.full_name:
                return routing.append(self._runner.our_name, routing.reverse_path(one.full_name))
        return None
