"""Messages for one cell, and the answers that come back; relayed hop by hop."""

from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells import lean, operations, parts, routing
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

    @property
    def is_quick(self) -> bool:
        try:
            next_hop = self.next_hop()
        except exception.CellRoutingInconsistency:
            return False
        return self._is_quick_to(next_hop)

    def _is_quick_to(self, next_hop) -> bool:
        return not next_hop.is_me and next_hop.takes_at_once and self.hop_count < self.max_hop_count

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
            if wait.missing:
                raise exception.CellTimeout()
        except Exception as error:  # edge
            LOG.warning("No answer to %s from %s: %s", self.method_name, self.target_cell, error)
            return self._failure()
        finally:
            self.msg_runner._cleanup_response_queue(self)
        return parts.whole(Response.all_in(self.ctxt, responses))

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

    def __init__(self, msg_runner, ctxt, method_name, method_kwargs, direction, target_cell, response_uuid,
                 parts=1, **kwargs):
        super().__init__(msg_runner, ctxt, method_name, method_kwargs, direction, target_cell, **kwargs)
        self.response_uuid = response_uuid
        self.parts = parts  # messages that this answer has come in

    @property
    def is_awaited(self) -> bool:
        return True

    def wire_kwargs(self, versions: Mapping[str, str]) -> dict[str, Any]:
        kwargs = super().wire_kwargs(versions)
        return {**kwargs, "responses": lean.single_texts(kwargs["responses"])}

    def _own_fields(self) -> dict[str, Any]:
        fields = {"target_cell": self.target_cell, "response_uuid": self.response_uuid}
        return fields if self.parts == 1 else {**fields, "parts": self.parts}

    def _read_body(self) -> None:
        self._wire_ctxt, self._wire_kwargs = {}, {"orig_message": "", "responses": [self._body]}

    def _lean_body(self, versions: Mapping[str, str]) -> str:
        if self._body is None:
            self._body = lean.answer_body(self._responses())
        return self._body

    def _responses(self) -> list[str]:
        """Return the texts of the answers. Raises ValueError for what a neighbour sent that is none."""
        texts = [self._body] if self._body is not None else self._wire_kwargs["responses"]
        if self.came_from is not None:
            lean.responses_in(texts)
        return texts

    def _is_quick_to(self, next_hop) -> bool:
        return next_hop.is_me or next_hop.takes_at_once

    def process(self) -> None:
        """Hand the answers in, or pass them on; nothing is ever answered to an answer."""
        next_hop = self.next_hop()
        if next_hop.is_me:
            if self._body is None:
                self._work()
            else:
                self.msg_runner._put_response(self.response_uuid, self._responses(), self.came_from, self.parts)
            return
        is_last_hop = routing.append(self.routing_path, next_hop.name) == self.target_cell
        if is_last_hop and self.reply_server is None:
            # Any process of that cell may be the one that waits.
            self.fanout = True
        self._send(next_hop, server=self.reply_server if is_last_hop else None)
