"""Any cell but those named."""

from nova_lite.cells import filters, routing


class DifferentCellFilter(filters.BaseCellFilter):
    """Drops cells whose full path is in the hint `different_cell` (a path or a list of them)."""

    def filter_all(self, cells, filter_properties):
        named = (filter_properties.get("scheduler_hints") or {}).get("different_cell")
        if not named or not self.authorized(filter_properties["context"]):
            return list(cells)
        unwanted = {named} if isinstance(named, str) else set(named)
        here = filter_properties["routing_path"]
        return [cell for cell in cells if (here if cell.is_me else routing.append(here, cell.name)) not in unwanted]
