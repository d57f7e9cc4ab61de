"""How arguments and failures of dom0 plugins are packed."""

import ast
import io
import json
import pickle
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import errors

PLUGIN_FAILURES = ("XENAPI_PLUGIN_FAILURE", "XENAPI_PLUGIN_EXCEPTION")
MISSING = ("XENAPI_MISSING_PLUGIN", "UNKNOWN_XENAPI_PLUGIN_FUNCTION")


@dataclass(frozen=True)
class Wire:
    """How a serialized call packs its arguments and result, and which plugins speak so."""

    dumps: Callable[[Any], str]
    loads: Callable[[str], Any]
    # The plugin that tells their version, and the version this driver was written against: the same major number,
    # this minor number or later.
    version_plugin: str
    required: str
    # Whether `glance` takes `largest_b`, and keeps chains that are larger out.
    knows_limits: bool = True


class _PlainValues(pickle.Unpickler):
    """Reads values that need no class: a pickle that names one could have us run what its writer likes."""

    def find_class(self, module, name):
        raise ValueError(f"a dom0 plugin answered with an object of {module}.{name}")


def _plain_value(text: str) -> Any:
    try:
        return _PlainValues(io.BytesIO(text.encode("latin-1"))).load()
    except (pickle.UnpicklingError, EOFError, IndexError, UnicodeError, AttributeError, KeyError) as error:
        raise ValueError(f"a dom0 plugin answered with what is no value: {type(error).__name__}") from None


WIRES = {
    "json": Wire(json.dumps, json.loads, "nova_lite_version", "3.0"),
    # The plugins of the reference: protocol 0 is text.
    "legacy": Wire(lambda value: pickle.dumps(value, protocol=0).decode("latin-1"), _plain_value,
                   "dom0_plugin_version", "2.1", knows_limits=False),
}


class PluginRetriesExceeded(exception.NovaException):
    """A dom0 plugin kept failing in a passing way."""

    msg_fmt = "Number of retries to plugin (%(num_retries)d) exceeded."


def dumps(args: tuple, kwargs: dict, wire: Wire = WIRES["json"]) -> str:
    """Pack arguments into the one text a serialized call carries."""
    return wire.dumps({"args": list(args), "kwargs": kwargs})


def loads(text: str, wire: Wire = WIRES["json"]) -> Any:
    """Unpack what a serialized call returned. Raises ValueError for what is no plain value."""
    return wire.loads(text) if text else None


def is_passing(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: the plugin says so, it was killed, or the socket was reset."""
    if isinstance(error, HypervisorUnavailable):
        return isinstance(error.__cause__, ConnectionResetError)
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
        version = str(session.call_plugin_serialized(session.wire.version_plugin, "get_version"))
    except XenAPI.Failure as failure:
        if not is_missing(failure):
            raise
        return None
    required = session.wire.required
    if not goes_with(version, required):
        raise XenAPI.Failure([f"Plugin version mismatch (Expected {required}, got {version})"])
    return version


def goes_with(version: str | None, required: str) -> bool:
    """Tell whether plugins of this version (None: none are there) do what those of the required one do."""
    try:
        found, wanted = ([int(part) for part in (text or "0.0").split(".")[:2]] for text in (version, required))
    except ValueError:
        return False
    return found[0] == wanted[0] and found >= wanted


@contextmanager
def explained_failures(required: str):
    """Raise the failure a plugin met itself in place of the one that wraps it; say what to do about a missing one."""
    try:
        yield
    except XenAPI.Failure as failure:
        if is_missing(failure):
            needed = f"the host lacks dom0 plugins of version {required} that have it"
            raise XenAPI.Failure([*failure.details, needed]) from failure
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
