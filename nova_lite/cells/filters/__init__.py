"""Which cells may build an instance."""

import sys
from collections.abc import Iterable
from typing import Any

from nova_lite import policy
from nova_lite.cells import plugins


class BaseCellFilter:
    """One condition on cells. Override `cell_passes`, or `filter_all` to see them all at once.

    `filter_all` returns the cells that pass, or None: the request is taken care of, nothing is left to do.
    """

    def __init__(self, services):
        self.services = services
        self._policy = policy.Policy.of(services.conf)

    def authorized(self, ctxt) -> bool:
        """Whether policy lets this request use the filter's hint."""
        rule = f"cells_scheduler_filter:{type(self).__name__}"
        target = {"project_id": ctxt.project_id, "user_id": ctxt.user_id}
        return self._policy.authorize(ctxt, rule, target, do_raise=False)

    def filter_all(self, cells: Iterable, filter_properties: dict[str, Any]) -> list | None:
        return [cell for cell in cells if self.cell_passes(cell, filter_properties)]

    def cell_passes(self, cell, filter_properties: dict[str, Any]) -> bool:
        raise NotImplementedError


def all_filters() -> list[type[BaseCellFilter]]:
    """Return every filter class of this package."""
    return plugins.classes_in(sys.modules[__name__], BaseCellFilter)
