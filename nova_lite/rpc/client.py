"""The calling side: one topic, a version, and an absolute deadline on whatever is sent."""

import dataclasses
import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import oslo_messaging

from nova_lite import concurrency, exception
from nova_lite.rpc import errors, versions
from nova_lite.rpc.serializer import incoming, outgoing

# The library's own limit ends a wait cleanly in most cases; ours is behind it for those it does not bound.
_GRACE_S = 0.3


@dataclasses.dataclass(frozen=True)
class Line:
    """The way to one broker: the library's transport, and the workers that may get stuck on it.

    Casts have workers of their own: they need not wait for those whose calls wait for slow answers. There are no
    workers where sending cannot block (memory://).
    """

    transport: Any
    callers: concurrency.Pool | None = None
    casters: concurrency.Pool | None = None

    def shut_down(self) -> None:
        """Let the workers end."""
        for pool in (self.callers, self.casters):
            if pool is not None:
                pool.shutdown()


class RpcClient:
    """Calls and casts to one topic.

    A context given as RequestContext travels with its deadline and operation id; one given as a dict travels as it
    is. Arguments whose names clash with a parameter go into ``arguments``. Raises RpcTimeout and RpcUnavailable (one
    line each), RpcVersionCapError, RpcMethodRefused, and what the remote method raised.
    """

    def __init__(self, line: Line, *, topic: str, version: str, version_cap: str | None, namespace: str | None,
                 server: str | None, exchange: str | None, serializer: Any, retry: int, clock: Any,
                 call_timeout_s: float, cast_timeout_s: float):
        self._line = line
        self._topic = topic
        self._version = version
        self._version_cap = version_cap
        self._server = server
        self._serializer = serializer
        self._retry = retry
        self._clock = clock
        self._call_timeout_s = call_timeout_s
        self._cast_timeout_s = cast_timeout_s
        target = oslo_messaging.Target(exchange=exchange, topic=topic, version=version, namespace=namespace)
        self._to_all = oslo_messaging.get_rpc_client(line.transport, target, retry=retry)
        # The broker refuses what it has no queue for, instead of dropping it: no wait for an answer that cannot come.
        self._to_one = oslo_messaging.get_rpc_client(line.transport, target, retry=retry,
                                                     transport_options=oslo_messaging.TransportOptions(True))

    def call(self, ctxt: Any, method: str, *, version: str | None = None, server: str | None = None,
             timeout: float | None = None, arguments: Mapping[str, Any] | None = None, **args: Any) -> Any:
        """Run a remote method and return its result.

        Waits until the context's deadline, and not longer than ``timeout`` seconds (default rpc_response_timeout).
        """
        now = self._clock.time()
        deadline = now + (self._call_timeout_s if timeout is None else timeout)
        inherited = getattr(ctxt, "deadline", None)
        if inherited is not None:
            deadline = min(deadline, inherited)
        limit_s = deadline - now
        if limit_s <= 0:
            raise exception.RpcTimeout(method=method, topic=self._topic, timeout_s=0)
        self._check_version(version)
        values, arguments = self._context(ctxt, deadline), self._arguments(ctxt, arguments, args)

        def send() -> Any:
            # Some of the time may have gone by in the wait for a free worker.
            left_s = deadline - self._clock.time()
            if left_s <= 0:
                raise exception.RpcTimeout(method=method, topic=self._topic, timeout_s=limit_s)
            return self._prepare(version, server, False, timeout=left_s).call(values, method, **arguments)

        return incoming(self._serializer, ctxt, self._run(send, self._line.callers, method, limit_s))

    def cast(self, ctxt: Any, method: str, *, version: str | None = None, server: str | None = None,
             fanout: bool = False, arguments: Mapping[str, Any] | None = None, **args: Any) -> None:
        """Have a remote method run, by one receiver or (``fanout``) by all; returns when the broker has the message.

        Raises RpcUnavailable when there is no queue for one receiver; a fan-out that nobody hears is no error.
        A deadline in the context says until when the receiver may begin.
        """
        deadline = getattr(ctxt, "deadline", None)
        limit_s = self._cast_timeout_s
        if deadline is not None:
            limit_s = min(limit_s, deadline - self._clock.time())
            if limit_s <= 0:
                raise exception.RpcTimeout(method=method, topic=self._topic, timeout_s=0)
        self._check_version(version)
        prepared = self._prepare(version, server, fanout)
        send = functools.partial(prepared.cast, self._context(ctxt, deadline), method,
                                 **self._arguments(ctxt, arguments, args))
        try:
            self._run(send, self._line.casters, method, limit_s)
        except exception.RpcUnavailable as error:
            if not (fanout and error.is_broker_there):
                raise

    def can_send_version(self, version: str) -> bool:
        """Whether the cap allows messages of this version."""
        return self._version_cap is None or versions.is_compatible(self._version_cap, version)

    def _check_version(self, version: str | None) -> None:
        wanted = version or self._version
        if not self.can_send_version(wanted):
            raise exception.RpcVersionCapError(method=self._topic, version=wanted, version_cap=self._version_cap)

    def _prepare(self, version: str | None, server: str | None, fanout: bool, **options: Any) -> Any:
        if version is not None:
            options["version"] = version
        if fanout:
            return self._to_all.prepare(fanout=True, **options)
        if server or self._server:
            options["server"] = server or self._server
        return self._to_one.prepare(**options) if options else self._to_one

    def _arguments(self, ctxt: Any, arguments: Mapping[str, Any] | None, args: dict[str, Any]) -> dict[str, Any]:
        named = {**arguments, **args} if arguments else args
        return {name: outgoing(self._serializer, ctxt, value) for name, value in named.items()}

    def _context(self, ctxt: Any, deadline: float | None) -> dict[str, Any]:
        if isinstance(ctxt, Mapping):
            return dict(ctxt)
        values = ctxt.to_local_dict()
        values["deadline"] = deadline
        values.setdefault("operation_id", uuid.uuid4().hex)
        return values

    def _run(self, send: Callable[[], Any], pool: concurrency.Pool | None, method: str, limit_s: float) -> Any:
        try:
            if pool is None:
                return send()
            return concurrency.call_within(limit_s + _GRACE_S, pool, send)
        except concurrency.TimeLimitExceeded:
            raise exception.RpcTimeout(method=method, topic=self._topic, timeout_s=limit_s) from None
        except concurrency.PoolFull:
            raise exception.RpcUnavailable(method=method, topic=self._topic,
                                           reason="too many wait for this broker already") from None
        except Exception as error:
            translated = errors.translate(error, method, self._topic, limit_s)
            if translated is error:
                raise
            raise translated from None
