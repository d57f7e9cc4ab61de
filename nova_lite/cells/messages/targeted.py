"""Messages for one cell, and the answers that come back; relayed hop by hop."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells import operations, routing
from nova_lite.cells.messages.base import Message
from nova_lite.cells.response import Response

LOG = logging.getLogger(__name__)


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
