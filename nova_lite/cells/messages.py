"""The three kinds of message that travel between cells, and what a cell does with each.

A message is built where it starts, and again in every cell it reaches: building it appends the cell's name to
the routing path and counts the hop. A relayed message's context and arguments stay the JSON they came as;
objects are only made where the work is done.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_lite import exception
from nova_lite.cells import levels, operations, routing
from nova_lite.cells.response import Response
from nova_lite.objects import base

LOG = logging.getLogger(__name__)

MSG_VERSION = 1
_INTRODUCTIONS = frozenset(("announce_capabilities", "announce_capacities", "update_capabilities", "update_capacities",
                            "greet"))
_MARGIN_SHARE = 0.1
_MAX_MARGIN_S = 1.0


def with_margin(deadline_s: float, now_s: float) -> float:
    """Return the deadline to give to others, so that their answer, or ours without it, is still in time."""
    return deadline_s - min(_MAX_MARGIN_S, max(0.0, deadline_s - now_s) * _MARGIN_SHARE)


_FIELD_TYPES = {"ctxt": dict, "method_name": str, "method_kwargs": dict, "routing_path": str, "direction": str,
                "uuid": str, "hop_count": int, "target_cell": str, "response_uuid": str}


def check_fields(fields: dict[str, Any]) -> None:
    """Raise ValueError for a received message whose fields are not what they have to be."""
    for name, kind in _FIELD_TYPES.items():
        if name in fields and not isinstance(fields[name], kind):
            raise ValueError(f"{name} of a message must be a {kind.__name__}")
    if fields.get("direction") not in (routing.UP, routing.DOWN):
        raise ValueError("the direction of a message must be up or down")
    for name in ("deadline", "max_hop_count"):
        if not isinstance(fields.get(name), (int, float, type(None))):
            raise ValueError(f"{name} of a message must be a number")
    if not isinstance(fields.get("object_versions"), (dict, type(None))):
        raise ValueError("object_versions of a message must be a dict")
    if not isinstance(fields.get("reply_server"), (str, type(None))):
        raise ValueError("reply_server of a message must be a name")


class Message:
    """What all messages have. `received` tells that ctxt and method_kwargs are still in wire form."""

    message_type: str

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, need_response=False, fanout=False,
                 uuid=None, routing_path=None, hop_count=0, max_hop_count=None, deadline=None, reply_server=None,
                 msg_version=None, object_versions=None, received=False, **kwargs):
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
        self.reply_server = reply_server
        self.peer_version = msg_version
        self.object_versions = object_versions
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
            self._wire_ctxt = self._ctxt.to_dict()
        return self._wire_ctxt

    @property
    def method_kwargs(self) -> dict[str, Any]:
        """The arguments of the work, as objects of this cell."""
        if self._kwargs is None:
            self._kwargs = {name: base.from_wire(self.ctxt, value) for name, value in self._wire_kwargs.items()}
        return self._kwargs

    def wire_kwargs(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments in wire form, for a neighbour that reads these versions of objects."""
        if self._wire_kwargs is None:
            self._wire_kwargs = {name: base.to_wire(value, beyond_floor=True) for name, value in self._kwargs.items()}
        elif self.peer_version is None:
            return self._wire_kwargs  # from the reference, whose cells are all of one version
        return levels.fitted(self._wire_kwargs, versions)

    @property
    def came_from(self) -> str | None:
        """Name of the neighbour that sent this message to us, None when it is ours."""
        return routing.hop_before(self.routing_path)

    def source_is_us(self) -> bool:
        return self.routing_path == self.msg_runner.our_name

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
        fields = {
            "message_type": self.message_type, "ctxt": self.wire_ctxt, "method_name": self.method_name,
            "method_kwargs": kwargs, "direction": self.direction, "need_response": self.need_response,
            "fanout": self.fanout, "uuid": self.uuid, "routing_path": self.routing_path,
            "hop_count": self.hop_count, "max_hop_count": self.max_hop_count, **self._own_fields(),
            "msg_version": MSG_VERSION}
        if self.method_name in _INTRODUCTIONS:
            fields["object_versions"] = levels.OUR_VERSIONS
        if self.deadline is not None:
            fields["deadline"] = self.deadline
        if self.reply_server is not None:
            fields["reply_server"] = self.reply_server
        return fields

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
        """Send responses back the way the request came."""
        reply = self.msg_runner._create_response_message(
            self.wire_ctxt, routing.opposite(self.direction),
            routing.response_path(self.routing_path, neighbour_only), self.uuid,
            {"orig_message": "", "responses": responses}, fanout=neighbour_only and self.reply_server is None,
            reply_server=self.reply_server)
        reply.process()

    def _text(self, response: Response) -> str:
        """Return a response as it travels; a value that cannot travel is a failure."""
        try:
            return response.to_json()
        except Exception as error:  # edge: without an answer the requester would wait in vain
            LOG.exception("The result of %s in %s cannot be sent", self.method_name, self.routing_path)
            text = f"the result of {self.method_name} cannot be sent ({type(error).__name__})"
            failure = (TypeError, TypeError(text), None)
            return Response(None, self.routing_path, failure, True).to_json()


class TargetedMessage(Message):
    """A message for one cell, relayed along `target_cell` (a route, the originator first)."""

    message_type = operations.TARGETED

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, target_cell, strict=False, **kwargs):
        super().__init__(msg_runner, ctxt, method_name, method_kwargs, direction, **kwargs)
        self.target_cell = self._as_path(target_cell)
        self.strict = strict  # a cast raises at its origin what kept it from being sent

    def _as_path(self, target_cell) -> str:
        if target_cell is None:
            raise exception.CellRoutingInconsistency(reason=f"no cell was given for {self.method_name}")
        if isinstance(target_cell, str):
            return target_cell
        if target_cell.is_me:
            return self.msg_runner.our_name
        return routing.append(self.msg_runner.our_name, target_cell.name)

    def _own_fields(self) -> dict[str, Any]:
        return {"target_cell": self.target_cell}

    def next_hop(self):
        """Return the CellState this message goes to next, our own when it has arrived."""
        name = routing.next_name(self.target_cell, self.routing_path)
        if name is None:
            return self.msg_runner.state_manager.get_my_state()
        neighbour = self._neighbour(name)
        if neighbour is None:
            raise routing.unknown_neighbour(self.direction, self.target_cell)
        return neighbour

    def process(self) -> Response | None:
        """Do the work here or pass the message on; return the answer where it was asked for, at the origin."""
        try:
            next_hop = self.next_hop()
        except Exception as error:  # edge: whatever went wrong here is the requester's answer
            LOG.warning("Cannot route %s to %s: %s", self.method_name, self.target_cell, error)
            return self._lost(error)
        if next_hop.is_me:
            return self._give(self._work())
        if self.need_response and self.source_is_us():
            return self._ask(next_hop)
        try:
            self._forward(next_hop)
        except Exception as error:  # edge
            LOG.warning("Cannot send %s to cell %s: %s", self.method_name, next_hop.name, error)
            return self._lost(error)
        return None

    def _lost(self, error: Exception) -> Response | None:
        """Give the failure being handled to whoever waits; without a waiter see that nothing hangs on it."""
        if not self.need_response:
            if self.strict and self.source_is_us():
                raise error
            self.msg_runner.lost(self, error)
        return self._give(self._failure())

    def _ask(self, next_hop) -> Response:
        deadline_s = self._wait_deadline()
        self.reply_server = self.msg_runner.host
        try:
            wait = self.msg_runner._setup_response_queue(self, [next_hop.name])
            self._forward(next_hop)
            responses = wait.until(deadline_s)
            if not responses:
                raise exception.CellTimeout()
        except Exception as error:  # edge
            LOG.warning("No answer to %s from %s: %s", self.method_name, self.target_cell, error)
            return self._failure()
        finally:
            self.msg_runner._cleanup_response_queue(self)
        return Response.from_json(self.ctxt, responses[0])

    def _forward(self, next_hop) -> None:
        if self.hop_count >= self.max_hop_count:
            raise exception.CellMaxHopCountReached(hop_count=self.hop_count)
        try:
            self._send(next_hop)
        except exception.RpcTimeout:
            raise exception.CellTimeout() from None

    def _give(self, response: Response) -> Response | None:
        """Return the response at the origin, send it from anywhere else, forget it if nobody asked."""
        if not self.need_response:
            return None
        if self.source_is_us():
            return response
        self._answer([self._text(response)], neighbour_only=False)
        return None


class BroadcastMessage(Message):
    """A message for every cell below, or above."""

    message_type = operations.BROADCAST

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, run_locally=True, **kwargs):
        super().__init__(msg_runner, ctxt, method_name, method_kwargs, direction, **kwargs)
        self.run_locally = run_locally

    def _neighbours(self) -> list:
        state = self.msg_runner.state_manager
        return state.get_child_cells() if self.direction == routing.DOWN else state.get_parent_cells()

    def next_hops(self) -> list:
        """Return the CellStates this message goes to next; none when it has made all hops it may."""
        neighbours = self._neighbours()
        if neighbours and self.hop_count >= self.max_hop_count:
            LOG.warning("Broadcast %s ends in %s: it has made %d hops of %d", self.method_name, self.routing_path,
                        self.hop_count, self.max_hop_count)
            return []
        return neighbours

    def process(self) -> list[Response] | None:
        """Act here, and in all cells further on; at the origin return the responses, the farthest first."""
        if self.source_is_us():
            self.msg_runner.remember(self)
        if not self.need_response:
            self._tell()
            return None
        responses = self._collect()
        if self.source_is_us():
            return [Response.from_json(self.ctxt, text) if isinstance(text, str) else text for text in responses]
        self._answer([text if isinstance(text, str) else self._text(text) for text in responses], neighbour_only=True)
        return None

    def _tell(self) -> None:
        if self.run_locally:
            self._work()
        failures = self._send_to_all(self.next_hops())
        if failures and self.source_is_us():
            raise failures[0].error

    def _collect(self) -> list[str | Response]:
        """Return the answers of the sub-tree, then our own; a failure for each neighbour that gave none."""
        neighbours, unasked = self._worth_asking()
        if not neighbours:
            return [*unasked, *self._ours()]
        deadline_s = self._wait_deadline()
        try:
            wait = self.msg_runner._setup_response_queue(self, [cell.name for cell in neighbours])
            unsent = self._pass_on(neighbours, with_margin(deadline_s, self.msg_runner.clock.time()))
            for failure in unsent:
                wait.put(routing.last_name(failure.cell_name), [])
            ours = self._ours()
            arrived = wait.until(deadline_s)
        except exception.CellTimeout:
            return [self._failure(), *self._ours()]
        finally:
            self.msg_runner._cleanup_response_queue(self)
        silent = [self._failure_of(name, exception.CellTimeout()) for name in sorted(wait.missing)]
        return [*arrived, *unsent, *silent, *unasked, *ours]

    def _worth_asking(self) -> tuple[list, list[Response]]:
        """Return the neighbours to ask, and a failure for each that is left out: past the hop limit, or mute."""
        neighbours = self.next_hops()
        if not neighbours:
            error = exception.CellMaxHopCountReached(hop_count=self.hop_count)
            return [], [self._failure_of(cell.name, error) for cell in self._neighbours()]
        # Waiting for the mute would cost everybody all the time there is, every time. Parents tell nothing of
        # themselves, so nobody knows whether they are mute.
        mute = [cell for cell in neighbours if self.direction == routing.DOWN and self.msg_runner.is_given_up(cell)]
        return [cell for cell in neighbours if cell not in mute], [
            self._failure_of(cell.name, exception.CellTimeout(message=f"Cell {cell.name} is mute and was not asked"))
            for cell in mute]

    def _pass_on(self, neighbours: list, deadline_s: float) -> list[Response]:
        """Send to all, asking for answers to this process by a deadline; return a failure for each not reached."""
        received = self.deadline, self.reply_server
        self.deadline, self.reply_server = deadline_s, self.msg_runner.host
        try:
            return self._send_to_all(neighbours)
        finally:
            self.deadline, self.reply_server = received

    def _ours(self) -> list[Response]:
        return [self._work()] if self.run_locally else []

    def _send_to_all(self, neighbours: list) -> list[Response]:
        """Send to every neighbour; return a failure for each that could not be reached.

        Those that could not be reached last time come last, so that waiting for them delays nobody.
        """
        failures = []
        for neighbour in sorted(neighbours, key=lambda cell: not cell.is_reachable):
            try:
                self._send(neighbour)
            except Exception as error:  # edge: one dead neighbour must not keep the others from hearing
                LOG.warning("Cannot send broadcast %s to cell %s: %s", self.method_name, neighbour.name, error)
                path = routing.append(self.routing_path, neighbour.name)
                failures.append(Response(self.ctxt, path, sys.exc_info(), True))
        return failures

    def _failure_of(self, name: str, error: Exception) -> Response:
        """Return the answer that a neighbour did not give."""
        path = routing.append(self.routing_path, name)
        LOG.debug("Cell %s has not answered %s: %s", path, self.method_name, error)
        return Response(self.ctxt, path, (type(error), error, None), True)


class ResponseMessage(TargetedMessage):
    """Answers on their way back to the cell that waits for `response_uuid`."""

    message_type = operations.RESPONSE

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, target_cell, response_uuid, **kwargs):
        super().__init__(msg_runner, ctxt, method_name, method_kwargs, direction, target_cell, **kwargs)
        self.response_uuid = response_uuid

    def _own_fields(self) -> dict[str, Any]:
        return {"target_cell": self.target_cell, "response_uuid": self.response_uuid}

    def process(self) -> None:
        """Hand the answers in, or pass them on; nothing is ever answered to an answer."""
        next_hop = self.next_hop()
        if next_hop.is_me:
            self._work()
            return
        is_last_hop = routing.append(self.routing_path, next_hop.name) == self.target_cell
        if is_last_hop and self.reply_server is None:
            # Any process of that cell may be the one that waits.
            self.fanout = True
        self._send(next_hop, server=self.reply_server if is_last_hop else None)


MESSAGE_CLASSES = {cls.message_type: cls for cls in (TargetedMessage, BroadcastMessage, ResponseMessage)}
