"""nova-lite cell tree, ping, why: how the cells below do, how far away they are, how they chose."""

import datetime
import time
from typing import Any

from nova_lite import exception
from nova_lite.client import base
from nova_lite.client.errors import CommandError, one_line

_COLUMNS = ("Cell", "State", "RAM Free MB", "Disk Free MB", "Report Age s", "Outbox", "Lag s", "Waiting",
            "Round Trip ms")


def _own(command: Any) -> Any:
    """Return the client of nova-cells' own methods."""
    from nova_lite.cells.own_methods import OwnCellsClient

    return OwnCellsClient(command.services)


class CellTree(base.Listing):
    """Show the cells from the connected one down: what fits in, when each was heard of, what waits, how far it is.

    A picture of the tree, drawn again every few seconds with --watch; with -f FORMAT a flat list.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.set_defaults(formatter=None)
        parser.add_argument("--watch", type=base.positive, metavar="SECONDS",
                            help="Draw again so often, until interrupted.")
        return parser

    def run(self, parsed_args):
        if parsed_args.formatter is not None:
            return super().run(parsed_args)
        try:
            if parsed_args.watch:
                return self._watch(parsed_args.watch)
            for line in picture(self._rows()):
                self.app.stdout.write(f"{line}\n")
        except Exception as error:  # as for every command
            raise self.app.told(error) from error
        return 0

    def _watch(self, pause_s: int) -> int:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(file=self.app.stdout), auto_refresh=False) as screen:
            while True:
                screen.update(Text("\n".join(picture(self._rows()))), refresh=True)
                try:
                    self.services.clock.sleep(pause_s)
                except KeyboardInterrupt:
                    return 0

    def take_action(self, parsed_args):
        return _COLUMNS, self._rows()

    def _rows(self) -> list[tuple]:
        own = _own(self)
        found = {info["cell"]: info for info in own.tree_info(self.context)}
        neighbours = {f"{path}!{one['name']}": one for path, info in found.items()
                      for one in info.get("neighbours", ()) if not one["is_parent"]}
        paths = sorted({*found, *neighbours}, key=lambda path: path.split("!"))
        return [self._row(own, path, found.get(path, {}), neighbours.get(path, {})) for path in paths]

    def _row(self, own: Any, path: str, info: dict, seen: dict) -> tuple:
        free = info.get("capacities") or seen.get("capacities") or {}
        return (path, state_of(info, seen), *(free.get(kind, {}).get("total_mb", 0) for kind in
                                              ("ram_free", "disk_free")),
                age_s(seen.get("last_seen")), info.get("outbox_rows"), info.get("outbox_oldest_s"),
                info.get("waiting"),
                self._round_trip_ms(own, path) if info and "error" not in info else None)

    def _round_trip_ms(self, own: Any, path: str) -> float | None:
        try:
            return round(own.ping(self.context, path)["round_trip_s"] * 1000, 1)
        except exception.NovaException:
            return None


def state_of(info: dict, seen: dict) -> str:
    """Return what is to be said of a cell: of its own report, and of its parent's row for it."""
    if seen.get("enabled") is False:
        return "disabled"
    if "error" in info:
        return f"failed: {info['error']}"
    if not info:
        return "silent"
    if seen.get("is_mute"):
        return "mute"
    return "draining" if seen.get("draining") else "up"


def age_s(last_seen: str | None) -> int | None:
    """Return the age of a report (ISO time) in seconds, None without one."""
    if last_seen is None:
        return None
    then = datetime.datetime.fromisoformat(last_seen)
    return max(0, round((datetime.datetime.now(datetime.UTC) - then).total_seconds()))


def picture(rows: list[tuple]) -> list[str]:
    """Return the lines of a drawn tree; `rows` as CellTree lists them, parents before children."""
    lines = []
    for path, *values in rows:
        depth = path.count("!")
        lead = "   " * (depth - 1) + ("└─ " if depth else "")
        told = (f"{title} {value}" for title, value in zip(
            ("", "RAM MB", "disk MB", "heard s ago", "outbox", "lag s", "waiting", "ms away"), values, strict=True)
            if value is not None)
        lines.append(f"{lead}{path.rpartition('!')[2]}  {', '.join(text.strip() for text in told)}")
    return lines


class PingCell(base.Listing):
    """Send a message to a cell and back, and to each cell on the way."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("path", metavar="PATH", help="Full path of a cell, e.g. api!west!rack1.")
        return parser

    def take_action(self, parsed_args):
        names, own, before_ms = parsed_args.path.split("!"), _own(self), 0.0
        if names[0] != self.connection.conf.cells.name:
            raise CommandError(f"the path has to begin with the connected cell, {self.connection.conf.cells.name}")
        rows = []
        for count in range(1, len(names) + 1):
            path = "!".join(names[:count])
            started_s = time.monotonic()
            try:
                answer = own.ping(self.context, path)
            except exception.NovaException as error:
                rows.append((path, None, None, round((time.monotonic() - started_s) * 1000, 1), None, one_line(error)))
                break
            here_ms = answer["round_trip_s"] * 1000
            rows.append((path, answer["host"], _time_text(answer["time"]), round(here_ms, 1),
                         round(max(0.0, here_ms - before_ms), 1), "ok"))
            before_ms = here_ms
        return ("Cell", "Host", "Time There", "Round Trip ms", "This Hop ms", "Result"), rows


class WhyCell(base.Listing):
    """Show how each cell on the way chose where to build: every filter, every weight.

    What is kept is in memory: the last 1000 choices of each nova-cells since it was started.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("request", metavar="REQUEST", help="Request id, or the uuid of an instance.")
        return parser

    def take_action(self, parsed_args):
        records = _own(self).build_decisions(self.context, parsed_args.request)
        if not records:
            raise CommandError(f"no cell remembers a build of {parsed_args.request!r}")
        return ("Time", "In Cell", "Step", "Cell", "Result"), [row for record in records for row in steps(record)]


def steps(record: dict[str, Any]) -> list[tuple]:
    """Return the rows that tell a decision: candidates, what each filter dropped, weights, the outcome."""
    when, here = _time_text(record["time"]), record["cell"]
    rows = [(when, here, "candidates", ", ".join(record["candidates"]), "")]
    for one in record["filters"]:
        result = "took care of it" if one["handled"] else "dropped" if one["dropped"] else "all pass"
        rows.append((when, here, one["filter"], ", ".join(one["dropped"]), result))
    for one in record["weights"]:
        raw = ", ".join(f"{name} {value:g}" for name, value in sorted(one["raw"].items()))
        rows.append((when, here, "weight", one["cell"], f"{one['weight']:g} ({raw})"))
    return [*rows, (when, here, "outcome", "", record["outcome"])]


def _time_text(epoch_s: float) -> str:
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
