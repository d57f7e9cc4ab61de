"""Arguments and answers as they travel: anything with oslo.messaging's serialize_entity and deserialize_entity."""

from typing import Any

_SCALARS = (str, int, float, bool, type(None))


def argument_serializer() -> Any:
    """Versioned objects (inside lists and dicts too) in their wire form; everything else as it is."""
    from nova_lite.objects.base import NovaObjectSerializer

    return NovaObjectSerializer()


class PlainSerializer:
    """Nothing is an object: what plain requests need."""

    def serialize_entity(self, context: Any, value: Any) -> Any:
        """The value itself."""
        return value

    def deserialize_entity(self, context: Any, value: Any) -> Any:
        """The value itself."""
        return value


def outgoing(serializer: Any, context: Any, value: Any) -> Any:
    """The value as it can be written as JSON."""
    return value if isinstance(value, _SCALARS) else serializer.serialize_entity(context, value)


def incoming(serializer: Any, context: Any, value: Any) -> Any:
    """The value as a handler or caller gets it."""
    return value if isinstance(value, _SCALARS) else serializer.deserialize_entity(context, value)
