"""Carries messages to neighbours over RPC: a cell publishes on its neighbour's broker, consumes on its own."""

import abc
import functools
import json
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception, rpc
from nova_lite.cells import lean, operations

LOG = logging.getLogger(__name__)

VERSION = "1.0"
_DRAIN_POLL_S = 0.05
_SEND_TIMEOUT_S = 5.0
_TRACED = ("request_id", "user_id", "project_id", "is_admin")


class BaseCellsDriver(abc.ABC):
    """How messages leave a cell and enter it."""

    @abc.abstractmethod
    def start_servers(self, msg_runner) -> None:
        """Begin to process messages from neighbours."""

    @abc.abstractmethod
    def stop_servers(self) -> None:
        """Stop, when what is being processed is done."""

    @abc.abstractmethod
    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        """Send a message to a neighbour, to its one process `server` if given. Raises RpcUnavailable."""

    def takes_at_once(self, cell_state) -> bool:
        """Whether a lean message to this neighbour goes out without any waiting."""
        return False


class CellsRPCDriver(BaseCellsDriver):
    """One RPC server a message type, so that waiting requests never keep responses from being read.

    Lean messages come on queues of their own where both brokers allow it.
    """

    def __init__(self, services):
        self._services = services
        self._api = InterCellRPCAPI(services)
        self._clock = services.clock
        self._servers: dict[str, rpc.RpcServer] = {}
        self._lean: LeanReceiver | None = None

    def start_servers(self, msg_runner) -> None:
        dispatcher = InterCellRPCDispatcher(msg_runner)
        base = self._services.conf.cells.rpc_driver_queue_base
        # First, since neighbours may use it as soon as they hear from this cell.
        self._lean = self._lean or LeanReceiver.started(self._services, msg_runner)
        # Those that serve already do so when this is tried again, for a broker that went away in the middle.
        for message_type in sorted(set(msg_runner.get_message_types()) - set(self._servers)):
            server = self._services.rpc.server(f"{base}.{message_type}", [dispatcher],
                                               server_name=self._services.host, bind=self._services,
                                               serializer=rpc.PlainSerializer())
            server.start()
            self._servers[message_type] = server

    def stop_servers(self) -> None:
        """Take no more requests, let those in work end (within graceful_shutdown_timeout), then take no answers."""
        answers = self._servers.pop(operations.RESPONSE, None)
        requests, self._servers = list(self._servers.values()), {}
        lean_receiver, self._lean = self._lean, None
        limit_s = self._clock.monotonic() + self._services.conf.graceful_shutdown_timeout
        for stopping in [concurrency.spawn(server.stop) for server in requests]:
            stopping.wait()
        if lean_receiver is not None:
            lean_receiver.drain(max(0.0, limit_s - self._clock.monotonic()))
        for server in requests:
            server.wait(max(0.0, limit_s - self._clock.monotonic()))
        if answers is not None:
            answers.stop()
            answers.wait(_SEND_TIMEOUT_S)
        if lean_receiver is not None:
            lean_receiver.stop()

    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        self._api.send_message_to_cell(cell_state, message, server=server)

    def takes_at_once(self, cell_state) -> bool:
        return self._api.takes_at_once(cell_state)


def lean_queue(conf, server: str | None = None) -> str:
    """Return the name of the queue of a cell's lean messages, or of those for one process of it."""
    shared = f"{conf.cells.rpc_driver_queue_base}.lean"
    return f"{shared}.{server}" if server else shared


class LeanReceiver:
    """Carries out lean messages as they come: at once what is only passed on or handed in, the rest by workers."""

    def __init__(self, services, msg_runner):
        conf = services.conf
        self._runner = msg_runner
        self._workers = concurrency.Pool("cells-lean", conf.executor_thread_pool_size)
        self._receiver = services.rpc.receiver(lean_queue(conf), lean_queue(conf, services.host), self._take)

    @classmethod
    def started(cls, services, msg_runner) -> "LeanReceiver | None":
        """Return a receiver that works; None where lean messages come by RPC, or not at all."""
        if not services.conf.cells.lean_messages:
            return None
        found = cls(services, msg_runner)
        if found._receiver is None:
            return None
        found._receiver.start()
        return found

    def _take(self, text) -> None:
        message = self._runner.admitted(text)
        if message is None:
            return
        if self._runner.is_quick(message):
            self._runner.carry_out(message)
        else:
            self._workers.submit(self._runner.carry_out, message)

    def drain(self, limit_s: float) -> None:
        """Leave new requests to other processes and let those in work end; answers are still taken."""
        self._receiver.take_no_more()
        deadline_s = self._runner.clock.monotonic() + limit_s
        while self._workers.busy and self._runner.clock.monotonic() < deadline_s:
            self._runner.clock.sleep(_DRAIN_POLL_S)

    def stop(self) -> None:
        self._receiver.stop()
        self._workers.shutdown()


class InterCellRPCAPI:
    """Client side of the inter-cell API 1.0: `process_message` with a message's JSON text, always a cast.

    Lean messages go straight to a queue where the neighbour's broker allows it.
    """

    def __init__(self, services):
        self._rpc = services.rpc
        self._clock = services.clock
        self._conf = conf = services.conf
        self._base = conf.cells.rpc_driver_queue_base
        self._speaks_lean = conf.cells.lean_messages
        self._shared_lean_queue = lean_queue(conf)
        self._cap = rpc.resolve_cap("intercell", conf.upgrade_levels.intercell)
        self._clients: dict[tuple[str, str], rpc.RpcClient] = {}
        self._senders: dict[str, Any] = {}

    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        if self._speaks_lean and cell_state.reads_lean and message.is_awaited and not message.fanout:
            self._send_lean(cell_state, message, server)
            return
        text = message.msg_runner.seal(cell_state, message.to_json(not cell_state.is_ours, cell_state.object_versions))
        self._cast(cell_state, message.message_type, text, _Trace(message.wire_ctxt, self._until(message)), server,
                   fanout=bool(message.fanout))

    def takes_at_once(self, cell_state) -> bool:
        """Whether a lean message to this neighbour goes out without any waiting."""
        sender = self._senders.get(cell_state.db_info["transport_url"])
        return sender is not None and sender.takes_at_once

    def _send_lean(self, cell_state, message, server: str | None) -> None:
        text = message.msg_runner.seal(cell_state, message.to_lean(cell_state.object_versions))
        sender = self._sender(cell_state, message.msg_runner.seal)
        until_s = self._until(message)
        left_s = (message.deadline or until_s) - self._clock.time()
        queue = lean_queue(self._conf, server) if server else self._shared_lean_queue
        if sender is None or not sender.send(queue, text, left_s):
            self._cast(cell_state, message.message_type, text, _Trace({}, until_s), server)

    def _cast(self, cell_state, message_type: str, text: str, trace: "_Trace", server: str | None,
              fanout: bool = False) -> None:
        client = self._client(cell_state.db_info["transport_url"], message_type)
        client.cast(trace, "process_message", server=server, fanout=fanout, message=text)

    def _returned(self, cell_state, seal: Callable[[Any, str], str], queue: str, text: str) -> None:
        """A text found no queue, so no process of the cell reads lean messages now; one may read all others."""
        server = queue[len(self._shared_lean_queue) + 1:] or None
        fields = lean.as_reference(text)
        message_type = fields["message_type"]
        LOG.debug("Cell %s has no queue %s, a %s message goes there in another form", cell_state.name, queue,
                  message_type)
        try:
            self._cast(cell_state, message_type, seal(cell_state, json.dumps(fields)),
                       _Trace(fields["ctxt"], self._clock.time() + _SEND_TIMEOUT_S), server)
        except exception.RpcError as error:
            LOG.warning("A %s message cannot be sent to cell %s: %s", message_type, cell_state.name, error)

    def _until(self, message) -> float:
        """Return when to give up sending: a broker that hangs must not hold up what has a deadline, nor others."""
        limit_s = self._clock.time() + _SEND_TIMEOUT_S
        return limit_s if message.deadline is None else min(limit_s, message.deadline)

    def _client(self, transport_url: str, message_type: str) -> rpc.RpcClient:
        key = (transport_url, message_type)
        if key not in self._clients:
            self._clients[key] = self._rpc.client(
                f"{self._base}.{message_type}", version=VERSION, version_cap=self._cap, transport_url=transport_url,
                serializer=rpc.PlainSerializer())
        return self._clients[key]

    def _sender(self, cell_state, seal: Callable[[Any, str], str]) -> Any:
        url = cell_state.db_info["transport_url"]
        if url not in self._senders:
            self._senders[url] = self._rpc.sender(url, functools.partial(self._returned, cell_state, seal))
        return self._senders[url]


class _Trace(dict):
    """What the RPC layer is told of a request: whose it is, and until when to try. The context that counts is in
    the message."""

    def __init__(self, wire_ctxt: dict[str, Any], deadline: float):
        super().__init__((key, wire_ctxt[key]) for key in _TRACED if key in wire_ctxt)
        self.deadline = deadline


class InterCellRPCDispatcher:
    """Server side of the inter-cell API 1.0."""

    version = VERSION
    remote_methods = frozenset(("process_message",))

    def __init__(self, msg_runner):
        self._msg_runner = msg_runner

    def process_message(self, _ctxt, message):
        """Process a message's JSON text. The context is the one inside it, not the RPC's."""
        self._msg_runner.receive(message)
