"""nova-lite quota, nova-lite usage: what projects may use, and what they have used."""

import datetime

from nova_lite import exception
from nova_lite.client import base
from nova_lite.client.errors import CommandError

HOUR_S = 3600


def _project(parser):
    parser.add_argument("project", nargs="?", metavar="PROJECT", help="Default: the one this command acts in.")
    return parser


class ShowQuota(base.Listing):
    """List the limits of a project and what it uses of them; -1 is no limit."""

    def get_parser(self, prog_name):
        parser = _project(super().get_parser(prog_name))
        parser.add_argument("--default", action="store_true", help="The limits of projects without their own.")
        return parser

    def take_action(self, parsed_args):
        from nova_lite.quota import QuotaEngine

        quotas = QuotaEngine(self.services)
        if parsed_args.default:
            return ("Resource", "Limit"), sorted(quotas.get_defaults(self.context).items())
        project = parsed_args.project or self.context.project_id
        found = quotas.get_project_quotas(self.context, project)
        return ("Resource", "Limit", "In Use", "Reserved"), [
            (name, one["limit"], one["in_use"], one["reserved"]) for name, one in sorted(found.items())]  # fmt: skip


class SetQuota(base.Action):
    """Set limits of a project; -1 is no limit."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("project", metavar="PROJECT")
        parser.add_argument("--limit", type=base.key_value, action="append", required=True, metavar="RESOURCE=NUMBER")
        return parser

    def take_action(self, parsed_args):
        from nova_lite.quota import QuotaEngine

        known = QuotaEngine(self.services).get_defaults(self.context)
        limits = {name: _limit(name, number, known) for name, number in parsed_args.limit}
        for name, number in limits.items():
            try:
                self.services.db.quota_update(self.context, parsed_args.project, name, number)
            except exception.ProjectQuotaNotFound:
                self.services.db.quota_create(self.context, parsed_args.project, name, number)


def _limit(name: str, number: str, known: dict[str, int]) -> int:
    if name not in known:
        raise CommandError(f"there is no resource {name!r}: one of {', '.join(sorted(known))}")
    try:
        limit = int(number)
    except ValueError:
        limit = -2
    if limit < -1:
        raise CommandError(f"the limit of {name} is a whole number from -1, not {number!r}")
    return limit


class DeleteQuota(base.Action):
    """Let the default limits hold for a project again."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("project", metavar="PROJECT")
        return parser

    def take_action(self, parsed_args):
        self.services.db.quota_destroy_all_by_project(self.context, parsed_args.project)


class ShowUsage(base.Listing):
    """List what projects have used in a time: hours of servers, memory, processors and disks."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--start", type=_day, metavar="DATE", help="Default: four weeks before the end.")
        parser.add_argument("--end", type=_day, metavar="DATE", help="The day after the last one (default: now).")
        parser.add_argument("--for-project", metavar="PROJECT", help="Only this one's (default: every project's).")
        return parser

    def take_action(self, parsed_args):
        end = parsed_args.end or self.services.clock.utcnow()
        start = parsed_args.start or end - datetime.timedelta(weeks=4)
        if start >= end:
            raise CommandError("--start is not before --end")
        sums: dict[str, list[float]] = {}
        for instance in self._active(start, end, parsed_args.for_project):
            hours = _hours(instance, start, end)
            used = (1, hours, hours * instance.memory_mb, hours * instance.vcpus,
                    hours * ((instance.root_gb or 0) + (instance.ephemeral_gb or 0)))  # fmt: skip
            before = sums.get(instance.project_id, [0.0] * len(used))
            sums[instance.project_id] = [old + new for old, new in zip(before, used, strict=True)]
        return ("Project", "Servers", "Hours", "RAM MB-Hours", "CPU Hours", "Disk GB-Hours"), [
            (project, int(servers), *(round(number, 2) for number in used))
            for project, (servers, *used) in sorted(sums.items())]  # fmt: skip

    def _active(self, start, end, project):
        from nova_lite import objects

        context = self.context.elevated(read_deleted="yes")
        return objects.InstanceList.get_active_by_window_joined(context, start, end, project_id=project)


def _hours(instance, start, end) -> float:
    """How long the instance existed within the time, in hours; one that was never launched did not."""
    launched = instance.launched_at
    if launched is None:
        return 0.0
    gone = instance.terminated_at or end
    return max((min(gone, end) - max(launched, start)).total_seconds(), 0.0) / HOUR_S


def _day(text: str) -> datetime.datetime:
    """argparse type of YYYY-MM-DD."""
    return datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
