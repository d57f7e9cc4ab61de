"""nova-lite server: what is attached to a server, written into it and known about it."""

import base64
import pathlib

from nova_lite.client import base, finding, secret
from nova_lite.client.errors import CommandError
from nova_lite.client.server import ServerAction


class _OnOneServer(base.Action):
    """Does something to one server with one more thing; `what` names that."""

    what: tuple[str, str] = ("thing", "THING")

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument(self.what[0], metavar=self.what[1])
        return parser

    def take_action(self, parsed_args):
        self.act(finding.server(self, parsed_args.server), getattr(parsed_args, self.what[0]), parsed_args)

    def act(self, instance, thing, parsed_args):
        raise NotImplementedError


class AddVolume(base.Showing):
    """Attach a volume; prints the device name that it gets."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("volume", metavar="NAME_OR_ID")
        parser.add_argument("--device", help="Such as /dev/xvdb (default: the next free one).")
        return parser

    def take_action(self, parsed_args):
        instance = finding.server(self, parsed_args.server)
        volume = finding.volume(self, parsed_args.volume)
        device = self.api.compute_api.attach_volume(self.context, instance, volume["id"], parsed_args.device)
        return self.dict2columns({"server": instance.uuid, "volume": volume["id"], "device": device})


class RemoveVolume(_OnOneServer):
    """Detach a volume."""

    what = ("volume", "VOLUME")

    def act(self, instance, thing, parsed_args):
        self.api.compute_api.detach_volume(self.context, instance, finding.volume(self, thing))


class AddNetwork(_OnOneServer):
    """Give a server an interface to a network of its cell, by the network's uuid."""

    what = ("network", "NETWORK_ID")

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--address", help="The address it shall get (default: a free one).")
        return parser

    def act(self, instance, thing, parsed_args):
        self.api.compute_api.attach_interface(self.context, instance, thing, None, parsed_args.address)


class RemovePort(_OnOneServer):
    """Take an interface from a server, by the port id that `server ports` lists."""

    what = ("port", "PORT_ID")

    def act(self, instance, thing, parsed_args):
        self.api.compute_api.detach_interface(self.context, instance, thing)


class ListPorts(base.Listing):
    """List the interfaces of a server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        from nova_lite.compute import utils

        vifs = utils.get_nw_info_for_instance(finding.server(self, parsed_args.server))
        return ("Port", "MAC", "Network", "Network ID", "Addresses"), [
            (vif["id"], vif["address"], vif["network"]["label"], vif["network"]["id"],
             ", ".join(ip["address"] for subnet in vif["network"]["subnets"] for ip in subnet["ips"]))
            for vif in vifs
        ]  # fmt: skip


class AddFixedIp(_OnOneServer):
    """Give a server another address of a network, by the network's uuid."""

    what = ("network", "NETWORK_ID")

    def act(self, instance, thing, parsed_args):
        self.api.compute_api.add_fixed_ip(self.context, instance, thing)


class RemoveFixedIp(_OnOneServer):
    """Take an address from a server."""

    what = ("address", "ADDRESS")

    def act(self, instance, thing, parsed_args):
        self.api.compute_api.remove_fixed_ip(self.context, instance, thing)


class AddSecurityGroup(_OnOneServer):
    """Put a server of the connected cell into a security group."""

    what = ("group", "GROUP")

    def act(self, instance, thing, parsed_args):
        finding.security_groups(self).add_to_instance(self.context, instance, thing)


class RemoveSecurityGroup(_OnOneServer):
    """Take a server of the connected cell out of a security group."""

    what = ("group", "GROUP")

    def act(self, instance, thing, parsed_args):
        finding.security_groups(self).remove_from_instance(self.context, instance, thing)


class AddFile(_OnOneServer):
    """Write a local file into the guest, through its agent."""

    what = ("path", "PATH_IN_GUEST")

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--from", dest="source", required=True, metavar="PATH", help="The local file.")
        return parser

    def act(self, instance, thing, parsed_args):
        try:
            contents = pathlib.Path(parsed_args.source).read_bytes()
        except OSError as error:
            raise CommandError(f"cannot read {parsed_args.source}: {error.strerror}") from error
        self.api.compute_api.inject_file(self.context, instance, thing, base64.b64encode(contents).decode())


class SetServer(base.Action):
    """Change the name, properties, password or recorded state of a server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--name")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        parser.add_argument("--state", choices=("active", "error", "resized"),
                            help="What a stuck server is said to be; nothing is done to it. One whose resize failed "
                                 "at its destination goes back by 'resize revert' once it is said to be resized.")
        secret.add_password(parser, "of the guest's administrator, set through its agent")
        return parser

    def take_action(self, parsed_args):
        api = self.api.compute_api
        instance = finding.server(self, parsed_args.server)
        if parsed_args.name:
            instance = api.update(self.context, instance, display_name=parsed_args.name)
        if parsed_args.property:
            api.update_instance_metadata(self.context, instance, dict(parsed_args.property))
        if parsed_args.state:
            api.update_state(self.context, instance, parsed_args.state)
        if (password := secret.password(parsed_args)) is not None:
            api.set_admin_password(self.context, instance, password)


class UnsetServer(base.Action):
    """Remove properties of a server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--property", action="append", required=True, metavar="KEY")
        return parser

    def take_action(self, parsed_args):
        for key in parsed_args.property:
            instance = finding.server(self, parsed_args.server)
            self.api.compute_api.delete_instance_metadata(self.context, instance, key)


class LockServer(ServerAction):
    """Keep everybody but administrators from changing servers."""

    goal = None

    def act(self, instance, parsed_args):
        self.api.compute_api.lock(self.context, instance)


class UnlockServer(ServerAction):
    """Let servers be changed again."""

    goal = None

    def act(self, instance, parsed_args):
        self.api.compute_api.unlock(self.context, instance)


class ResetNetwork(ServerAction):
    """Have guests set up their networks again."""

    goal = None

    def act(self, instance, parsed_args):
        self.api.compute_api.reset_network(self.context, instance)
