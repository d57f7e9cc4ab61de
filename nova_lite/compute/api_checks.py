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
MAX_KEY_DATA_LENGTH = 65535
_TEXTS = ("display_name", "display_description", "key_name", "hostname", "image_href", "kernel_id", "ramdisk_id",
          "availability_zone", "admin_password")
# Arguments of operations that may be longer than a name: path@host, and what has limits of its own.
_LONGEST_ARGUMENTS = {"host": 511, "host_name": 511, "file_contents": None}
_ADDRESSES = {"access_ip_v4": ipaddress.IPv4Address, "access_ip_v6": ipaddress.IPv6Address}


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise Invalid for names and descriptions that no column takes, and for access addresses that are none."""
    for name in _TEXTS:
        if fields.get(name) is not None:
            check_text(name, fields[name])
    if fields.get("key_data") is not None:
        check_text("key_data", fields["key_data"], MAX_KEY_DATA_LENGTH)
    for name, kind in _ADDRESSES.items():
        if fields.get(name):
            try:
                kind(str(fields[name]))
            except ValueError as error:
                raise exception.Invalid(f"{name}: {str(error)[:100]}") from error


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise Invalid for a text among the arguments of an operation that is no name, no id and no password."""
    for name, value in arguments.items():
        if isinstance(value, str):
            check_text(name, value, _LONGEST_ARGUMENTS.get(name, MAX_TEXT_LENGTH))


def check_text(name: str, text: Any, longest: int | None = MAX_TEXT_LENGTH) -> None:
    """Raise Invalid for what is no text, too long (None: never), or cannot be written as UTF-8."""
    if not isinstance(text, str):
        raise exception.Invalid(f"{name} must be a text")
    if longest is not None and len(text) > longest:
        raise exception.Invalid(f"{name} has {len(text)} characters, more than {longest}")
    if not is_utf8(text):
        raise exception.Invalid(f"{name} is no valid UTF-8")


def check_name(name: str, text: Any) -> None:
    """Raise InvalidInput for a name that is empty, and Invalid as check_text does."""
    check_text(name, text)
    if not text.strip():
        raise exception.InvalidInput(reason=f"{name} must not be empty")


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
        _decoded(user_data)
    except (binascii.Error, ValueError) as error:
        raise exception.InstanceUserDataMalformed() from error


def _decoded(text: str) -> bytes:
    """The content of a base64 text, which may be wrapped. Raises binascii.Error, ValueError."""
    return base64.b64decode("".join(text.split()), validate=True)


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
    for file in files:
        if not isinstance(file, list | tuple) or len(file) != 2:
            raise exception.Invalid("an injected file is a path and its content")
        path, contents = file
        _check_path(path)
        try:
            size_b = len(_decoded(contents))
        except (binascii.Error, ValueError, AttributeError) as error:
            raise exception.Base64Exception(path=path) from error
        longest_path, longest_content = max(longest_path, len(path.encode())), max(longest_content, size_b)
    quotas.check_injected_files(context, len(files), longest_path, longest_content)


def check_file(quotas: Any, context: RequestContext, path: Any, contents: Any) -> None:
    """Raise Invalid or OnsetFile(PathLimit|ContentLimit)Exceeded for a file that a running guest cannot get."""
    _check_path(path)
    if not isinstance(contents, str) or not is_utf8(contents):
        raise exception.Invalid("the content of a file must be a text that is valid UTF-8")
    quotas.check_injected_files(context, 1, len(path.encode()), len(contents.encode()))


def _check_path(path: Any) -> None:
    if not isinstance(path, str) or not path or not is_utf8(path):
        raise exception.Invalid("the path of an injected file must be a text that is valid UTF-8")


def check_address(address: Any) -> None:
    """Raise Invalid for what is no IP address."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise exception.Invalid(f"{str(address)[:MAX_TEXT_LENGTH]!r} is no IP address") from None


def check_networks(requested: Any) -> None:
    """Raise Invalid for networks, addresses and ports that are asked for by what is no id and no address."""
    for one in requested or ():
        for name in ("network_id", "port_id"):
            if one.get(name) is not None:
                check_text(name, one[name])


def check_devices(mappings: Any) -> None:
    """Raise InvalidBDM for block devices that are no mappings, whose texts no column takes, or of no size."""
    for mapping in mappings or ():
        if not hasattr(mapping, "items"):
            raise exception.InvalidBDM("A block device is a mapping of names to values")
        check_arguments({name: value for name, value in mapping.items() if name != "connection_info"})
        size_gb = mapping.get("volume_size")
        if size_gb is not None and not (isinstance(size_gb, int) or str(size_gb).lstrip("-").isdigit()):
            raise exception.InvalidBDM(f"A block device cannot have {str(size_gb)[:40]!r} GB")


def check_count(name: str, value: Any) -> None:
    """Raise Invalid for what is no number from 0 on; None passes."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise exception.Invalid(f"{name} must be a number from 0 on, not {str(value)[:40]!r}")


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
