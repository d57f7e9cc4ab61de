"""nova-lite server: another image, size or host."""

from nova_lite.client import base, finding, secret
from nova_lite.client.server import ServerAction, add_wait, waiter
from nova_lite.objects import vm_states

MOVE_TIMEOUT_S = 3600


class RescueServer(ServerAction):
    """Boot servers from a rescue image, with their own disks beside it."""

    goal = vm_states.RESCUED

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--image", metavar="NAME_OR_ID", help="Default: the image that the server was made from.")
        secret.add_password(parser, "of the rescue system's administrator (default: a generated one)")
        return parser

    def act(self, instance, parsed_args):
        image = finding.image(self, parsed_args.image)["id"] if parsed_args.image else None
        self.api.compute_api.rescue(self.context, instance, secret.password(parsed_args), image)


class UnrescueServer(ServerAction):
    """Boot rescued servers from their own disks again."""

    def act(self, instance, parsed_args):
        self.api.compute_api.unrescue(self.context, instance)


class RebuildServer(ServerAction):
    """Make servers anew from an image; their names, addresses and volumes stay."""

    goal = None
    timeout_s = MOVE_TIMEOUT_S

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--image", metavar="NAME_OR_ID", help="Default: the image that the server was made from.")
        secret.add_password(parser, "of the guest's administrator (default: a generated one)")
        return parser

    def act(self, instance, parsed_args):
        image = finding.image(self, parsed_args.image)["id"] if parsed_args.image else instance.image_ref
        self.api.compute_api.rebuild(self.context, instance, image, secret.password(parsed_args))


class ResizeServer(ServerAction):
    """Give servers another flavor. They wait for `server resize confirm` or `revert` with both disks kept."""

    goal = vm_states.RESIZED
    timeout_s = MOVE_TIMEOUT_S

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--flavor", required=True, metavar="NAME_OR_ID")
        return parser

    def act(self, instance, parsed_args):
        self.api.compute_api.resize(self.context, instance, finding.flavor(self, parsed_args.flavor).flavorid)


class ConfirmResize(ServerAction):
    """Give up what resized or migrated servers would need to go back."""

    goal = None

    def act(self, instance, parsed_args):
        self.api.compute_api.confirm_resize(self.context, instance)

    def wait_for(self, follower, before):
        follower.until_left(before)


class RevertResize(ConfirmResize):
    """Take resized or migrated servers back to where and how they were."""

    def act(self, instance, parsed_args):
        self.api.compute_api.revert_resize(self.context, instance)


class MigrateServer(ServerAction):
    """Move servers to another host of their cell: shut down meanwhile, or with --live running."""

    timeout_s = MOVE_TIMEOUT_S

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--live", action="store_true", help="Without a pause; nothing is left to confirm.")
        parser.add_argument("--host", help="Where to, with --live (default: the scheduler finds a host).")
        parser.add_argument("--block-migration", action="store_true",
                            help="With --live: move the disks too; the hosts share no storage.")  # fmt: skip
        return parser

    def take_action(self, parsed_args):
        if not parsed_args.live and (parsed_args.host or parsed_args.block_migration):
            self.app.parser.error("--host and --block-migration go with --live")
        return super().take_action(parsed_args)

    def act(self, instance, parsed_args):
        if parsed_args.live:
            self.goal = None
            self.api.compute_api.live_migrate(self.context, instance, parsed_args.block_migration, False,
                                              parsed_args.host)
        else:
            self.goal = vm_states.RESIZED
            self.api.compute_api.resize(self.context, instance)


class EvacuateServer(ServerAction):
    """Build servers whose host is dead again on another host of their cell."""

    goal = None
    timeout_s = MOVE_TIMEOUT_S

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", required=True, help="Where to.")
        parser.add_argument("--shared-storage", action="store_true", help="The disks outlived the host.")
        secret.add_password(parser, "of the guest's administrator (default: a generated one)")
        return parser

    def act(self, instance, parsed_args):
        self.api.compute_api.evacuate(self.context, instance, parsed_args.host, parsed_args.shared_storage,
                                      secret.password(parsed_args))


class _Imaging(base.Showing):
    """Makes an image of one server."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="NAME_OR_ID")
        parser.add_argument("--name", required=True, help="Of the image.")
        add_wait(parser, MOVE_TIMEOUT_S)
        return parser

    def take_action(self, parsed_args):
        instance = finding.server(self, parsed_args.server)
        image = self.make(instance, parsed_args)
        if parsed_args.wait:
            waiter(self, instance.uuid, parsed_args.timeout).until_state(instance.vm_state)
            image = self.services.image_api.show(self.context, image["id"])
        return base.record((("id", "id"), ("name", "name"), ("status", "status"), ("size", "size")), image)

    def make(self, instance, parsed_args):
        raise NotImplementedError


class CreateServerImage(_Imaging):
    """Make an image of a server."""

    def make(self, instance, parsed_args):
        return self.api.compute_api.snapshot(self.context, instance, parsed_args.name)


class CreateServerBackup(_Imaging):
    """Make an image of a server and delete the oldest ones of the same type."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--type", default="daily", help="What kind of backup, such as daily (default) or weekly.")
        parser.add_argument("--rotate", type=base.positive, required=True, help="How many of the type are kept.")
        return parser

    def make(self, instance, parsed_args):
        return self.api.compute_api.backup(self.context, instance, parsed_args.name, parsed_args.type,
                                           parsed_args.rotate)


class ListMigrations(base.Listing):
    """List the moves of servers in every cell, latest first."""

    COLUMNS = (
        ("ID", "id"), ("Server", "instance_uuid"), ("Status", "status"), ("From", "source_compute"),
        ("To", "dest_compute"), ("Created", "created_at"), ("Updated", "updated_at"),
    )  # fmt: skip

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--status")
        parser.add_argument("--host", help="From or to this host.")
        return parser

    def take_action(self, parsed_args):
        filters = {name: value for name, value in (("status", parsed_args.status), ("host", parsed_args.host)) if value}
        return base.table(self.COLUMNS, self.api.compute_api.get_migrations(self.context, filters))


