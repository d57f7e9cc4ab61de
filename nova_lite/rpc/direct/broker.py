"""Where a transport URL leads, and how to log in there."""

import random
from typing import Any

import oslo_messaging
from oslo_config import cfg

from nova_lite import exception
from nova_lite.rpc import errors

POLL_S = 2.0
_CONNECT_LIMIT_S = 3.0
_LOGIN_METHODS = ("PLAIN", "AMQPLAIN", "EXTERNAL")


class Broker:
    """One RabbitMQ virtual host, reached as the options of oslo.messaging's driver say."""

    def __init__(self, conf: cfg.ConfigOpts, url: str | None):
        self._url = oslo_messaging.TransportURL.parse(conf, url)
        options = conf.oslo_messaging_rabbit
        self._login_method = options.rabbit_login_method
        self._heartbeat_s = options.heartbeat_timeout_threshold
        self._has_tls = options.ssl

    @property
    def is_direct(self) -> bool:
        """Whether this is a broker that can be spoken to without oslo.messaging.

        Not over TLS: its streams must not be read and written at the same time by two native threads.
        """
        return (self._url.transport == "rabbit" and bool(self._url.hosts) and not self._has_tls
                and self._login_method in _LOGIN_METHODS)

    def connect(self) -> Any:
        """Return an open amqp.Connection to one of the hosts. Waits some seconds for each; raises RpcUnavailable."""
        import amqp

        failure: Exception | None = None
        for host in random.sample(self._url.hosts, len(self._url.hosts)):
            connection = amqp.Connection(
                host=f"{host.hostname}:{host.port or 5672}", userid=host.username or "guest",
                password=host.password or "guest", virtual_host=self._url.virtual_host or "/",
                login_method=self._login_method, heartbeat=self._heartbeat_s, connect_timeout=_CONNECT_LIMIT_S)
            try:
                connection.connect()
                # One limit for reading and writing alike: each would change it under the other's feet.
                connection.sock.settimeout(POLL_S)
                return connection
            except failures() as error:
                connection.collect()
                failure = error
        raise exception.RpcUnavailable(method="a message", topic=self.name,
                                       reason=errors.one_line(failure) if failure else "no host is known")

    @property
    def name(self) -> str:
        """The hosts and the virtual host, without credentials."""
        hosts = ",".join(f"{host.hostname}:{host.port or 5672}" for host in self._url.hosts)
        return f"{hosts}/{self._url.virtual_host or ''}"


def failures() -> tuple[type[Exception], ...]:
    """What the library raises when a connection is, or gets, of no use."""
    import amqp

    # ValueError: a socket that was closed under a reader; AttributeError: a connection that the broker has ended.
    return (OSError, amqp.AMQPError, ValueError, AttributeError)
