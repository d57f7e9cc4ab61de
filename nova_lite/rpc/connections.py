"""Connections of oslo.messaging that are of use after a message which could not be sent."""

import contextlib
from collections.abc import Iterator
from typing import Any

import oslo_messaging
from oslo_messaging._drivers import impl_rabbit


class Connection(impl_rabbit.Connection):
    """The library's, without what it leaves behind where sending is not tried again.

    A connection that broke off in the middle of a message looks alive and can never send again; it is made anew. And
    the little time which a message had left stays the limit of the socket for what is sent next.
    """

    def ensure(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().ensure(*args, **kwargs)
        except oslo_messaging.MessageDeliveryFailure:
            self.connection.collect()
            raise

    @contextlib.contextmanager
    def _transport_socket_timeout(self, timeout: float | None) -> Iterator[None]:
        self.set_transport_socket_timeout(timeout)
        try:
            yield
        finally:
            with contextlib.suppress(OSError, TypeError):  # closed; the library trips over some of these errors
                self.set_transport_socket_timeout()


def mend(transport: Any) -> None:
    """Have a transport of RabbitMQ make such connections from now on; it has made none yet."""
    transport._driver._connection_pool.connection_cls = Connection
