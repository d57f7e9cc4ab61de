"""Images in a directory: a JSON file of metadata and a file of content for each."""

import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import re
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from oslo_config import cfg

from nova_lite import concurrency, exception
from nova_lite.context import RequestContext
from nova_lite.image import content
from nova_lite.image.port import ImageAPI, ImageData, chunks, may_see

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_CONTENT = "content"  # the file name of the content; kept out of what callers see
_FIXED = frozenset({"id", "owner", "created_at", "updated_at", "size", "status", "os_hash_algo", "os_hash_value",
                    "properties", _CONTENT})


class LocalImageAPI(ImageAPI):
    """The image store of `[image] store_path`, which every service that needs images sees as the same directory.

    `<id>.json` is the truth; it names the file of the content. Both are written aside and renamed into place, so a
    reader finds the old image or the new one, never half of one, and a content already open stays readable. A content
    is hashed as it comes in; as long as its file is not touched, who reads it is told that it need not be hashed again.
    """

    def __init__(self, conf: cfg.ConfigOpts, clock: concurrency.Clock | None = None) -> None:
        self._conf = conf
        self._clock = clock or concurrency.Clock()

    @property
    def _path(self) -> pathlib.Path:
        return pathlib.Path(self._conf.image.store_path)

    def show(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        return _public(self._visible(context, image_id))

    def detail(self, context: RequestContext, filters: dict[str, Any] | None = None, sort_key: str = "created_at",
               sort_dir: str = "desc") -> list[dict[str, Any]]:
        images = [image for image in self._all() if may_see(context, image) and _matches(image, filters or {})]
        images.sort(key=lambda image: (image.get(sort_key) is not None, image.get(sort_key), image["id"]),
                    reverse=sort_dir == "desc")
        return [_public(image) for image in images]

    def open(self, context: RequestContext, image_id: str) -> BinaryIO:
        image = self._visible(context, image_id)
        if image["status"] != "active":
            raise exception.ImageNotActive(image_id=image_id)
        checksum = image["os_hash_algo"], image["os_hash_value"]
        try:
            return content.StoredContent(self._path / image[_CONTENT], checksum, self._clock)
        except FileNotFoundError as error:  # deleted or replaced since the metadata was read
            raise exception.ImageNotFound(image_id=image_id) from error
        except content.NoRegularFile as error:
            raise exception.ImageUnacceptable(image_id=image_id, reason="its content is no regular file") from error

    def create(self, context: RequestContext, meta: dict[str, Any], data: ImageData | None = None) -> dict[str, Any]:
        image_id = str(meta.get("id") or uuid.uuid4())
        file = self._file(image_id)
        if file.exists():
            raise exception.Duplicate(f"Image {image_id} already exists.")
        now = _now()
        image = {"id": image_id, "name": None, "status": "queued", "size": None, "disk_format": None,
                 "container_format": None, "min_ram": 0, "min_disk": 0, "is_public": False,
                 "owner": meta.get("owner", context.project_id), "properties": {}, "os_hash_algo": None,
                 "os_hash_value": None, "created_at": now, "updated_at": now, _CONTENT: None}
        self._path.mkdir(parents=True, exist_ok=True)
        return self._save(_changed(image, meta), data)

    def update(self, context: RequestContext, image_id: str, meta: dict[str, Any],
               data: ImageData | None = None) -> dict[str, Any]:
        image = self._owned(context, image_id)
        image["updated_at"] = _now()
        return self._save(_changed(image, meta), data)

    def delete(self, context: RequestContext, image_id: str) -> None:
        image = self._owned(context, image_id)
        self._file(image_id).unlink(missing_ok=True)
        if image[_CONTENT]:
            content.remove(self._path / image[_CONTENT])

    def _file(self, image_id: Any) -> pathlib.Path:
        if not _ID.match(str(image_id)):
            raise exception.ImageNotFound(image_id=image_id)
        return self._path / f"{image_id}.json"

    def _load(self, image_id: str) -> dict[str, Any]:
        try:
            return json.loads(self._file(image_id).read_text())
        except FileNotFoundError as error:
            raise exception.ImageNotFound(image_id=image_id) from error

    def _all(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self._path.glob("*.json")):
            with contextlib.suppress(exception.ImageNotFound):  # deleted while we list
                yield self._load(file.stem)

    def _visible(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        image = self._load(image_id)
        if not may_see(context, image):
            raise exception.ImageNotFound(image_id=image_id)
        return image

    def _owned(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        image = self._visible(context, image_id)
        if not (context.is_admin or image["owner"] == context.project_id):
            raise exception.ImageNotAuthorized(image_id=image_id)
        return image

    def _save(self, image: dict[str, Any], data: ImageData | None) -> dict[str, Any]:
        replaced = None
        if data is not None:
            replaced = image[_CONTENT]
            image.update(self._store_content(image["id"], data), status="active")
        self._write_aside(self._file(image["id"]), [json.dumps(image, indent=1, sort_keys=True).encode()])
        if replaced:
            content.remove(self._path / replaced)
        return _public(image)

    def _store_content(self, image_id: str, data: ImageData) -> dict[str, Any]:
        digest = hashlib.sha256()
        size_b = 0

        def counted() -> Iterator[bytes]:
            nonlocal size_b
            for piece in chunks(data):
                digest.update(piece)
                size_b += len(piece)
                yield piece

        name = f"{image_id}.{uuid.uuid4().hex}.data"
        self._write_aside(self._path / name, counted())
        with content.StoredContent(self._path / name, ("sha256", digest.hexdigest()), self._clock) as stored:
            if stored.size_b == size_b:
                stored.note_verified()
        return {_CONTENT: name, "size": size_b, "os_hash_algo": "sha256", "os_hash_value": digest.hexdigest()}

    def _write_aside(self, target: pathlib.Path, pieces: Any) -> None:
        descriptor, aside = tempfile.mkstemp(prefix=".new-", dir=self._path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o640)
            os.replace(aside, target)
        except BaseException:
            pathlib.Path(aside).unlink(missing_ok=True)
            raise


def _changed(image: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    image.update({key: value for key, value in meta.items() if key not in _FIXED})
    image["properties"] = {**image["properties"], **(meta.get("properties") or {})}
    return image


def _public(image: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in image.items() if key != _CONTENT}


def _matches(image: dict[str, Any], filters: dict[str, Any]) -> bool:
    for key, wanted in filters.items():
        found = (image["properties"].get(key.removeprefix("property-")) if key.startswith("property-")
                 else image.get(key))
        if str(found) != str(wanted):
            return False
    return True


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
