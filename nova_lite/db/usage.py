"""Audits, bandwidth and volume usage."""

import datetime
from collections.abc import Collection, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy
from oslo_utils import timeutils

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, chunks, naive
from nova_lite.objects import wire

TASKS = models.TaskLog.__table__
BANDWIDTH = models.BandwidthUsage.__table__
VOLUMES = models.VolumeUsage.__table__

RUNNING = "RUNNING"
DONE = "DONE"

_COUNTERS = ("reads", "read_bytes", "writes", "write_bytes")
_READINGS = ("bw_in", "bw_out", "last_ctr_in", "last_ctr_out")


class TaskLogs(Part):
    """Which periodic audits ran, for which period and host. Times may be datetimes or ISO text."""

    @operation
    def task_log_begin_task(self, context: Any, task_name: str, period_beginning: Any, period_ending: Any, host: str,
                            task_items: int | None = None, message: str | None = None) -> None:
        """Record that an audit begins. Raises TaskAlreadyRunning when one of the period is there."""
        with self.store.writer(context) as session:
            try:
                session.insert_row(models.TaskLog, {
                    "task_name": task_name, "period_beginning": moment(period_beginning),
                    "period_ending": moment(period_ending), "host": host, "state": RUNNING,
                    "message": (message or "")[:255], "task_items": task_items or 0, "errors": 0})
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.TaskAlreadyRunning(task_name=task_name, host=host) from exc

    @operation
    def task_log_end_task(self, context: Any, task_name: str, period_beginning: Any, period_ending: Any, host: str,
                          errors: int, message: str | None = None) -> None:
        """Record that an audit has ended. Raises TaskNotRunning."""
        values: dict[str, Any] = {"state": DONE, "errors": errors}
        if message:
            values["message"] = message[:255]
        with self.store.writer(context) as session:
            if not session.update_rows(models.TaskLog, *self._is(task_name, period_beginning, period_ending),
                                       TASKS.c.host == host, **values):
                raise exception.TaskNotRunning(task_name=task_name, host=host)

    @operation
    def task_log_get(self, context: Any, task_name: str, period_beginning: Any, period_ending: Any, host: str,
                     state: str | None = None) -> dict[str, Any] | None:
        """Return the record of an audit, None without one."""
        rows = self.task_log_get_all(context, task_name, period_beginning, period_ending, host=host, state=state)
        return rows[0] if rows else None

    @operation
    def task_log_get_all(self, context: Any, task_name: str, period_beginning: Any, period_ending: Any,
                         host: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
        """Return the records of a period, of one host or state or of all."""
        criteria = self._is(task_name, period_beginning, period_ending)
        criteria += [TASKS.c.host == host] if host is not None else []
        criteria += [TASKS.c.state == state] if state is not None else []
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(TASKS).where(*criteria, TASKS.c.deleted == 0).order_by(TASKS.c.id))

    @operation
    def task_log_get_running_by_host(self, context: Any, task_name: str, host: str) -> list[dict[str, Any]]:
        """Return the audits a host began and never ended, for adoption after a crash."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(TASKS).where(
                TASKS.c.task_name == task_name, TASKS.c.host == host, TASKS.c.state == RUNNING,
                TASKS.c.deleted == 0).order_by(TASKS.c.period_beginning))

    def _is(self, task_name: str, period_beginning: Any, period_ending: Any) -> list[Any]:
        return [TASKS.c.task_name == task_name, TASKS.c.period_beginning == moment(period_beginning),
                TASKS.c.period_ending == moment(period_ending)]


class BandwidthUsages(Part):
    """Bytes an interface has transferred in a period. Deletion is ignored."""

    @operation
    def bw_usage_get(self, context: Any, uuid: str, start_period: Any, mac: str,
                     use_slave: bool = False) -> dict[str, Any] | None:
        """Return the row of an interface and period, None without one."""
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(BANDWIDTH).where(*self._is(uuid, mac, start_period)))

    @operation
    def bw_usage_get_by_uuids(self, context: Any, uuids: Collection[str], start_period: Any) -> list[dict[str, Any]]:
        """Return the rows of several instances and a period."""
        rows = []
        with self.store.reader(context) as session:
            for some in chunks(uuids):
                rows += session.all(sqlalchemy.select(BANDWIDTH).where(
                    BANDWIDTH.c.uuid.in_(some), BANDWIDTH.c.start_period == moment(start_period)).order_by(
                    BANDWIDTH.c.id))
        return rows

    @operation
    def bw_usage_update(self, context: Any, uuid: str, mac: str, start_period: Any, bw_in: int, bw_out: int,
                        last_ctr_in: int, last_ctr_out: int, last_refreshed: Any = None,
                        update_cells: bool = True) -> dict[str, Any]:
        """Write the row of (uuid, start_period, mac), whether there is one or not, and return it.

        ``update_cells=False`` keeps it from the cells above.
        """
        with self.store.writer(context) as session:
            values = {"bw_in": bw_in, "bw_out": bw_out, "last_ctr_in": last_ctr_in, "last_ctr_out": last_ctr_out,
                      "last_refreshed": moment(last_refreshed) or session.now}
            row = self._write(session, uuid, mac, moment(start_period), values)
            if update_cells and self.db.has_parents(context):
                self._tell(session, row)
            return row

    @operation
    def bw_usage_update_all(self, context: Any, start_period: Any, rows: Collection[Mapping[str, Any]],
                            last_refreshed: Any = None, update_cells: bool = True) -> None:
        """Write rows of one period, {uuid, mac, bw_in, bw_out, last_ctr_in, last_ctr_out}, in one transaction.

        `update_cells`: tell the cells above.
        """
        start = moment(start_period)
        with self.store.writer(context) as session:
            refreshed = moment(last_refreshed) or session.now
            tell = update_cells and self.db.has_parents(context)
            for row in sorted(rows, key=lambda row: (row["uuid"], row["mac"])):
                values = {**{name: row[name] for name in _READINGS}, "last_refreshed": refreshed}
                self._upsert(session, row["uuid"], row["mac"], start, values)
                if tell:
                    self._tell(session, {"uuid": row["uuid"], "mac": row["mac"], "start_period": start, **values})

    def _write(self, session: RowSession, uuid: str, mac: str, start_period: datetime.datetime,
               values: dict[str, Any]) -> dict[str, Any]:
        self._upsert(session, uuid, mac, start_period, values)
        return session.one(sqlalchemy.select(BANDWIDTH).where(*self._is(uuid, mac, start_period)))

    def _upsert(self, session: RowSession, uuid: str, mac: str, start_period: datetime.datetime,
                values: dict[str, Any]) -> None:
        where = self._is(uuid, mac, start_period)
        if not session.update_rows(models.BandwidthUsage, *where, **values):
            try:
                with session.begin_nested():
                    session.insert_row(models.BandwidthUsage, {
                        "uuid": uuid, "mac": mac, "start_period": start_period, **values})
            except oslo_db.exception.DBDuplicateEntry:
                session.update_rows(models.BandwidthUsage, *where, **values)  # somebody else was faster

    def _tell(self, session: RowSession, row: dict[str, Any]) -> None:
        sent = {name: row[name] for name in ("uuid", "mac", *_READINGS)}
        sent.update({name: wire.iso_text(row[name]) for name in ("start_period", "last_refreshed")})
        revision = self.db.part_of("instance_get").bump_revision(session, row["uuid"])
        self.db.part_of("outbox_add").write(session, "bw_usage", "bw_usage_update_at_top", {"bw_update_info": sent},
                                            row["uuid"], revision)

    def _is(self, uuid: str, mac: str, start_period: Any) -> list[Any]:
        return [BANDWIDTH.c.uuid == uuid, BANDWIDTH.c.mac == mac, BANDWIDTH.c.start_period == moment(start_period)]


class VolumeUsages(Part):
    """Reads and writes of volumes: the current attachment's (curr_) and those before it (tot_)."""

    @operation
    def vol_usage_update(self, context: Any, volume_id: str, rd_req: int, rd_bytes: int, wr_req: int, wr_bytes: int,
                         instance_id: str, last_refreshed: Any = None, update_totals: bool = False,
                         project_id: str | None = None, user_id: str | None = None,
                         availability_zone: str | None = None) -> dict[str, Any]:
        """Write the counters of a volume, whether there is a row or not, and return it.

        Current counters that went backwards belong to a restarted guest: what was counted before is added to the
        totals. ``update_totals``: the attachment ends, its counters are added to the totals and start anew.
        """
        counters = dict(zip(_COUNTERS, (rd_req, rd_bytes, wr_req, wr_bytes), strict=True))
        about = {"instance_id": instance_id, "project_id": project_id, "user_id": user_id,
                 "availability_zone": availability_zone}
        with self.store.writer(context) as session:
            where = (VOLUMES.c.volume_id == volume_id, VOLUMES.c.deleted == 0)
            row = session.one(sqlalchemy.select(VOLUMES).where(*where).with_for_update())
            refreshed = moment(last_refreshed) or session.now
            values = _counted(row, counters, refreshed, update_totals)
            if row is None:
                return session.insert_row(models.VolumeUsage, {"volume_id": volume_id, **about, **values})
            values.update({name: value for name, value in about.items() if value is not None})
            session.update_rows(models.VolumeUsage, *where, **values)
            return {**row, **values, "updated_at": session.now}

    @operation
    def vol_get_usage_by_time(self, context: Any, begin: Any) -> list[dict[str, Any]]:
        """Return the rows that were refreshed after ``begin``, or never in one of the two ways."""
        begin = moment(begin)
        criteria = []
        for column in (VOLUMES.c.tot_last_refreshed, VOLUMES.c.curr_last_refreshed):
            criteria += [column.is_(None), column > begin]
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(VOLUMES).where(
                sqlalchemy.or_(*criteria), VOLUMES.c.deleted == 0).order_by(VOLUMES.c.id))


def _counted(row: dict[str, Any] | None, counters: dict[str, int], refreshed: datetime.datetime,
             update_totals: bool) -> dict[str, Any]:
    """Return the columns that change."""
    row = row or dict.fromkeys((f"{part}_{name}" for part in ("tot", "curr") for name in _COUNTERS), 0)
    if update_totals:
        values: dict[str, Any] = {"tot_last_refreshed": refreshed}
        for name in _COUNTERS:
            values[f"tot_{name}"] = (row[f"tot_{name}"] or 0) + counters[name]
            values[f"curr_{name}"] = 0
        return values
    values = {"curr_last_refreshed": refreshed, **{f"curr_{name}": counters[name] for name in _COUNTERS}}
    if any(counters[name] < (row[f"curr_{name}"] or 0) for name in _COUNTERS):
        values.update({f"tot_{name}": (row[f"tot_{name}"] or 0) + (row[f"curr_{name}"] or 0) for name in _COUNTERS})
    return values


def moment(value: Any) -> datetime.datetime | None:
    """Return a time, given as datetime or ISO text, as rows have it; None stays None."""
    if value is None or isinstance(value, datetime.datetime):
        return naive(value)
    return timeutils.normalize_time(timeutils.parse_isotime(value) if "T" in value else
                                    datetime.datetime.fromisoformat(value))
