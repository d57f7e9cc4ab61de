"""nova-lite security group: what may reach the servers of the connected cell."""

from nova_lite.client import base, finding
from nova_lite.client.errors import CommandError

COLUMNS = (("ID", "id"), ("Name", "name"), ("Description", "description"), ("Project", "project_id"))


class ListGroups(base.Listing):
    """List the security groups of the project."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, finding.security_groups(self).list(self.context))


class CreateGroup(base.Showing):
    """Make a security group without rules: nothing may come in."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--description", default="")
        return parser

    def take_action(self, parsed_args):
        return base.record(COLUMNS, finding.security_groups(self).create_security_group(
            self.context, parsed_args.name, parsed_args.description))  # fmt: skip


class DeleteGroup(base.Action):
    """Delete security groups that no server is in."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("groups", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.groups, lambda name: finding.security_groups(self).destroy(
            self.context, finding.security_group(self, name)))  # fmt: skip


class ListRules(base.Listing):
    """List the rules of a security group."""

    COLUMNS = (
        ("ID", "id"), ("Protocol", "protocol"), ("From Port", "from_port"), ("To Port", "to_port"), ("CIDR", "cidr"),
        ("Group", "group_id"),
    )  # fmt: skip

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("group", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        group = finding.security_group(self, parsed_args.group)
        rules = self.services.db.security_group_rule_get_by_security_group(self.context, group["id"])
        return base.table(self.COLUMNS, rules)


class CreateRule(base.Showing):
    """Let something in: a protocol's ports, from addresses or from the servers of a group."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("group", metavar="NAME_OR_ID")
        parser.add_argument("--protocol", choices=("tcp", "udp", "icmp"), required=True)
        parser.add_argument("--port", type=_ports, metavar="PORT[:PORT]",
                            help="The ports; for icmp TYPE:CODE (default: all of it).")  # fmt: skip
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--cidr", default=None, help="From whom, e.g. 10.0.0.0/8 (default: from everywhere).")
        source.add_argument("--from-group", metavar="NAME_OR_ID", help="From the servers of this group.")
        return parser

    def take_action(self, parsed_args):
        group = finding.security_group(self, parsed_args.group)
        if parsed_args.port is None and parsed_args.protocol != "icmp":
            raise CommandError(f"a rule for {parsed_args.protocol} needs --port")
        first, last = parsed_args.port or (-1, -1)
        rule = {"protocol": parsed_args.protocol, "from_port": first, "to_port": last}
        if parsed_args.from_group:
            rule["group_id"] = finding.security_group(self, parsed_args.from_group)["id"]
        else:
            rule["cidr"] = parsed_args.cidr or "0.0.0.0/0"
        (made,) = finding.security_groups(self).add_rules(self.context, group["id"], group["name"], [rule])
        return base.record(ListRules.COLUMNS, made)


def _ports(text: str) -> tuple[int, int]:
    """argparse type of PORT or PORT:PORT."""
    first, _, last = text.partition(":")
    return int(first), int(last or first)


class DeleteRules(base.Action):
    """Remove rules of a security group."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("group", metavar="NAME_OR_ID")
        parser.add_argument("rules", nargs="+", type=int, metavar="RULE_ID")
        return parser

    def take_action(self, parsed_args):
        group = finding.security_group(self, parsed_args.group)
        known = self.services.db.security_group_rule_get_by_security_group(self.context, group["id"])
        if unknown := sorted(set(parsed_args.rules).difference(rule["id"] for rule in known)):
            raise CommandError(f"security group {group['name']!r} has no rule {unknown[0]}")
        finding.security_groups(self).remove_rules(self.context, group, parsed_args.rules)
