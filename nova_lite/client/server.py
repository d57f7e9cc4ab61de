"""nova-lite server: machines."""

import argparse
import base64
import json
import pathlib
from typing import Any

from nova_lite.client import base, finding
from nova_lite.client.errors import CommandError
from nova_lite.client.waiting import Waiter, fault_text
from nova_lite.objects import power_state, vm_states

BUILD_TIMEOUT_S = 1800


def addresses(instance: Any) -> str:
    """Return 'network=address, address; …' of the instance's info cache."""
    from nova_lite.compute import utils

    by_network: dict[str, list[str]] = {}
    for vif in utils.get_nw_info_for_instance(instance):
        found = by_network.setdefault(vif["network"]["label"], [])
        found += [ip["address"] for subnet in vif["network"]["subnets"] for ip in subnet["ips"]]
    return "; ".join(f"{label}={', '.join(found)}" for label, found in by_network.items())


def power_name(instance: Any) -> str:
    known = instance.power_state in power_state.valid_states()
    return power_state.name(instance.power_state) if known else "unknown"


def described(instance: Any) -> dict[str, Any]:
    """Return everything that `server show` prints."""
    flavor = instance.flavor
    return {
        "id": instance.uuid,
        "name": instance.display_name,
        "state": instance.vm_state,
        "task": instance.task_state,
        "power": power_name(instance),
        "progress": instance.progress or 0,
        "fault": fault_text(instance).removeprefix(": ") or None,
        "cell": instance.cell_name,
        "host": instance.host,
        "flavor": flavor.name if flavor else None,
        "ram_mb": instance.memory_mb,
        "vcpus": instance.vcpus,
        "root_gb": instance.root_gb,
        "image": instance.image_ref or None,
        "addresses": addresses(instance),
        "keypair": instance.key_name,
        "zone": instance.availability_zone,
        "metadata": json.dumps(dict(instance.metadata or {}), sort_keys=True),
        "locked": bool(instance.locked),
        "created": base.field(instance, "created_at"),
        "launched": base.field(instance, "launched_at"),
    }


class CreateServer(base.Showing):
    """Boot a server, or several of the same kind."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--image", required=True, metavar="NAME_OR_ID")
        parser.add_argument("--flavor", required=True, metavar="NAME_OR_ID")
        parser.add_argument(
            "--network", action="append", metavar="ID",
            help="Uuid of a network of the cell where the server will run; may be repeated (default: the project's).",
        )  # fmt: skip
        parser.add_argument("--key-name", metavar="KEYPAIR")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        parser.add_argument("--hint", type=base.key_value, action="append", default=[], metavar="KEY=VALUE",
                            help="Scheduler hint, e.g. target_cell=api!west.")  # fmt: skip
        parser.add_argument("--file", action="append", default=[], metavar="DEST=PATH", type=base.key_value,
                            help="Write the local file PATH to DEST in the server.")  # fmt: skip
        parser.add_argument("--user-data", metavar="PATH")
        parser.add_argument("--availability-zone", metavar="ZONE")
        parser.add_argument("--count", type=base.positive, default=1, help="How many (default: 1).")
        add_wait(parser, BUILD_TIMEOUT_S)
        return parser

    def take_action(self, parsed_args):
        instances, _ = self.api.compute_api.create(
            self.context,
            finding.flavor(self, parsed_args.flavor),
            finding.image(self, parsed_args.image)["id"],
            min_count=parsed_args.count,
            max_count=parsed_args.count,
            display_name=parsed_args.name,
            key_name=parsed_args.key_name,
            user_data=_base64_of(parsed_args.user_data) if parsed_args.user_data else None,
            metadata=dict(parsed_args.property),
            injected_files=[[path, _base64_of(local)] for path, local in parsed_args.file],
            requested_networks=[(network, None, None) for network in parsed_args.network or ()] or None,
            availability_zone=parsed_args.availability_zone,
            scheduler_hints=dict(parsed_args.hint),
        )
        if parsed_args.wait:
            instances = [waiter(self, one.uuid, parsed_args.timeout).until_state(vm_states.ACTIVE) for one in instances]
        if len(instances) == 1:
            return self.dict2columns(described(finding.server(self, instances[0].uuid)))
        return self.dict2columns({"id": "\n".join(instance.uuid for instance in instances)})


def _base64_of(path: str) -> str:
    try:
        return base64.b64encode(pathlib.Path(path).read_bytes()).decode()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def add_wait(parser: argparse.ArgumentParser, timeout_s: int) -> None:
    parser.add_argument("--wait", action="store_true", help="Return when it has happened, showing how it goes.")
    parser.add_argument("--timeout", type=float, default=timeout_s, metavar="SECONDS",
                        help=f"Wait no longer (default: {timeout_s}).")  # fmt: skip


def waiter(command: Any, uuid: str, timeout_s: float) -> Waiter:
    """Return what follows this server, telling its progress on standard error."""
    return Waiter(lambda: finding.server(command, uuid), command.app.stderr, timeout_s)


class ListServers(base.Listing):
    """List servers."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--all-projects", action="store_true")
        parser.add_argument("--name", metavar="NAME", help="Only servers of exactly this name.")
        parser.add_argument("--state", metavar="VM_STATE")
        parser.add_argument("--limit", type=base.positive, default=1000, help="At most so many (default: 1000).")
        parser.add_argument("--marker", metavar="ID", help="Begin after this server.")
        return parser

    def take_action(self, parsed_args):
        filters = {} if parsed_args.all_projects else {"project_id": self.context.project_id}
        if parsed_args.state:
            filters["vm_state"] = parsed_args.state
        instances = finding.servers(
            self, filters, name=parsed_args.name, limit=parsed_args.limit, marker=parsed_args.marker
        )
        titles = ("ID", "Name", "State", "Task", "Power", "Cell", "Host", "Addresses")
        return titles, [
            (one.uuid, one.display_name, one.vm_state, one.task_state, power_name(one), one.cell_name, one.host,
             addresses(one))
            for one in instances
        ]  # fmt: skip


class ShowServer(base.Showing):
    """Show one server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.dict2columns(described(finding.server(self, parsed_args.server)))


class ServerAction(base.Action):
    """An operation on one or more servers; `goal` is the vm_state that it leads to, None the one they have."""

    goal: str | None = vm_states.ACTIVE
    timeout_s = 600

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("servers", nargs="+", metavar="NAME_OR_ID")
        add_wait(parser, self.timeout_s)
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.servers, lambda name: self._act_on(name, parsed_args))

    def _act_on(self, name: str, parsed_args: argparse.Namespace) -> None:
        instance = finding.server(self, name)
        before = instance.vm_state
        self.act(instance, parsed_args)
        if parsed_args.wait:
            self.wait_for(waiter(self, instance.uuid, parsed_args.timeout), before)

    def act(self, instance: Any, parsed_args: argparse.Namespace) -> None:
        raise NotImplementedError

    def wait_for(self, follower: Waiter, before: str) -> None:
        """Return once it has happened to a server whose vm_state was `before`."""
        follower.until_state(self.goal or before)
