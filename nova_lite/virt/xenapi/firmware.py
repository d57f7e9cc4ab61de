"""What a guest boots by: BIOS, UEFI, or UEFI that starts nothing unsigned; said by the properties of its image."""

from dataclasses import dataclass
from typing import Any

from nova_lite import exception

KINDS = ("bios", "uefi")
REQUIRED = "required"


@dataclass(frozen=True)
class Firmware:
    """The firmware of a guest; None: what the host takes by itself."""

    kind: str | None = None
    is_secure: bool = False

    @classmethod
    def of(cls, image_meta: dict[str, Any]) -> "Firmware":
        """Read hw_firmware_type and os_secure_boot (required, optional, disabled). Raises ImageUnacceptable.

        Secure boot that an image can do without is left out: it needs certificates in the pool.
        """
        properties = image_meta.get("properties") or {}
        kind = properties.get("hw_firmware_type")
        is_secure = properties.get("os_secure_boot") == REQUIRED
        if kind not in (None, *KINDS):
            raise _unacceptable(image_meta, f"hw_firmware_type = {kind} is neither {' nor '.join(KINDS)}")
        if is_secure and kind != "uefi":
            raise _unacceptable(image_meta, "os_secure_boot = required needs hw_firmware_type = uefi")
        return cls(kind, is_secure)


def _unacceptable(image_meta: dict[str, Any], reason: str) -> exception.ImageUnacceptable:
    return exception.ImageUnacceptable(image_id=image_meta.get("id"), reason=reason)
