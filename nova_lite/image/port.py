"""What the rest of the project asks of an image service."""

import abc
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from nova_lite.context import RequestContext

CHUNK_B = 1024 * 1024

ImageData = BinaryIO | Iterable[bytes]


class ImageFile(Protocol):
    """What the content of an image offers beside reading when it is a regular file of this machine.

    Its reader may take it from the descriptor, and need not hash what is verified. Whatever way it was read, it counts
    only if it is unchanged after the last byte.
    """

    checksum: tuple[str, str]
    """Algorithm and hexadecimal value that the service has for the content."""
    size_b: int
    is_settled: bool
    """Whether a change that comes now can be told from those before: only then two readings surely see the same."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def is_verified(self) -> bool:
        """Tell whether the content is known to have the checksum, as nobody touched it since it was hashed."""

    def is_unchanged(self) -> bool:
        """Tell whether nobody touched the file since it was opened."""

    def note_verified(self) -> None:
        """Take notice that the content, read from start to end since it was opened, has the checksum."""


class ImageAPI(abc.ABC):
    """An image service.

    Image metadata is a dict: `id, name, status, size (bytes), disk_format, container_format, min_ram (MB), min_disk
    (GB), is_public, owner, properties {str: value}, os_hash_algo, os_hash_value, created_at, updated_at (ISO text)`.
    `image_id` may be an id, or an address of a kind the service understands.
    """

    @abc.abstractmethod
    def show(self, context: RequestContext, image_id: str) -> dict[str, Any]:
        """Return the metadata of the image. Raises ImageNotFound."""

    @abc.abstractmethod
    def detail(self, context: RequestContext, filters: dict[str, Any] | None = None, sort_key: str = "created_at",
               sort_dir: str = "desc") -> list[dict[str, Any]]:
        """Return the metadata of the images that the context may see.

        `filters`: exact values by key; `property-<name>` looks at a property.
        """

    @abc.abstractmethod
    def open(self, context: RequestContext, image_id: str) -> BinaryIO:
        """Return the content as a binary file object (`read(n)`, `close()`, context manager).

        One that is a file of this machine may offer what ImageFile says as well. Raises ImageNotFound, ImageNotActive
        when nothing has been uploaded yet, ImageUnacceptable for a file that is none.
        """

    @abc.abstractmethod
    def create(self, context: RequestContext, meta: dict[str, Any], data: ImageData | None = None) -> dict[str, Any]:
        """Register an image, with its content if given, and return its metadata.

        Without content the image is `queued` until an update brings it. `meta['id']` chooses the id.
        """

    @abc.abstractmethod
    def update(self, context: RequestContext, image_id: str, meta: dict[str, Any],
               data: ImageData | None = None) -> dict[str, Any]:
        """Change the keys given, the properties given, and the content if given; return the new metadata.

        Raises ImageNotFound, ImageNotAuthorized.
        """

    @abc.abstractmethod
    def delete(self, context: RequestContext, image_id: str) -> None:
        """Forget the image and its content. Raises ImageNotFound, ImageNotAuthorized."""


def chunks(data: ImageData) -> Iterator[bytes]:
    """Yield the content of a file object or an iterable of bytes piece by piece."""
    if hasattr(data, "read"):
        while piece := data.read(CHUNK_B):
            yield piece
    else:
        yield from data


def is_address(image_id: Any) -> bool:
    """Whether the image is named by an http or https address instead of an id."""
    return str(image_id).lower().startswith(("http://", "https://"))


def may_see(context: RequestContext, image: dict[str, Any]) -> bool:
    """Whether the context's project may use the image: its own, a public one, or nobody's."""
    return bool(context.is_admin or image["is_public"] or image["owner"] in (None, context.project_id))
