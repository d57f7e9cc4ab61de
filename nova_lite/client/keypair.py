"""nova-lite keypair: the keys that servers are made with."""

import pathlib

from nova_lite.client import base
from nova_lite.client.errors import CommandError
from nova_lite.compute.api_keypairs import KeypairAPI

COLUMNS = (("Name", "name"), ("Fingerprint", "fingerprint"))


class ListKeypairs(base.Listing):
    """List the user's key pairs."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, self.services.db.key_pair_get_all_by_user(self.context, self.context.user_id))


class ShowKeypair(base.Showing):
    """Show one key pair."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("keypair", metavar="NAME")
        return parser

    def take_action(self, parsed_args):
        row = self.services.db.key_pair_get(self.context, self.context.user_id, parsed_args.keypair)
        return base.record((*COLUMNS, ("Public Key", "public_key")), row)


class CreateKeypair(base.Action):
    """Store a public key, or make a key pair and print the private key, which is kept nowhere."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--public-key", metavar="PATH", help="An OpenSSH public key (default: a new pair).")
        return parser

    def take_action(self, parsed_args):
        keypairs = KeypairAPI(self.services)
        if parsed_args.public_key:
            keypairs.import_key_pair(self.context, self.context.user_id, parsed_args.name,
                                     _read_public(parsed_args.public_key))
        else:
            _pair, private = keypairs.create_key_pair(self.context, self.context.user_id, parsed_args.name)
            self.app.stdout.write(private)


class DeleteKeypair(base.Action):
    """Delete key pairs; servers keep the keys that they were made with."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("keypairs", nargs="+", metavar="NAME")
        return parser

    def take_action(self, parsed_args):
        return self.each(
            parsed_args.keypairs,
            lambda name: self.services.db.key_pair_destroy(self.context, self.context.user_id, name),
        )


def _read_public(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path} as a public key") from error
