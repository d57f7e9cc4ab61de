"""nova-manage flavor: the sizes that a cell offers; every cell has its own."""

from typing import Any

from oslo_utils import uuidutils

from nova_lite.client import base
from nova_lite.client.errors import CommandError
from nova_lite.client.manage.base import OnDatabase

COLUMNS = (
    ("Flavor ID", "flavorid"), ("Name", "name"), ("RAM MB", "memory_mb"), ("VCPUs", "vcpus"), ("Root GB", "root_gb"),
    ("Ephemeral GB", "ephemeral_gb"), ("Swap MB", "swap"), ("Public", "is_public"), ("Extra Specs", "extra_specs"),
)  # fmt: skip


def add_size_arguments(parser: Any) -> None:
    """Add the arguments that say how big a flavor is; shared by nova-manage and nova-lite."""
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--flavorid", "--id", default=None, help="Id by which cells know it (default: a new uuid).")
    parser.add_argument("--memory", "--ram", type=base.positive, required=True, metavar="MB")
    parser.add_argument("--cpu", "--vcpus", type=base.positive, required=True, metavar="COUNT")
    parser.add_argument("--root_gb", "--disk", type=int, default=0, metavar="GB")
    parser.add_argument("--ephemeral_gb", "--ephemeral", type=int, default=0, metavar="GB")
    parser.add_argument("--swap", type=int, default=0, metavar="MB")
    parser.add_argument("--rxtx_factor", type=float, default=1.0)
    parser.add_argument("--private", action="store_true", help="Not offered to every project.")
    parser.add_argument(
        "--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE", help="Extra spec."
    )


def flavor_values(parsed_args: Any) -> dict[str, Any]:
    """Return the columns of the flavor that the arguments describe."""
    return {
        "name": parsed_args.name,
        "flavorid": parsed_args.flavorid or uuidutils.generate_uuid(),
        "memory_mb": parsed_args.memory,
        "vcpus": parsed_args.cpu,
        "root_gb": parsed_args.root_gb,
        "ephemeral_gb": parsed_args.ephemeral_gb,
        "swap": parsed_args.swap,
        "rxtx_factor": parsed_args.rxtx_factor,
        "is_public": not parsed_args.private,
        "extra_specs": dict(parsed_args.property),
    }


def find_flavor(db: Any, context: Any, name_or_id: str) -> dict[str, Any]:
    """Return the flavor with this name or flavorid. Raises CommandError."""
    flavors = db.flavor_get_all(context)
    found = [flavor for flavor in flavors if name_or_id == flavor["flavorid"]]
    return base.only(found or [flavor for flavor in flavors if name_or_id == flavor["name"]], "flavor", name_or_id)


class CreateFlavor(OnDatabase, base.Action):
    """Add a flavor to this cell."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        add_size_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        self.db.flavor_create(self.context, flavor_values(parsed_args))


class ListFlavors(OnDatabase, base.Listing):
    """List the flavors of this cell."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, self.db.flavor_get_all(self.context))


class SetFlavor(OnDatabase, base.Action):
    """Set or remove extra specs of a flavor; instances keep the sizes that they were built with."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("flavor", metavar="NAME_OR_ID")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        parser.add_argument("--no-property", action="append", default=[], metavar="KEY")
        return parser

    def take_action(self, parsed_args):
        if not parsed_args.property and not parsed_args.no_property:
            raise CommandError("nothing to set: give --property or --no-property")
        flavor_id = find_flavor(self.db, self.context, parsed_args.flavor)["flavorid"]
        if parsed_args.property:
            self.db.flavor_extra_specs_update_or_create(self.context, flavor_id, dict(parsed_args.property))
        for key in parsed_args.no_property:
            self.db.flavor_extra_specs_delete(self.context, flavor_id, key)


class DeleteFlavor(OnDatabase, base.Action):
    """Remove flavors from this cell; their instances live on."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("flavors", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.flavors, self._delete)

    def _delete(self, name_or_id: str) -> None:
        self.db.flavor_destroy(self.context, find_flavor(self.db, self.context, name_or_id)["name"])
