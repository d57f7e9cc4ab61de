"""Which services are alive: heartbeats in the table of services (compute specification §1.4, seams §5.3)."""

import datetime
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, context, exception
from nova_lite.context import Services

LOG = logging.getLogger(__name__)


class API:
    """Heartbeats and the is-up rule of one cell."""

    def __init__(self, services: Services):
        self._services = services
        self._clock = services.clock or concurrency.Clock()

    def join(self, host: str, binary: str) -> "Heartbeat":
        """The heartbeat of a service that has its row already; its owner calls ``beat()`` every report_interval."""
        return Heartbeat(self._services, self._clock, host, binary)

    def service_is_up(self, service: Mapping[str, Any]) -> bool:
        """Whether a service (row or object) has reported within service_down_time and is not forced down."""
        if _value(service, "forced_down"):
            return False
        seen = next((time for name in ("last_seen_up", "updated_at", "created_at")
                     if (time := _as_utc(_value(service, name))) is not None), None)
        if seen is None:
            return False
        age_s = abs((self._clock.utcnow() - seen).total_seconds())
        return age_s <= self._services.conf.service_down_time


class Heartbeat:
    """The row of one service, kept fresh."""

    def __init__(self, services: Services, clock: Any, host: str, binary: str):
        self._services = services
        self._clock = clock
        self._host = host
        self._binary = binary
        self.disconnected = False

    def beat(self) -> None:
        """Report once. A database that is away is logged once, and once when it is back; never raised."""
        ctxt = context.get_admin_context().bind(self._services)
        try:
            row = self._services.db.service_get_by_args(ctxt, self._host, self._binary)
            self._services.db.service_update(ctxt, row["id"], {
                "report_count": (row["report_count"] or 0) + 1,
                "last_seen_up": self._clock.utcnow().replace(tzinfo=None)})
        except exception.HostBinaryNotFound:
            LOG.warning("the record of %s on %s is gone; it will be made again at the next start",
                        self._binary, self._host)
        except Exception as error:
            if not self.disconnected:
                self.disconnected = True
                LOG.error("cannot report that %s on %s is alive: %s", self._binary, self._host, type(error).__name__)
        else:
            if self.disconnected:
                self.disconnected = False
                LOG.error("reporting that %s on %s is alive works again", self._binary, self._host)


def _value(service: Any, name: str) -> Any:
    try:
        return service.get(name) if isinstance(service, Mapping) else getattr(service, name, None)
    except NotImplementedError:  # a field of an object that is not set and cannot be loaded
        return None


def _as_utc(value: datetime.datetime | str | None) -> datetime.datetime | None:
    """An aware time, from a naive one in UTC, an aware one, or the text of either."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value
