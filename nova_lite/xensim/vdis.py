"""Disks: records and the images behind them."""

import contextlib
import hashlib
import time
import uuid as uuid_module
import xmlrpc.client
from collections.abc import Iterator

from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.images import CHAIN_LIMIT
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.storage_rules import METADATA_TYPE, THICK_DRIVERS, VHD_DRIVERS, active_vbds, features, is_plugged
from nova_lite.xensim.values import timestamp_text
from nova_lite.xensim.vhd import BLOCK_SIZE, MAX_VIRTUAL_SIZE, DamagedImage

COPIED_FIELDS = (
    "name_label",
    "name_description",
    "type",
    "other_config",
    "xenstore_data",
    "on_boot",
    "tags",
    "sharable",
)


def backend_failure(number: int, message: str) -> ApiError:
    return ApiError(f"SR_BACKEND_FAILURE_{number}", "", message, "")


class Vdis(Noun):
    """VDI calls. Files are worked on with the lock given up where that takes long."""

    # helpers

    def repository(self, vdi: Row) -> Row:
        return self.db.row("SR", vdi["SR"])

    def is_raw(self, vdi: Row) -> bool:
        return self.repository(vdi)["type"] not in VHD_DRIVERS or vdi["sm_config"].get("type") == "raw"

    @contextlib.contextmanager
    def image(self, vdi: Row) -> Iterator:
        """Open the disk's image; the collector leaves the repository alone meanwhile."""
        sr = self.repository(vdi)
        self.toolstack.collector.hold(sr.ref)
        try:
            with (
                self.toolstack.images.open(sr["uuid"], vdi["uuid"]) as image,
                self.toolstack.change_tracking.tracked(vdi, image) as tracked,
            ):
                yield tracked
        except (FileNotFoundError, DamagedImage):
            raise backend_failure(46, f"The VDI is not available [opterr={vdi['uuid']}]") from None
        finally:
            self.toolstack.collector.release(sr.ref)

    def check_image(self, vdi: Row) -> None:
        """Raise SR_BACKEND_FAILURE_46 when the disk's image, or one it rests on, is damaged or gone."""
        if not is_null(vdi["SR"]) and self.repository(vdi)["type"] in VHD_DRIVERS:
            with self.image(vdi):
                pass

    def measure(self, ref: str) -> None:
        """Bring the disk's and its repository's figures up to date."""
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        if not self.toolstack.images.exists(sr["uuid"], vdi["uuid"]):
            return
        used = self.toolstack.images.measure(sr["uuid"], vdi["uuid"])
        if sr["type"] in THICK_DRIVERS and vdi["managed"]:
            used = self.toolstack.repositories.full_size(sr, vdi["virtual_size"])
        self.db.set("VDI", ref, physical_utilisation=used)
        self.toolstack.repositories.measure(sr.ref)

    def new(self, sr: Row, virtual_size: int, *, sm_config: dict[str, str] | None = None, **fields) -> str:
        """Make an empty disk and return its reference. Raises SR errors."""
        sm_config = dict(sm_config or {})
        is_raw = sr["type"] not in VHD_DRIVERS or sm_config.get("type") == "raw"
        size = self._rounded(sr, virtual_size)
        self.toolstack.repositories.check_space(sr, self.toolstack.repositories.full_size(sr, size))
        vdi_uuid = fields.pop("uuid", "") or str(uuid_module.uuid4())
        self.toolstack.images.create(sr["uuid"], vdi_uuid, size, is_raw=is_raw)
        ref = self.db.create(
            "VDI",
            **{"type": "user", "other_config": {}, "location": vdi_uuid, "managed": True, **fields},
            uuid=vdi_uuid,
            SR=sr.ref,
            virtual_size=size,
            sm_config=sm_config,
        )
        self.measure(ref)
        return ref

    @staticmethod
    def _rounded(sr: Row, size: int) -> int:
        if sr["type"] not in VHD_DRIVERS:
            return max(size, 0)
        if size > MAX_VIRTUAL_SIZE or size < 0:
            raise backend_failure(
                79, f"VDI Invalid size [opterr=VDI size must be between 1 MB and {MAX_VIRTUAL_SIZE >> 20} MB]"
            )
        return max(-(-size // BLOCK_SIZE), 1) * BLOCK_SIZE

    # making and removing

    @call("VDI.create")
    def create(self, caller, args):
        sr = self.db.row("SR", args["SR"])
        fields = {name: value for name, value in args.items() if name not in ("SR", "virtual_size", "sm_config")}
        with self.toolstack.operations.recorded("SR", sr.ref, "vdi_create", caller):
            return self.new(sr, args["virtual_size"], sm_config=args.get("sm_config"), **fields)

    @call("VDI.destroy", operation="destroy")
    def destroy(self, _caller, ref):
        vdi = self.db.row("VDI", ref)
        if not vdi["managed"]:
            raise ApiError("VDI_NOT_MANAGED", ref)
        sr = self.repository(vdi)
        self.toolstack.images.delete(sr["uuid"], vdi["uuid"])
        self.drop_record(ref)
        self.toolstack.repositories.measure(sr.ref)
        self.toolstack.collector.wake(sr.ref)

    def drop_record(self, ref: str) -> None:
        """Remove the record, its VBDs' records, and what else names it."""
        self.toolstack.change_tracking.disk_removed(self.db.row("VDI", ref))
        for vbd_ref in self.db.get("VDI", ref, "VBDs"):
            self.db.destroy("VBD", vbd_ref)
        for snapshot_ref in self.db.get("VDI", ref, "snapshots"):
            self.db.set("VDI", snapshot_ref, snapshot_of=NULL)
        for vm in list(self.db.select("VM", suspend_VDI=ref)):
            self.db.set("VM", vm.ref, suspend_VDI=NULL)
        sr_ref = self.db.get("VDI", ref, "SR")
        self.db.destroy("VDI", ref)
        self.toolstack.repositories.measure(sr_ref)

    @call("VDI.forget", operation="forget")
    @call("VDI.db_forget")
    def forget(self, _caller, ref):
        self.drop_record(ref)

    @call("VDI.introduce")
    @call("VDI.pool_introduce")
    @call("VDI.db_introduce")
    def introduce(self, _caller, uuid, name_label, name_description, sr_ref, *rest):
        names = "type sharable read_only other_config location xenstore_data sm_config managed virtual_size"
        names += " physical_utilisation metadata_of_pool is_a_snapshot snapshot_time snapshot_of cbt_enabled"
        fields = dict(zip(names.split(), rest, strict=False))
        sr = self.db.row("SR", sr_ref)
        if not is_plugged(self.db, sr):
            raise ApiError("SR_HAS_NO_PBDS", sr_ref)
        for ref in sr["VDIs"]:
            vdi = self.db.row("VDI", ref)
            if vdi["location"] == fields["location"] or vdi["uuid"] == uuid:
                if vdi["managed"]:
                    raise ApiError("LOCATION_NOT_UNIQUE", sr_ref, fields["location"])
                self.db.set(
                    "VDI", ref, name_label=name_label, name_description=name_description, managed=True,
                    other_config=fields["other_config"], read_only=fields["read_only"], sharable=fields["sharable"],
                    sm_config={**vdi["sm_config"], **fields["sm_config"]}, xenstore_data=fields["xenstore_data"],
                )  # fmt: skip
                return ref
        if not self.toolstack.images.exists(sr["uuid"], uuid):
            raise ApiError("VDI_LOCATION_MISSING", sr_ref, fields["location"])
        with self.toolstack.images.open(sr["uuid"], uuid) as image:
            fields["virtual_size"] = image.virtual_size
        ref = self.db.create(
            "VDI", uuid=uuid, name_label=name_label, name_description=name_description, SR=sr_ref, **fields
        )
        self.measure(ref)
        return ref

    # snapshot, clone, copy

    @call("VDI.snapshot", operation="snapshot")
    def snapshot(self, _caller, ref, _driver_params):
        return self.branch(ref, is_snapshot=True)

    @call("VDI.clone", operation="clone")
    def clone(self, _caller, ref, _driver_params):
        return self.branch(ref, is_snapshot=False)

    def branch(self, ref: str, *, is_snapshot: bool) -> str:
        """Make a second disk that shows the first one's present content; both become children of a hidden parent."""
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        wanted = "VDI_SNAPSHOT" if is_snapshot else "VDI_CLONE"
        if wanted not in features(sr) or self.is_raw(vdi):
            raise ApiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
        images, parent_uuid = self.toolstack.images, vdi["sm_config"].get("vhd-parent", "")
        if images.has_own_blocks(sr["uuid"], vdi["uuid"]) or not parent_uuid:
            parent_uuid = self._put_under(sr, vdi)
        new_uuid = str(uuid_module.uuid4())
        images.create(sr["uuid"], new_uuid, vdi["virtual_size"], parent_uuid=parent_uuid)
        fields = {name: vdi[name] for name in COPIED_FIELDS}
        if is_snapshot:
            fields |= {"is_a_snapshot": True, "snapshot_of": ref, "snapshot_time": timestamp_text(time.time())}
        new_ref = self.db.create(
            "VDI",
            **fields,
            uuid=new_uuid,
            location=new_uuid,
            SR=sr.ref,
            virtual_size=vdi["virtual_size"],
            managed=True,
            sm_config={"vhd-parent": parent_uuid},
        )
        if is_snapshot:
            self.toolstack.change_tracking.snapshot_taken(vdi, self.db.row("VDI", new_ref))
        self.measure(ref)
        self.measure(new_ref)
        return new_ref

    def _put_under(self, sr: Row, vdi: Row) -> str:
        """Turn the disk's image into a hidden parent and give the disk an empty child. Return the parent's uuid."""
        images = self.toolstack.images
        if images.chain_length(sr["uuid"], vdi["uuid"]) >= CHAIN_LIMIT:
            raise backend_failure(109, "The snapshot chain is too long")
        base_uuid = str(uuid_module.uuid4())
        images.put_under(sr["uuid"], vdi["uuid"], base_uuid)
        kept = {key: value for key, value in vdi["sm_config"].items() if key == "vhd-parent"}
        base_ref = self.db.create(
            "VDI",
            uuid=base_uuid,
            name_label="base copy",
            location=base_uuid,
            SR=sr.ref,
            virtual_size=vdi["virtual_size"],
            type=vdi["type"],
            read_only=True,
            managed=False,
            sm_config=kept,
        )
        self.db.set("VDI", vdi.ref, sm_config={**vdi["sm_config"], "vhd-parent": base_uuid})
        self.measure(base_ref)
        return base_uuid

    @call("VDI.copy", operation="copy")
    def copy(self, caller, ref, sr_ref, _base_vdi, into_vdi):
        if is_null(sr_ref) and is_null(into_vdi):
            raise ApiError("INTERNAL_ERROR", "Failure: one of sr and into_vdi must be given")
        if not is_null(into_vdi):
            return self._copy_into(caller, ref, into_vdi)
        return self.copy_to(caller, ref, self.db.row("SR", sr_ref))

    def _copy_into(self, caller, ref: str, into_ref: str) -> str:
        source, target = self.db.row("VDI", ref), self.db.row("VDI", into_ref)
        if target["read_only"]:
            raise ApiError("VDI_READONLY", into_ref)
        if target["virtual_size"] < source["virtual_size"]:
            raise ApiError("VDI_TOO_SMALL", into_ref, str(source["virtual_size"]))
        if active_vbds(self.db, target):
            raise ApiError("VDI_IN_USE", into_ref, "copy")
        self._transfer(caller, source, target)
        return into_ref

    def copy_to(self, caller, ref: str, sr: Row) -> str:
        """Make an independent full copy in a repository and return its reference."""
        self.toolstack.operations.check("SR", sr.ref, "vdi_create")
        source = self.db.row("VDI", ref)
        fields = {
            name: source[name]
            for name in ("name_label", "name_description", "type", "other_config", "tags", "xenstore_data")
        }
        used = 0 if sr["type"] in THICK_DRIVERS else source["physical_utilisation"]
        self.toolstack.repositories.check_space(sr, used)
        new_ref = self.new(sr, source["virtual_size"], **fields)
        try:
            self._transfer(caller, source, self.db.row("VDI", new_ref))
        except ApiError:
            self.toolstack.images.delete(sr["uuid"], self.db.get("VDI", new_ref, "uuid"))
            self.drop_record(new_ref)
            raise
        return new_ref

    def _transfer(self, caller, source: Row, target: Row) -> None:
        sr = self.repository(target)
        total = max(source["virtual_size"], 1)
        self.toolstack.collector.hold(sr.ref)
        try:
            with self.image(source) as image:
                for done in self._unlocked_steps(self.toolstack.images.copy(image, sr["uuid"], target["uuid"])):
                    self.toolstack.tasks.report(caller.task_ref, done / total)
                    self.toolstack.check_cancelled(caller)
        finally:
            self.toolstack.collector.release(sr.ref)
        self.toolstack.change_tracking.overwritten(target, source["virtual_size"])
        self.measure(target.ref)

    def _unlocked_steps(self, steps: Iterator[int]) -> Iterator[int]:
        """Take each step with the lock given up."""
        before = 0
        while True:
            with self.toolstack.unlocked():
                done = next(steps, None)
                self.toolstack.slow_down((done or before) - before)
            if done is None:
                return
            before = done
            yield done

    # changing

    @call("VDI.resize", operation="resize")
    def resize(self, _caller, ref, size):
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        new_size = self._rounded(sr, size)
        if size < vdi["virtual_size"]:
            raise backend_failure(79, "VDI Invalid size [opterr=shrinking not allowed]")
        if new_size == vdi["virtual_size"]:
            return
        growth = self.toolstack.repositories.full_size(sr, new_size)
        if growth:
            self.toolstack.repositories.check_space(sr, growth - vdi["physical_utilisation"])
        self.toolstack.images.resize(sr["uuid"], vdi["uuid"], new_size)
        self.db.set("VDI", ref, virtual_size=new_size)
        self.toolstack.change_tracking.resized(vdi)
        self.measure(ref)

    @call("VDI.update", operation="update")
    def update(self, _caller, ref):
        self.measure(ref)

    @call("VDI.set_on_boot", operation="set_on_boot")
    def set_on_boot(self, _caller, ref, value):
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        if value == "reset" and self.toolstack.images.has_own_blocks(sr["uuid"], vdi["uuid"]):
            self._put_under(sr, vdi)  # what the disk goes back to
        self.db.set("VDI", ref, on_boot=value)

    def reset_on_boot(self, ref: str) -> None:
        """Throw away what was written since a disk was told to be reset whenever its VM boots."""
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        if vdi["on_boot"] == "reset" and self.toolstack.images.has_own_blocks(sr["uuid"], vdi["uuid"]):
            parent_uuid = vdi["sm_config"].get("vhd-parent", "")
            self.toolstack.images.delete(sr["uuid"], vdi["uuid"])
            self.toolstack.images.create(sr["uuid"], vdi["uuid"], vdi["virtual_size"], parent_uuid=parent_uuid)
            self.measure(ref)

    @call("VDI.force_unlock")
    def force_unlock(self, _caller, _ref):
        raise ApiError("MESSAGE_DEPRECATED")

    @call("VDI.generate_config")
    def generate_config(self, _caller, host_ref, ref):
        """Return the text with which the host attaches the disk before its toolstack runs."""
        self.db.row("host", host_ref)
        self.toolstack.operations.check("VDI", ref, "generate_config")
        vdi = self.db.row("VDI", ref)
        sr = self.repository(vdi)
        pbds = (self.db.row("PBD", pbd_ref) for pbd_ref in sr["PBDs"])
        config = next((pbd["device_config"] for pbd in pbds if pbd["host"] == host_ref), {})
        described = {"device_config": config, "sr_uuid": sr["uuid"], "vdi_uuid": vdi["uuid"]}
        return xmlrpc.client.dumps(({**described, "command": "vdi_attach_from_config"},), "vdi_attach_from_config")

    @call("VDI.revert")
    def revert(self, _caller, snapshot_ref):
        self.db.row("VDI", snapshot_ref)
        raise ApiError("UNIMPLEMENTED_IN_SM_BACKEND", "VDI.revert")

    @call("VDI.get_nbd_info")
    def get_nbd_info(self, _caller, ref):
        vdi = self.db.row("VDI", ref)
        if vdi["type"] == METADATA_TYPE:
            raise ApiError("VDI_INCOMPATIBLE_TYPE", ref, vdi["type"])
        return []  # no host serves NBD

    @call("VDI.checksum")
    def checksum(self, _caller, ref):
        with self.image(self.db.row("VDI", ref)) as image:
            digest = hashlib.md5(usedforsecurity=False)
            for piece in image.pieces():
                digest.update(piece)
            return digest.hexdigest()
