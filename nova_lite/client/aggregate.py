"""nova-lite aggregate: groups of hosts of the connected cell: availability zones and XenServer pools."""

import json

from nova_lite.client import base, finding

COLUMNS = ("ID", "Name", "Zone", "Hosts", "Metadata")


def row(aggregate):
    """Return the values of COLUMNS."""
    metadata = dict(aggregate["metadetails"])
    zone = metadata.pop("availability_zone", None)
    return (aggregate["id"], aggregate["name"], zone, ", ".join(sorted(aggregate["hosts"])),
            json.dumps(metadata, sort_keys=True))  # fmt: skip


class _OnAggregate(base.Showing):
    """Does something to one aggregate and shows it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("aggregate", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        aggregate = finding.aggregate(self, parsed_args.aggregate)
        return COLUMNS, row(self.act(finding.aggregates(self), aggregate, parsed_args))

    def act(self, api, aggregate, parsed_args):
        raise NotImplementedError


class ListAggregates(base.Listing):
    """List aggregates."""

    def take_action(self, parsed_args):
        return COLUMNS, [row(one) for one in finding.aggregates(self).get_aggregate_list(self.context)]


class ShowAggregate(_OnAggregate):
    """Show one aggregate."""

    def act(self, api, aggregate, parsed_args):
        return aggregate


class CreateAggregate(base.Showing):
    """Make an aggregate without hosts."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--zone", metavar="ZONE", help="The availability zone that its hosts are in.")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        return parser

    def take_action(self, parsed_args):
        api = finding.aggregates(self)
        made = api.create_aggregate(self.context, parsed_args.name, parsed_args.zone)
        if parsed_args.property:
            made = api.update_aggregate_metadata(self.context, made["id"], dict(parsed_args.property))
        return COLUMNS, row(made)


class SetAggregate(_OnAggregate):
    """Change the name, zone or metadata of an aggregate."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--name")
        parser.add_argument("--zone", metavar="ZONE")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        parser.add_argument("--unset", action="append", default=[], metavar="KEY")
        return parser

    def act(self, api, aggregate, parsed_args):
        values = {name: value for name, value in (
            ("name", parsed_args.name), ("availability_zone", parsed_args.zone)) if value}  # fmt: skip
        if values:
            aggregate = api.update_aggregate(self.context, aggregate["id"], values)
        metadata = {**dict(parsed_args.property), **dict.fromkeys(parsed_args.unset)}
        if metadata:
            aggregate = api.update_aggregate_metadata(self.context, aggregate["id"], metadata)
        return aggregate


class DeleteAggregate(base.Action):
    """Delete aggregates that have no hosts."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("aggregates", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.aggregates, lambda name: finding.aggregates(self).delete_aggregate(
            self.context, finding.aggregate(self, name)["id"]))  # fmt: skip


class AddHost(_OnAggregate):
    """Put a host into an aggregate; where that is a XenServer pool, the host joins it."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST")
        return parser

    def act(self, api, aggregate, parsed_args):
        return api.add_host_to_aggregate(self.context, aggregate["id"], parsed_args.host)


class RemoveHost(AddHost):
    """Take a host out of an aggregate; where that is a XenServer pool, the host is ejected."""

    def act(self, api, aggregate, parsed_args):
        return api.remove_host_from_aggregate(self.context, aggregate["id"], parsed_args.host)
