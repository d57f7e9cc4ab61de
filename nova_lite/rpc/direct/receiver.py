"""Consuming texts from queues of the own broker."""

import threading
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.rpc import errors
from nova_lite.rpc.direct.broker import POLL_S, Broker, failures

LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 1.0
_QUIET_S = 0.1
_STOP_LIMIT_S = 5.0
# What nobody has consumed from for so long is deleted by the broker.
_UNUSED_LIMIT_MS = 1_800_000


class Receiver:
    """Hands each text of some queues to `take`, which must not block; connects again whenever the connection breaks.

    `shared` is a queue that other processes consume from too, `own` is this process's alone. Texts count as received
    when they are read from the connection: one that is lost then is missed by whoever waits for its answer.
    """

    def __init__(self, broker: Broker, shared: str, own: str, take: Callable[[Any], None]):
        self._broker = broker
        self._shared = shared
        self._own = own
        self._take = take
        self._failures = failures()
        self._stopping = threading.Event()
        self._tags: dict[str, str] = {}
        self._channel: Any = None
        self._task: concurrency.Task | None = None

    def start(self) -> None:
        """Begin to receive. If the broker is away now, as soon as it is there."""
        try:
            connection = self._connect()
        except (exception.RpcUnavailable, *self._failures):
            connection = None
        self._task = concurrency.spawn(self._run, connection)

    def take_no_more(self) -> None:
        """Leave what comes to the shared queue to others; the own queue is still read."""
        self._cancel(self._shared)

    def stop(self) -> None:
        """Receive no more; what was read already has been handed over on return."""
        if self._task is None:
            return
        self._stopping.set()
        self._cancel(self._own)
        self._cancel(self._shared)
        try:
            self._task.wait(_STOP_LIMIT_S)
        except concurrency.TimeLimitExceeded:
            LOG.info("The message broker is away, a connection to it was not closed in order")

    def _cancel(self, queue: str) -> None:
        tag, channel = self._tags.pop(queue, None), self._channel
        if tag is None or channel is None:
            return
        try:
            # The broker's answer comes behind the last text, and wakes the reader.
            from amqp import spec

            channel.send_method(spec.Basic.Cancel, "sb", (tag, False))
        except self._failures as error:
            LOG.debug("Consuming could not be cancelled: %s", errors.one_line(error))

    def _connect(self) -> Any:
        connection = self._broker.connect()
        try:
            channel = connection.channel()
            unused = {"x-expires": _UNUSED_LIMIT_MS}
            channel.queue_declare(self._shared, auto_delete=False, arguments=unused)
            channel.queue_declare(self._own, auto_delete=True, arguments=unused)
            self._tags = {queue: channel.basic_consume(queue, no_ack=True, callback=self._received)
                          for queue in (self._shared, self._own)}
            self._channel = channel
        except self._failures:
            connection.collect()
            raise
        return connection

    def _run(self, connection: Any) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                if connection is None:
                    connection = self._connect()
                pause_s = _FIRST_PAUSE_S
                self._read(connection)
                return
            except (exception.RpcUnavailable, *self._failures) as error:
                LOG.log(logging.WARNING if connection else logging.DEBUG,
                        "Messages of other cells cannot be read from %s: %s", self._broker.name, errors.one_line(error))
            finally:
                if connection is not None:
                    connection.collect()
                    connection = None
            self._stopping.wait(pause_s)
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)

    def _read(self, connection: Any) -> None:
        """Read until told to stop, and then what is still on its way."""
        while not self._stopping.is_set():
            try:
                connection.drain_events(timeout=POLL_S)
            except TimeoutError:
                connection.heartbeat_tick()
        try:
            while True:
                connection.drain_events(timeout=_QUIET_S)
        except TimeoutError:
            return

    def _received(self, message: Any) -> None:
        try:
            self._take(message.body)
        except Exception:  # edge: a text must not end the reading of all others
            LOG.exception("A text from %s could not be taken", self._broker.name)
