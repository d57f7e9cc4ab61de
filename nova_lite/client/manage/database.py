"""nova-manage db: the schema."""

from nova_lite.client import base
from nova_lite.client.manage.base import OnDatabase


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
