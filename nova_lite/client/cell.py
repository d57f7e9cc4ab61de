"""nova-lite cell: the tree as the connected cell sees it."""

import json

from nova_lite.client import base
from nova_lite.client.errors import CommandError


class ListCells(base.Listing):
    """List the neighbours of the connected cell."""

    def take_action(self, parsed_args):
        titles = ("Name", "Type", "Username", "Broker Host", "Broker Port", "Capabilities")
        return titles, [
            (cell["name"], kind(cell), cell.get("username"), cell.get("rpc_host"), cell.get("rpc_port"),
             capabilities(cell))
            for cell in self.api.cells_api.get_cell_info_for_neighbors(self.context)
        ]  # fmt: skip


class ShowCell(base.Showing):
    """Show one neighbour of the connected cell, with what still fits into it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("cell", metavar="NAME")
        return parser

    def take_action(self, parsed_args):
        neighbours = self.api.cells_api.get_cell_info_for_neighbors(self.context)
        cell = next((one for one in neighbours if one["name"] == parsed_args.cell), None)
        if cell is None:
            raise CommandError(f"there is no cell {parsed_args.cell!r} next to {self.connection.conf.cells.name!r}")
        capacities = self.api.cells_api.get_capacities(self.context, cell_name=parsed_args.cell)
        return self.dict2columns(
            {
                "name": cell["name"],
                "type": kind(cell),
                "broker_host": cell.get("rpc_host"),
                "broker_port": cell.get("rpc_port"),
                "capabilities": capabilities(cell),
                **{f"{kind}_mb": found.get("total_mb") for kind, found in sorted(capacities.items())},
                "units": json.dumps(
                    {kind: found.get("units_by_mb") for kind, found in capacities.items()}, sort_keys=True
                ),
            }
        )


def kind(cell: dict) -> str:
    return "parent" if cell["is_parent"] else "child"


def capabilities(cell: dict) -> str:
    """Return 'name=value;value, …' of a cell's capabilities."""
    found = cell.get("capabilities") or {}
    return ", ".join(f"{name}={';'.join(sorted(values))}" for name, values in sorted(found.items()))
