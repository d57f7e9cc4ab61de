"""One cell's messaging: a transport per broker URL, clients, servers and a notifier on them."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.context import Services
from nova_lite.rpc import direct, errors, serializer
from nova_lite.rpc.client import Line, RpcClient
from nova_lite.rpc.server import Dispatcher, RpcServer

LOG = logging.getLogger(__name__)

_REBUILT_EXCEPTIONS = ["nova_lite.exception"]
# How many may wait for a free worker of a broker, each until its own deadline.
_WAITING_PER_BROKER = 1000
_CLOSE_LIMIT_S = 2


class Rpc:
    """Messaging of one cell in this process, on its own configuration.

    ``clock`` is the cell's; deadlines are read from it. Transports of neighbours are kept per URL.
    """

    def __init__(self, conf: cfg.ConfigOpts, *, clock: Any = None):
        self._conf = conf
        self._clock = clock or concurrency.Clock()
        self._lines: dict[str | None, Line] = {}
        self._senders: list[direct.Sender] = []
        self._lock = threading.Lock()
        self._arguments: Any = None

    def client(self, topic: str, *, version: str = "1.0", version_cap: str | None = None,
               namespace: str | None = None, server: str | None = None, serializer: Any = None,
               exchange: str | None = None, transport_url: str | None = None, retry: int = 0,
               cast_timeout_s: float | None = None) -> RpcClient:
        """A client of one topic, on the cell's own broker or that of ``transport_url``."""
        return RpcClient(self._line(transport_url), topic=topic, version=version, version_cap=version_cap,
                         namespace=namespace, server=server, exchange=exchange,
                         serializer=serializer or self._argument_serializer(), retry=retry, clock=self._clock,
                         call_timeout_s=self._conf.rpc_response_timeout,
                         cast_timeout_s=cast_timeout_s or self._conf.rpc_response_timeout)

    def server(self, topic: str, endpoints: Sequence[Any], *, server_name: str | None = None, bind: Services,
               serializer: Any = None, pool_size: int | None = None) -> RpcServer:
        """A server of one topic; contexts of its messages are bound to ``bind``."""
        dispatcher = Dispatcher(endpoints, bind.with_(clock=bind.clock or self._clock, conf=bind.conf or self._conf),
                                serializer or self._argument_serializer(), self._conf.rpc_dedup_size)
        target = oslo_messaging.Target(topic=topic, server=server_name or self._conf.host)
        return RpcServer(self.raw_transport(), target, dispatcher, pool_size,
                         drain_limit_s=self._conf.graceful_shutdown_timeout)

    def sender(self, url: str, returned: Callable[[str, str], None]) -> direct.Sender | None:
        """Return what sends texts straight to queues of another broker; None where only oslo.messaging can.

        `returned(queue, text)` is called for texts that no queue was there for.
        """
        broker = direct.Broker(self._conf, url)
        if not broker.is_direct:
            return None
        sender = direct.Sender(broker, returned)
        with self._lock:
            self._senders.append(sender)
        return sender

    def receiver(self, shared: str, own: str, take: Callable[[Any], None]) -> direct.Receiver | None:
        """Return what receives such texts from the cell's own broker, from a queue of all and one of this process."""
        broker = direct.Broker(self._conf, None)
        return direct.Receiver(broker, shared, own, take) if broker.is_direct else None

    def notifier(self, publisher_id: str) -> oslo_messaging.Notifier:
        """oslo.messaging's notifier on the cell's own broker."""
        transport = oslo_messaging.get_notification_transport(self._conf)
        _mend(transport)
        return oslo_messaging.Notifier(transport, publisher_id, retry=0)

    def raw_transport(self, url: str | None = None) -> Any:
        """The library's transport for a URL (None: the cell's own), one for each."""
        return self._line(url).transport

    def check(self, timeout_s: float = 5) -> None:
        """Raise RpcUnavailable or RpcTimeout, one line, when the cell's own broker does not take messages now."""
        client = self.client("nova_lite.probe", serializer=serializer.PlainSerializer(), cast_timeout_s=timeout_s)
        client.cast({}, "probe", fanout=True)

    def close(self) -> None:
        """Give up all connections. Servers are stopped before."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), {}
            senders, self._senders = self._senders, []
        for sender in senders:
            sender.close()
        closing = [concurrency.spawn(line.transport.cleanup) for line in lines]
        for line, task in zip(lines, closing, strict=True):
            line.shut_down()
            try:
                task.wait(_CLOSE_LIMIT_S)
            except concurrency.TimeLimitExceeded:
                LOG.info("a message broker is away, its connections were not closed in order")

    def _line(self, url: str | None) -> Line:
        with self._lock:
            if url not in self._lines:
                self._lines[url] = self._new_line(url)
            return self._lines[url]

    def _new_line(self, url: str | None) -> Line:
        try:
            transport = oslo_messaging.get_rpc_transport(self._conf, url=url, allowed_remote_exmods=_REBUILT_EXCEPTIONS)
        except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure) as error:
            raise exception.ConfigurationError(reason=f"transport URL: {errors.one_line(error)}") from None
        if (url or self._conf.transport_url).startswith("memory:"):
            return Line(transport)
        _mend(transport)
        size = self._conf.oslo_messaging_rabbit.rpc_conn_pool_size
        return Line(transport, callers=concurrency.Pool("rpc-caller", size, queue_size=_WAITING_PER_BROKER),
                    casters=concurrency.Pool("rpc-caster", size, queue_size=_WAITING_PER_BROKER))

    def _argument_serializer(self) -> Any:
        if self._arguments is None:
            self._arguments = serializer.argument_serializer()
        return self._arguments


def _mend(transport: Any) -> None:
    if transport._driver._url.transport == "rabbit":
        from nova_lite.rpc import connections  # brings the library's driver, which others do without

        connections.mend(transport)
