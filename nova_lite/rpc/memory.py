"""``memory://HOST/VHOST``: an oslo.messaging driver inside the process, without polling.

It behaves as RabbitMQ does where a caller can tell: messages travel as JSON text, one of several consumers of a queue
gets each message in turn, a fan-out reaches every listener of a topic whatever its exchange, a message for a queue
nobody has declared is dropped, and a declared queue keeps its messages while nobody consumes. What differs: a broker
lives as long as a transport of its URL, and a queue holds at most MAX_QUEUED messages.

oslo.messaging has no public driver interface: base classes come from ``_drivers``, and a test holds what is used.
"""

import collections
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import base
from oslo_messaging._drivers import common as driver_common
from oslo_serialization import jsonutils

MAX_QUEUED = 100_000
_MAX_NOTIFICATIONS = 10_000


class _Envelope:
    """A message on its way: text, where to answer, and when nobody waits for it any more."""

    __slots__ = ("expires_at", "reply", "text")

    def __init__(self, text: str, reply: "_Reply | None" = None, expires_at: float | None = None):
        self.text = text
        self.reply = reply
        self.expires_at = expires_at

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and time.monotonic() > self.expires_at


class _Reply:
    """Where a caller waits for its answer."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._text: str | None = None

    def put(self, text: str) -> None:
        self._text = text
        self._arrived.set()

    def get(self, timeout: float | None) -> str:
        if not self._arrived.wait(timeout):
            raise oslo_messaging.MessagingTimeout("no answer in time")
        assert self._text is not None
        return self._text


class _Queue:
    """A declared queue: waiting messages, and the consumers that take turns."""

    def __init__(self, limit: int = MAX_QUEUED, drop_oldest: bool = False):
        self._limit = limit
        self._drop_oldest = drop_oldest
        self._waiting: collections.deque[_Envelope] = collections.deque()
        self._consumers: collections.deque[MemoryListener] = collections.deque()

    def put(self, envelope: _Envelope) -> None:
        if self._consumers:
            self._consumers[0].take(self, envelope)
            self._consumers.rotate(-1)
            return
        if len(self._waiting) >= self._limit:
            if not self._drop_oldest:
                raise oslo_messaging.MessageDeliveryFailure(f"a queue holds {self._limit} messages already")
            self._waiting.popleft()
        self._waiting.append(envelope)

    def attach(self, listener: "MemoryListener") -> None:
        self._consumers.append(listener)
        while self._waiting:
            self.put(self._waiting.popleft())

    def detach(self, listener: "MemoryListener", unread: list[_Envelope]) -> None:
        """Take a consumer away; what it had not read goes to the others, or waits in the order it came."""
        if listener in self._consumers:
            self._consumers.remove(listener)
        if self._consumers:
            for envelope in unread:
                self.put(envelope)
        else:
            self._waiting.extendleft(reversed(unread))


class _Broker:
    """The queues of one URL."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._fanout: dict[str, list[_Queue]] = {}

    def declare(self, exchange: str, name: str, **kwargs: Any) -> _Queue:
        with self.lock:
            queue = self._queues.get((exchange, name))
            if queue is None:
                queue = self._queues[exchange, name] = _Queue(**kwargs)
            return queue

    def declare_fanout(self, topic: str) -> _Queue:
        with self.lock:
            queue = _Queue()
            self._fanout.setdefault(topic, []).append(queue)
            return queue

    def remove_fanout(self, topic: str, queue: _Queue) -> None:
        with self.lock:
            self._fanout[topic].remove(queue)

    def publish(self, exchange: str, name: str, envelope: _Envelope) -> bool:
        """Put a message into a queue; False if nobody has declared it."""
        with self.lock:
            queue = self._queues.get((exchange, name))
            if queue is not None:
                queue.put(envelope)
            return queue is not None

    def publish_fanout(self, topic: str, text: str) -> None:
        with self.lock:
            for queue in self._fanout.get(topic, ()):
                queue.put(_Envelope(text))


# Brokers in use, by (host, port, virtual host). The sharing is the purpose: two transports with one URL have to meet.
_brokers: "weakref.WeakValueDictionary[tuple, _Broker]" = weakref.WeakValueDictionary()
_brokers_lock = threading.Lock()


def _broker_of(url: oslo_messaging.TransportURL) -> _Broker:
    host = url.hosts[0] if url.hosts else None
    key = (host.hostname if host else None, host.port if host else None, url.virtual_host or "/")
    with _brokers_lock:
        broker = _brokers.get(key)
        if broker is None:
            broker = _brokers[key] = _Broker()
        return broker


class MemoryIncomingMessage(base.RpcIncomingMessage):
    """A message handed to a server."""

    def __init__(self, envelope: _Envelope, number: int):
        ctxt, message = jsonutils.loads(envelope.text)
        super().__init__(ctxt, message, msg_id=number)
        self.reply_q = envelope.reply

    def acknowledge(self) -> None:
        """Nothing to do: the queue forgot the message when it was taken."""

    def requeue(self) -> None:
        raise NotImplementedError("memory:// does not take messages back")

    def heartbeat(self) -> None:
        """Callers here do not watch over a call."""

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self.reply_q is None:
            return
        error = driver_common.serialize_remote_exception(failure) if failure else None
        self.reply_q.put(jsonutils.dumps({"result": None if error else reply, "failure": error}))


class MemoryListener(base.Listener):
    """Delivers the messages of its queues from one thread that sleeps while there are none."""

    def __init__(self, broker: _Broker, queues: list[_Queue], on_cleanup: Callable[[], None] = lambda: None):
        super().__init__(batch_size=1, batch_timeout=None)
        self._broker = broker
        self._queues = queues
        self._on_cleanup = on_cleanup
        self._inbox: collections.deque[tuple[_Queue, _Envelope]] = collections.deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count(1)

    def take(self, queue: _Queue, envelope: _Envelope) -> None:
        """Called by a queue, under the broker's lock."""
        with self._changed:
            self._inbox.append((queue, envelope))
            self._changed.notify()

    def start(self, on_incoming_callback: Callable) -> None:
        super().start(on_incoming_callback)
        self._thread = threading.Thread(target=self._deliver, name="memory-listener", daemon=True)
        self._thread.start()
        with self._broker.lock:
            for queue in self._queues:
                queue.attach(self)

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._inbox and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                _, envelope = self._inbox.popleft()
            if not envelope.expired:
                self.on_incoming_callback([MemoryIncomingMessage(envelope, next(self._numbers))])

    def stop(self) -> None:
        with self._broker.lock:
            with self._changed:
                self._stopped = True
                unread, self._inbox = self._inbox, collections.deque()
                self._changed.notify_all()
            for queue in self._queues:
                queue.detach(self, [envelope for origin, envelope in unread if origin is queue])
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        super().stop()

    def cleanup(self) -> None:
        self._on_cleanup()
        self._on_cleanup = lambda: None


class MemoryDriver(base.BaseDriver):
    """The driver oslo.messaging loads for URLs that begin with memory."""

    def __init__(self, conf: Any, url: oslo_messaging.TransportURL, default_exchange: str | None = None,
                 allowed_remote_exmods: list[str] | None = None):
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._broker = _broker_of(url)

    def _exchange(self, target: oslo_messaging.Target) -> str:
        return target.exchange or self._default_exchange or ""

    def send(self, target: oslo_messaging.Target, ctxt: dict, message: dict, wait_for_reply: bool | None = None,
             timeout: float | None = None, call_monitor_timeout: float | None = None, retry: int | None = None,
             transport_options: Any = None) -> Any:
        text = jsonutils.dumps((ctxt, message))
        if target.fanout:
            self._broker.publish_fanout(target.topic, text)
            return None
        reply = _Reply() if wait_for_reply else None
        expires_at = None if reply is None or timeout is None else time.monotonic() + timeout
        self._publish(target, _Envelope(text, reply, expires_at), transport_options)
        if reply is None:
            return None
        answer = jsonutils.loads(reply.get(timeout))
        if answer["failure"]:
            raise driver_common.deserialize_remote_exception(answer["failure"], self._allowed_remote_exmods)
        return answer["result"]

    def _publish(self, target: oslo_messaging.Target, envelope: _Envelope, transport_options: Any) -> None:
        name = f"{target.topic}.{target.server}" if target.server else target.topic
        arrived = self._broker.publish(self._exchange(target), name, envelope)
        if not arrived and transport_options is not None and transport_options.at_least_once:
            raise oslo_messaging.MessageUndeliverable("NO_ROUTE", self._exchange(target), name, envelope.text)

    def send_notification(self, target: oslo_messaging.Target, ctxt: dict, message: dict, version: float,
                          retry: int | None = None) -> None:
        self._notification_queue(target, target.topic).put(_Envelope(jsonutils.dumps((ctxt, message))))

    def _notification_queue(self, target: oslo_messaging.Target, name: str) -> _Queue:
        return self._broker.declare(self._exchange(target), name, limit=_MAX_NOTIFICATIONS, drop_oldest=True)

    def listen(self, target: oslo_messaging.Target, batch_size: int, batch_timeout: float | None) -> MemoryListener:
        exchange = self._exchange(target)
        fanout = self._broker.declare_fanout(target.topic)
        queues = [self._broker.declare(exchange, target.topic),
                  self._broker.declare(exchange, f"{target.topic}.{target.server}"),
                  fanout]
        return MemoryListener(self._broker, queues, lambda: self._broker.remove_fanout(target.topic, fanout))

    def listen_for_notifications(self, targets_and_priorities: list, pool: str | None, batch_size: int,
                                 batch_timeout: float | None) -> MemoryListener:
        queues = [self._notification_queue(target, f"{target.topic}.{priority}")
                  for target, priority in targets_and_priorities]
        return MemoryListener(self._broker, queues)

    def cleanup(self) -> None:
        """The broker goes when the last driver of its URL does."""
