"""Texts straight from one process to another, by way of the receiver's broker.

For messages that need none of what oslo.messaging does around each (a connection taken from a pool, a wait for the
broker's confirmation, an acknowledgement, workers woken twice): somebody waits for their answer until a deadline, so
that one which is lost is noticed anyway. RabbitMQ without TLS only; everything else goes by oslo.messaging.
"""

from nova_lite.rpc.direct.broker import Broker
from nova_lite.rpc.direct.receiver import Receiver
from nova_lite.rpc.direct.sender import Sender

__all__ = ["Broker", "Receiver", "Sender"]
