"""Limits, usage and reservations of projects."""

import datetime
import itertools
import operator
import uuid as uuid_module
from collections.abc import Collection, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession

QUOTAS = models.Quota.__table__
USAGES = models.QuotaUsage.__table__
RESERVATIONS = models.Reservation.__table__

UNLIMITED = -1
# What rows can tell; the rest is counted by reservations alone.
COUNTABLE = frozenset(("instances", "cores", "ram", "fixed_ips", "security_groups"))


class Quotas(Part):
    """What a project may have, has, and has asked for."""

    # -- limits --

    @operation
    def quota_create(self, context: Any, project_id: str, resource: str, limit: int | None) -> dict[str, Any]:
        """Insert a limit of a project (None: unlimited). Raises QuotaExists."""
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.Quota, {"project_id": project_id, "resource": resource,
                                                         "hard_limit": limit})
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.QuotaExists(project_id=project_id, resource=resource) from exc

    @operation
    def quota_get(self, context: Any, project_id: str, resource: str) -> dict[str, Any]:
        """Return a limit of a project. Raises ProjectQuotaNotFound."""
        with self.store.reader(context) as session:
            row = session.one(sqlalchemy.select(QUOTAS).where(*self._is(project_id, resource)))
        if row is None:
            raise exception.ProjectQuotaNotFound(project_id=project_id)
        return row

    @operation
    def quota_get_all_by_project(self, context: Any, project_id: str | None) -> dict[str, int | None]:
        """Return {resource: limit} of the limits a project has of its own."""
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(QUOTAS).where(QUOTAS.c.project_id == project_id,
                                                               QUOTAS.c.deleted == 0))
        return {row["resource"]: row["hard_limit"] for row in rows}

    @operation
    def quota_update(self, context: Any, project_id: str, resource: str, limit: int | None) -> None:
        """Change a limit of a project. Raises ProjectQuotaNotFound."""
        with self.store.writer(context) as session:
            if not session.update_rows(models.Quota, *self._is(project_id, resource), hard_limit=limit):
                raise exception.ProjectQuotaNotFound(project_id=project_id)

    @operation
    def quota_destroy_all_by_project(self, context: Any, project_id: str) -> None:
        """Forget the limits, the usage and the reservations of a project."""
        with self.store.writer(context) as session:
            for model in (models.Reservation, models.QuotaUsage, models.Quota):
                session.soft_delete(model, model.__table__.c.project_id == project_id)

    def _is(self, project_id: str | None, resource: str) -> tuple[Any, ...]:
        return (QUOTAS.c.project_id == project_id, QUOTAS.c.resource == resource, QUOTAS.c.deleted == 0)

    # -- usage --

    @operation
    def quota_usage_get_all_by_project(self, context: Any, project_id: str | None) -> dict[str, dict[str, Any]]:
        """Return {resource: row with in_use and reserved} of a project."""
        with self.store.reader(context) as session:
            rows = session.all(sqlalchemy.select(USAGES).where(USAGES.c.project_id == project_id,
                                                               USAGES.c.deleted == 0))
        return {row["resource"]: row for row in rows}

    @operation
    def quota_usage_refresh(self, context: Any, project_id: str, resources: Collection[str] | None = None) -> None:
        """Count anew what a project has, of some resources or of all that can be counted."""
        with self.store.writer(context) as session:
            counts = _Counts(self.db, context, session, project_id)
            for resource in sorted(COUNTABLE if resources is None else COUNTABLE.intersection(resources)):
                self._usage(session, project_id, resource, counts)
                session.update_rows(models.QuotaUsage, USAGES.c.project_id == project_id,
                                    USAGES.c.resource == resource, USAGES.c.deleted == 0, in_use=counts[resource])

    @operation
    def quota_usage_reconcile(self, context: Any, older_than_s: int, limit: int = 100,
                              project_id: str | None = None) -> list[dict[str, Any]]:
        """Count anew what was not counted or changed for ``older_than_s`` and has no open reservation.

        Of one project, or of all.

        An open one means that something is just being made or deleted, whose row may count already. At most
        ``limit`` usages; returns those that were wrong: ``project_id, resource, in_use`` (as it was) and ``counted``.
        """
        open_one = sqlalchemy.exists().where(RESERVATIONS.c.usage_id == USAGES.c.id, RESERVATIONS.c.deleted == 0)
        wrong = []
        with self.store.writer(context) as session:
            old = session.now - datetime.timedelta(seconds=older_than_s)
            due = session.all(sqlalchemy.select(USAGES).where(
                sqlalchemy.func.coalesce(USAGES.c.updated_at, USAGES.c.created_at) <= old, USAGES.c.deleted == 0,
                USAGES.c.resource.in_(sorted(COUNTABLE)), ~open_one,
                *(() if project_id is None else (USAGES.c.project_id == project_id,)),
            ).order_by(USAGES.c.project_id, USAGES.c.resource).limit(limit).with_for_update())
            for project_id, usages in itertools.groupby(due, operator.itemgetter("project_id")):
                counts = _Counts(self.db, context, session, project_id)
                for usage in usages:
                    counted = counts[usage["resource"]]
                    session.update_rows(models.QuotaUsage, USAGES.c.id == usage["id"], in_use=counted, reserved=0)
                    if (usage["in_use"], usage["reserved"]) != (counted, 0):
                        wrong.append({**{name: usage[name] for name in ("project_id", "resource", "in_use")},
                                      "counted": counted})
        return wrong

    def _usage(self, session: RowSession, project_id: str | None, resource: str,
               counts: "_Counts") -> dict[str, Any]:
        """Return the row of a project and resource, locked; a missing one is made."""
        statement = sqlalchemy.select(USAGES).where(
            USAGES.c.project_id == project_id, USAGES.c.resource == resource,
            USAGES.c.deleted == 0).with_for_update()
        row = session.one(statement)
        if row is None:
            try:
                with session.begin_nested():
                    return session.insert_row(models.QuotaUsage, {
                        "project_id": project_id, "resource": resource, "reserved": 0,
                        "in_use": counts[resource] if resource in COUNTABLE else 0})
            except oslo_db.exception.DBDuplicateEntry:
                row = session.one(statement)  # somebody else made it meanwhile
        return row

    # -- reservations --

    @operation
    def quota_reserve(self, context: Any, limits: Mapping[str, int | None], deltas: Mapping[str, int],
                      expire: datetime.datetime, until_refresh: int = 0, max_age: int = 0,
                      project_id: str | None = None) -> list[str]:
        """Reserve ``deltas`` (negative: release) for a project and return the uuids of the reservations.

        Usage is counted anew when it was never, ``max_age`` seconds ago, or ``until_refresh`` reservations ago.
        Raises OverQuota with ``overs, quotas, usages`` when a limit (None or -1: none) would be passed.
        """
        project_id = project_id or context.project_id
        with self.store.writer(context) as session:
            counts = _Counts(self.db, context, session, project_id)
            usages = {resource: self._fresh_usage(session, project_id, resource, counts, until_refresh, max_age)
                      for resource in sorted(deltas)}
            overs = sorted(resource for resource, delta in deltas.items()
                           if delta > 0 and _passes(limits.get(resource), usages[resource], delta))
            if overs:
                raise exception.OverQuota(overs=overs, quotas=dict(limits), usages={
                    name: {"in_use": row["in_use"], "reserved": row["reserved"]} for name, row in usages.items()})
            return [self._reserve(session, project_id, usages[resource], resource, deltas[resource], expire)
                    for resource in sorted(deltas)]

    def _fresh_usage(self, session: RowSession, project_id: str | None, resource: str, counts: "_Counts",
                     until_refresh: int, max_age: int) -> dict[str, Any]:
        usage = self._usage(session, project_id, resource, counts)
        changed_at = usage["updated_at"] or usage["created_at"]
        is_old = max_age and session.now - changed_at >= datetime.timedelta(seconds=max_age)
        left = usage["until_refresh"]
        is_due = until_refresh and left is not None and left <= 1
        if resource in COUNTABLE and (usage["in_use"] < 0 or is_old or is_due):
            usage = {**usage, "in_use": counts[resource], "until_refresh": until_refresh or None}
        elif until_refresh:
            usage = {**usage, "until_refresh": until_refresh if left is None else left - 1}
        session.update_rows(models.QuotaUsage, USAGES.c.id == usage["id"], in_use=usage["in_use"],
                            until_refresh=usage["until_refresh"])
        return usage

    def _reserve(self, session: RowSession, project_id: str | None, usage: dict[str, Any], resource: str, delta: int,
                 expire: datetime.datetime) -> str:
        uuid = str(uuid_module.uuid4())
        session.insert_row(models.Reservation, {"uuid": uuid, "usage_id": usage["id"], "project_id": project_id,
                                                "resource": resource, "delta": delta, "expire": expire})
        if delta > 0:
            session.update_rows(models.QuotaUsage, USAGES.c.id == usage["id"],
                                reserved=USAGES.c.reserved + delta)
        return uuid

    @operation
    def reservation_commit(self, context: Any, reservations: Collection[str], project_id: str | None = None) -> None:
        """Turn reservations into usage, each at most once; unknown ones are ignored."""
        self._settle(context, RESERVATIONS.c.uuid.in_(list(reservations)), commit=True)

    @operation
    def reservation_rollback(self, context: Any, reservations: Collection[str],
                             project_id: str | None = None) -> None:
        """Give reservations up, each at most once; unknown ones are ignored."""
        self._settle(context, RESERVATIONS.c.uuid.in_(list(reservations)), commit=False)

    @operation
    def reservation_expire(self, context: Any) -> int:
        """Give up the reservations whose time has passed; returns how many."""
        return self._settle(context, RESERVATIONS.c.expire < self.store.now(), commit=False)

    def _settle(self, context: Any, criterion: Any, *, commit: bool) -> int:
        settled = 0
        with self.store.writer(context) as session:
            # The usage rows first, in one order, as quota_reserve does: two settlements never wait for each other.
            for row in session.all(sqlalchemy.select(RESERVATIONS).where(
                    criterion, RESERVATIONS.c.deleted == 0).order_by(RESERVATIONS.c.usage_id, RESERVATIONS.c.id)):
                session.execute(sqlalchemy.select(USAGES.c.id).where(USAGES.c.id == row["usage_id"]).with_for_update())
                if not session.soft_delete(models.Reservation, RESERVATIONS.c.id == row["id"]):
                    continue
                settled += 1
                changes: dict[str, Any] = {}
                if row["delta"] > 0:
                    changes["reserved"] = USAGES.c.reserved - row["delta"]
                if commit:
                    changes["in_use"] = USAGES.c.in_use + row["delta"]
                if changes:
                    session.update_rows(models.QuotaUsage, USAGES.c.id == row["usage_id"], **changes)
        return settled


class _Counts:
    """What the rows say a project has, by resource; each kind of row is counted when it is first asked for."""

    def __init__(self, db: Any, context: Any, session: RowSession, project_id: str | None):
        self._db = db
        self._context = context
        self._session = session
        self._project_id = project_id
        self._found: dict[str, int] = {}

    def __getitem__(self, resource: str) -> int:
        if resource not in self._found:
            self._found.update(self._count(resource))
        return self._found[resource]

    def _count(self, resource: str) -> dict[str, int]:
        if resource == "fixed_ips":
            return {resource: self._db.fixed_ip_count_by_project(self._context, self._project_id)}
        if resource == "security_groups":
            groups = models.SecurityGroup.__table__
            return {resource: self._session.scalar(sqlalchemy.select(sqlalchemy.func.count(groups.c.id)).where(
                groups.c.project_id == self._project_id, groups.c.deleted == 0))}
        return self._db.instance_count_by_project(self._context, self._project_id)


def _passes(limit: int | None, usage: Mapping[str, Any], delta: int) -> bool:
    return limit is not None and limit != UNLIMITED and usage["in_use"] + usage["reserved"] + delta > limit
