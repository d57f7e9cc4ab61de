"""Publishing texts to queues of one broker, on a connection that is kept."""

import collections
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.rpc import errors
from nova_lite.rpc.direct.broker import POLL_S, Broker, failures

LOG = logging.getLogger(__name__)

_LIMIT_S = 5.0
_WINDOW = 100
_TRANSIENT = 1
_NO_QUEUE = "nova_lite.probe"


class Sender:
    """Sends texts; does not wait until the broker has them.

    The broker's confirmations are read on the side: a broker that owes one for five seconds is taken for dead, its
    connection given up. `returned(queue, text)` is called, in a worker of its own, for a text whose queue is not there.
    """

    def __init__(self, broker: Broker, returned: Callable[[str, str], None]):
        self._broker = broker
        self._returned = returned
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._is_refused = False

    @property
    def takes_at_once(self) -> bool:
        """Whether a text can be sent now without waiting for a connection, or for others who send."""
        line = self._line
        return line is not None and line.is_fluent and not self._lock.locked()

    def send(self, queue: str, text: str, ttl_s: float) -> bool:
        """Send a text to a queue, where it waits for `ttl_s` seconds at most. Raises RpcUnavailable.

        False, and nothing is sent, where the broker does not let our user write to queues directly: one with no more
        rights than oslo.messaging needs may write to its exchanges only.
        """
        if self._is_refused:
            return False
        if not self._lock.acquire(timeout=_LIMIT_S):
            raise self._unavailable("others wait for it already")
        try:
            if self._line is None or not self._line.publish(queue, text, ttl_s):
                self._line = _Line(self._broker.connect(), self._broker.name, self._returned)
                if not self._line.publish(queue, text, ttl_s):
                    raise self._unavailable("the connection broke")
            return True
        except _Refused:
            self._is_refused = True
            LOG.warning("The user for %s may not write to its default exchange: messages go there by slower ways",
                        self._broker.name)
            return False
        except failures() as error:
            raise self._unavailable(errors.one_line(error)) from None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give up the connection."""
        line, self._line = self._line, None
        if line is not None:
            line.give_up()

    def _unavailable(self, reason: str) -> exception.RpcUnavailable:
        return exception.RpcUnavailable(method="a message", topic=self._broker.name, reason=reason)


class _Refused(Exception):
    """The broker does not let our user write to queues directly."""


class _Line:
    """An open connection, and a worker that reads what the broker says on it."""

    def __init__(self, connection: Any, name: str, returned: Callable[[str, str], None]):
        from amqp import Message, spec

        self._message_class, self._method = Message, spec.Basic.Publish
        self._name = name
        self._returned = returned
        self._failures = failures()
        self._connection = connection
        self._socket = connection.sock
        self._channel = connection.channel()
        self._channel.confirm_select()
        for event in ("basic_ack", "basic_nack"):
            self._channel.events[event].add(self._confirmed)
        self._last_tag = 0
        self._unconfirmed: collections.deque[tuple[int, float]] = collections.deque()
        self._is_writing = False
        self._is_down = False
        try:
            self._probe()
        except BaseException:
            connection.collect()
            raise
        self._channel.events["basic_return"].add(self._came_back)
        concurrency.spawn(self._read)

    def _probe(self) -> None:
        """Send what comes back, before anything that matters: a refusal would come after texts were lost."""
        from amqp.exceptions import AccessRefused

        answers: list[Any] = []
        note = lambda *answer: answers.append(answer)  # noqa: E731
        self._channel.events["basic_return"].add(note)
        try:
            self._write(_NO_QUEUE, "", _LIMIT_S)
            while not answers:
                self._connection.drain_events(timeout=POLL_S)
        except AccessRefused:
            raise _Refused from None
        finally:
            self._channel.events["basic_return"].discard(note)

    @property
    def is_fluent(self) -> bool:
        """Whether the broker keeps up: then writing does not block."""
        return not self._is_down and not self._is_writing and len(self._unconfirmed) < _WINDOW

    def publish(self, queue: str, text: str, ttl_s: float) -> bool:
        """Write a text to the connection; False if that is of no use any more. One caller at a time."""
        if self._is_down or self._is_stuck():
            self.give_up()
            return False
        self._is_writing = True
        try:
            self._write(queue, text, ttl_s)
        except self._failures as error:
            LOG.debug("Connection to %s broke: %s", self._name, errors.one_line(error))
            self.give_up()
            return False
        finally:
            self._is_writing = False
        return True

    def _write(self, queue: str, text: str, ttl_s: float) -> None:
        self._last_tag += 1
        self._unconfirmed.append((self._last_tag, time.monotonic()))
        message = self._message_class(text, delivery_mode=_TRANSIENT, expiration=str(max(1, int(ttl_s * 1000))))
        # Not basic_publish: it looks for messages of the broker first, which the reader is already waiting for.
        self._channel.send_method(self._method, "Bssbb", (0, "", queue, True, False), message)

    def give_up(self) -> None:
        """Have the reader end, which takes the connection with it."""
        self._is_down = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _is_stuck(self) -> bool:
        try:
            return time.monotonic() - self._unconfirmed[0][1] > _LIMIT_S
        except IndexError:
            return False

    def _read(self) -> None:
        try:
            while not self._is_down:
                try:
                    self._connection.drain_events(timeout=POLL_S)
                except TimeoutError:
                    self._beat()
        except self._failures as error:
            if not self._is_down:
                LOG.info("Connection to %s ended: %s", self._name, errors.one_line(error))
        finally:
            self._is_down = True
            self._connection.collect()

    def _beat(self) -> None:
        if self._is_stuck():
            raise TimeoutError("the broker does not answer")
        if not self._is_writing:
            self._connection.heartbeat_tick()

    def _confirmed(self, tag: int, _multiple: bool) -> None:
        """The broker is alive. Which of the texts it has is not of interest, only whether it goes on."""
        while self._unconfirmed and self._unconfirmed[0][0] <= tag:
            self._unconfirmed.popleft()

    def _came_back(self, _error: Exception, _exchange: str, queue: str, message: Any) -> None:
        concurrency.spawn(self._returned, queue, message.body)
