"""nova-lite keypair: the keys that servers are made with."""

import pathlib
from typing import Any

from nova_lite.client import base
from nova_lite.client.errors import CommandError

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
        private = None
        if parsed_args.public_key:
            public = _read_public(parsed_args.public_key)
        else:
            private, public = generate_pair()
        self.services.db.key_pair_create(
            self.context,
            {
                "user_id": self.context.user_id,
                "name": parsed_args.name,
                "public_key": public,
                "fingerprint": fingerprint(public),
                "type": "ssh",
            },
        )
        if private:
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


def generate_pair() -> tuple[str, str]:
    """Return (private key as OpenSSH PEM, public key line) of a new Ed25519 pair."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def fingerprint(public_key: Any) -> str:
    """Return the MD5 fingerprint of an OpenSSH public key, as OpenSSH prints it. Raises CommandError."""
    import base64
    import binascii
    import hashlib

    try:
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise CommandError("the public key is not of the form 'ssh-… BASE64 [comment]'") from error
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
