"""Passwords: never on the command line, where every user of the machine could read them."""

import argparse
import getpass
import pathlib
import sys

from nova_lite.client.errors import CommandError


def add_password(parser: argparse.ArgumentParser, whose: str) -> None:
    """Let a command take a password from a file or from the terminal."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--password-file", metavar="PATH", help=f"First line: the password {whose}; - is standard input.")
    how.add_argument("--password-prompt", action="store_true", help="Ask for it.")


def password(parsed_args: argparse.Namespace) -> str | None:
    """Return the password that the user gave, None without one. Raises CommandError."""
    if parsed_args.password_prompt:
        return _not_empty(getpass.getpass("Password: "))
    if parsed_args.password_file == "-":
        return _not_empty(sys.stdin.readline())
    if parsed_args.password_file:
        try:
            return _not_empty(pathlib.Path(parsed_args.password_file).read_text().partition("\n")[0])
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"cannot read {parsed_args.password_file}: {error}") from error
    return None


def _not_empty(line: str) -> str:
    found = line.rstrip("\r\n")
    if not found:
        raise CommandError("the password is empty")
    return found
