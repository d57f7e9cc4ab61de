"""Networks a build asks for."""

from collections.abc import Iterable
from typing import Any

from nova_lite.objects import base, fields


@base.register
class NetworkRequest(base.NovaObject):
    """One interface that is wanted."""

    VERSION = "1.1"
    beyond_floor = frozenset(("tag",))

    fields = {
        "network_id": fields.Text(nullable=True),
        "address": fields.Address(nullable=True),
        "port_id": fields.Uuid(nullable=True),
        "pci_request_id": fields.Uuid(nullable=True),
        "tag": fields.Text(nullable=True),
    }

    @classmethod
    def from_tuple(cls, parts: Iterable[Any]) -> "NetworkRequest":
        """Return the request of (network_id, address[, port_id[, pci_request_id]])."""
        names = ("network_id", "address", "port_id", "pci_request_id")
        values = dict(zip(names, parts, strict=False))
        return cls(**{name: values.get(name) for name in names})

    def to_tuple(self) -> tuple[str | None, str | None, str | None]:
        """Return (network_id, address, port_id)."""
        return self.get("network_id"), self.get("address"), self.get("port_id")


@base.register
class NetworkRequestList(base.ObjectList, base.NovaObject):
    """The interfaces that are wanted, in their order."""

    VERSION = "1.1"
    child = NetworkRequest
    fields = {"objects": fields.ListOfNested("NetworkRequest")}

    @classmethod
    def of(cls, value: Any) -> "NetworkRequestList | None":
        """Return the list of itself, of tuples of two to four parts, or None."""
        if value is None or isinstance(value, cls):
            return value
        return cls(objects=[
            item if isinstance(item, NetworkRequest) else NetworkRequest.from_tuple(item) for item in value])

    def as_tuples(self) -> list[tuple[str | None, str | None, str | None]]:
        """Return [(network_id, address, port_id)]."""
        return [request.to_tuple() for request in self.objects]
