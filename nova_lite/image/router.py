"""One image port over the image service and the images that are named by an address."""

from typing import Any, BinaryIO

from nova_lite.context import RequestContext
from nova_lite.image.port import ImageAPI, ImageData, is_address


class ImageRouter(ImageAPI):
    """Hands images named by an http(s) address to `addresses`, all others to `store`."""

    def __init__(self, store: ImageAPI, addresses: ImageAPI) -> None:
        self._store = store
        self._addresses = addresses

    def _holder(self, image_id: str) -> ImageAPI:
        return self._addresses if is_address(image_id) else self._store

    def show(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        return self._holder(image_id).show(context, image_id)

    def detail(self, context: RequestContext, filters: dict[str, Any] | None = None, sort_key: str = "created_at",
               sort_dir: str = "desc") -> list[dict[str, Any]]:
        return self._store.detail(context, filters, sort_key, sort_dir)

    def open(self, context: RequestContext, image_id: str) -> BinaryIO:
        return self._holder(image_id).open(context, image_id)

    def create(self, context: RequestContext, meta: dict[str, Any], data: ImageData | None = None) -> dict[str, Any]:
        return self._store.create(context, meta, data)

    def update(self, context: RequestContext, image_id: str, meta: dict[str, Any],
               data: ImageData | None = None) -> dict[str, Any]:
        return self._holder(image_id).update(context, image_id, meta, data)

    def delete(self, context: RequestContext, image_id: str) -> None:
        self._holder(image_id).delete(context, image_id)
