"""Arguments and answers as they travel."""

from typing import Any

_SCALARS = (str, int, float, bool, type(None))


class ArgumentSerializer:
    """Versioned objects (inside lists and dicts too) in their wire form; everything else as it is."""

    def __init__(self) -> None:
        from nova_lite.objects.base import NovaObjectSerializer

        self._objects = NovaObjectSerializer()

    def outgoing(self, context: Any, value: Any) -> Any:
        """The value as it can be written as JSON."""
        return value if isinstance(value, _SCALARS) else self._objects.serialize_entity(context, value)

    def incoming(self, context: Any, value: Any) -> Any:
        """The value as a handler or caller gets it."""
        return value if isinstance(value, _SCALARS) else self._objects.deserialize_entity(context, value)


class PlainSerializer:
    """Nothing is an object: what the inter-cell topics and plain requests need."""

    def outgoing(self, context: Any, value: Any) -> Any:
        """The value itself."""
        return value

    def incoming(self, context: Any, value: Any) -> Any:
        """The value itself."""
        return value
