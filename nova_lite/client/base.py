"""What commands have in common: the connection, one-line mistakes, lists, single things, batches."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cliff import command, lister, show
from oslo_utils import uuidutils

from nova_lite import exception
from nova_lite.client.errors import CommandError, one_line


class _OnCell:
    """The cell and the context of the command being run; mistakes are turned into one line."""

    app: Any
    _context: Any = None

    @property
    def connection(self) -> Any:
        return self.app.connection

    @property
    def api(self) -> Any:
        return self.connection.api

    @property
    def services(self) -> Any:
        return self.connection.services

    @property
    def context(self) -> Any:
        """The context of this command: one request id for all that it does."""
        if self._context is None:
            self._context = self.connection.context()
        return self._context

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().run(parsed_args)  # type: ignore[misc]
        except Exception as error:  # the edge of the program: cliff prints the text, --debug the traceback
            raise self.app.told(error) from error

    def each(self, names: Iterable[str], act: Callable[[str], None]) -> int:
        """Do `act` for each name, telling every failure; return the exit status."""
        failed = 0
        for name in names:
            try:
                act(name)
            except (exception.NovaException, CommandError) as error:
                self.app.LOG.error("%s: %s", name, one_line(error))
                failed += 1
        return 1 if failed else 0


class Action(_OnCell, command.Command):
    """A command that changes something and prints nothing."""


class Listing(_OnCell, lister.Lister):
    """A command that prints rows: table, csv, json, yaml, value."""


class Showing(_OnCell, show.ShowOne):
    """A command that prints one thing."""


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """Return what a Listing gives: titles and values of `columns`, pairs of (title, key or attribute)."""
    return tuple(title for title, _ in columns), [tuple(field(row, name) for _, name in columns) for row in rows]


def record(columns: Sequence[tuple[str, str]], thing: Any) -> tuple[tuple[str, ...], tuple]:
    """Return what a Showing gives, of the same pairs."""
    return tuple(title for title, _ in columns), tuple(field(thing, name) for _, name in columns)


def field(thing: Any, name: str) -> Any:
    """Return an attribute or a key of a row; times as text in UTC."""
    value: Any = thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(value, "strftime") else value


def is_uuid(text: str) -> bool:
    return uuidutils.is_uuid_like(text)


def only(found: Sequence[Any], kind: str, name: str) -> Any:
    """Return the one thing found under a name. Raises CommandError when there is none, or several."""
    if not found:
        raise CommandError(f"there is no {kind} {name!r}")
    if len(found) > 1:
        raise CommandError(f"{len(found)} {kind}s are named {name!r}: use an id")
    return found[0]


def key_value(text: str) -> tuple[str, str]:
    """argparse type of KEY=VALUE."""
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def positive(text: str) -> int:
    """argparse type of a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def not_negative(text: str) -> int:
    """argparse type of a whole number from 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number
