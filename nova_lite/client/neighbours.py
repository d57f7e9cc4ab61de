"""nova-lite cell create, update, delete, enable, disable, drain, sync: changes that the running nova-cells makes."""

import argparse
from typing import Any

from nova_lite.client import base
from nova_lite.client.errors import CommandError
from nova_lite.client.manage.cell import cell_name

_TYPES = ("child", "parent")
_POLL_S = 0.5
_LEAST_KEY_CHARS = 16


class _Neighbour(base.Action):
    """A command on neighbours by name."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("cells", metavar="NAME", nargs="+", help="A neighbour's name.")
        return parser

    def update(self, names: list[str], values: dict[str, Any]) -> int:
        return self.each(names, lambda name: self.api.cells_api.cell_update(self.context, name, values))


class CreateCell(base.Action):
    """Make a neighbour known to the connected cell. It needs a row for this cell, too."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("cell", metavar="NAME", type=cell_name, help="The neighbour's own [cells] name.")
        _add_values(parser, required=True)
        return parser

    def take_action(self, parsed_args):
        values = {"weight_offset": 0.0, "weight_scale": 1.0, "is_parent": False, **_values(self.app, parsed_args)}
        self.api.cells_api.cell_create(self.context, {"name": parsed_args.cell, **values})


class UpdateCell(base.Action):
    """Change what the connected cell knows of a neighbour."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("cell", metavar="NAME")
        _add_values(parser, required=False)
        return parser

    def take_action(self, parsed_args):
        values = _values(self.app, parsed_args)
        if not values:
            raise CommandError("nothing to change was given")
        self.api.cells_api.cell_update(self.context, parsed_args.cell, values)


class DeleteCell(_Neighbour):
    """Forget neighbours of the connected cell."""

    def take_action(self, parsed_args):
        return self.each(parsed_args.cells, self._delete)

    def _delete(self, name: str) -> None:
        if not self.api.cells_api.cell_delete(self.context, name):
            raise CommandError("there is no such cell")


class EnableCell(_Neighbour):
    """Send messages to neighbours again, and builds."""

    def take_action(self, parsed_args):
        return self.update(parsed_args.cells, {"enabled": True, "draining": False})


class DisableCell(_Neighbour):
    """Send nothing to neighbours any more; what is under way there goes on."""

    def take_action(self, parsed_args):
        return self.update(parsed_args.cells, {"enabled": False})


class DrainCell(_Neighbour):
    """Send no new builds to neighbours; all else goes on, so that what waits in them can be handed over.

    With --wait until nothing waits in their outboxes, nor in those of the cells below them.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--wait", action="store_true", help="Wait until their outboxes are empty.")
        parser.add_argument("--timeout", type=base.positive, default=600, metavar="SECONDS",
                            help="How long to wait (default 600).")
        return parser

    def take_action(self, parsed_args):
        status = self.update(parsed_args.cells, {"draining": True})
        if parsed_args.wait and not status:
            return self.each(parsed_args.cells, lambda name: self._until_handed_over(name, parsed_args.timeout))
        return status

    def _until_handed_over(self, name: str, timeout_s: int) -> None:
        clock = self.services.clock
        limit_s = clock.monotonic() + timeout_s
        while (waiting := self._waiting_in(name)) is None or waiting > 0:
            if clock.monotonic() >= limit_s:
                raise CommandError("does not answer" if waiting is None else f"{waiting} updates still wait there")
            clock.sleep(_POLL_S)

    def _waiting_in(self, name: str) -> int | None:
        """Return how many updates wait in a child and below it, None while a cell there does not answer."""
        from nova_lite.cells.own_methods import OwnCellsClient

        path = f"{self.connection.conf.cells.name}!{name}"
        infos = [info for info in OwnCellsClient(self.services).tree_info(self.context)
                 if info["cell"] == path or info["cell"].startswith(f"{path}!")]
        if not infos or any("error" in info for info in infos):
            return None
        return sum(info["outbox_rows"] for info in infos)


class SyncCells(base.Action):
    """Have all cells tell the top of their instances again."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--project-id", metavar="ID", help="Only instances of this project.")
        parser.add_argument("--updated-since", type=_iso_time, metavar="TIME",
                            help="Only those changed since this time, e.g. 2026-01-31T12:00:00.")
        parser.add_argument("--deleted", action="store_true", help="Deleted instances, too.")
        return parser

    def take_action(self, parsed_args):
        self.api.cells_api.sync_instances(self.context, project_id=parsed_args.project_id,
                                          updated_since=parsed_args.updated_since, deleted=parsed_args.deleted)


def _add_values(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--type", choices=_TYPES, help="Where it lies (new ones: child).")
    parser.add_argument("--transport-url", metavar="URL", required=required,
                        help="Its broker; '-' reads the URL from standard input, where passwords are not seen.")
    parser.add_argument("--key-file", type=_key_in, metavar="PATH",
                        help="File with the key that both cells sign their messages with, 16 characters or more; an "
                             "empty file ends that.")
    parser.add_argument("--weight-offset", type=float, help="How much it is preferred for builds.")
    parser.add_argument("--weight-scale", type=float, help="Stored for other schedulers.")


def _values(app: Any, parsed_args: argparse.Namespace) -> dict[str, Any]:
    url = parsed_args.transport_url
    if url == "-":
        url = app.stdin.readline().strip()
        if not url:
            raise CommandError("there is no URL on standard input")
    given = {"transport_url": url, "shared_key": parsed_args.key_file, "weight_offset": parsed_args.weight_offset,
             "weight_scale": parsed_args.weight_scale,
             "is_parent": None if parsed_args.type is None else parsed_args.type == "parent"}
    return {name: value for name, value in given.items() if value is not None}


def _key_in(path: str) -> str:
    """argparse type of a file that holds a key, or nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            key = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from error
    if key and len(key) < _LEAST_KEY_CHARS:
        raise argparse.ArgumentTypeError(f"the key in {path} has fewer than {_LEAST_KEY_CHARS} characters")
    return key


def _iso_time(text: str) -> str:
    """argparse type of a time."""
    from oslo_utils import timeutils

    try:
        timeutils.parse_isotime(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-01-31T12:00:00") from error
    return text
