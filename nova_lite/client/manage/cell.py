"""nova-manage cell: the neighbours that a cell knows."""

import argparse
from typing import Any

from nova_lite.client import base
from nova_lite.client.errors import CommandError
from nova_lite.client.manage.base import OnDatabase

PARENT_TYPES = ("parent", "api")
CELL_TYPES = (*PARENT_TYPES, "child", "compute")
LONGEST_NAME = 255


def cell_name(text: str) -> str:
    """argparse type of a neighbour's short name."""
    from nova_lite.conf.cells import FORBIDDEN_IN_NAMES

    if not text.strip() or text != text.strip() or len(text) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"a cell's name has 1 to {LONGEST_NAME} characters and no spaces around them")
    if set(text) & set(FORBIDDEN_IN_NAMES):
        raise argparse.ArgumentTypeError(f"a cell's name holds none of {' '.join(FORBIDDEN_IN_NAMES)}")
    return text


def port_number(text: str) -> int:
    """argparse type of a TCP port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)


def broker_hosts(text: str) -> list[tuple[str, int]]:
    """argparse type of HOST:PORT[,HOST:PORT...]; IPv6 addresses stand in brackets."""
    pairs = []
    for item in text.split(","):
        hostname, mark, port = item.strip().rpartition(":")
        if not mark or not hostname:
            raise argparse.ArgumentTypeError(f"{item.strip()!r} is not of the form HOST:PORT")
        pairs.append((hostname.strip("[]"), port_number(port)))
    return pairs


class CreateCell(OnDatabase, base.Action):
    """Make a neighbour known to this cell: where its broker is and whether it lies above or below.

    The neighbour needs the row for this cell in its own database too. Services notice within db_check_interval.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--name", required=True, type=cell_name, help="The neighbour's own [cells] name.")
        parser.add_argument(
            "--cell_type", "--cell-type", choices=CELL_TYPES, default="child", help="Where it lies (default: child)."
        )
        parser.add_argument("--username", help="User at its broker.")
        parser.add_argument("--password", help="Password of that user.")
        parser.add_argument(
            "--broker_hosts", "--broker-hosts", type=broker_hosts, metavar="HOST:PORT[,HOST:PORT...]",
            help="Its brokers, all with the same credentials; wins over --hostname and --port.",
        )  # fmt: skip
        parser.add_argument("--hostname", help="Its broker's host.")
        parser.add_argument("--port", type=port_number, help="Its broker's port.")
        parser.add_argument("--virtual_host", "--virtual-host", help="Virtual host at its broker.")
        parser.add_argument("--woffset", type=float, default=0.0, help="Offset of its weight (default: 0.0).")
        parser.add_argument("--wscale", type=float, default=1.0, help="Scale of its weight (default: 1.0).")
        self._parser = parser
        return parser

    def take_action(self, parsed_args):
        values = {
            "name": parsed_args.name,
            "is_parent": parsed_args.cell_type in PARENT_TYPES,
            "transport_url": self._transport_url(parsed_args, self._brokers(parsed_args)),
            "weight_offset": parsed_args.woffset,
            "weight_scale": parsed_args.wscale,
        }
        self.db.cell_create(self.context, values)

    def _brokers(self, parsed_args) -> list[tuple[str, int]]:
        if parsed_args.broker_hosts:
            return parsed_args.broker_hosts
        if not parsed_args.hostname or not parsed_args.port:
            self._parser.error("--broker_hosts, or --hostname and --port, must be given")
        return [(parsed_args.hostname, parsed_args.port)]

    def _transport_url(self, parsed_args, brokers: list[tuple[str, int]]) -> str:
        """Return the URL of the neighbour's broker, with this cell's transport; reserved characters stay encoded."""
        import oslo_messaging

        own = oslo_messaging.TransportURL.parse(self.conf)
        hosts = [
            oslo_messaging.TransportHost(
                hostname=hostname, port=port, username=parsed_args.username, password=parsed_args.password
            )
            for hostname, port in brokers
        ]
        return str(
            oslo_messaging.TransportURL(
                self.conf, transport=own.transport, virtual_host=parsed_args.virtual_host or None, hosts=hosts
            )
        )


class DeleteCell(OnDatabase, base.Action):
    """Forget a neighbour."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--cell_name", "--cell-name", required=True, help="The neighbour's name.")
        return parser

    def take_action(self, parsed_args):
        if not self.db.cell_delete(self.context, parsed_args.cell_name):
            raise CommandError(f"there is no cell {parsed_args.cell_name!r}")


class ListCells(OnDatabase, base.Listing):
    """List the neighbours of this cell; passwords are not shown."""

    def take_action(self, parsed_args):
        titles = ("Id", "Name", "Type", "Username", "Hostname", "Port", "VHost")
        return titles, [self._row(cell) for cell in self.db.cell_get_all(self.context)]

    def _row(self, cell: dict[str, Any]) -> tuple:
        import oslo_messaging

        url = oslo_messaging.TransportURL.parse(self.conf, cell["transport_url"])
        first = url.hosts[0] if url.hosts else oslo_messaging.TransportHost()
        kind = "parent" if cell["is_parent"] else "child"
        return cell["id"], cell["name"], kind, first.username, first.hostname, first.port, url.virtual_host
