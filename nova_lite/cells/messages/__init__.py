"""The three kinds of message that travel between cells, and what a cell does with each."""

from nova_lite.cells.messages.base import Message, check_fields, with_margin
from nova_lite.cells.messages.broadcast import BroadcastMessage
from nova_lite.cells.messages.targeted import ResponseMessage, TargetedMessage

__all__ = ["MESSAGE_CLASSES", "BroadcastMessage", "Message", "ResponseMessage", "TargetedMessage",
           "check_fields", "with_margin"]

MESSAGE_CLASSES = {cls.message_type: cls for cls in (TargetedMessage, BroadcastMessage, ResponseMessage)}
