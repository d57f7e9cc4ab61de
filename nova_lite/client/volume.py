"""nova-lite volume: volumes of the connected cell's volume service."""

from nova_lite.client import base, finding

COLUMNS = (
    ("ID", "id"), ("Name", "display_name"), ("Size GB", "size"), ("Status", "status"), ("Zone", "availability_zone"),
    ("Server", "instance_uuid"), ("Device", "mountpoint"),
)  # fmt: skip
DETAILS = (*COLUMNS, ("Description", "display_description"), ("Type", "volume_type_id"), ("Created", "created_at"))


class ListVolumes(base.Listing):
    """List volumes."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, finding.volumes(self))


class ShowVolume(base.Showing):
    """Show one volume."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("volume", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return base.record(DETAILS, finding.volume(self, parsed_args.volume))


class CreateVolume(base.Showing):
    """Make a volume."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--size", type=base.positive, required=True, metavar="GB")
        parser.add_argument("--description", default="")
        parser.add_argument("--type", metavar="VOLUME_TYPE")
        parser.add_argument("--image", metavar="NAME_OR_ID", help="What it shall contain (default: nothing).")
        parser.add_argument("--availability-zone", metavar="ZONE")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        return parser

    def take_action(self, parsed_args):
        image = finding.image(self, parsed_args.image)["id"] if parsed_args.image else None
        return base.record(DETAILS, self.services.volume_api.create(
            self.context, parsed_args.size, parsed_args.name, parsed_args.description, image_id=image,
            volume_type=parsed_args.type, metadata=dict(parsed_args.property),
            availability_zone=parsed_args.availability_zone))  # fmt: skip


class DeleteVolume(base.Action):
    """Delete volumes that no server uses."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("volumes", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.volumes, lambda name: self.services.volume_api.delete(
            self.context, finding.volume(self, name)["id"]))  # fmt: skip


