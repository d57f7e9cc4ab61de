"""Who uploads snapshots: one of the driver's own ways, or a class that an operator names."""

from typing import Any, Protocol

from oslo_utils import importutils

from nova_lite import exception

LOCAL = "vdi_local_dev"
# The reference's classes, by the ways of ours that do the same.
REFERENCE_CLASSES = {"GlanceStore": "direct_vhd", "VdiThroughDevStore": LOCAL,
                     "VdiRemoteStore": "vdi_remote_stream"}


class UploadHandler(Protocol):
    """What a class named by `[xenserver] image_upload_handler` has to offer; it is made without arguments."""

    def upload_image(self, context: Any, session: Any, instance: Any, image_id: str, vdi_uuids: list[str]) -> None:
        """Fill the image with a disk: the uuids of its chain, leaf first, none of which changes meanwhile."""


def way(conf: Any) -> str:
    """Return which of image_handler's ways uploads go."""
    named = conf.xenserver.image_upload_handler.rpartition(".")[2]
    return REFERENCE_CLASSES.get(named, conf.xenserver.image_handler)


def load(conf: Any) -> UploadHandler | None:
    """Return the operator's own handler, None without one. Raises ConfigurationError for a class that is none."""
    path = conf.xenserver.image_upload_handler
    if not path or path.rpartition(".")[2] in REFERENCE_CLASSES:
        return None
    try:
        handler = importutils.import_object(path)
    except ImportError as error:
        raise exception.ConfigurationError(reason=f"[xenserver] image_upload_handler = {path}: {error}") from None
    if not callable(getattr(handler, "upload_image", None)):
        raise exception.ConfigurationError(
            reason=f"[xenserver] image_upload_handler = {path} has no method upload_image")
    return handler
