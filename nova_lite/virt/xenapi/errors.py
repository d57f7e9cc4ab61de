"""XenAPI error codes, read from the exceptions that carry them."""

import http.client
import ssl
import xmlrpc.client

import XenAPI

NULL_REF = "OpaqueRef:NULL"

HANDLE_INVALID = "HANDLE_INVALID"
UUID_INVALID = "UUID_INVALID"
VM_BAD_POWER_STATE = "VM_BAD_POWER_STATE"
MAP_DUPLICATE_KEY = "MAP_DUPLICATE_KEY"
# The host is older or newer than the call.
NO_SUCH_CALL = ("MESSAGE_METHOD_UNKNOWN", "MESSAGE_REMOVED", "MESSAGE_PARAMETER_COUNT_MISMATCH")

# What a broken or silent connection raises. Fault is what the client makes of an answer that is no XenAPI answer.
CONNECTION_ERRORS = (OSError, http.client.HTTPException, ssl.SSLError, xmlrpc.client.ProtocolError,
                     xmlrpc.client.Fault)


def code_of(failure: XenAPI.Failure) -> str:
    """Return the error code, the first detail."""
    details = failure.details
    if isinstance(details, str):
        return details
    return details[0] if details else ""


def is_code(failure: BaseException, *codes: str) -> bool:
    """Tell whether `failure` is a XenAPI error with one of these codes."""
    return isinstance(failure, XenAPI.Failure) and code_of(failure) in codes


def is_gone(failure: BaseException) -> bool:
    """Tell whether the object the call was about does not exist (any more)."""
    return is_code(failure, HANDLE_INVALID, UUID_INVALID)


def last_line(failure: BaseException) -> str:
    """Return the last line of the last detail: what a dom0 plugin says for itself."""
    text = str(failure.details[-1]) if isinstance(failure, XenAPI.Failure) and failure.details else str(failure)
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def describe(failure: XenAPI.Failure) -> str:
    """Return code and arguments in one line."""
    details = failure.details
    return details if isinstance(details, str) else " ".join(str(part) for part in details)
