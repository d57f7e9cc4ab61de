"""What the plugins share: arguments, subprocesses, xenstore."""

import functools
import json
import logging
import logging.handlers
import re
import subprocess

# Same major number, same or larger minor number: what the driver asks for is there.
VERSION = "3.2"
SAFE = re.compile(r"^[a-zA-Z0-9_:\.\-,]+\Z")


class ArgumentError(Exception):
    """An argument is missing or malformed."""


class PluginError(Exception):
    """The request cannot be met; trying again does not help."""


class RetryableError(Exception):
    """The request failed in a way that may pass."""


class CommandNotFound(Exception):
    """A program this plugin needs is not installed in dom0."""


def logger(name):
    """Return a logger to syslog; a plugin must print nothing but its answer."""
    log = logging.getLogger(name)
    try:
        log.addHandler(logging.handlers.SysLogHandler("/dev/log"))
    except OSError:
        log.addHandler(logging.NullHandler())
    log.setLevel(logging.INFO)
    return log


def exists(args, key):
    """Return a required argument."""
    if key not in args:
        raise ArgumentError(f"Argument {key} is required.")
    return args[key]


def validated(args, key):
    """Return a required argument that is safe in a path or on a command line."""
    value = exists(args, key)
    if not SAFE.match(value) or value.startswith("-"):
        raise ArgumentError(f"Invalid value for argument {key}")
    return value


def validated_bool(args, key):
    """Return a required argument that is 'true' or 'false' as a bool."""
    value = exists(args, key).lower()
    if value not in ("true", "false"):
        raise ArgumentError(f"Argument {key} may not take value {value!r}, must be true or false")
    return value == "true"


def domain(args):
    """Return the number of the domain the request is about."""
    dom_id = exists(args, "dom_id")
    if not dom_id.isdigit():
        raise ArgumentError(f"Argument dom_id must be a number, not {dom_id!r}")
    return dom_id


def checked(value, key):
    """Return a value of a serialized call that is safe in a path or on a command line."""
    if not isinstance(value, str) or not SAFE.match(value) or value.startswith("-"):
        raise ArgumentError(f"Invalid value for argument {key}")
    return value


def serialized(function):
    """Make function(session, *args, **kwargs) a plugin function: arguments and result travel as JSON."""

    @functools.wraps(function)
    def wrapped(session, args):
        given = json.loads(exists(args, "params"))
        return json.dumps(function(session, *given.get("args", []), **given.get("kwargs", {})))

    return wrapped


def run(*command, **options):
    """Run a program, with the text `given` on its standard input; returns (exit status, output, errors)."""
    given = options.pop("given", None)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise CommandNotFound(f"{command[0]} is not installed") from None
    out, err = process.communicate(given.encode() if given is not None else None)
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def must_run(*command, **options):
    """Run a program that has to succeed; returns its output."""
    status, out, err = run(*command, **options)
    if status:
        raise PluginError(f"{command[0]}: {(err or out).strip()}")
    return out


def xenstore_read(path):
    """Return the text at the path, or None."""
    status, out, _ = run("xenstore-read", path)
    return None if status else out[:-1] if out.endswith("\n") else out


def xenstore_write(path, text):
    """Set the text at the path."""
    status, _, err = run("xenstore-write", path, text)
    if status:
        raise PluginError(f"xenstore-write: {err.strip()}")


def xenstore_remove(path):
    """Remove the path and all below it; a missing one is no error."""
    run("xenstore-rm", path)


def xenstore_list(path):
    """Return the names directly below the path."""
    status, out, _ = run("xenstore-list", path)
    return [] if status else [line for line in out.splitlines() if line]
