"""Limits of what one project may have, and the reservations that hold a place while something is made.

The engine counts only at the top of a tree: in a cell that has parents every limit is open and nothing is reserved
(seams §9), because the top has counted already.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.conf.quota import LIMITS
from nova_lite.context import RequestContext, Services

LOG = logging.getLogger(__name__)

UNLIMITED = -1
RESOURCES = tuple(name for name, _, _ in LIMITS)
# What is counted in rows; the others bound a single request.
COUNTED = ("instances", "cores", "ram", "floating_ips", "fixed_ips", "security_groups")


class QuotaEngine:
    """Quotas of one cell: those of the database, or none where the cell has parents."""

    def __init__(self, services: Services):
        self._services = services
        self._counting = CountingDriver(services)
        self._noop = NoopDriver()

    def _driver(self, context: RequestContext) -> Any:
        return self._noop if self._services.db.has_parents(context) else self._counting

    def get_defaults(self, context: RequestContext) -> dict[str, int]:
        """The limit of every resource for projects without limits of their own."""
        return self._driver(context).defaults()

    def get_project_quotas(self, context: RequestContext, project_id: str | None = None,
                           usages: bool = True) -> dict[str, dict[str, int]]:
        """{resource: {'limit'}} of a project, with {'in_use', 'reserved'} if ``usages``."""
        project_id = project_id or context.project_id
        driver = self._driver(context)
        limits = driver.limits(context, project_id)
        used = driver.usages(context, project_id) if usages else {}
        return {name: {"limit": limit, **({"in_use": 0, "reserved": 0, **used.get(name, {})} if usages else {})}
                for name, limit in limits.items()}

    def limit_check(self, context: RequestContext, project_id: str | None = None, **values: int) -> None:
        """Check values against limits, without reserving. Raises OverQuota, InvalidQuotaValue, QuotaResourceUnknown."""
        _check_known(values)
        if unders := sorted(name for name, value in values.items() if value < 0):
            raise exception.InvalidQuotaValue(unders=unders)
        limits = self._driver(context).limits(context, project_id or context.project_id)
        overs = sorted(name for name, value in values.items() if UNLIMITED < limits[name] < value)
        if overs:
            raise exception.OverQuota(overs=overs, quotas=limits, usages={})

    def reserve(self, context: RequestContext, expire: Any = None, project_id: str | None = None,
                **deltas: int) -> list[str]:
        """Hold a place for what will be made (or released: negative); returns uuids of reservations.

        ``expire``: a time, a timedelta, or seconds (default reservation_expire). Raises OverQuota with ``overs``,
        ``quotas`` and ``usages`` in kwargs, QuotaResourceUnknown, InvalidReservationExpiration.
        """
        _check_known(deltas)
        return self._driver(context).reserve(context, self._expiration(expire), project_id or context.project_id,
                                             deltas)

    def commit(self, context: RequestContext, reservations: Sequence[str] | None,
               project_id: str | None = None) -> None:
        """What was reserved is made. Reservations that are not there any more are ignored; failures are logged."""
        self._settle("reservation_commit", context, reservations, project_id)

    def rollback(self, context: RequestContext, reservations: Sequence[str] | None,
                 project_id: str | None = None) -> None:
        """What was reserved is not made. Reservations that are not there any more are ignored; failures are logged."""
        self._settle("reservation_rollback", context, reservations, project_id)

    def _settle(self, method: str, context: RequestContext, reservations: Sequence[str] | None,
                project_id: str | None) -> None:
        if not reservations:
            return
        try:
            getattr(self._driver(context), method)(context, list(reservations), project_id or context.project_id)
        except exception.ReservationNotFound:
            LOG.debug("reservations were settled already")
        except Exception:  # what it was for is done or undone; the reservation expires by itself
            LOG.exception("%s failed", method)

    def expire(self, context: RequestContext) -> None:
        """Give up reservations whose time is over."""
        self._driver(context).expire(context)

    def reconcile(self, context: RequestContext) -> None:
        """Count anew what was not counted for max_age seconds, and say what had been wrong; 0 is off."""
        self._driver(context).reconcile(context)

    def _expiration(self, expire: Any) -> datetime.datetime:
        """The time, naive UTC."""
        if expire is None:
            expire = self._services.conf.reservation_expire
        if isinstance(expire, int | float):
            expire = datetime.timedelta(seconds=expire)
        if isinstance(expire, datetime.timedelta):
            expire = self._services.clock.utcnow() + expire
        if not isinstance(expire, datetime.datetime):
            raise exception.InvalidReservationExpiration(expire=expire)
        return expire.astimezone(datetime.UTC).replace(tzinfo=None) if expire.tzinfo else expire


class CountingDriver:
    """Limits of the configuration and the table of quotas; usage in the database."""

    def __init__(self, services: Services):
        self._services = services

    def defaults(self) -> dict[str, int]:
        return {name: self._services.conf[f"quota_{name}"] for name in RESOURCES}

    def limits(self, context: RequestContext, project_id: str | None) -> dict[str, int]:
        own = self._services.db.quota_get_all_by_project(context, project_id)
        limits = {name: own.get(name, default) for name, default in self.defaults().items()}
        return {name: UNLIMITED if limit is None else limit for name, limit in limits.items()}

    def usages(self, context: RequestContext, project_id: str | None) -> Mapping[str, Mapping[str, int]]:
        rows = self._services.db.quota_usage_get_all_by_project(context, project_id)
        return {name: {"in_use": row["in_use"], "reserved": row["reserved"]}
                for name, row in rows.items() if name in RESOURCES}

    def reserve(self, context: RequestContext, expire: datetime.datetime, project_id: str | None,
                deltas: dict[str, int]) -> list[str]:
        conf = self._services.conf
        return self._services.db.quota_reserve(
            context, self.limits(context, project_id), deltas, expire, conf.until_refresh, conf.max_age, project_id)

    def reservation_commit(self, context: RequestContext, reservations: list[str], project_id: str | None) -> None:
        self._services.db.reservation_commit(context, reservations, project_id)

    def reservation_rollback(self, context: RequestContext, reservations: list[str], project_id: str | None) -> None:
        self._services.db.reservation_rollback(context, reservations, project_id)

    def expire(self, context: RequestContext) -> None:
        self._services.db.reservation_expire(context)

    def reconcile(self, context: RequestContext) -> None:
        max_age_s = self._services.conf.max_age
        if max_age_s <= 0:
            return
        for usage in self._services.db.quota_usage_reconcile(context, max_age_s):
            LOG.warning("Project %s used %s %s, not %s", usage["project_id"], usage["counted"], usage["resource"],
                        usage["in_use"])


class NoopDriver:
    """Everything is allowed and nothing is kept."""

    def defaults(self) -> dict[str, int]:
        return dict.fromkeys(RESOURCES, UNLIMITED)

    def limits(self, context: RequestContext, project_id: str | None) -> dict[str, int]:
        return self.defaults()

    def usages(self, context: RequestContext, project_id: str | None) -> Mapping[str, Mapping[str, int]]:
        return {}

    def reserve(self, context: RequestContext, expire: datetime.datetime, project_id: str | None,
                deltas: dict[str, int]) -> list[str]:
        return []

    def reservation_commit(self, context: RequestContext, reservations: list[str], project_id: str | None) -> None:
        """Nothing is kept."""

    def reservation_rollback(self, context: RequestContext, reservations: list[str], project_id: str | None) -> None:
        """Nothing is kept."""

    def expire(self, context: RequestContext) -> None:
        """Nothing is kept."""

    def reconcile(self, context: RequestContext) -> None:
        """Nothing is kept."""


def _check_known(values: Mapping[str, int]) -> None:
    if unknown := sorted(values.keys() - set(RESOURCES)):
        raise exception.QuotaResourceUnknown(unknown=unknown)
