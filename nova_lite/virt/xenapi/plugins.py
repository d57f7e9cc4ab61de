"""How arguments and failures of dom0 plugins are packed."""

import ast
import json
from contextlib import contextmanager
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors

PLUGIN_FAILURES = ("XENAPI_PLUGIN_FAILURE", "XENAPI_PLUGIN_EXCEPTION")
MISSING = ("XENAPI_MISSING_PLUGIN", "UNKNOWN_XENAPI_PLUGIN_FUNCTION")


# The version of the dom0 plugins this driver was written against: same major number, this minor number or later.
REQUIRED = "3.0"


class PluginRetriesExceeded(exception.NovaException):
    """A dom0 plugin kept failing in a passing way."""

    msg_fmt = "Number of retries to plugin (%(num_retries)d) exceeded."


def dumps(args: tuple, kwargs: dict) -> str:
    """Pack arguments into the one text a serialized call carries."""
    return json.dumps({"args": list(args), "kwargs": kwargs})


def loads(text: str) -> Any:
    """Unpack what a serialized call returned."""
    return json.loads(text) if text else None


def is_passing(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: the plugin says so, it was killed, or the socket was reset."""
    if isinstance(error, ConnectionResetError):
        return True
    details = error.details if isinstance(error, XenAPI.Failure) else []
    return len(details) >= 3 and (details[2] == "RetryableError" or "signal" in str(details[1]))


def is_missing(error: BaseException) -> bool:
    """Tell whether the host has no such plugin, or the plugin no such function."""
    return errors.is_code(error, *MISSING)


def installed_version(session: Any) -> str | None:
    """Return the version of the plugins on the host, None when there are none.

    Raises XenAPI.Failure for one that does not go with this driver.
    """
    try:
        version = str(session.call_plugin_serialized("nova_lite_version", "get_version"))
    except XenAPI.Failure as failure:
        if not is_missing(failure):
            raise
        return None
    if not goes_with(version, REQUIRED):
        raise XenAPI.Failure([f"Plugin version mismatch (Expected {REQUIRED}, got {version})"])
    return version


def goes_with(version: str | None, required: str) -> bool:
    """Tell whether plugins of this version (None: none are there) do what those of the required one do."""
    try:
        found, wanted = ([int(part) for part in (text or "0.0").split(".")[:2]] for text in (version, required))
    except ValueError:
        return False
    return found[0] == wanted[0] and found >= wanted


@contextmanager
def unwrapped_failures():
    """Raise the failure a plugin met itself in place of the one that wraps it."""
    try:
        yield
    except XenAPI.Failure as failure:
        inner = _inner_details(failure.details)
        if inner is None:
            raise
        raise XenAPI.Failure(inner) from failure


def _inner_details(details: list) -> list | None:
    if len(details) != 4 or details[0] not in PLUGIN_FAILURES or details[2] != "Failure":
        return None
    try:
        inner = ast.literal_eval(details[3])
    except (ValueError, SyntaxError):
        return None
    return inner if isinstance(inner, list) else None
