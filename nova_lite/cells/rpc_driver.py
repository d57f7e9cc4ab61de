"""Carries messages to neighbours over RPC: a cell publishes on its neighbour's broker, consumes on its own."""

import abc
from typing import Any

from nova_lite import rpc
from nova_lite.cells import operations

VERSION = "1.0"
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


class CellsRPCDriver(BaseCellsDriver):
    """One RPC server a message type, so that waiting requests never keep responses from being read."""

    def __init__(self, services):
        self._services = services
        self._api = InterCellRPCAPI(services)
        self._clock = services.clock
        self._servers: dict[str, rpc.RpcServer] = {}

    def start_servers(self, msg_runner) -> None:
        dispatcher = InterCellRPCDispatcher(msg_runner)
        base = self._services.conf.cells.rpc_driver_queue_base
        for message_type in sorted(msg_runner.get_message_types()):
            server = self._services.rpc.server(f"{base}.{message_type}", [dispatcher],
                                               server_name=self._services.host, bind=self._services,
                                               serializer=rpc.PlainSerializer())
            server.start()
            self._servers[message_type] = server

    def stop_servers(self) -> None:
        """Take no more requests, let those in work end (within graceful_shutdown_timeout), then take no answers."""
        answers = self._servers.pop(operations.RESPONSE, None)
        requests, self._servers = list(self._servers.values()), {}
        limit_s = self._clock.monotonic() + self._services.conf.graceful_shutdown_timeout
        for server in requests:
            server.stop()
        for server in requests:
            server.wait(max(0.0, limit_s - self._clock.monotonic()))
        if answers is not None:
            answers.stop()
            answers.wait(_SEND_TIMEOUT_S)

    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        self._api.send_message_to_cell(cell_state, message, server=server)


class InterCellRPCAPI:
    """Client side of the inter-cell API 1.0: `process_message` with a message's JSON text, always a cast."""

    def __init__(self, services):
        self._rpc = services.rpc
        self._clock = services.clock
        conf = services.conf
        self._base = conf.cells.rpc_driver_queue_base
        self._cap = rpc.resolve_cap("intercell", conf.upgrade_levels.intercell)
        self._clients: dict[tuple[str, str], rpc.RpcClient] = {}

    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        client = self._client(cell_state.db_info["transport_url"], message.message_type)
        text = message.msg_runner.seal(cell_state, message.to_json(not cell_state.is_ours, cell_state.object_versions))
        trace = _Trace(message.wire_ctxt, self._until(message))
        client.cast(trace, "process_message", server=server, fanout=bool(message.fanout), message=text)

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
