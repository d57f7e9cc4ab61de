"""Finding and repairing what the top has wrong about the instances of this cell."""

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.cells import replica, routing, utils
from nova_lite.cells.digests import Digests
from nova_lite.db import models
from nova_lite.objects import base, vm_states

LOG = logging.getLogger(__name__)

_DIGESTS_A_RUN = 500
_SNAPSHOTS_A_MESSAGE = 50
_READ_AT_ONCE = 100
_WORKING_SHARE = 0.9  # of the time, while much differs
_MAX_RUN_S = 50.0


class Healer:
    """Tells the top all about single instances, and compares with it page by page."""

    def __init__(self, runner):
        self._runner = runner
        self._services = runner.services
        self._recent: Iterator[str] = iter(())
        self._all: Iterator[str] = iter(())
        self.instances_to_heal: Iterator[str] = iter(())
        self.digests = Digests()

    def push(self, ctxt, uuid: str) -> None:
        """Tell the top all of an instance as it is here: its fields, block devices and latest fault, or its end."""
        seen_all = ctxt.elevated(read_deleted="yes")
        try:
            instance = objects.Instance.get_by_uuid(seen_all, uuid)
        except exception.InstanceNotFound:
            return
        if instance.deleted:
            if not self._was_given_back(ctxt, instance):
                self._runner.instance_destroy_at_top(ctxt, instance, revision=instance.revision)
            return
        replica.mark_replicated(instance)
        self._runner.instance_update_at_top(ctxt, instance, revision=instance.revision, snapshot=True)
        for bdm in objects.BlockDeviceMappingList.get_by_instance_uuid(seen_all, uuid):
            self._runner.bdm_update_or_create_at_top(ctxt, bdm_values(bdm))
        fault = objects.InstanceFault.get_latest_for_instance(seen_all, uuid)
        if fault is not None:
            self._runner.instance_fault_create_at_top(ctxt, dict(fault.items()), revision=instance.revision)

    def heal_some(self, ctxt, count: int, push) -> None:
        """Tell the top of the next `count` instances changed lately, one by one with `push(instance)`."""
        seen_all = ctxt.elevated(read_deleted="yes")
        refilled = False
        while count > 0:
            self._services.clock.sleep(0)
            uuid = next(self.instances_to_heal, None)
            if uuid is None:
                if refilled:
                    return
                refilled = True
                self.instances_to_heal = self._changed_lately(seen_all)
                continue
            try:
                instance = objects.Instance.get_by_uuid(seen_all, uuid)
            except exception.InstanceNotFound:
                continue
            push(instance)
            count -= 1

    def heal(self, ctxt) -> int | None:
        """Sweep until nothing more is found to differ, or for the better part of a minute; return how many did.

        Pauses between sweeps leave both cells time for their other work. None as of `sweep`.
        """
        clock = self._services.clock
        total, end_s = 0, clock.monotonic() + _MAX_RUN_S
        while True:
            begun_s = clock.monotonic()
            found = self.sweep(ctxt)
            total += found or 0
            taken_s = clock.monotonic() - begun_s
            if not found or clock.monotonic() + taken_s > end_s:
                return None if found is None else total
            clock.sleep(taken_s * (1 / _WORKING_SHARE - 1))

    def sweep(self, ctxt) -> int | None:
        """Compare instances with the top by digests and repair what differs; return how many did.

        Instances changed lately first, then a slow walk through all. None when the way to the top is not known:
        then only telling everything again helps.
        """
        path = self._runner.place.path_to_top()
        if path is None:
            return None
        seen_all = ctxt.elevated(read_deleted="yes")
        digests = self._next_digests(seen_all)
        if not digests:
            return 0
        differing = self._runner.send_targeted(ctxt, "compare_digests", {"digests": digests}, routing.UP, path,
                                               need_response=True).value_or_raise()
        for uuid, applied in differing.items():
            if applied:
                self._overtake(ctxt, uuid, applied)
        for uuids in batched(differing, _SNAPSHOTS_A_MESSAGE):
            self._runner.send_targeted(ctxt, "outbox_batch", {"entries": self._snapshots(seen_all, uuids)},
                                       routing.UP, path, need_response=True).value_or_raise()
        if differing:
            LOG.info("The top had another idea of %d of %d instances", len(differing), len(digests))
        return len(differing)

    def _snapshots(self, ctxt, uuids: list[str]) -> list[dict[str, Any]]:
        """Return all there is to tell of some instances, as `push`, in the form of upward updates."""
        found: list[tuple[str, dict[str, Any]]] = []
        bdms: dict[str, list] = {}
        for bdm in objects.BlockDeviceMappingList.get_by_instance_uuids(ctxt, uuids):
            bdms.setdefault(bdm.instance_uuid, []).append(bdm)
        faults = self._services.db.instance_fault_get_by_instance_uuids(ctxt, uuids)
        for instance in load(ctxt, uuids):
            told = {"instance": instance, "revision": instance.revision}
            if instance.deleted:
                found.append(("instance_destroy_at_top", told))
                continue
            replica.mark_replicated(instance)
            found.append(("instance_update_at_top", {**told, "snapshot": True}))
            found.extend(("bdm_update_or_create_at_top", {"bdm": bdm_values(bdm)})
                         for bdm in bdms.get(instance.uuid, ()))
            found.extend(("instance_fault_create_at_top", {"instance_fault": fault, "revision": instance.revision})
                         for fault in faults[instance.uuid][:1])
        return [{"id": number, "method": method, "kwargs": base.to_wire(kwargs)}
                for number, (method, kwargs) in enumerate(found)]

    def _overtake(self, ctxt, uuid: str, applied: int | None) -> None:
        """Bring an instance's revision up to the one the top has applied, so that the top believes us again.

        The top can only be ahead when this database was put back to an earlier state.
        """
        with self._services.db.writer(ctxt) as session:
            row = models.Instance.__table__.c
            behind = session.update_rows(models.Instance, row.uuid == uuid, row.revision < (applied or 0), touch=False,
                                         revision=applied)
        if behind:
            LOG.warning("Instance %s had an older revision here than at the top: taking up at %s", uuid, applied)

    def _next_digests(self, ctxt) -> dict[str, str | None]:
        self._recent, lately = _take(self._recent, lambda: self._changed_lately(ctxt))
        self._all, others = _take(
            self._all, lambda: utils.get_instances_to_sync(ctxt, deleted=False, uuids_only=True))
        uuids = list(dict.fromkeys([*lately, *others]))
        found: dict[str, str | None] = {}
        for some in batched(uuids, _READ_AT_ONCE):
            rows = rows_of(ctxt, some)
            known = self.digests.of(ctxt, [row for row in rows if not row["deleted"]])
            found.update((row["uuid"], known.get(row["uuid"])) for row in rows
                         if not (row["deleted"] and self._was_given_back(ctxt, row)))
        # Looked at last, so that no change is in a digest that the top has not heard of, nor is about to.
        for uuid in self._services.db.outbox_instances(ctxt).intersection(found):
            del found[uuid]
        return found

    def _was_given_back(self, ctxt, row: Any) -> bool:
        """Whether a row is gone because its build failed here: the instance lives on, elsewhere or in an order."""
        return (row["vm_state"] == vm_states.BUILDING
                and self._services.db.tombstone_get(ctxt, row["uuid"]) is None)

    def _changed_lately(self, ctxt) -> Iterator[str]:
        threshold_s = self._services.conf.cells.instance_updated_at_threshold
        since = None
        if threshold_s > 0:
            since = self._services.clock.utcnow() - datetime.timedelta(seconds=threshold_s)
        return utils.get_instances_to_sync(ctxt, updated_since=since, shuffle=True, uuids_only=True)


def _take(uuids: Iterator[str], refill: Callable[[], Iterator[str]]) -> tuple[Iterator[str], list[str]]:
    """Return a lane and its next uuids; a lane that is at its end begins again."""
    taken = list(itertools.islice(uuids, _DIGESTS_A_RUN // 2))
    if not taken:
        uuids = refill()
        taken = list(itertools.islice(uuids, _DIGESTS_A_RUN // 2))
    return uuids, taken


def load(ctxt, uuids: list[str]) -> Any:
    """Return those of some instances that have rows, deleted ones too if the context sees them."""
    return objects.InstanceList.get_by_filters(ctxt, {"uuid": uuids})


def rows_of(ctxt, uuids: list[str]) -> list[dict[str, Any]]:
    """Return the rows of some instances, as `load`, without any of their parts."""
    return ctxt.services.db.instance_get_all_by_uuids(ctxt, uuids, columns_to_join=())


def batched(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the values in lists of at most so many."""
    rest = iter(values)
    while some := list(itertools.islice(rest, size)):
        yield some


def bdm_values(bdm: Any) -> dict[str, Any]:
    """Return a block device mapping as the flat dict that travels."""
    values = dict(bdm.items())
    values.pop("instance", None)
    return values

