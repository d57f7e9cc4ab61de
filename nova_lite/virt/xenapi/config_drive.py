"""The config drive: a small read-only disk with the instance's metadata, for guests that ask no metadata service."""

import base64
import io
import json
from typing import Any

from nova_lite import exception
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.images import DiskImage
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.transfer import chunks

LABEL = "config-2"
VERSIONS = ("2012-08-10", "latest")


class ConfigDrive:
    """Makes config drives: ISO 9660 with Joliet names, as a raw VDI."""

    def __init__(self, disks: Disks, spool_dir: str | None = None):
        self._disks = disks
        self._spool_dir = spool_dir

    @staticmethod
    def wanted(instance: Any) -> bool:
        """Tell whether the instance was asked for with a config drive."""
        return str(instances.read(instance, "config_drive") or "").lower() not in ("", "false", "0", "none")

    def make(self, build: Any, marks: dict[str, str], undo: Undo) -> str:
        """Return the VDI of the instance's config drive."""
        image = iso_image(files(build))
        disk = DiskImage("raw", len(image), len(image), chunks(io.BytesIO(image)))
        return self._disks.import_disk(disk, LABEL, marks, undo)


def files(build: Any) -> dict[str, bytes]:
    """Return {path: content} of the drive."""
    instance = build.instance
    meta_data = {
        "uuid": instances.read(instance, "uuid"),
        "name": instances.read(instance, "display_name"),
        "hostname": build.hostname,
        "launch_index": instances.read(instance, "launch_index") or 0,
        "availability_zone": instances.read(instance, "availability_zone"),
        "meta": instances.metadata_of(instance, "metadata"),
    }
    if instances.read(instance, "key_data"):
        meta_data["public_keys"] = {instances.read(instance, "key_name") or "key": instances.read(instance, "key_data")}
    if build.admin_password:
        meta_data["admin_pass"] = build.admin_password
    content = {}
    for number, (path, contents) in enumerate(build.injected_files or []):
        where = f"/content/{number:04d}"
        meta_data.setdefault("files", []).append({"path": path, "content_path": where})
        content[f"openstack{where}"] = contents if isinstance(contents, bytes) else str(contents).encode()
    for version in VERSIONS:
        content[f"openstack/{version}/meta_data.json"] = json.dumps(meta_data).encode()
        if instances.read(instance, "user_data"):
            content[f"openstack/{version}/user_data"] = base64.b64decode(instances.read(instance, "user_data"))
    return content


def iso_image(content: dict[str, bytes]) -> bytes:
    """Return an ISO 9660 image with these files. Raises ConfigDriveUnsupported without the library that makes it."""
    try:
        import pycdlib
    except ImportError:
        raise ConfigDriveUnsupported() from None
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=4, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    folders: set[str] = set()
    for path, body in sorted(content.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/" + "/".join(parts[:depth])
            if folder not in folders:
                folders.add(folder)
                iso.add_directory(folder, joliet_path=folder, rr_name=parts[depth - 1])
        iso.add_fp(io.BytesIO(body), len(body), f"/{path};1", joliet_path=f"/{path}", rr_name=parts[-1])
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


class ConfigDriveUnsupported(exception.NovaException):
    """The library that writes ISO images is not installed."""

    msg_fmt = "A config drive needs the Python package pycdlib, which is not installed."
