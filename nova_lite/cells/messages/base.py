"""What all messages between cells have: their fields, their wire form, and how answers go back.

A message is built where it starts, and again in every cell it reaches: building it appends the cell's name to
the routing path and counts the hop. A relayed message's context and arguments stay the JSON they came as, or the text
(see `lean`); objects are only made where the work is done.
"""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_lite import exception
from nova_lite.cells import lean, levels, operations, parts, routing
from nova_lite.cells.response import Response
from nova_lite.objects import base

LOG = logging.getLogger(__name__)

_INTRODUCTIONS = frozenset(("announce_capabilities", "announce_capacities", "update_capabilities", "update_capacities",
                            "greet"))
_MARGIN_SHARE = 0.1
_MAX_MARGIN_S = 1.0


def with_margin(deadline_s: float, now_s: float) -> float:
    """Return the deadline to give to others, so that their answer, or ours without it, is still in time."""
    return deadline_s - min(_MAX_MARGIN_S, max(0.0, deadline_s - now_s) * _MARGIN_SHARE)


_FIELD_TYPES = {"ctxt": dict, "method_name": str, "method_kwargs": dict, "routing_path": str, "direction": str,
                "uuid": str, "hop_count": int, "parts": int, "target_cell": str, "response_uuid": str, "body": str}
# What a lean message has in its body, unread.
_IN_BODY = frozenset(("ctxt", "method_kwargs"))


def check_fields(fields: dict[str, Any]) -> None:
    """Raise ValueError for a received message whose fields are not what they have to be."""
    for name, kind in _FIELD_TYPES.items():
        if name in fields and not isinstance(fields[name], kind) and not ("body" in fields and name in _IN_BODY):
            raise ValueError(f"{name} of a message must be a {kind.__name__}")
    if fields.get("direction") not in (routing.UP, routing.DOWN):
        raise ValueError("the direction of a message must be up or down")
    for name in ("deadline", "sent_at", "max_hop_count"):
        value = fields.get(name)
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"{name} of a message must be a number")
    if not isinstance(fields.get("object_versions"), (dict, type(None))):
        raise ValueError("object_versions of a message must be a dict")
    if not isinstance(fields.get("reply_server"), (str, type(None))):
        raise ValueError("reply_server of a message must be a name")


class Message:
    """What all messages have. `received` tells that ctxt and method_kwargs are still in wire form.

    Of a lean message both are None, and `body` is the text that they are in.
    """

    message_type: str

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, need_response=False, fanout=False,
                 uuid=None, routing_path=None, hop_count=0, max_hop_count=None, deadline=None, reply_server=None,
                 msg_version=None, object_versions=None, received=False, body=None, sent_at=None, **kwargs):
        self.msg_runner = msg_runner
        self.method_name = method_name
        self.direction = direction
        self.need_response = need_response
        self.fanout = fanout
        self.uuid = uuid or uuidutils.generate_uuid()
        self.max_hop_count = msg_runner.max_hop_count if max_hop_count is None else max_hop_count
        self.routing_path = routing.append(routing_path, msg_runner.our_name)
        self.hop_count = hop_count + 1
        self.deadline = deadline
        self.sent_at = sent_at
        self.reply_server = reply_server
        self.peer_version = msg_version
        self.object_versions = object_versions
        self._body = body
        self._ctxt = None if received else ctxt
        self._wire_ctxt = ctxt if received else None
        self._kwargs = None if received else dict(method_kwargs)
        self._wire_kwargs = method_kwargs if received else None

    @property
    def ctxt(self):
        """The request's context, bound to this cell."""
        if self._ctxt is None:
            self._ctxt = self.msg_runner.context_of(self)
        return self._ctxt

    @property
    def wire_ctxt(self) -> dict[str, Any]:
        if self._wire_ctxt is None:
            if self._ctxt is None:
                self._read_body()
            else:
                self._wire_ctxt = self._ctxt.to_dict()
        return self._wire_ctxt

    @property
    def method_kwargs(self) -> dict[str, Any]:
        """The arguments of the work, as objects of this cell."""
        if self._kwargs is None:
            if self._wire_kwargs is None:
                self._read_body()
            self._kwargs = {name: base.from_wire(self.ctxt, value) for name, value in self._wire_kwargs.items()}
        return self._kwargs

    def wire_kwargs(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments in wire form, for a neighbour that reads these versions of objects."""
        if self._wire_kwargs is None and self._kwargs is None:
            self._read_body()
        if self._wire_kwargs is None:
            self._wire_kwargs = {name: base.to_wire(value, beyond_floor=True) for name, value in self._kwargs.items()}
        elif self.peer_version is None:
            return self._wire_kwargs  # from the reference, whose cells are all of one version
        return levels.fitted(self._wire_kwargs, versions)

    def _read_body(self) -> None:
        """Take context and arguments, in wire form, from the text that a lean message brought."""
        self._wire_ctxt, self._wire_kwargs = lean.read_request(self._body)

    @property
    def came_from(self) -> str | None:
        """Name of the neighbour that sent this message to us, None when it is ours."""
        return routing.hop_before(self.routing_path)

    def source_is_us(self) -> bool:
        return self.routing_path == self.msg_runner.our_name

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what comes of it until a deadline, and so notices when it is lost."""
        return self.need_response

    @property
    def is_quick(self) -> bool:
        """Whether it needs no worker of its own: it is only passed on, and the way is free."""
        return False

    def to_json(self, for_reference: bool = False, versions: Mapping[str, str] | None = None) -> str:
        """Return the wire form, for a neighbour that reads these versions of objects (floor versions by default).

        `for_reference` leaves out arguments that a reference neighbour would refuse.
        """
        return json.dumps(self.to_wire(for_reference, versions))

    def to_wire(self, for_reference: bool = False, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
        kwargs = self.wire_kwargs(versions or {})
        op = operations.registry.find(self.message_type, self.method_name) if for_reference else None
        if op is not None and op.for_reference is not None:
            kwargs = op.for_reference(kwargs)
        told = self._told_ctxt(for_reference)
        ctxt = told if self._body is None else lean.full_context(told)
        return {"ctxt": ctxt, "method_kwargs": kwargs, "fanout": self.fanout, **self._header()}

    def to_lean(self, versions: Mapping[str, str]) -> str:
        """Return the lean form, for a neighbour that reads it and these versions of objects; not signed."""
        return lean.write(self._header(), self._lean_body(versions))

    def _header(self) -> dict[str, Any]:
        fields = {
            "message_type": self.message_type, "method_name": self.method_name, "direction": self.direction,
            "need_response": self.need_response, "uuid": self.uuid, "routing_path": self.routing_path,
            "hop_count": self.hop_count, "max_hop_count": self.max_hop_count, **self._own_fields(),
            "msg_version": self.msg_runner.msg_version}
        if self.method_name in _INTRODUCTIONS:
            fields["object_versions"] = levels.OUR_VERSIONS
        if self.deadline is not None:
            fields.update(deadline=self.deadline, sent_at=self.msg_runner.clock.time())
        if self.reply_server is not None:
            fields["reply_server"] = self.reply_server
        return fields

    def _lean_body(self, versions: Mapping[str, str]) -> str:
        if not levels.are_ours(versions):
            return lean.request_body(self._told_ctxt(), self.wire_kwargs(versions))
        if self._body is None:
            self._body = lean.request_body(self._told_ctxt(), self.wire_kwargs(versions))
        return self._body

    def _told_ctxt(self, for_reference: bool = False) -> dict[str, Any]:
        """Return the context as a neighbour is told it; cells of our kind know who asks without his token."""
        if for_reference or self.msg_runner.forwards_tokens:
            return self.wire_ctxt
        return {**self.wire_ctxt, "auth_token": None, "service_catalog": []}

    def process(self):
        raise NotImplementedError

    def _own_fields(self) -> dict[str, Any]:
        return {}

    def _neighbour(self, name: str):
        """Return the CellState of a neighbour in the message's direction, None when there is none."""
        state = self.msg_runner.state_manager
        return state.get_child_cell(name) if self.direction == routing.DOWN else state.get_parent_cell(name)

    def _send(self, neighbour, **how) -> None:
        """Send to a neighbour; what the reference does not know is never sent to it."""
        op = operations.registry.find(self.message_type, self.method_name)
        if op is not None and op.own and not neighbour.is_ours:
            raise exception.CellsOperationUnsupported(operation=f"{self.method_name} by way of cell {neighbour.name}")
        neighbour.send_message(self, **how)

    def _work(self) -> Response:
        if self._body is not None and self._wire_kwargs is None:
            self._read_body()  # what cannot be read is refused, not carried out and failed
        return self.msg_runner._process_message_locally(self)

    def _failure(self) -> Response:
        """Return the exception being handled as this cell's answer."""
        return Response(None, self.routing_path, sys.exc_info(), True)

    def _wait_deadline(self) -> float:
        """Return, and fix, the time (epoch seconds) at which this cell stops waiting for answers."""
        if self.deadline is None:
            self.deadline = self.msg_runner.deadline_for(self._ctxt)
        return self.deadline

    def _answer(self, responses: list[str], neighbour_only: bool) -> None:
        """Send responses back the way the request came; in parts when they are long and the one who waits is ours."""
        groups = [responses]
        if self.reply_server is not None:
            groups = parts.divided(responses, self.msg_runner.max_part_b, self.msg_runner.max_message_b)
        for group in groups:
            reply = self.msg_runner._create_response_message(
                self.wire_ctxt, routing.opposite(self.direction),
                routing.response_path(self.routing_path, neighbour_only), self.uuid,
                {"orig_message": "", "responses": group}, fanout=neighbour_only and self.reply_server is None,
                reply_server=self.reply_server, parts=len(groups))
            reply.process()

    def _text(self, response: Response) -> str:
        """Return a response as it travels; a value that cannot travel is a failure."""
        try:
            return response.to_json(with_trace=self.msg_runner.sends_tracebacks)
        except Exception as error:  # edge: without an answer the requester would wait in vain
            LOG.exception("The result of %s in %s cannot be sent", self.method_name, self.routing_path)
            text = f"the result of {self.method_name} cannot be sent ({type(error).__name__})"
            failure = (TypeError, TypeError(text), None)
            return Response(None, self.routing_path, failure, True).to_json()
