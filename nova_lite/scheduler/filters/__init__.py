"""Which hosts may take an instance (compute specification §11.4)."""

from nova_lite.scheduler.filters import aggregates, capabilities, hints, hosts, resources, trusted
from nova_lite.scheduler.filters.base import BaseHostFilter

__all__ = ["BaseHostFilter", "all_filters"]


def all_filters() -> list[type[BaseHostFilter]]:
    """Return every filter there is."""
    modules = (aggregates, capabilities, hints, hosts, resources, trusted)
    return [found for module in modules for name, found in vars(module).items()
            if not name.startswith("_") and isinstance(found, type) and issubclass(found, BaseHostFilter)
            and found is not BaseHostFilter]
