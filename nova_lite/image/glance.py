"""Images of OpenStack's image service (Glance, API 2)."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from oslo_config import cfg

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.image.port import ImageAPI, ImageData, chunks, may_see
from nova_lite.openstack import Meanings, Service

# What the service keeps of an image beside its properties and what it says of itself.
_OWN = ("id", "name", "status", "size", "disk_format", "container_format", "min_ram", "min_disk", "owner",
        "os_hash_algo", "os_hash_value", "created_at", "updated_at")
_SET = ("name", "disk_format", "container_format", "min_ram", "min_disk", "owner")
_ITS = frozenset({*_OWN, "visibility", "protected", "tags", "checksum", "virtual_size", "os_hidden", "file", "schema",
                  "self", "locations", "direct_url", "stores"})
_PATCH = "application/openstack-images-v2.1-json-patch"


class GlanceImageAPI(ImageAPI):
    """The image service, asked by this deployment's account; what a user may see and change is decided here."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._service = Service(conf, "image")

    def show(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        image = _known(self._service.ask("GET", f"/images/{_id(image_id)}", meanings=_meanings(image_id)).json())
        if not may_see(context, image):
            raise exception.ImageNotFound(image_id=image_id)
        return image

    def detail(self, context: RequestContext, filters: dict[str, Any] | None = None, sort_key: str = "created_at",
               sort_dir: str = "desc") -> list[dict[str, Any]]:
        wanted = {key.removeprefix("property-"): value for key, value in (filters or {}).items()}
        if "is_public" in wanted:
            wanted["visibility"] = "public" if wanted.pop("is_public") in (True, "True", "true") else "private"
        found = self._service.pages("/images", "images", sort=f"{sort_key}:{sort_dir}", **wanted)
        return [image for image in map(_known, found) if may_see(context, image)]

    def open(self, context: RequestContext, image_id: str) -> BinaryIO:
        if self.show(context, image_id)["status"] != "active":
            raise exception.ImageNotActive(image_id=image_id)
        answer = self._service.ask("GET", f"/images/{_id(image_id)}/file", stream=True, meanings=_meanings(image_id),
                                   headers={"Accept": "application/octet-stream", "Accept-Encoding": "identity"})
        if answer.status_code == 204:
            answer.close()
            raise exception.ImageNotActive(image_id=image_id)
        return answer.raw

    def create(self, context: RequestContext, meta: dict[str, Any], data: ImageData | None = None) -> dict[str, Any]:
        values = {"disk_format": "raw", "container_format": "bare", "owner": context.project_id,
                  **_settable(meta), **_texts(meta.get("properties"))}
        if meta.get("id"):
            values["id"] = str(meta["id"])
        values["visibility"] = "public" if meta.get("is_public") else "private"
        made = self._service.ask("POST", "/images", json={key: value for key, value in values.items()
                                                          if value is not None}, meanings={
            409: lambda: exception.Duplicate(f"Image {meta.get('id')} already exists.")}).json()
        if data is None:
            return _known(made)
        try:
            self._upload(made["id"], data)
        except BaseException:
            with contextlib.suppress(exception.NovaException):  # the reason of the failure is the first one
                self._service.ask("DELETE", f"/images/{made['id']}")
            raise
        return self._again(made["id"])

    def update(self, context: RequestContext, image_id: str, meta: dict[str, Any],
               data: ImageData | None = None) -> dict[str, Any]:
        self._owned(context, image_id)
        values = {**_settable(meta), **_texts(meta.get("properties"))}
        if "is_public" in meta:
            values["visibility"] = "public" if meta["is_public"] else "private"
        changes = [{"op": "add", "path": "/" + key.replace("~", "~0").replace("/", "~1"), "value": value}
                   for key, value in values.items()]
        if changes:
            self._service.ask("PATCH", f"/images/{_id(image_id)}", json=changes, headers={"Content-Type": _PATCH},
                              meanings=_meanings(image_id))
        if data is not None:
            self._upload(image_id, data)
        return self._again(image_id)

    def delete(self, context: RequestContext, image_id: str) -> None:
        self._owned(context, image_id)
        self._service.ask("DELETE", f"/images/{_id(image_id)}", meanings=_meanings(image_id))

    def _owned(self, context: RequestContext, image_id: str) -> None:
        if not (context.is_admin or self.show(context, image_id)["owner"] == context.project_id):
            raise exception.ImageNotAuthorized(image_id=image_id)

    def _again(self, image_id: str) -> dict[str, Any]:
        return _known(self._service.ask("GET", f"/images/{_id(image_id)}", meanings=_meanings(image_id)).json())

    def _upload(self, image_id: str, data: ImageData) -> None:
        def refused(reason: str) -> Callable[[], Exception]:
            return lambda: exception.ImageUnacceptable(image_id=image_id, reason=reason)

        self._service.ask("PUT", f"/images/{_id(image_id)}/file", data=_pieces(data), meanings={
            **_meanings(image_id), 409: refused("its content is there already and cannot be changed"),
            415: refused("its content is not of its disk_format")},
            headers={"Content-Type": "application/octet-stream"})


def _pieces(data: ImageData) -> Iterator[bytes]:
    # A generator, so that the content is sent in chunks whatever its kind is.
    yield from chunks(data)


def _id(image_id: Any) -> str:
    """Return the id as it may stand in a path. Raises ImageNotFound for what cannot be one."""
    text = str(image_id)
    if not text or not text.replace("-", "").replace("_", "").replace(".", "").isalnum() or text.startswith("."):
        raise exception.ImageNotFound(image_id=image_id)
    return text


def _meanings(image_id: Any) -> Meanings:
    return {404: lambda: exception.ImageNotFound(image_id=image_id),
            403: lambda: exception.ImageNotAuthorized(image_id=image_id),
            400: lambda: exception.ImageUnacceptable(image_id=image_id, reason="the image service refuses it")}


def _settable(meta: dict[str, Any]) -> dict[str, Any]:
    return {key: meta[key] for key in _SET if key in meta}


def _texts(properties: dict[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (properties or {}).items()}


def _known(image: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of the port's form."""
    return {**{key: image.get(key) for key in _OWN}, "is_public": image.get("visibility") == "public",
            "properties": {key: value for key, value in image.items() if key not in _ITS}}
