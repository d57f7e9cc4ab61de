"""Blobs: named pieces of data that hang on objects, read and written over HTTP."""

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.handlers import Door, Router
from nova_lite.xensim.http import HttpError, Request
from nova_lite.xensim.model import NULL
from nova_lite.xensim.noun import Caller, Noun, call
from nova_lite.xensim.values import timestamp_text

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

PIECE_SIZE = 1024 * 1024


class Blobs(Noun):
    """Records of blobs; their content is one file each."""

    def path(self, uuid: str) -> str:
        return os.path.join(self.toolstack.directory, "blobs", uuid)

    @call("blob.create")
    def create(self, _caller, mime_type, public):
        return self._new("", mime_type, public)

    def _new(self, name: str, mime_type: str, public: bool) -> str:
        return self.db.create(
            "blob",
            name_label=name,
            mime_type=mime_type or "application/octet-stream",
            public=public,
            last_updated=timestamp_text(time.time()),
        )

    @call("blob.destroy")
    def destroy(self, _caller, ref):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(self.db.get("blob", ref, "uuid")))
        self.db.destroy("blob", ref)

    def _creator(class_name):
        @call(f"{class_name}.create_new_blob")
        def create_new_blob(self, _caller, ref, name, mime_type, public):
            blobs = self.db.get(class_name, ref, "blobs")
            if name in blobs:
                raise ApiError("MAP_DUPLICATE_KEY", class_name, "blobs", ref, name)
            blob_ref = self._new(name, mime_type, public)
            self.db.set(class_name, ref, blobs={**blobs, name: blob_ref})
            return blob_ref

        return create_new_blob

    create_on_vm = _creator("VM")
    create_on_host = _creator("host")
    create_on_pool = _creator("pool")
    create_on_sr = _creator("SR")
    create_on_network = _creator("network")

    def drop_all(self, refs: list[str]) -> None:
        """Remove the blobs of an object that goes away."""
        for ref in refs:
            if self.db.find("blob", ref):
                self.destroy(None, ref)


class BlobHandler:
    """GET and PUT /blob."""

    def __init__(self, toolstack: "Toolstack", door: Door):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._door = door

    def register(self, router: Router) -> None:
        router.add("GET", "/blob", self.get)
        router.add("PUT", "/blob", self.put)

    def _find(self, request: Request) -> str:
        """Return the reference of the blob, NULL when it is not there."""
        name = request.query.get("ref") or request.query.get("uuid", "")
        return name if self._db.find("blob", name) else self._db.uuids["blob"].get(name, NULL)

    def get(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        with self._db.lock:
            ref = self._find(request)
            if ref == NULL or not self._db.get("blob", ref, "public"):
                self._door.authenticate(request, caller, "blob")
            if ref == NULL:
                raise HttpError(404, "no such blob")
            row = self._db.row("blob", ref)
            size, mime_type, path = row["size"], row["mime_type"], self._toolstack.blobs.path(row["uuid"])
        request.send_head(200, {"Content-Type": mime_type, "Content-Length": str(size)})
        if not size:
            return
        with open(path, "rb") as file:
            while piece := file.read(PIECE_SIZE):
                request.send(piece)

    def put(self, request: Request, caller: Caller) -> None:
        request.keeps_alive = False
        with self._db.lock:
            self._door.authenticate(request, caller, "put_blob")
            ref = self._find(request)
            if ref == NULL or request.content_length is None:
                raise HttpError(404, "a blob and a Content-Length are required")
            path = self._toolstack.blobs.path(self._db.get("blob", ref, "uuid"))
        request.send_head(200, {"Content-Type": "text/plain"})
        size = self._receive(request, path)
        with self._db.lock:
            if self._db.find("blob", ref):
                self._db.set("blob", ref, size=size, last_updated=timestamp_text(time.time()))

    @staticmethod
    def _receive(request: Request, path: str) -> int:
        """Write the body to the file, which changes only when all of it came. Return the size."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        left = request.content_length or 0
        with open(f"{path}.part", "wb") as file:
            while left and (piece := request.stream.read(min(PIECE_SIZE, left))):
                file.write(piece)
                left -= len(piece)
        if left:
            os.unlink(f"{path}.part")
            raise HttpError(400, "the body ended early")
        shutil.move(f"{path}.part", path)
        return os.path.getsize(path)
