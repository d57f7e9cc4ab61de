"""The programs nova-lite and nova-manage: global options, the connection, and how mistakes are told."""

import argparse
import logging
import os
from collections.abc import Mapping
from typing import Any

from cliff.app import App

from nova_lite import conf as configuration
from nova_lite import exception
from nova_lite.client.commands import CLIENT, DEMO, HOSTS, MANAGE, STATUS, CommandTable
from nova_lite.client.connection import Connection, OnCell
from nova_lite.client.errors import CommandError, one_line


class Program(App):
    """A command line program on one configuration.

    Exit status: 0 done, 1 failed or a mistake of the user's told in one line, 2 wrong usage.
    """

    DESCRIPTION: str
    TABLE: Mapping[str, str]  # command -> place, see client.commands
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(self, connection: OnCell | None = None, **streams: Any):
        self.LOG = logging.getLogger(f"nova_lite.client.{self.NAME}")
        self._given_connection = connection
        self._connection: OnCell | None = connection
        self._interacted = False
        super().__init__(
            description=self.DESCRIPTION,
            version=_version(),
            command_manager=CommandTable(self.TABLE),
            deferred_help=True,  # `noun verb --help` shows the command's help, not the program's
            **streams,
        )

    def build_option_parser(self, description, version, argparse_kwargs=None) -> argparse.ArgumentParser:
        # Options of commands pass through this parser first: an abbreviation must not swallow them.
        parser = super().build_option_parser(description, version, {"allow_abbrev": False, **(argparse_kwargs or {})})
        parser.prog = self.NAME
        parser.add_argument(
            "--config-file", action="append", metavar="PATH",
            help="Configuration of the cell to work on; may be repeated, later ones win "
            "(default: /etc/nova_lite/nova_lite.conf and the program's own).",
        )  # fmt: skip
        parser.add_argument(
            "--config-dir", action="append", metavar="DIR", help="Directory of configuration files; may be repeated."
        )
        parser.add_argument(
            "--user", metavar="ID", default=os.environ.get("NOVA_LITE_USER", "admin"),
            help="User to act as (default: $NOVA_LITE_USER, else admin).",
        )  # fmt: skip
        parser.add_argument(
            "--project", metavar="ID", default=os.environ.get("NOVA_LITE_PROJECT", "admin"),
            help="Project to act in (default: $NOVA_LITE_PROJECT, else admin).",
        )  # fmt: skip
        return parser

    def configure_logging(self) -> None:
        """Send messages of the program itself to standard error; those of libraries only with -v."""
        told = logging.StreamHandler(self.stderr)
        told.setFormatter(logging.Formatter(f"{self.NAME}: %(message)s"))
        self.LOG.handlers[:] = [told]
        self.LOG.setLevel(logging.INFO)
        self.LOG.propagate = False
        root = logging.getLogger()
        if self.options.log_file:
            handler: logging.Handler = logging.FileHandler(self.options.log_file)
        elif self.options.verbose_level:
            handler = logging.StreamHandler(self.stderr)
        else:
            handler = logging.NullHandler()
        handler.setFormatter(logging.Formatter(self.LOG_FILE_MESSAGE_FORMAT))
        root.addHandler(handler)
        root.setLevel({0: logging.WARNING, 1: logging.INFO}.get(self.options.verbose_level, logging.DEBUG))

    @property
    def connection(self) -> OnCell:
        """The cell that the options name; read when the first command asks for it."""
        if self._connection is None:
            conf = configuration.load(
                prog=self.NAME, config_files=self.options.config_file, config_dirs=self.options.config_dir
            )
            self._connection = Connection(conf, user=self.options.user, project=self.options.project)
        return self._connection

    def run(self, argv: list[str]) -> int:
        """Carry out one command, or read commands when there is none; return the exit status."""
        try:
            status = super().run(argv)
            return 0 if self._interacted else int(status or 0)
        except SystemExit as stop:  # the program's own help was shown, or its options were wrong
            return int(stop.code or 0)
        finally:
            self.close()

    def interact(self) -> None:
        """Read commands until the end of input, or `quit`."""
        from cliff.interactive import InteractiveApp

        self._interacted = True
        self.interpreter = InteractiveApp(self, self.command_manager, self.stdin, self.stdout)
        # cmd2 takes the arguments of this process (`demo --shell`) for commands to begin with.
        self.interpreter._startup_commands.clear()
        if self.stdin.isatty():
            self.interpreter.prompt = f"({self.NAME}) "
        self.interpreter.cmdloop()

    def run_subcommand(self, argv: list[str]) -> int:
        """As cliff's, but what went wrong is one clear line."""
        try:
            return super().run_subcommand(argv)
        except SystemExit as stop:  # help was shown, or the usage was wrong and has been told
            return int(stop.code or 0)

    def told(self, error: Exception) -> Exception:
        """Return the error to show instead of `error`: a mistake in one line, anything else as it is."""
        if isinstance(error, exception.NovaException | CommandError | configuration.ConfigError):
            return CommandError(one_line(error))
        if type(error).__module__ == "oslo_db.exception":
            return CommandError(_of_database(error))
        return error

    def close(self) -> None:
        """Let go of what the program itself opened."""
        if self._connection is not None and self._connection is not self._given_connection:
            self._connection.close()
        self._connection = self._given_connection


class NovaLite(Program):
    """The client, the prompt and the demo."""

    NAME = "nova-lite"
    DESCRIPTION = "Servers, images and cells of a nova_lite deployment."
    TABLE = {**CLIENT, **HOSTS, **DEMO}


class NovaLitePrompt(Program):
    """The client on a connection that is already there."""

    NAME = "nova-lite"
    DESCRIPTION = "Servers, images and cells of the running tree."
    TABLE = CLIENT


class NovaManage(Program):
    """What is done directly in a cell's database."""

    NAME = "nova-manage"
    DESCRIPTION = "Prepare the database of a cell, its neighbours and its flavors."
    TABLE = MANAGE


class NovaStatus(Program):
    """What is to be known before services of this release are started."""

    NAME = "nova-status"
    DESCRIPTION = "Check whether this installation is ready for the release that is installed."
    TABLE = STATUS


def _of_database(error: Exception) -> str:
    from oslo_db import exception as db_exception

    if isinstance(error, db_exception.DBNonExistentTable):
        return "the database has not the tables of this release: nova-manage db sync makes them"
    if isinstance(error, db_exception.DBConnectionError):
        return f"the database does not answer: {one_line(error)}"
    return f"the database refused: {one_line(error)}"


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("nova-lite")
