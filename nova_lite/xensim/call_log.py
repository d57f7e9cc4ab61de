"""The log of calls: what was asked, by whom, how long it took and how it ended, with every secret masked."""

import fnmatch
import itertools
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from nova_lite.xensim.model import Call, Parameter

NAMES_KEPT = 100_000
CALLS_KEPT = 20_000
TEXT_LIMIT = 200  # characters of an argument that are kept
MEMBERS_LIMIT = 50
MASK = "***"
SECRET_WORDS = ("pass", "secret", "token", "pwd", "session")


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in SECRET_WORDS)


def _hides(parameter: Parameter) -> bool:
    is_session = parameter.type.kind == "ref" and parameter.type.name == "session"
    return is_session or parameter.type.kind == "secret" or _is_secret(parameter.name)


def shortened(value: Any) -> Any:
    """Return an argument as it is kept: of a bounded size, members masked whose names tell of a secret."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT else f"{value[:TEXT_LIMIT]}… ({len(value)} characters)"
    if isinstance(value, dict):
        members = itertools.islice(value.items(), MEMBERS_LIMIT)
        return {shortened(str(key)): MASK if _is_secret(str(key)) else shortened(member) for key, member in members}
    if isinstance(value, list | tuple):
        return [shortened(member) for member in value[:MEMBERS_LIMIT]]
    return value


def masked(parameters: Sequence[Any], described: Call | None) -> list[Any]:
    """Return a call's arguments as they are kept, the session left out. Of unknown calls only their number is kept."""
    values = parameters[1:] if described is None or described.needs_session else parameters
    if described is None or described.class_name == "secret":
        return [MASK] * min(len(values), MEMBERS_LIMIT)
    kept: list[Any] = []
    for value, parameter in zip(values, described.parameters, strict=False):
        # add_to_other_config(self, key, value): the key before it names the secret.
        is_named = parameter.name == "value" and kept and isinstance(kept[-1], str) and _is_secret(kept[-1])
        kept.append(MASK if is_named or _hides(parameter) else shortened(value))
    return kept


class CallLog:
    """The latest calls. Adding costs next to nothing for calls with short arguments; safe from any thread."""

    def __init__(self) -> None:
        self._names: deque[str] = deque(maxlen=NAMES_KEPT)
        self._entries: deque[tuple] = deque(maxlen=CALLS_KEPT)
        self._numbers = itertools.count(1)

    def receive(self, method: str) -> float:
        """Note that a call arrived; return its start, for `end`."""
        self._names.append(method)
        return time.perf_counter()

    def end(self, method: str, arguments: list[Any], started: float, result: str) -> None:
        """Note how a call with these masked arguments ended: `Success`, an error code, or `no reply`."""
        seconds = time.perf_counter() - started
        self._entries.append((next(self._numbers), time.time(), method, arguments, seconds, result))

    def names(self) -> list[str]:
        """Return the names of the calls in the order of their arrival."""
        return list(self._names)

    def entries(self, method: str = "*", result: str = "*", since: int = 0) -> list[dict[str, Any]]:
        """Return the calls that match the patterns and have a higher number, in the order of their end."""
        fields = ("number", "ended", "method", "arguments", "seconds", "result")
        return [
            dict(zip(fields, entry, strict=True))
            for entry in list(self._entries)
            if entry[0] > since and fnmatch.fnmatchcase(entry[2], method) and fnmatch.fnmatchcase(entry[5], result)
        ]

    def clear(self) -> None:
        self._names.clear()
        self._entries.clear()
