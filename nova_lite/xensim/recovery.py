"""Brings records and disk files back in line after the simulator ended in the middle of something.

Files are changed in an order in which each step can be told from the next by looking at them: an unfinished disk is a
file that never had a record, a finished removal a record without a file, and where a record and a file disagree on the
parent the file is right.
"""

from typing import TYPE_CHECKING

from nova_lite.xensim.db import Row
from nova_lite.xensim.images import ImageFile
from nova_lite.xensim.storage_rules import VHD_DRIVERS

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack


class Recovery:
    """Expects the tables' lock."""

    def __init__(self, toolstack: "Toolstack"):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._images = toolstack.images

    def run(self, known: set[str]) -> None:
        """Look at every repository with files; `known` are the uuids of all disks that ever had a record."""
        for sr in self._db.rows("SR"):
            if sr["type"] in VHD_DRIVERS:
                self._recover(sr, known)
                self._toolstack.collector.wake(sr.ref)

    def _recover(self, sr: Row, known: set[str]) -> None:
        recorded = {vdi["uuid"]: vdi for vdi in (self._db.row("VDI", ref) for ref in sr["VDIs"])}
        self._images.finish_renames(sr["uuid"], set(recorded))
        files = self._images.inventory(sr["uuid"])
        needed = self._with_parents(set(recorded) & set(files), files)
        for uuid in set(files) - needed - known:
            self._images.delete(sr["uuid"], uuid)
        for uuid in needed - set(recorded):
            self._adopt(sr, uuid, files[uuid])
        for uuid, vdi in recorded.items():
            if uuid in files:
                self._align(sr, vdi, files[uuid])
            elif vdi["type"] != "cbt_metadata":
                self._toolstack.vdis.drop_record(vdi.ref)
        self._toolstack.repositories.measure(sr.ref)

    @staticmethod
    def _with_parents(uuids: set[str], files: dict[str, ImageFile]) -> set[str]:
        needed: set[str] = set()
        for uuid in uuids:
            while uuid in files and uuid not in needed:
                needed.add(uuid)
                uuid = files[uuid].parent_uuid
        return needed

    def _adopt(self, sr: Row, uuid: str, file: ImageFile) -> None:
        """Make the record of a hidden parent that was put under a disk just before the end."""
        self._db.create(
            "VDI",
            uuid=uuid,
            name_label="base copy",
            location=uuid,
            SR=sr.ref,
            virtual_size=file.virtual_size,
            type="user",
            read_only=True,
            managed=False,
            sm_config={"vhd-parent": file.parent_uuid} if file.parent_uuid else {},
        )
        self._toolstack.vdis.measure(self._db.uuids["VDI"][uuid])

    def _align(self, sr: Row, vdi: Row, file: ImageFile) -> None:
        if file.is_damaged:
            return  # whoever damaged it wants to see what comes of it
        self._images.repair(sr["uuid"], vdi["uuid"])
        sm_config = {key: value for key, value in vdi["sm_config"].items() if key != "vhd-parent"}
        if file.parent_uuid:
            sm_config["vhd-parent"] = file.parent_uuid
        self._db.set("VDI", vdi.ref, sm_config=sm_config, virtual_size=file.virtual_size)
        self._toolstack.vdis.measure(vdi.ref)
