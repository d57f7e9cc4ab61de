"""PUT /import and /import_metadata, GET /export and /export_metadata."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.handlers import Door, Router
from nova_lite.xensim.http import HttpError, Request
from nova_lite.xensim.model import STRING, Type
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.packages import (
    END,
    INVENTORY,
    PackageReader,
    PackageWriter,
    disk_entries,
    read_inventory,
    tar_entry,
)
from nova_lite.xensim.vhd import VhdError
from nova_lite.xensim.xmlrpc import encode

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

REFERENCES = Type("set", inner=(STRING,))
METADATA_LIMIT = 64 * 1024 * 1024


class Body(io.RawIOBase):
    """The body of a request as a file; without a Content-Length it ends with the connection."""

    def __init__(self, request: Request):
        self._stream = request.stream
        self._left = request.content_length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        content = self._stream.read1(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(content)
        buffer[: len(content)] = content
        return len(content)


class Packages:
    def __init__(self, toolstack: "Toolstack", door: Door):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._door = door

    def register(self, router: Router) -> None:
        router.add("PUT", "/import", self.put)
        router.add("PUT", "/import_metadata", self.put_metadata)
        router.add("GET", "/export", self.get)
        router.add("GET", "/export_metadata", self.get_metadata)

    # import

    def put(self, request: Request, caller: Caller) -> None:
        query = request.query
        with self._door.logged("PUT /import", request), self._db.lock:
            self._begin(request, caller, "VM import")
            name = query.get("sr_id") or query.get("sr_uuid") or self._default_sr()
            try:
                reader = PackageReader(
                    self._toolstack, sr_ref=self._door.find("SR", name), keeps_identity=query.get("restore") == "true"
                )
                request.send_head(200, {"task-id": caller.task_ref, "Content-Type": "text/html"})
                self._finish(caller, reader.read_tar(io.BufferedReader(Body(request), 1 << 20)))
            except (ApiError, HttpError, VhdError, OSError) as error:
                self._fail(caller, error)

    def put_metadata(self, request: Request, caller: Caller) -> None:
        with self._door.logged("PUT /import_metadata", request), self._db.lock:
            self._begin(request, caller, "VM metadata import")
            try:
                faults = {fault.kind for fault in self._door.meet("PUT /import_metadata", "", caller)}
                with self._toolstack.unlocked():
                    content = Body(request).read() if request.content_length is None else request.body(METADATA_LIMIT)
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    file = archive.extractfile(INVENTORY)
                    inventory = read_inventory(file.read() if file else b"")
                keeps_identity = request.query.get("restore") == "true"
                refs = PackageReader(self._toolstack, keeps_identity=keeps_identity).make_vms(inventory)
                if "lose_reply" not in faults:
                    request.send_head(200, {"task-id": caller.task_ref, "Content-Type": "text/html"})
                self._finish(caller, refs)
            except (ApiError, HttpError, VhdError, OSError, KeyError, tarfile.TarError) as error:
                self._fail(caller, error)
                raise HttpError(500, str(error)) from None

    def _begin(self, request: Request, caller: Caller, label: str) -> None:
        request.keeps_alive = False
        self._door.authenticate(request, caller, label)
        caller.task_ref = self._door.task(request, caller, label)

    def _default_sr(self) -> str:
        sr_ref = self._db.get("pool", self._toolstack.pool_ref, "default_SR")
        if is_null(sr_ref):
            raise HttpError(404, "the pool has no default repository")
        return sr_ref

    def _finish(self, caller: Caller, refs: list[str]) -> None:
        self._toolstack.tasks.succeed(caller.task_ref, encode(REFERENCES, refs))
        self._toolstack.operations.refresh()

    def _fail(self, caller: Caller, error: Exception) -> None:
        description = error.description if isinstance(error, ApiError) else ["IMPORT_ERROR", str(error)]
        self._toolstack.tasks.fail(caller.task_ref, description)
        self._toolstack.operations.refresh()

    # export

    def get(self, request: Request, caller: Caller) -> None:
        self._export(request, caller, has_disks=True)

    def get_metadata(self, request: Request, caller: Caller) -> None:
        self._export(request, caller, has_disks=False)

    def _export(self, request: Request, caller: Caller, *, has_disks: bool) -> None:
        operation = "export" if has_disks else "metadata_export"
        with self._door.logged(f"GET {request.path}", request), self._db.lock:
            self._begin(request, caller, "Export of VM")
            compression = request.query.get("use_compression", "false")
            if compression not in ("false", "true", "gzip"):
                raise HttpError(404, f"compression {compression[:20]} is not available")
            try:
                vm_ref = self._door.find("VM", request.query.get("ref") or request.query.get("uuid", ""))
                with self._toolstack.operations.recorded("VM", vm_ref, operation, caller):
                    writer = PackageWriter(self._toolstack, vm_ref)
                    request.send_head(200, {"Content-Type": "application/octet-stream", "task-id": caller.task_ref})
                    self._send(request, writer, has_disks, compression != "false")
                self._toolstack.tasks.succeed(caller.task_ref, "")
            except ApiError as error:
                self._toolstack.tasks.fail(caller.task_ref, error.description)
                raise HttpError(404, " ".join(error.description)) from None
            except (HttpError, OSError) as error:
                self._toolstack.tasks.fail(caller.task_ref, ["INTERNAL_ERROR", f"export failed: {error}"])
                raise

    def _send(self, request: Request, writer: PackageWriter, has_disks: bool, is_compressed: bool) -> None:
        packer = zlib.compressobj(wbits=31) if is_compressed else None
        for entry in self._entries(writer, has_disks):
            content = packer.compress(entry) if packer else entry
            with self._toolstack.unlocked():
                self._toolstack.slow_down(len(entry))
                request.send(content)
        if packer:
            request.send(packer.flush())

    def _entries(self, writer: PackageWriter, has_disks: bool) -> Iterator[bytes]:
        yield tar_entry(INVENTORY, writer.inventory())
        for package_id, vdi in writer.disks() if has_disks else []:
            with self._toolstack.vdis.image(vdi) as image:
                yield from disk_entries(package_id, image.pieces())
        yield END
