"""What the messaging libraries raise, as errors of ours with one line of text."""

import re

import oslo_messaging

from nova_lite import exception

_CREDENTIALS = re.compile(r"://[^@/\s]*@")
# RabbitMQ's answer to a fan-out when its last listener, and the exchange with it, has gone since the one before.
_NO_EXCHANGE = "NOT_FOUND - no exchange"
_UNAVAILABLE = (oslo_messaging.MessageDeliveryFailure, oslo_messaging.ClientSendError,
                oslo_messaging.DriverLoadFailure, oslo_messaging.InvalidTransportURL,
                oslo_messaging.ServerListenError)


def translate(error: Exception, method: str, topic: str, timeout_s: float) -> Exception:
    """The error to raise instead; the same object when it is what the remote method raised."""
    if isinstance(error, oslo_messaging.MessagingTimeout):
        return exception.RpcTimeout(method=method, topic=topic, timeout_s=timeout_s)
    if isinstance(error, oslo_messaging.MessageUndeliverable):
        return exception.RpcUnavailable(method=method, topic=topic, reason="no service has a queue there",
                                        is_broker_there=True)
    if isinstance(error, oslo_messaging.MessageDeliveryFailure) and _NO_EXCHANGE in str(error):
        return exception.RpcUnavailable(method=method, topic=topic, reason="no service listens there any more",
                                        is_broker_there=True)
    if isinstance(error, oslo_messaging.RPCVersionCapError):
        return exception.RpcVersionCapError(method=method, version=error.version, version_cap=error.version_cap)
    if isinstance(error, oslo_messaging.RemoteError):
        return _remote(error, method)
    if isinstance(error, NotImplementedError) and not isinstance(error, exception.NovaException):
        return exception.OperationNotSupported(reason=(str(error).strip().splitlines() or [f"{method}: no"])[0])
    if isinstance(error, _UNAVAILABLE) or _library(error) in ("kombu", "amqp"):
        return exception.RpcUnavailable(method=method, topic=topic, reason=one_line(error))
    return error


def translate_listening(error: Exception, topic: str) -> Exception:
    """The error to raise when a topic could not be listened to: RpcUnavailable for whatever the connection met."""
    if isinstance(error, OSError):
        return exception.RpcUnavailable(method="listening", topic=topic, reason=one_line(error))
    return translate(error, "listening", topic, 0)


def one_line(error: BaseException) -> str:
    """The text of a library's error on one line, without the user and password of a URL in it."""
    text = _CREDENTIALS.sub("://***@", " ".join(str(error).split()))
    return (text or type(error).__name__)[:300].rstrip(".")


def _library(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _remote(error: oslo_messaging.RemoteError, method: str) -> exception.NovaException:
    if error.exc_type == "NoSuchMethod":
        return exception.RpcMethodRefused(method=method, version="", reason="the receiver does not serve it")
    if error.exc_type == "UnsupportedVersion":
        return exception.UnsupportedRpcVersion(str(error.value), method=method)
    return exception.RemoteError(error.exc_type, error.value, error.traceback)
