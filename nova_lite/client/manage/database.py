"""nova-manage db: the schema, and the rows of what was deleted."""

import argparse
import datetime

from nova_lite.client import base
from nova_lite.client.errors import CommandError
from nova_lite.client.manage.base import OnDatabase

NOTHING_TO_DO = 0
MORE_TO_DO = 1


def moment(text: str) -> datetime.datetime:
    """argparse type of a day or a time, in UTC."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-21 or 2026-11-21T08:00") from None
    return found.astimezone(datetime.UTC) if found.tzinfo else found.replace(tzinfo=datetime.UTC)


class Sync(OnDatabase, base.Action):
    """Bring the database to the newest schema, or to VERSION; a new one gets the default flavors."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("version", nargs="?", metavar="VERSION", help="Schema version to stop at.")
        return parser

    def take_action(self, parsed_args):
        self.db.sync(parsed_args.version)


class Version(OnDatabase, base.Action):
    """Print the version of the database's schema."""

    def take_action(self, parsed_args):
        self.app.stdout.write(f"{self.db.version()}\n")


class _OnRows(OnDatabase, base.Action):
    """What commands on deleted rows have in common: they tell how many of which table it were."""

    def tell(self, counts: dict[str, int]) -> None:
        for table, count in sorted(counts.items()):
            self.app.stdout.write(f"{table} {count}\n")
        if not counts:
            self.app.stdout.write("nothing\n")


class Archive(_OnRows):
    """Move the rows of deleted instances, and of all else that was deleted, to shadow tables.

    Services may go on working. Exit status: 0 nothing was there to move, or all is moved; 1 there may be more.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--max_rows", "--max-rows", type=base.positive, default=1000, metavar="N",
                            help="Instances to move, and rows of each table that is not theirs (default: 1000).")
        parser.add_argument("--before", type=moment, metavar="TIME", help="Only what was deleted before; in UTC.")
        parser.add_argument("--until-complete", action="store_true", help="Go on until nothing is left.")
        parser.add_argument("--purge", action="store_true", help="Remove the rows for good instead.")
        return parser

    def take_action(self, parsed_args):
        totals: dict[str, int] = {}
        while True:
            left = parsed_args.max_rows - max(totals.values(), default=0)
            if left <= 0 and not parsed_args.until_complete:
                break
            moved = self.db.archive_deleted_rows(
                self.context, parsed_args.max_rows if parsed_args.until_complete else left, parsed_args.before,
                keep=not parsed_args.purge)
            if not moved:
                self.tell(totals)
                return NOTHING_TO_DO
            for table, count in moved.items():
                totals[table] = totals.get(table, 0) + count
        self.tell(totals)
        return MORE_TO_DO


class Purge(_OnRows):
    """Remove archived rows for good: those that were deleted before a time, or all of them."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--before", type=moment, metavar="TIME", help="Only what was deleted before; in UTC.")
        parser.add_argument("--all", action="store_true", help="All archived rows.")
        return parser

    def take_action(self, parsed_args):
        if parsed_args.all == (parsed_args.before is not None):
            raise CommandError("say what to remove: either --before TIME or --all")
        self.tell(self.db.purge_archived_rows(self.context, parsed_args.before))
