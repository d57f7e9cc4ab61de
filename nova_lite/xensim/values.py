"""Turn what arrived into values of the declared types. Strict: XenServer converts almost nothing.

Values inside the simulator: str for string, secret, enum, ref and datetime (`YYYYMMDDTHH:MM:SSZ`), int, float, bool,
list for set, dict for map and record.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nova_lite.xensim.errors import internal_error
from nova_lite.xensim.model import NULL, REQUIRED, Call, Schema, Type

DATETIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?$")
INTEGER = re.compile(r"[+-]?(\d+|0x[0-9a-fA-F]+)$")


class DateTimeText(str):
    """Text that travelled as a dateTime."""


def timestamp_text(seconds: float) -> str:
    """Return seconds since the epoch as XenAPI writes them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H:%M:%SZ")


def timestamp_seconds(text: str) -> float:
    """Return the seconds since the epoch of a datetime in XenAPI's text form."""
    return datetime.strptime(text, "%Y%m%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def parse_timestamp(text: str) -> str:
    """Return a date as clients write it, with or without dashes and zone, in XenAPI's text form. Raises ValueError."""
    match = DATETIME.match(text)
    if not match:
        raise ValueError(f"no date: {text[:40]!r}")
    *digits, zone = match.groups()
    offset = (zone or "Z").replace("Z", "+0000").replace(":", "")
    try:
        return timestamp_text(datetime.strptime("".join(digits) + offset, "%Y%m%d%H%M%S%z").timestamp())
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _mismatch(type_: Type, value: Any):
    return internal_error(
        f"Rpc.Runtime_error: expected {type_.kind}, received {type(value).__name__} {str(value)[:80]!r}"
    )


class Reader:
    """Reads values of declared types; knows the enumerations and the classes' constructor fields."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self._readers: dict[Type, Callable] = {}

    def arguments(self, call: Call, values: list[Any]) -> list[Any]:
        """Return the call's arguments, defaults filled in. Raises INTERNAL_ERROR for a value of the wrong type."""
        read = [self.value(parameter.type, value) for parameter, value in zip(call.parameters, values, strict=False)]
        for parameter in call.parameters[len(read) :]:
            default = parameter.default
            if parameter.type.kind == "ref" and not default:
                default = NULL
            read.append(default.copy() if isinstance(default, list | dict) else default)
        return read

    def value(self, type_: Type, value: Any) -> Any:
        reader = self._readers.get(type_)
        if reader is None:
            reader = self._readers[type_] = getattr(self, f"_read_{type_.kind}")
        return reader(type_, value)

    def _read_string(self, type_, value):
        if not isinstance(value, str) or isinstance(value, DateTimeText):
            raise _mismatch(type_, value)
        return value

    _read_secret = _read_ref = _read_string

    def _read_int(self, type_, value):
        if isinstance(value, bool):
            raise _mismatch(type_, value)
        if isinstance(value, str) and INTEGER.match(value):
            value = int(value, 16 if "0x" in value else 10)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise _mismatch(type_, value)
        return value

    def _read_float(self, type_, value):
        if isinstance(value, bool):
            raise _mismatch(type_, value)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise _mismatch(type_, value) from None
        if math.isnan(number):
            raise _mismatch(type_, value)
        return number

    def _read_bool(self, type_, value):
        if not isinstance(value, bool):
            raise _mismatch(type_, value)
        return value

    def _read_datetime(self, type_, value):
        try:
            return parse_timestamp(value)
        except (ValueError, TypeError):
            raise _mismatch(type_, value) from None

    def _read_enum(self, type_, value):
        if not isinstance(value, str):
            raise _mismatch(type_, value)
        members = self._schema.enums.get(type_.name)
        if members is None:
            return value
        try:
            return members[value.lower()]
        except KeyError:
            raise internal_error(f"Failure: {value[:80]} is not a member of {type_.name}") from None

    def _read_set(self, type_, value):
        if not isinstance(value, list):
            raise _mismatch(type_, value)
        return list(dict.fromkeys(self.value(type_.inner[0], member) for member in value))

    def _read_map(self, type_, value):
        if not isinstance(value, dict):
            raise _mismatch(type_, value)
        key_type, value_type = type_.inner
        return {self.value(key_type, key): self.value(value_type, member) for key, member in value.items()}

    def _read_record(self, type_, value):
        """Read a constructor's record: fields the constructor sets; others are ignored."""
        if not isinstance(value, dict):
            raise _mismatch(type_, value)
        read = {}
        for field in self._schema.classes[type_.name].fields.values():
            if field.qualifier == "ro" or field.is_internal:
                continue
            if field.name in value:
                read[field.name] = self.value(field.type, value[field.name])
            elif field.default is REQUIRED:
                raise internal_error(f"Db_exn: missing constructor field {type_.name}.{field.name}")
        return read
