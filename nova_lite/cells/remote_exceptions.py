"""Exceptions as JSON between cells: written in the reference's names, rebuilt only from classes we know.

On the wire our exceptions are called `nova.exception.X`, so that a reference neighbour can rebuild them;
on receipt `nova.exception` and `nova_lite.exception` both mean our class of that name. No module is ever
imported because a message names it.
"""

import builtins
import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from oslo_log import log as logging

from nova_lite import exception

LOG = logging.getLogger(__name__)

OUR_MODULE = "nova_lite.exception"
REFERENCE_MODULE = "nova.exception"
_BUILTIN_MODULES = ("builtins", "exceptions")  # `exceptions`: its name in Python 2
_REMOTE = "_Remote"

def serialize_remote_exception(failure_info, log_failure: bool = True, *, with_trace: bool = True) -> str:
    """Return an exc_info triple as JSON text.

    {'class', 'module', 'message', 'tb': [lines], 'args': [...], 'kwargs': {...}}; 'tb' is empty unless `with_trace`.
    An exception that came from afar goes on under its first name, without another '_Remote' (cells specification
    §11.3).
    """
    kind, error, trace = failure_info
    lines = traceback.format_exception(kind, error, trace) if with_trace else []
    if log_failure:
        LOG.error("Returning exception %s to the cell that asked", error, exc_info=failure_info)
    class_name, module = _wire_name(type(error))
    return json.dumps({
        "class": class_name, "module": module, "message": str(error), "tb": lines,
        "args": _primitive(list(error.args)), "kwargs": _primitive(dict(getattr(error, "kwargs", None) or {}))})


def deserialize_remote_exception(data: str, allowed_remote_exmods: Iterable[str]) -> Exception:
    """Return (not raise) the exception in `data`; a RemoteError when it is none that we may rebuild.

    The result's text is the remote message followed by the remote traceback; it is an instance of the class
    it was, so `except` clauses match.
    """
    failure = json.loads(data)
    text = failure.get("message", "")
    trace = failure.get("tb") or []
    class_name, module = _plain_name(failure.get("class") or "", failure.get("module") or "")
    cls = _known_class(class_name, module, allowed_remote_exmods)
    if cls is None:
        return exception.RemoteError(class_name, text, trace)
    try:
        error = cls(*(failure.get("args") or []), **(failure.get("kwargs") or {}))
    except TypeError:
        return exception.RemoteError(class_name, text, trace)
    return _with_text(error, "\n".join([text, "\n".join(trace)]))


def first_line(error: BaseException) -> str:
    """Return what an exception says, without the traceback that one of another cell brings along."""
    return str(error).split("\n", 1)[0]


def _wire_name(cls: type) -> tuple[str, str]:
    class_name, module = _plain_name(cls.__name__, cls.__module__)
    if module != OUR_MODULE:
        return _public_name(cls) if class_name.startswith("_") else (class_name, module)
    known = exception.wire_class(cls)
    is_own = getattr(known, "own", False)
    return known.__name__.removesuffix(_REMOTE), OUR_MODULE if is_own else REFERENCE_MODULE


def _public_name(cls: type) -> tuple[str, str]:
    """Return the name of the first ancestor that others can know."""
    public = next(one for one in cls.__mro__ if not one.__name__.startswith("_"))
    return public.__name__, public.__module__


def _plain_name(class_name: str, module: str) -> tuple[str, str]:
    if class_name.endswith(_REMOTE) and module.endswith(_REMOTE):
        return class_name.removesuffix(_REMOTE), module.removesuffix(_REMOTE)
    return class_name, module


def _known_class(class_name: str, module: str, allowed_modules: Iterable[str]) -> type[Exception] | None:
    if module in (OUR_MODULE, REFERENCE_MODULE):
        return exception.find(class_name)
    if module in _BUILTIN_MODULES:
        cls = getattr(builtins, class_name, None)
    elif module in allowed_modules:
        cls = getattr(sys.modules.get(module), class_name, None)
    else:
        return None
    return cls if isinstance(cls, type) and issubclass(cls, Exception) else None


def _with_text(error: Exception, text: str) -> Exception:
    cls = type(error)
    remote = type(cls.__name__ + _REMOTE, (cls,), {
        "__module__": cls.__module__ + _REMOTE, "__str__": lambda self: text, "__unicode__": lambda self: text})
    try:
        error.__class__ = remote
    except TypeError:  # built-in exceptions keep their layout
        error.args = (text, *error.args[1:])
    return error


def _primitive(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _primitive(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_primitive(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
