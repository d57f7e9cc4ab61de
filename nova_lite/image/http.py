"""Images that are files on a web server, named by their address."""

import urllib.error
import urllib.parse
import urllib.request
from typing import Any, BinaryIO

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.image.port import ImageAPI, ImageData

TIMEOUT_S = 30

# Longest suffix first: a packed VHD is not a raw disk.
FORMATS = (
    (".vhd.tgz", "vhd", "ovf"), (".vhd.tar.gz", "vhd", "ovf"), (".tgz", "vhd", "ovf"), (".tar.gz", "vhd", "ovf"),
    (".vhd", "vhd", "bare"), (".qcow2", "qcow2", "bare"), (".qcow", "qcow2", "bare"), (".iso", "iso", "bare"),
)


class HttpImageAPI(ImageAPI):
    """Read-only view of images on web servers; the format is taken from the name of the file."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # No file:, ftp: or data: address, not even by redirection.
        self._opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
                        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPRedirectHandler(),
                        urllib.request.HTTPErrorProcessor(), urllib.request.UnknownHandler()):
            self._opener.add_handler(handler)

    def show(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        with self._request(image_id, "HEAD") as response:
            size = response.headers.get("Content-Length")
            modified = response.headers.get("Last-Modified")
        path = urllib.parse.urlsplit(image_id).path
        disk_format, container_format = _format(path)
        return {"id": image_id, "name": path.rpartition("/")[2] or image_id, "status": "active",
                "size": int(size) if size and size.isdigit() else None, "disk_format": disk_format,
                "container_format": container_format, "min_ram": 0, "min_disk": 0, "is_public": True, "owner": None,
                "properties": {}, "os_hash_algo": None, "os_hash_value": None, "created_at": modified,
                "updated_at": modified}

    def detail(self, context: RequestContext, filters: dict[str, Any] | None = None, sort_key: str = "created_at",
               sort_dir: str = "desc") -> list[dict[str, Any]]:
        return []

    def open(self, context: RequestContext, image_id: str) -> BinaryIO:
        return self._request(image_id, "GET")

    def create(self, context: RequestContext, meta: dict[str, Any], data: ImageData | None = None) -> dict[str, Any]:
        raise exception.ImageUnacceptable(image_id=meta.get("id"), reason="images on web servers are read-only")

    def update(self, context: RequestContext, image_id: str, meta: dict[str, Any],
               data: ImageData | None = None) -> dict[str, Any]:
        raise exception.ImageUnacceptable(image_id=image_id, reason="images on web servers are read-only")

    def delete(self, context: RequestContext, image_id: str) -> None:
        raise exception.ImageUnacceptable(image_id=image_id, reason="images on web servers are read-only")

    def _request(self, address: str, method: str) -> Any:
        parts = urllib.parse.urlsplit(address)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise exception.InvalidImageRef(image_href=address)
        try:
            return self._opener.open(urllib.request.Request(address, method=method), timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise exception.ImageNotFound(image_id=address) from error
            if error.code in (401, 403):
                raise exception.ImageNotAuthorized(image_id=address) from error
            raise exception.GlanceConnectionFailed(reason=f"{parts.hostname} answered {error.code}") from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise exception.GlanceConnectionFailed(reason=f"{parts.hostname}: {error}") from error


def _format(path: str) -> tuple[str, str]:
    for suffix, disk_format, container_format in FORMATS:
        if path.lower().endswith(suffix):
            return disk_format, container_format
    return "raw", "bare"
