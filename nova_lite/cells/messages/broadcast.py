"""Messages for every cell below, or above, and the answers of all of them."""

import sys

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells import operations, routing
from nova_lite.cells.messages.base import Message, with_margin
from nova_lite.cells.response import Response

LOG = logging.getLogger(__name__)


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
            return [response for one in responses
                    for response in (Response.all_in(self.ctxt, [one]) if isinstance(one, str) else [one])]
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
        # Waiting for the mute would cost everybody all the time there is, every time.
        mute = [cell for cell in neighbours if self.msg_runner.is_given_up(cell)]
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
