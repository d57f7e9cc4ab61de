"""What instances have used: network bytes, volume requests, and the audit of who existed in a period."""

import datetime
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications, objects
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.pacing import Pacing
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)

BATCH = 200  # interfaces whose readings one transaction writes


class Usage:
    """Collects figures of the driver into rows and notifications."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices) -> None:
        self._here = here
        self._block_devices = block_devices
        self._counts_bandwidth = True
        self._pacing = Pacing(here.clock)

    def _now(self) -> datetime.datetime:
        return self._here.clock.utcnow().replace(tzinfo=None)

    def _last_period(self) -> tuple[datetime.datetime, datetime.datetime]:
        return notifications.last_completed_audit_period(self._here.conf.instance_usage_audit_period,
                                                         before=self._now())

    # --- Bandwidth ---

    def poll_bandwidth(self, context: RequestContext) -> None:
        """Add what every interface has carried since the last reading; a driver that cannot tell is asked once."""
        if not self._counts_bandwidth:
            return
        try:
            counters = self._here.driver.get_all_bw_counters(self._here.instances(context))
        except NotImplementedError:
            self._counts_bandwidth = False
            return
        previous, start = self._last_period()
        refreshed = self._now()
        rows = self._rows_by_interface(context, counters, start)
        before = self._rows_by_interface(context, counters, previous)
        added = [_added(counter, rows.get(key), before.get(key)) for counter in counters
                 for key in [(counter["uuid"], counter["mac_address"])]]
        update_cells = bool(added) and self._tells_cells()
        for first in range(0, len(added), BATCH):
            self._here.db.bw_usage_update_all(context, start, added[first:first + BATCH], last_refreshed=refreshed,
                                              update_cells=update_cells)
            self._here.clock.sleep(0)

    def _tells_cells(self) -> bool:
        """Tell whether these readings go to the cells above, which hear at most every bandwidth_update_interval."""
        interval_s = self._here.conf.cells.bandwidth_update_interval
        return interval_s > 0 and self._pacing.is_due("upward bandwidth", interval_s)

    def _rows_by_interface(self, context: RequestContext, counters: list[dict[str, Any]],
                           start: datetime.datetime) -> dict[tuple[str, str], dict[str, Any]]:
        uuids = sorted({counter["uuid"] for counter in counters})
        rows = self._here.db.bw_usage_get_by_uuids(context, uuids, start) if uuids else ()
        return {(row["uuid"], row["mac"]): row for row in rows}

    # --- Volumes ---

    def poll_volumes(self, context: RequestContext, start_time: datetime.datetime | None = None) -> None:
        """Store what every attached volume was used, and announce what changed since `start_time`.

        Default: the end of the last completed period.
        """
        if start_time is None:
            start_time = self._last_period()[1]
        instances = self._here.instances(context)
        bdms = self._block_devices.of_all(context, instances)
        attached = [{"instance": instance, "instance_bdms": volumes} for instance in instances
                    if (volumes := [bdm for bdm in bdms[instance.uuid] if bdm.volume_id])]
        if not attached:
            return
        try:
            readings = self._here.driver.get_all_volume_usage(context, attached)
        except NotImplementedError:
            return
        for reading in readings:
            self._here.db.vol_usage_update(
                context, reading["volume"], reading["rd_req"], reading["rd_bytes"], reading["wr_req"],
                reading["wr_bytes"], reading["instance"]["uuid"], last_refreshed=self._now())
        for row in self._here.db.vol_get_usage_by_time(context, start_time):
            notifications.send(context, f"volume.{self._here.name}", "volume.usage",
                               compute_utils.usage_volume_info(row))

    # --- The audit ---

    def audit(self, context: RequestContext) -> None:
        """Announce, once per completed period, every instance that existed here in it.

        A period whose audit began and never ended (the service died) is audited by the next run of the service.
        """
        here = self._here
        begin, end = self._last_period()
        if self._is_audited(context, begin, end):
            return
        instances = list(objects.InstanceList.get_active_by_window_joined(context, begin, end, host=here.name))
        self._begin(context, begin, end, len(instances))
        started_s = here.clock.monotonic()
        errors = sum(not self._announce(context, instance) for instance in instances)
        message = (f"Instance usage audit of host {here.name}: {len(instances)} instances in "
                   f"{here.clock.monotonic() - started_s:.1f} s")
        compute_utils.finish_instance_usage_audit(context, here.conductor, begin, end, here.name, errors, message)

    def _is_audited(self, context: RequestContext, begin: datetime.datetime, end: datetime.datetime) -> bool:
        row = self._here.conductor.task_log_get(context, compute_utils.AUDIT_TASK, begin, end, self._here.name)
        return bool(row) and row["state"] == "DONE"

    def _begin(self, context: RequestContext, begin: datetime.datetime, end: datetime.datetime, count: int) -> None:
        try:
            compute_utils.start_instance_usage_audit(context, self._here.conductor, begin, end, self._here.name,
                                                     count)
        except exception.TaskAlreadyRunning:
            LOG.warning("Adopting the audit of %s to %s, which an earlier run of this service began", begin, end)

    def _announce(self, context: RequestContext, instance: objects.Instance) -> bool:
        try:
            self._here.conductor.notify_usage_exists(context, instance, ignore_missing_network_data=False)
        except Exception:  # counted, and the next one follows
            LOG.exception("Could not announce the existence of instance %s", instance.uuid)
            return False
        return True


def _added(counter: dict[str, Any], row: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return an interface's row of the period with a new reading added; `before` is its row of the last period."""
    bw_in, bw_out = (row["bw_in"], row["bw_out"]) if row else (0, 0)
    last = row or before
    if last is not None:
        bw_in += counted(last["last_ctr_in"], counter["bw_in"])
        bw_out += counted(last["last_ctr_out"], counter["bw_out"])
    return {"uuid": counter["uuid"], "mac": counter["mac_address"], "bw_in": bw_in, "bw_out": bw_out,
            "last_ctr_in": counter["bw_in"], "last_ctr_out": counter["bw_out"]}


def counted(last: int | None, current: int) -> int:
    """Return what a counter has counted since `last`; one that went back was reset. None: nothing is known yet."""
    if last is None:
        return 0
    return current - last if current >= last else current
