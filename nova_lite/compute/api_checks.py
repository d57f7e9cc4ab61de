"""What a request for new instances is checked for before anything is written (compute specification §10.4)."""

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from typing import Any

from oslo_utils import strutils

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import Flavor

MAX_USER_DATA_B = 65535
MAX_METADATA_LENGTH = 255
MAX_TEXT_LENGTH = 255  # of names and descriptions, as their columns have it
_TEXTS = ("display_name", "display_description", "key_name", "hostname")
_ADDRESSES = {"access_ip_v4": ipaddress.IPv4Address, "access_ip_v6": ipaddress.IPv6Address}


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise Invalid for names and descriptions that no column takes, and for access addresses that are none."""
    for name in _TEXTS:
        if fields.get(name) is not None:
            check_text(name, fields[name])
    for name, kind in _ADDRESSES.items():
        if fields.get(name):
            try:
                kind(str(fields[name]))
            except ValueError as error:
                raise exception.Invalid(f"{name}: {str(error)[:100]}") from error


def check_text(name: str, text: Any, longest: int = MAX_TEXT_LENGTH) -> None:
    """Raise Invalid for what is no text, too long, or cannot be written as UTF-8."""
    if not isinstance(text, str):
        raise exception.Invalid(f"{name} must be a text")
    if len(text) > longest:
        raise exception.Invalid(f"{name} has {len(text)} characters, more than {longest}")
    if not is_utf8(text):
        raise exception.Invalid(f"{name} is no valid UTF-8")


def is_utf8(text: str) -> bool:
    """Whether a text holds no halves of characters, such as undecodable bytes leave behind."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_flavor(flavor: Flavor) -> None:
    """Raise InstanceTypeNotFound for a flavor that is out of use."""
    if flavor.get("disabled"):
        raise exception.InstanceTypeNotFound(instance_type_id=flavor.get("id"))


def check_user_data(user_data: str | None) -> None:
    """Raise InstanceUserDataTooLarge or InstanceUserDataMalformed."""
    if not user_data:
        return
    if len(user_data) > MAX_USER_DATA_B:
        raise exception.InstanceUserDataTooLarge(length=len(user_data), maxsize=MAX_USER_DATA_B)
    try:
        base64.b64decode(user_data, validate=False)
    except (binascii.Error, ValueError) as error:
        raise exception.InstanceUserDataMalformed() from error


def check_metadata(quotas: Any, context: RequestContext, metadata: dict[str, Any] | None) -> None:
    """Raise MetadataLimitExceeded, InvalidMetadata or InvalidMetadataSize."""
    if not metadata:
        return
    if not isinstance(metadata, dict):
        raise exception.InvalidMetadata(reason="metadata must be pairs of keys and values")
    quotas.check_metadata(context, len(metadata))
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise exception.InvalidMetadata(reason="keys and values of metadata must be texts")
        if not key:
            raise exception.InvalidMetadata(reason="a key of metadata must not be empty")
        for what, text in (("key", key), ("value", value)):
            if len(text) > MAX_METADATA_LENGTH:
                raise exception.InvalidMetadataSize(
                    reason=f"a {what} of metadata has {len(text)} characters, more than {MAX_METADATA_LENGTH}")
            if not is_utf8(text):
                raise exception.InvalidMetadata(reason=f"a {what} of metadata is no valid UTF-8")


def check_injected_files(quotas: Any, context: RequestContext, files: list | None) -> None:
    """Raise Base64Exception, Invalid for a path, and OnsetFile(Limit|PathLimit|ContentLimit)Exceeded."""
    if not files:
        return
    longest_path = longest_content = 0
    for path, contents in files:
        if not isinstance(path, str) or not is_utf8(path):
            raise exception.Invalid("the path of an injected file is no valid UTF-8")
        try:
            size_b = len(base64.b64decode(contents, validate=False))
        except (binascii.Error, ValueError, TypeError) as error:
            raise exception.Base64Exception(path=path) from error
        longest_path, longest_content = max(longest_path, len(path.encode())), max(longest_content, size_b)
    quotas.check_injected_files(context, len(files), longest_path, longest_content)


def check_image(image: dict[str, Any], flavor: Flavor) -> None:
    """Raise ImageNotActive, InstanceTypeMemoryTooSmall or InstanceTypeDiskTooSmall. No image fits always."""
    if not image:
        return
    if image.get("status") != "active":
        raise exception.ImageNotActive(image_id=image["id"])
    if flavor.memory_mb < int(image.get("min_ram") or 0):
        raise exception.InstanceTypeMemoryTooSmall()
    # A flavor without a disk size takes the image's.
    if flavor.root_gb and flavor.root_gb < int(image.get("min_disk") or 0):
        raise exception.InstanceTypeDiskTooSmall()


def config_drive(value: Any) -> str:
    """Return 'True' or '' as the row has it. Raises Invalid for anything that is not yes or no."""
    try:
        return "True" if strutils.bool_from_string(value or False, strict=True) else ""
    except ValueError as error:
        raise exception.Invalid(f"config_drive must be true or false, not {value!r}") from error


def split_zone(availability_zone: str | None) -> tuple[str | None, str | None, str | None]:
    """Return (zone, forced host, forced node) of `zone[:host[:node]]`. Raises Invalid.

    A host may be called path@host, where the path contains no colon.
    """
    if not availability_zone or ":" not in availability_zone:
        return availability_zone, None, None
    parts = availability_zone.split(":")
    if len(parts) > 3:
        raise exception.Invalid(f"An availability zone is zone[:host[:node]], not {availability_zone!r}")
    zone, host, node = [*parts, None][:3]
    return zone or None, host or None, node or None
