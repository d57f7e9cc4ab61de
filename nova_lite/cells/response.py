"""The answer of one cell to one request."""

import json
from typing import Any

from nova_lite.cells import lean, remote_exceptions
from nova_lite.objects import base


class Response:
    """What a cell's work returned, or how it failed.

    `cell_name` is the routing path at the responder: its full name for a request that went down, the reverse
    for one that went up. On failure `value` is an exc_info triple when the answer arose in this cell, an
    exception when it came from another. `piece` numbers the responses that a long list came in.
    """

    def __init__(self, ctxt, cell_name, value, failure):
        self.ctxt = ctxt
        self.cell_name = cell_name
        self.value = value
        self.failure = failure
        self.piece = 0

    def to_json(self, with_trace: bool = True) -> str:
        """Return the wire form: {'cell_name', 'value', 'failure'}; a failure's value is JSON text itself."""
        if self.failure:
            kind, error, trace = self._exc_info()
            value = remote_exceptions.serialize_remote_exception((kind, error, trace), log_failure=False,
                                                                 with_trace=with_trace)
        else:
            value = base.to_wire(self.value)
        return json.dumps({"cell_name": self.cell_name, "value": value, "failure": bool(self.failure)})

    @classmethod
    def from_json(cls, ctxt, json_message) -> "Response":
        """Return the Response in `json_message`, its objects rebuilt and bound to `ctxt`."""
        return cls._from_fields(ctxt, json.loads(json_message))

    @classmethod
    def all_in(cls, ctxt, texts) -> list["Response"]:
        """Return every Response in texts that hold one, or a list of them, each."""
        return [cls._from_fields(ctxt, fields) for fields in lean.responses_in(texts)]

    @classmethod
    def _from_fields(cls, ctxt, fields: dict[str, Any]) -> "Response":
        value = fields["value"]
        if fields["failure"]:
            value = remote_exceptions.deserialize_remote_exception(value, [remote_exceptions.OUR_MODULE])
        else:
            value = base.from_wire(ctxt, value)
        response = cls(ctxt, fields["cell_name"], value, fields["failure"])
        piece = fields.get("piece")
        response.piece = piece if isinstance(piece, int) else 0
        return response

    def value_or_raise(self) -> Any:
        """Return the value, or raise the failure (with its traceback, if it arose here)."""
        if not self.failure:
            return self.value
        _kind, error, trace = self._exc_info()
        raise error.with_traceback(trace)

    @property
    def error(self) -> BaseException | None:
        """The exception of a failure, in whichever form it came."""
        return self._exc_info()[1] if self.failure else None

    def _exc_info(self) -> tuple:
        if isinstance(self.value, (tuple, list)):
            return tuple(self.value)
        return type(self.value), self.value, self.value.__traceback__

    def __repr__(self):
        # The value may hold secrets of an instance: never shown.
        return f"<Response from {self.cell_name}{' (failure)' if self.failure else ''}>"
