"""nova-lite image: what servers are made from."""

import json
import pathlib

from nova_lite.client import base, finding
from nova_lite.client.errors import CommandError
from nova_lite.compute import api_checks as checks

FORMATS = {"vhd": "vhd", "raw": "raw", "img": "raw", "qcow2": "qcow2", "iso": "iso"}
COLUMNS = (
    ("ID", "id"), ("Name", "name"), ("Status", "status"), ("Size", "size"), ("Disk Format", "disk_format"),
)  # fmt: skip
DETAILS = (
    *COLUMNS, ("Container Format", "container_format"), ("Min RAM MB", "min_ram"), ("Min Disk GB", "min_disk"),
    ("SHA-256", "os_hash_value"),
)  # fmt: skip


class ListImages(base.Listing):
    """List images."""

    def take_action(self, parsed_args):
        return base.table(COLUMNS, self.services.image_api.detail(self.context))


class ShowImage(base.Showing):
    """Show one image."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("image", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        image = finding.image(self, parsed_args.image)
        titles, values = base.record(DETAILS, image)
        return (*titles, "Properties"), (*values, json.dumps(image.get("properties") or {}, sort_keys=True))


class CreateImage(base.Showing):
    """Store a disk image."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--file", required=True, metavar="PATH")
        parser.add_argument(
            "--disk-format", choices=sorted(set(FORMATS.values())), help="Default: by the file name's ending."
        )
        parser.add_argument("--min-ram", type=base.not_negative, default=0, metavar="MB")
        parser.add_argument("--min-disk", type=base.not_negative, default=0, metavar="GB")
        parser.add_argument("--property", type=base.key_value, action="append", default=[], metavar="KEY=VALUE")
        return parser

    def take_action(self, parsed_args):
        checks.check_name("the name of an image", parsed_args.name)
        path = pathlib.Path(parsed_args.file)
        disk_format = parsed_args.disk_format or FORMATS.get(path.suffix.lstrip(".").lower())
        if disk_format is None:
            raise CommandError(f"cannot tell the format of {path}: give --disk-format")
        meta = {
            "name": parsed_args.name,
            "disk_format": disk_format,
            "container_format": "bare",
            "min_ram": parsed_args.min_ram,
            "min_disk": parsed_args.min_disk,
            "properties": dict(parsed_args.property),
        }
        try:
            with path.open("rb") as stream:
                return base.record(DETAILS, self.services.image_api.create(self.context, meta, stream))
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror}") from error


class DeleteImage(base.Action):
    """Delete images; servers made from them keep their disks."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("images", nargs="+", metavar="NAME_OR_ID")
        return parser

    def take_action(self, parsed_args):
        return self.each(parsed_args.images, self._delete)

    def _delete(self, name_or_id: str) -> None:
        self.services.image_api.delete(self.context, finding.image(self, name_or_id)["id"])
