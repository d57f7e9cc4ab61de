"""The serving side: explicit methods, looked up before anything is run.

An endpoint says what may be called with ``remote_methods`` (names) or by marking methods with ``expose``; in which
version with ``target`` (oslo_messaging.Target), ``version`` or ``RPC_API_VERSION``; in which namespace with ``target``
or ``namespace``. With ``at_most_once = True`` a message that arrives twice is carried out once.
"""

import collections
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import oslo_messaging
from oslo_log import log as logging
from oslo_messaging.rpc import server as library
from oslo_serialization import jsonutils

from nova_lite import concurrency, exception
from nova_lite.context import RequestContext, Services
from nova_lite.rpc import errors, serializer, versions

LOG = logging.getLogger(__name__)
_EXPOSED = "_remote_method"
_STOP_LIMIT_S = 2
# Replies to what has been carried out are sent within moments, or their broker is away.
_REPLY_LIMIT_S = 5
_FOREVER_S = threading.TIMEOUT_MAX / 2


def expose(function: Callable) -> Callable:
    """Mark a method of an endpoint as callable from outside."""
    setattr(function, _EXPOSED, True)
    return function


@dataclasses.dataclass(frozen=True)
class _Handler:
    """A remote method, ready to be called."""

    function: Callable
    names: frozenset[str]
    required: frozenset[str]
    takes_any: bool
    at_most_once: bool

    @classmethod
    def of(cls, endpoint: Any, name: str) -> "_Handler":
        function = getattr(endpoint, name)
        parameters = list(inspect.signature(function).parameters.values())[1:]  # the first one is the context
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return cls(function=function,
                   names=frozenset(p.name for p in named),
                   required=frozenset(p.name for p in named if p.default is p.empty),
                   takes_any=any(p.kind is p.VAR_KEYWORD for p in parameters),
                   at_most_once=getattr(endpoint, "at_most_once", False))

    def complaint(self, arguments: Mapping[str, Any]) -> str | None:
        """Why these arguments do not fit, or None."""
        if missing := self.required - arguments.keys():
            return f"arguments {', '.join(sorted(missing))} are missing"
        if not self.takes_any and (unknown := arguments.keys() - self.names):
            return f"arguments {', '.join(sorted(map(str, unknown)))[:200]} are unknown"
        return None


@dataclasses.dataclass(frozen=True)
class _Interface:
    """The methods of one endpoint."""

    namespace: str | None
    version: str
    handlers: dict[str, _Handler]

    @classmethod
    def of(cls, endpoint: Any) -> "_Interface":
        target = getattr(endpoint, "target", None)
        namespace = getattr(target, "namespace", None) or getattr(endpoint, "namespace", None)
        version = (getattr(target, "version", None) or getattr(endpoint, "version", None)
                   or getattr(endpoint, "RPC_API_VERSION", None) or "1.0")
        names = set(getattr(endpoint, "remote_methods", ()))
        names |= {name for name, member in inspect.getmembers(type(endpoint)) if getattr(member, _EXPOSED, False)}
        return cls(namespace, version, {name: _Handler.of(endpoint, name) for name in names})


class _SeenOperations:
    """The operations carried out lately; the oldest are forgotten."""

    def __init__(self, limit: int):
        self._limit = limit
        self._keys: collections.OrderedDict[tuple, None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def is_repeated(self, key: tuple) -> bool:
        with self._lock:
            if key in self._keys:
                return True
            self._keys[key] = None
            if len(self._keys) > self._limit:
                self._keys.popitem(last=False)
            return False


class _Underway:
    """The messages that were taken and are not carried out yet. Sending their replies does not count."""

    def __init__(self) -> None:
        self._messages: set[int] = set()
        self._changed = threading.Condition()

    def begin(self, message: Any) -> None:
        with self._changed:
            self._messages.add(id(message))

    def end(self, message: Any) -> None:
        with self._changed:
            self._messages.discard(id(message))
            if not self._messages:
                self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Whether all of them were carried out within this time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._messages, timeout_s)


class Dispatcher:
    """Finds the method a message asks for and runs it; what oslo.messaging's server hands messages to.

    ``counters`` tells how many messages were received, refused, expired, repeated and failed; ``underway`` knows those
    that are being carried out.
    """

    def __init__(self, endpoints: Iterable[Any], services: Services, object_serializer: Any, remembered: int):
        self._interfaces = [_Interface.of(endpoint) for endpoint in endpoints]
        self._services = services
        self._serializer = object_serializer
        self._seen = _SeenOperations(remembered)
        self.counters: collections.Counter[str] = collections.Counter()
        self.underway = _Underway()

    def dispatch(self, incoming: Any) -> Any:
        """Run the method of a message and return its result as it travels.

        Called by the library, which would log every error raised from here with its traceback; wrapping them in
        ExpectedException leaves the choice to us.
        """
        self.counters["received"] += 1
        message = incoming.message
        incoming.reply = functools.partial(_reply_if_possible, incoming.reply, message.get("method"))
        try:
            handler = self._find(message)
            return self._run(handler, incoming)
        except (oslo_messaging.NoSuchMethod, oslo_messaging.UnsupportedVersion, exception.RpcMethodRefused) as error:
            self.counters["refused"] += 1
            LOG.warning("refused a message: %s", errors.one_line(error))
            raise oslo_messaging.ExpectedException() from None
        except oslo_messaging.ExpectedException:
            raise
        except Exception as error:
            self.counters["failed"] += 1
            self._log_failure(message, error, answered=getattr(incoming, "reply_q", None) is not None)
            raise oslo_messaging.ExpectedException() from None
        finally:
            self.underway.end(incoming)

    def _find(self, message: Mapping[str, Any]) -> _Handler:
        method, namespace = message.get("method"), message.get("namespace")
        version = message.get("version") or "1.0"
        if not isinstance(method, str) or not isinstance(message.get("args", {}), Mapping):
            raise exception.RpcMethodRefused(method="?", version=version, reason="the message is malformed")
        compatible = False
        for interface in self._interfaces:
            if interface.namespace == namespace and _serves(interface.version, version):
                compatible = True
                handler = interface.handlers.get(method)
                if handler is not None:
                    return handler
        shown = method[:100]
        if compatible:
            raise oslo_messaging.NoSuchMethod(shown)
        raise oslo_messaging.UnsupportedVersion(str(version)[:20], method=shown)

    def _run(self, handler: _Handler, incoming: Any) -> Any:
        message = incoming.message
        arguments = message.get("args", {})
        if complaint := handler.complaint(arguments):
            raise exception.RpcMethodRefused(method=message["method"], version=message.get("version", "1.0"),
                                             reason=complaint)
        ctxt = RequestContext.from_dict(incoming.ctxt).bind(self._services)
        answered = getattr(incoming, "reply_q", None) is not None
        if self._has_expired(ctxt, message["method"], answered):
            incoming.reply = _no_reply  # nobody waits for it, and a broker that is away would hold up this worker
            return None
        if handler.at_most_once and self._is_repeated(ctxt, incoming, answered):
            incoming.reply = _no_reply  # the first one is answered
            return None
        given = {name: serializer.incoming(self._serializer, ctxt, value) for name, value in arguments.items()}
        result = handler.function(ctxt, **given)
        return serializer.outgoing(self._serializer, ctxt, result) if answered else None

    def _has_expired(self, ctxt: RequestContext, method: str, answered: bool) -> bool:
        """Whether nobody waits any more. A cast that begins in time may take as long as it takes."""
        now = self._services.clock.time()
        if ctxt.deadline is not None and now > ctxt.deadline:
            self.counters["expired"] += 1
            LOG.info("dropped %s of request %s: its deadline passed %.1f s ago",
                     method, ctxt.request_id, now - ctxt.deadline)
            return True
        if not answered:
            ctxt.deadline = None
        elif ctxt.deadline is None:
            ctxt.deadline = now + self._services.conf.rpc_response_timeout
        return False

    def _is_repeated(self, ctxt: RequestContext, incoming: Any, answered: bool) -> bool:
        """Whether the message has come before. Who asks a second time in one operation is answered a second time."""
        message = incoming.message
        call = getattr(incoming, "msg_id", None) if answered else None
        if ctxt.operation_id is None or (answered and call is None):
            return False
        arguments = hash(jsonutils.dumps(message.get("args", {}), sort_keys=True))
        if self._seen.is_repeated((ctxt.operation_id, message["method"], arguments, call)):
            self.counters["repeated"] += 1
            LOG.info("dropped %s of request %s: it has been carried out already", message["method"], ctxt.request_id)
            return True
        return False

    def _log_failure(self, message: Mapping[str, Any], error: Exception, answered: bool) -> None:
        """An error that nobody will see is logged in full; one that goes to a caller only if it is a surprise."""
        method = message.get("method")
        is_no_bug = isinstance(error, exception.RpcError | NotImplementedError)
        if is_no_bug or (isinstance(error, exception.NovaException) and (answered or error.code < 500)):
            LOG.log(logging.DEBUG if answered else logging.WARNING,
                    "%s failed: %s: %s", method, type(error).__name__, errors.one_line(error))
        else:
            LOG.exception("%s failed", method)


def _reply_if_possible(send: Callable, method: Any, reply: Any = None, failure: Any = None) -> None:
    """Send a reply; one that the broker does not take is one line in the log, where the library puts a traceback."""
    try:
        send(reply, failure)
    except (oslo_messaging.MessageDeliveryFailure, OSError) as error:
        LOG.warning("The reply to %s could not be sent: %s", str(method)[:100], errors.one_line(error))


def _no_reply(reply: Any = None, failure: Any = None) -> None:
    """Stands in for the reply of a message that nobody waits for."""


def _serves(implemented: str, requested: Any) -> bool:
    try:
        return versions.is_compatible(implemented, str(requested))
    except ValueError:
        return False


class _Workers(concurrency.Pool):
    """What oslo.messaging asks of an executor: its own ones take a second to stop, and keep a process from ending."""

    def shutdown(self, wait: float | bool = True) -> bool:
        return super().shutdown(_FOREVER_S if wait is True else float(wait))


class _LibraryServer(library.RPCServer):
    """oslo.messaging's server, with workers of ours."""

    def __init__(self, transport: Any, target: oslo_messaging.Target, dispatcher: Dispatcher):
        super().__init__(transport, target, dispatcher)
        self._executor_cls = lambda max_workers: _Workers(f"rpc-{target.topic}", max_workers)
        self._underway = dispatcher.underway

    def close(self) -> None:
        """Take nothing more from the listener; what was taken goes on."""
        self._work_executor.shutdown(0)

    def _on_incoming(self, incoming: list[Any]) -> None:
        self._underway.begin(incoming[0])
        try:
            super()._on_incoming(incoming)
        except RuntimeError:  # closed; the library would log it as a bug and try again for ever
            self._underway.end(incoming[0])
            LOG.info("a message that came after the stop is not carried out")

    def _process_incoming(self, incoming: list[Any]) -> None:
        try:
            super()._process_incoming(incoming)
        finally:
            self._underway.end(incoming[0])


class RpcServer:
    """Serves endpoints on a topic: its shared queue, the queue of this server, and the fan-out."""

    def __init__(self, transport: Any, target: oslo_messaging.Target, dispatcher: Dispatcher, pool_size: int | None,
                 drain_limit_s: float):
        self._target = target
        self._pool_size = pool_size
        self._drain_limit_s = drain_limit_s
        self._dispatcher = dispatcher
        self._server = _LibraryServer(transport, target, dispatcher)
        self._started = False
        self._abandoned = False

    @property
    def counters(self) -> collections.Counter:
        """Messages received, refused, expired, repeated and failed so far."""
        return self._dispatcher.counters

    def start(self) -> None:
        """Begin to take messages. Blocks while the broker is not there, so ask Rpc.check() first.

        Raises RpcUnavailable when the broker goes away just now; a server that did not start is of no more use.
        """
        try:
            self._server.start(override_pool_size=self._pool_size)
        except Exception as error:
            raise errors.translate_listening(error, self._target.topic) from None
        self._started = True

    def stop(self) -> None:
        """Take no more messages; what is being carried out goes on.

        The library waits here for a broker that is away; then its listener is left to itself.
        """
        if not self._started:
            return
        try:
            concurrency.spawn(self._server.stop).wait(_STOP_LIMIT_S)
        except concurrency.TimeLimitExceeded:
            self._abandoned = True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for what is being carried out; False if something still was after ``timeout_s`` seconds.

        Default: graceful_shutdown_timeout.
        """
        if not self._started:
            return True
        self._started = False
        timeout_s = self._drain_limit_s if timeout_s is None else timeout_s
        self._server.close()
        if not self._dispatcher.underway.wait(timeout_s):
            LOG.warning("work on topic %s did not end within %.0f s", self._target.topic, timeout_s)
            return False
        if not self._abandoned:
            self._let_go()
        return True

    def _let_go(self) -> None:
        """Let the last replies be sent and the connection be closed. The library would wait for a broker for ever."""
        try:
            concurrency.spawn(self._server.wait).wait(_REPLY_LIMIT_S)
        except concurrency.TimeLimitExceeded:
            LOG.info("a message broker is away, the last replies on topic %s were not sent", self._target.topic)
