"""Changed block tracking: which 64 KiB blocks of a disk were written since its last snapshot.

Each tracked disk and each of its snapshots has a log, a bitmap with the uuid of the snapshot before. The blocks that
differ between two of them are those of all logs on the way from the later to the earlier.
"""

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.db import Row
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import METADATA_TYPE
from nova_lite.xensim.vhd import BLOCK_SIZE as IMAGE_BLOCK_SIZE

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

BLOCK_SIZE = 64 * 1024


@dataclass
class Log:
    """Bits of changed blocks, the first block in the highest bit of the first byte; and the disk before."""

    bitmap: bytearray
    parent_uuid: str = ""

    @staticmethod
    def length(virtual_size: int) -> int:
        blocks = -(-virtual_size // BLOCK_SIZE)
        return -(-blocks // 8)

    def mark(self, offset: int, size: int) -> None:
        """Count the blocks of this range as changed."""
        for block in range(offset // BLOCK_SIZE, -(-(offset + size) // BLOCK_SIZE)):
            if block // 8 < len(self.bitmap):
                self.bitmap[block // 8] |= 0x80 >> block % 8

    def absorb(self, other: "Log") -> None:
        """Add the changes of another log."""
        for index, byte in enumerate(other.bitmap[: len(self.bitmap)]):
            self.bitmap[index] |= byte


class TrackedImage:
    """An image whose writes are logged."""

    def __init__(self, image: Any, log: Log):
        self._image = image
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)

    def write(self, offset: int, content: bytes) -> None:
        self._image.write(offset, content)
        self._log.mark(offset, len(content))

    def fill_block(self, number: int, fill: Callable[[int, int, int], None]) -> None:
        self._image.fill_block(number, fill)
        self._log.mark(number * IMAGE_BLOCK_SIZE, IMAGE_BLOCK_SIZE)


class ChangeTracking(Noun):
    """The logs, one file each, and the calls about them."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self._directory = os.path.join(toolstack.directory, "cbt")

    # files

    def _path(self, vdi_uuid: str) -> str:
        return os.path.join(self._directory, vdi_uuid)

    def _load(self, vdi: Row) -> Log:
        """Return the log of a disk. Raises VDI_NO_CBT_METADATA."""
        try:
            with open(self._path(vdi["uuid"]), "rb") as file:
                head = json.loads(file.readline())
                return Log(bytearray(file.read()), head["parent"])
        except FileNotFoundError:
            raise ApiError("VDI_NO_CBT_METADATA", vdi.ref) from None

    def _save(self, vdi_uuid: str, log: Log) -> None:
        os.makedirs(self._directory, exist_ok=True)
        path = self._path(vdi_uuid)
        with open(f"{path}.new", "wb") as file:
            file.write(json.dumps({"parent": log.parent_uuid}).encode() + b"\n" + log.bitmap)
        os.replace(f"{path}.new", path)

    def _remove(self, vdi_uuid: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(vdi_uuid))

    # what happens to disks

    @contextlib.contextmanager
    def tracked(self, vdi: Row, image: Any) -> Iterator[Any]:
        """Yield the image, such that its writes are logged if the disk is tracked."""
        if not vdi["cbt_enabled"]:
            yield image
            return
        log = self._load(vdi)
        try:
            yield TrackedImage(image, log)
        finally:
            self._save(vdi["uuid"], log)

    def overwritten(self, vdi: Row, size: int) -> None:
        """Count the first bytes of a disk as changed."""
        if vdi["cbt_enabled"]:
            log = self._load(vdi)
            log.mark(0, size)
            self._save(vdi["uuid"], log)

    def snapshot_taken(self, vdi: Row, snapshot: Row) -> None:
        """Let the snapshot of a tracked disk have its log, and the disk begin a new one."""
        if vdi["cbt_enabled"]:
            self._save(snapshot["uuid"], self._load(vdi))
            self._save(vdi["uuid"], Log(bytearray(Log.length(vdi["virtual_size"])), snapshot["uuid"]))
            self.db.set("VDI", snapshot.ref, cbt_enabled=True)

    def resized(self, vdi: Row) -> None:
        """Lengthen the log of a disk that grew."""
        if vdi["cbt_enabled"]:
            log = self._load(vdi)
            log.bitmap.extend(bytes(Log.length(vdi["virtual_size"]) - len(log.bitmap)))
            self._save(vdi["uuid"], log)

    def disk_removed(self, vdi: Row) -> None:
        """Hand the log of a disk that goes to those that follow it."""
        if not vdi["cbt_enabled"]:
            return
        with contextlib.suppress(ApiError):
            log = self._load(vdi)
            for follower, its_log in self._followers(vdi["uuid"]):
                its_log.absorb(log)
                its_log.parent_uuid = log.parent_uuid
                self._save(follower["uuid"], its_log)
        self._remove(vdi["uuid"])

    def _followers(self, vdi_uuid: str) -> list[tuple[Row, Log]]:
        tracked = [(vdi, self._load(vdi)) for vdi in self.db.select("VDI", cbt_enabled=True) if self._has_log(vdi)]
        return [(vdi, log) for vdi, log in tracked if log.parent_uuid == vdi_uuid]

    def _has_log(self, vdi: Row) -> bool:
        return os.path.exists(self._path(vdi["uuid"]))

    # calls

    @call("VDI.enable_cbt", operation="enable_cbt")
    def enable(self, _caller, ref):
        vdi = self.db.row("VDI", ref)
        if not vdi["cbt_enabled"]:
            self._save(vdi["uuid"], Log(bytearray(Log.length(vdi["virtual_size"]))))
            self.db.set("VDI", ref, cbt_enabled=True)

    @call("VDI.disable_cbt", operation="disable_cbt")
    def disable(self, _caller, ref):
        vdi = self.db.row("VDI", ref)
        if vdi["cbt_enabled"]:
            for follower, log in self._followers(vdi["uuid"]):
                log.parent_uuid = ""
                self._save(follower["uuid"], log)
            self._remove(vdi["uuid"])
            self.db.set("VDI", ref, cbt_enabled=False)

    @call("VDI.data_destroy", operation="data_destroy")
    def data_destroy(self, _caller, ref):
        vdi = self.db.row("VDI", ref)
        if not vdi["cbt_enabled"]:
            raise ApiError("VDI_NO_CBT_METADATA", ref)
        if vdi["type"] == METADATA_TYPE:
            return
        for vbd_ref in vdi["VBDs"]:
            self.db.destroy("VBD", vbd_ref)
        sr = self.toolstack.vdis.repository(vdi)
        self.toolstack.images.delete(sr["uuid"], vdi["uuid"])
        self.db.set("VDI", ref, type=METADATA_TYPE, physical_utilisation=0, sm_config={})
        self.toolstack.repositories.measure(sr.ref)
        self.toolstack.collector.wake(sr.ref)

    @call("VDI.list_changed_blocks", operation="list_changed_blocks")
    def list_changed_blocks(self, _caller, from_ref, to_ref):
        start, end = self.db.row("VDI", from_ref), self.db.row("VDI", to_ref)
        if to_ref != from_ref:
            self.toolstack.operations.check("VDI", to_ref, "list_changed_blocks")
        self._load(start)
        log = self._load(end)
        changed = Log(bytearray(Log.length(end["virtual_size"])))
        while end["uuid"] != start["uuid"]:
            changed.absorb(log)
            parent_ref = self.db.uuids["VDI"].get(log.parent_uuid)
            if parent_ref is None:
                text = "Failed to calculate changed blocks for given VDIs. [opterr=Source and target VDI are unrelated]"
                raise ApiError("SR_BACKEND_FAILURE_460", "", text, "")
            end = self.db.row("VDI", parent_ref)
            log = self._load(end)
        return base64.b64encode(changed.bitmap).decode()
