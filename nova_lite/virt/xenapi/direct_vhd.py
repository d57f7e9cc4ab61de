"""VHD chains moved by the host itself: its dom0 plugins fetch and send images, and take in disks another host sent.

The chain keeps its links, and nothing passes through the compute service. Needs repositories of VHD files.
"""

import itertools
import uuid as uuidlib
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances, plugins
from nova_lite.virt.xenapi.images import ImageType
from nova_lite.virt.xenapi.plan import Undo
from nova_lite.virt.xenapi.records import GIB
from nova_lite.virt.xenapi.storage import Storage, StorageRepository

LOG = logging.getLogger(__name__)

HANDLER = "direct_vhd"
FILE_BASED = ("ext", "nfs", "file", "smb", "xfs", "zfs")
LONGEST_CHAIN = 16
API_VERSION = 2
# A chain may take this much more than the flavor's disk.
ALLOWANCE_B = 10 * GIB


class DirectVhd:
    """Uses the plugins `glance` and `migration` of our host."""

    def __init__(self, session, storage: Storage, conf):
        self._session = session
        self._storage = storage
        self._conf = conf
        self._servers = itertools.cycle(conf.glance_api_servers)

    def serves(self, image_meta: dict, sr: StorageRepository) -> bool:
        """Tell whether this image is fetched by the host."""
        return self.is_usable(sr, self._conf.xenserver.image_handler) and ImageType.of(image_meta) is ImageType.VHD

    def is_usable(self, sr: StorageRepository, handler: str) -> bool:
        """Tell whether the host is to move images of this repository itself, by the chosen handler, and can."""
        if handler != HANDLER:
            return False
        if self._session.plugin_version is None or sr.type not in FILE_BASED:
            LOG.warning("image_handler = %s needs the dom0 plugins and a repository of files; repository %s is of type "
                        "%s: streaming instead", HANDLER, sr.uuid, sr.type)
            return False
        return True

    # Images ---------------------------------------------------------------------------------------------------

    def fetch(self, context: Any, image_meta: dict, sr: StorageRepository, root_gb: int) -> tuple[str, int]:
        """Have the host fetch an image; returns (VDI, virtual size).

        Raises CouldNotFetchImage, and FlavorDiskSmallerThanImage for a chain much larger than root_gb (0: any).
        """
        # Plugins of the reference know no limit.
        limit = {"largest_b": root_gb * GIB + ALLOWANCE_B} if root_gb and self._session.wire.knows_limits else {}
        try:
            found = self._session.call_plugin_serialized_with_retry(
                "glance", "download_vhd2", self._conf.glance_num_retries, self._next_server,
                image_id=image_meta["id"], uuid_stack=_uuid_stack(), sr_path=self._path(sr),
                extra_headers=_identity(context), api_version=API_VERSION, **limit)
        except (XenAPI.Failure, plugins.PluginRetriesExceeded) as failure:
            LOG.error("The host could not fetch image %s: %s", image_meta["id"], errors.last_line(failure))
            if isinstance(failure, XenAPI.Failure) and "ImageTooLarge" in failure.details:
                raise exception.FlavorDiskSmallerThanImage(flavor_size=root_gb * GIB,
                                                           image_size=image_meta.get("size")) from failure
            raise exception.CouldNotFetchImage(image=image_meta["id"]) from failure
        vdi_ref, size_b = self._taken_in(sr, found["root"]["uuid"])
        if root_gb:
            self._refuse_large(sr, vdi_ref, root_gb)
        return vdi_ref, size_b

    def _refuse_large(self, sr: StorageRepository, vdi_ref: str, root_gb: int) -> None:
        """Destroy a disk whose chain takes more room than root_gb may. Raises FlavorDiskSmallerThanImage."""
        with Undo("take in an image") as undo:
            undo.add(self._session.call_xenapi, "VDI.destroy", vdi_ref)  # the collector removes its parents
            used_b = self._used_b(sr, vdi_ref)
            if used_b > root_gb * GIB + ALLOWANCE_B:
                raise exception.FlavorDiskSmallerThanImage(flavor_size=root_gb * GIB, image_size=used_b)

    def _used_b(self, sr: StorageRepository, vdi_ref: str) -> int:
        """Return the room that a disk and its parents take in the repository."""
        disks = self._session.records_where("VDI", SR=sr.ref)
        by_uuid = {vdi["uuid"]: vdi for vdi in disks.values()}
        used_b, vdi = 0, disks.get(vdi_ref)
        while vdi is not None:
            used_b += int(vdi["physical_utilisation"])
            vdi = by_uuid.pop(vdi["sm_config"].get("vhd-parent"), None)
        return used_b

    def send(self, context: Any, image_id: str, chain: list[str], sr: StorageRepository,
             properties: dict[str, str]) -> None:
        """Have the host send a chain (uuids, leaf first) to an image. Raises ImageNotFound, CouldNotUploadImage."""
        level = self._conf.xenserver.image_compression_level
        if level:
            properties = {**properties, "xenapi_image_compression_level": str(level)}
        try:
            self._session.call_plugin_serialized_with_retry(
                "glance", "upload_vhd2", self._conf.glance_num_retries, self._next_server,
                vdi_uuids=chain, image_id=image_id, sr_path=self._path(sr), extra_headers=_identity(context),
                properties=properties, api_version=API_VERSION)
        except (XenAPI.Failure, plugins.PluginRetriesExceeded) as failure:
            if isinstance(failure, XenAPI.Failure) and "ImageNotFound" in failure.details:
                raise exception.ImageNotFound(image_id=image_id) from failure
            LOG.error("The host could not send image %s: %s", image_id, errors.last_line(failure))
            raise exception.CouldNotUploadImage(image=image_id) from failure

    def _next_server(self, arguments: dict[str, Any]) -> None:
        server = next(self._servers)
        arguments["endpoint"] = server if "://" in server else f"{self._conf.glance_protocol}://{server}"

    def _path(self, sr: StorageRepository) -> str:
        return f"{self._conf.xenserver.sr_base_path}/{sr.uuid}"

    # Disks another host sent ----------------------------------------------------------------------------------

    def take_in(self, instance_uuid: str) -> tuple[str, int]:
        """Take in the disk another host's plugin sent for an instance; returns (VDI, virtual size).

        Raises MigrationError.
        """
        if self._session.plugin_version is None:
            raise exception.MigrationError(reason="the source sent files, which needs the dom0 plugins here")
        sr = self._storage.for_guests()
        try:
            found = self._session.call_plugin_serialized(
                "migration", "move_vhds_into_sr", instance_uuid=instance_uuid, sr_path=self._path(sr),
                uuid_stack=_uuid_stack())
        except XenAPI.Failure as failure:
            raise exception.MigrationError(reason=errors.last_line(failure)) from failure
        return self._taken_in(sr, found["root"]["uuid"])

    def _taken_in(self, sr: StorageRepository, vdi_uuid: str) -> tuple[str, int]:
        """Have the host notice a file a plugin put into the repository; returns (VDI, virtual size)."""
        self._storage.scan(sr.ref)
        try:
            vdi_ref = self._session.call_xenapi("VDI.get_by_uuid", vdi_uuid)
        except XenAPI.Failure as failure:
            if not errors.is_gone(failure):
                raise
            vdi_ref = self._session.call_xenapi("VDI.introduce", vdi_uuid, "", "", sr.ref, "user", False, False, {},
                                                vdi_uuid, {}, {})
        return vdi_ref, int(self._session.call_xenapi("VDI.get_virtual_size", vdi_ref))


def _uuid_stack() -> list[str]:
    return [str(uuidlib.uuid4()) for _ in range(LONGEST_CHAIN)]


def _identity(context: Any) -> dict[str, str]:
    """Return the headers that tell the image service who asks; they hold a token."""
    roles = instances.read(context, "roles") or []
    headers = {"X-Auth-Token": instances.read(context, "auth_token"), "X-User-Id": instances.read(context, "user_id"),
               "X-Tenant-Id": instances.read(context, "project_id"), "X-Roles": ",".join(roles)}
    return {name: value for name, value in headers.items() if value}
