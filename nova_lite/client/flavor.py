"""nova-lite flavor: the sizes that the connected cell offers."""

import json

from nova_lite.client import base, finding
from nova_lite.client.manage.flavor import COLUMNS, add_size_arguments, flavor_values


class ListFlavors(base.Listing):
    """List flavors."""

    def take_action(self, parsed_args):
        from nova_lite import objects

        return base.table(COLUMNS[:-1], objects.FlavorList.get_all(self.context))


class ShowFlavor(base.Showing):
    """Show one flavor."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("flavor", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        flavor = finding.flavor(self, parsed_args.flavor)
        titles, values = base.record(COLUMNS[:-1], flavor)
        return (*titles, "Extra Specs"), (*values, json.dumps(dict(flavor.extra_specs or {}), sort_keys=True))


class CreateFlavor(base.Action):
    """Add a flavor to the connected cell; other cells have their own (nova-manage flavor create)."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        add_size_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        self.services.db.flavor_create(self.context, flavor_values(parsed_args))


class DeleteFlavor(base.Action):
    """Remove flavors from the connected cell."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("flavors", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.flavors, self._delete)

    def _delete(self, name_or_id: str) -> None:
        self.services.db.flavor_destroy(self.context, finding.flavor(self, name_or_id).name)
