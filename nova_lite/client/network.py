"""nova-lite network: the networks of the connected cell; every cell has its own."""

from typing import Any

from nova_lite.client import base, finding
from nova_lite.client.errors import CommandError

COLUMNS = (
    ("ID", "uuid"), ("Label", "label"), ("CIDR", "cidr"), ("CIDR v6", "cidr_v6"), ("Bridge", "bridge"),
    ("VLAN", "vlan"), ("Project", "project_id"),
)  # fmt: skip
DETAILS = (*COLUMNS, ("Gateway", "gateway"), ("DHCP Start", "dhcp_start"), ("DNS 1", "dns1"), ("DNS 2", "dns2"))


class ListNetworks(base.Listing):
    """List networks."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, self.services.db.network_get_all(self.context))


class ShowNetwork(base.Showing):
    """Show one network."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("network", metavar="LABEL_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return base.record(DETAILS, finding.network(self, parsed_args.network))


class CreateNetwork(base.Showing):
    """Add a network: a bridge of the cell's hosts and the addresses on it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("label", metavar="LABEL")
        parser.add_argument("--cidr", required=True, help="IPv4 addresses, e.g. 10.1.0.0/24.")
        parser.add_argument("--bridge", required=True, help="Bridge of the XenServer hosts, e.g. xenbr0.")
        parser.add_argument("--gateway", help="Default: the first address.")
        parser.add_argument("--dns", action="append", default=[], help="Name server; at most two.")
        parser.add_argument("--vlan", type=int)
        parser.add_argument("--for-project", metavar="PROJECT", help="Whose network it is (default: everybody's).")
        return parser

    def take_action(self, parsed_args):
        return base.record(DETAILS, self.services.db.network_create(self.context, network_values(parsed_args)))


class DeleteNetwork(base.Action):
    """Delete networks that no server uses."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("networks", nargs="+", metavar="LABEL_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.networks, self._delete)

    def _delete(self, label_or_id: str) -> None:
        self.services.db.network_delete(self.context, finding.network(self, label_or_id)["uuid"])


def network_values(parsed_args: Any) -> dict[str, Any]:
    """Return the columns that the arguments give. Raises CommandError."""
    if len(parsed_args.dns) > 2:
        raise CommandError("a network has at most two name servers")
    values = {
        "label": parsed_args.label,
        "cidr": parsed_args.cidr,
        "gateway": parsed_args.gateway,
        "bridge": parsed_args.bridge,
        "vlan": parsed_args.vlan,
        "project_id": parsed_args.for_project,
        **{f"dns{number}": address for number, address in enumerate(parsed_args.dns, 1)},
    }
    return {name: value for name, value in values.items() if value is not None}
