"""Choosing the cell that builds new instances, hop by hop; trying the next one where a build fails."""

import threading
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception, objects
from nova_lite.cells import capacities, decisions, filters, plugins, routing, siblings, timers, weights
from nova_lite.cells.build_requests import BuildRequests, InHand, Request
from nova_lite.cells.local_builds import LocalBuilds
from nova_lite.objects import base, vm_states

LOG = logging.getLogger(__name__)


class CellsScheduler:
    """Filters and weighs the cells next to this one."""

    def __init__(self, msg_runner):
        self.msg_runner = msg_runner
        self.state_manager = msg_runner.state_manager
        self.services = msg_runner.services
        conf = self.services.conf
        self._conf = conf
        self._clock = self.services.clock
        self._filters = [cls(self.services) for cls in plugins.load_classes(
            conf.cells.scheduler_filter_classes, filters.BaseCellFilter)]
        self._weighers = [cls(conf) for cls in plugins.load_classes(
            conf.cells.scheduler_weight_classes, weights.BaseCellWeigher)]
        self.requests = BuildRequests(self._clock)
        self.in_hand = InHand()
        self.local = LocalBuilds(msg_runner, self.in_hand)
        self.decisions = decisions.Decisions()
        self._siblings = siblings.Siblings(self.services)
        self.retries = timers.Timers(self._clock, "builds-put-off")
        self._choosing = threading.Lock()

    def build_instances(self, message, build_inst_kwargs: dict[str, Any]) -> None:
        """Have a cell, this one or a child, build the instances; tell who asked when none can.

        Tries again while no cell is available. A failure is never raised: it is told upwards.
        """
        self._build(message, build_inst_kwargs, frozenset())

    def stop(self) -> None:
        """Try requests that wait for a cell once more, now; they are not put off again."""
        for again in self.retries.stop():
            again()

    def send_build(self, ctxt, target_cell, build_inst_kwargs: dict[str, Any]) -> None:
        """Send a build to a path or a CellState. Raises when it cannot be sent."""
        self.msg_runner.send_targeted(ctxt, "build_instances", {"build_inst_kwargs": build_inst_kwargs},
                                      routing.DOWN, target_cell, strict=True)

    def build_failed(self, message, instance_uuids: list[str], reason: str, cells_tried: list[str]) -> None:
        """A cell that this one had sent a build to cannot do it: send it to the next one, or tell our parent."""
        failed, ctxt = message.came_from or self.msg_runner.our_name, message.ctxt
        request = self.requests.take(instance_uuids) or self._as_written_down(ctxt, instance_uuids, failed)
        if request is not None:
            self._build_elsewhere(message, request, failed, instance_uuids, reason, cells_tried)
        elif not self._siblings.take_over(ctxt, instance_uuids, reason, cells_tried, failed):
            LOG.warning("Cell %s cannot build %d instances of a request that is not known here any more", failed,
                        len(instance_uuids))
            self._give_up(ctxt, instance_uuids, reason, cells_tried)

    def _as_written_down(self, ctxt, instance_uuids: list[str], failed: str) -> Request | None:
        """Return a request that this process does not remember, as the top has it in its database."""
        if self.state_manager.get_parent_cells():
            return None
        kwargs = self.msg_runner.orders.arguments_for(ctxt, instance_uuids)
        if kwargs is None:
            return None
        hints = (kwargs.get("filter_properties") or {}).get("scheduler_hints") or {}
        return Request(kwargs, self.msg_runner.our_name, frozenset((failed,)), (), hints.get("target_cell"),
                       self._clock.time())

    def take_failed_build(self, ctxt, instance_uuids: list[str], reason: str, cells_tried: list[str],
                          failed_cell: str) -> bool:
        """As build_failed, told to another process of this cell; False when the request is not known here."""
        request = self.requests.take(instance_uuids)
        if request is None:
            return False
        ctxt.deadline = None  # the caller waits for this answer, not for the build
        message = _LocalFailure(self.msg_runner, ctxt)
        self.retries.soon(lambda: self._build_elsewhere(message, request, failed_cell, instance_uuids, reason,
                                                        cells_tried))
        return True

    def _build_elsewhere(self, message, request: Request, failed: str, instance_uuids: list[str], reason: str,
                         cells_tried: list[str]) -> None:
        ctxt = message.ctxt
        if request.only_cell is not None:
            self._give_up(ctxt, instance_uuids, _only(request.only_cell, reason), [*request.cells_tried, *cells_tried])
            return
        kwargs = dict(request.build_inst_kwargs)
        kwargs["instances"] = [one for one in kwargs["instances"] if one["uuid"] in set(instance_uuids)]
        LOG.info("Cell %s cannot build %d instances (%s), trying the next one", failed, len(instance_uuids), reason)
        self._release_at_top(ctxt, instance_uuids, failed)
        message.routing_path = request.routing_path
        self._build(message, kwargs, request.tried, reason, (*request.cells_tried, *cells_tried))

    def _release_at_top(self, ctxt, uuids: list[str], failed: str) -> None:
        """Have the top accept another cell for these instances than this one, or the child, that failed."""
        child = None if failed == self.msg_runner.our_name else failed
        if not self.state_manager.get_parent_cells():
            self.msg_runner.replica.release(ctxt, uuids, routing.append(self.msg_runner.our_name, child) if child
                                            else self.msg_runner.our_name, and_below=child is not None)
            return
        try:
            self.msg_runner.build_moved_on(ctxt, uuids, failed_child=child)
        except exception.NovaException as error:
            # A parent that is no nova_lite does not ask whose an instance is.
            LOG.debug("The top was not told that instances %s move on: %s", uuids, error)

    def lost(self, message, error: Exception) -> None:
        """A build for a cell further on cannot be sent there."""
        uuids = [instance["uuid"] for instance in message.method_kwargs["build_inst_kwargs"]["instances"]]
        self._give_up(message.ctxt, uuids, str(error), [self._path_of(message)])

    # -- one request

    def _build(self, message, kwargs, tried: frozenset[str], reason: str = "", cells_tried: tuple[str, ...] = (),
               attempt: int = 1) -> None:
        uuids = [instance["uuid"] for instance in kwargs["instances"]]

        def again() -> None:
            self._build(message, kwargs, tried, reason, cells_tried, attempt + 1)

        self.in_hand.add(uuids)
        try:
            self._attempt(message, kwargs, tried, cells_tried)
        except Exception as error:  # edge: told to whoever asked for the build
            if isinstance(error, exception.NoCellsAvailable) and not tried and self._put_off(attempt, again):
                LOG.info("No cell is available for instances %s, trying again", uuids)
                return
            LOG.warning("Cannot find a cell for instances %s: %s", uuids, error)
            self._give_up(message.ctxt, uuids, reason or str(error), [*cells_tried, self._path_of(message)])
        self.in_hand.remove(uuids)

    def _put_off(self, attempt: int, again: Callable[[], None]) -> bool:
        """Have a request tried again after a while; False when it has been tried often enough."""
        if attempt > self._conf.cells.scheduler_retries:
            return False
        try:
            self.retries.later(max(1, self._conf.cells.scheduler_retry_delay), again)
        except concurrency.PoolFull as error:
            LOG.warning("A build is not tried again: %s", error)
            return False
        return True

    def _attempt(self, message, kwargs: dict[str, Any], tried: frozenset[str], cells_tried: tuple[str, ...]) -> None:
        request_spec = _request_spec(kwargs)
        filter_properties = dict(kwargs.get("filter_properties") or {})
        filter_properties.update(context=message.ctxt, scheduler=self, routing_path=self._path_of(message),
                                 host_sched_kwargs=kwargs, request_spec=request_spec)
        hint = (filter_properties.get("scheduler_hints") or {}).get("target_cell")
        if hint:
            # Before the filter sends it there: the cell's answer may come at once.
            self.requests.remember(message, kwargs, tried, cells_tried, only_cell=hint)
        decision = self._decision(message, kwargs, tried)
        left = self._filtered(filter_properties, tried, decision)
        if left is None:
            return
        only_cell = filter_properties.get("only_cell")
        if not left and only_cell is None and self._build_in_parts(message, kwargs, tried, cells_tried,
                                                                   filter_properties, decision):
            return
        while left:
            cell = self._choose(left, filter_properties, decision)
            left.remove(cell)
            self.requests.remember(message, kwargs, tried | {cell.name}, cells_tried, only_cell)
            could_build = self._build_in(cell, message, kwargs)
            decision.chose(cell.name, could_build)
            if could_build:
                return
        decision.failed("no cell is left")
        if only_cell is not None:
            raise exception.Invalid(_only(only_cell, "it cannot build now"))
        raise exception.NoCellsAvailable()

    def _build_in_parts(self, message, kwargs: dict[str, Any], tried: frozenset[str], cells_tried: tuple[str, ...],
                        filter_properties: dict[str, Any], decision: decisions.Decision) -> bool:
        """Build the instances of a request in several cells; False when no cell, or not enough of them, has room."""
        instances, spec = kwargs["instances"], {**filter_properties["request_spec"], "num_instances": 1}
        cells = self._filtered({**filter_properties, "request_spec": spec}, tried, decision)
        rooms = [capacities.room_for(cell.capacities, *capacities.wanted_mb(spec)) for cell in cells or ()]
        sizes = parts(len(instances), [room for room in rooms if room is not None])
        if len(sizes) < 2:
            return False
        LOG.info("No cell has room for %d instances, building them %s at a time", len(instances),
                 " and ".join(str(size) for size in sizes))
        decision.split(sizes)
        for size in sizes:
            part, instances = instances[:size], instances[size:]
            self._build(message, {**kwargs, "instances": part}, tried, cells_tried=cells_tried)
        return True

    def _path_of(self, message) -> str:
        """Return this cell's full name; where no parent has told it, how the message came."""
        return self.msg_runner.place.full_name() or message.routing_path

    def _get_possible_cells(self, tried: frozenset[str] = frozenset()) -> list:
        children = self.state_manager.get_child_cells()
        ours = self.state_manager.get_my_state()
        cells = [*children, ours] if not children or ours.capacities else children
        return [cell for cell in cells if cell.takes_builds and cell.name not in tried]

    def _decision(self, message, kwargs: dict[str, Any], tried: frozenset[str]) -> decisions.Decision:
        return self.decisions.begin(message.ctxt.request_id, self._path_of(message),
                                    [one["uuid"] for one in kwargs["instances"]], self._clock.time(),
                                    self._get_possible_cells(tried))

    def _filtered(self, filter_properties: dict[str, Any], tried: frozenset[str],
                  decision: decisions.Decision) -> list | None:
        """Return the cells that may build; None when a filter has taken care of the request."""
        cells = self._get_possible_cells(tried)
        for one in self._filters:
            if not cells:
                break
            passed = one.filter_all(cells, filter_properties)
            left = None if passed is None else list(passed)
            decision.filtered(type(one).__name__, cells, left)
            if left is None:
                return None
            cells = left
        return cells

    def _choose(self, cells: list, filter_properties: dict[str, Any], decision: decisions.Decision):
        """Return the best cell, its room taken off, so that requests at the same time do not all choose it."""
        with self._choosing:
            weighed = weights.weigh(cells, self._weighers, filter_properties)
            decision.weighed(weighed, self._weighers, filter_properties)
            cell = weighed[0][1]
            self._debit(cell, filter_properties["request_spec"])
            return cell

    def _build_in(self, cell, message, kwargs: dict[str, Any]) -> bool:
        """Have a cell build; False when it cannot, or cannot be told."""
        try:
            if cell.is_me:
                self.local.build(message.ctxt, kwargs)
            else:
                self.send_build(message.ctxt, cell, kwargs)
        except Exception as error:  # edge: the next cell may do better
            LOG.warning("Cannot have cell %s build: %s", cell.name, error)
            return False
        return True

    def _debit(self, cell, request_spec: dict[str, Any]) -> None:
        cell.capacities = capacities.debit(cell.capacities, *capacities.wanted_mb(request_spec),
                                           request_spec["num_instances"])

    # -- failure

    def local_build_failed(self, ctxt, instance_uuids: list[str], reason: str) -> None:
        """No host of this cell can build the instances: hand them back to the parent, or to a child."""
        never_ran = [uuid for uuid in instance_uuids if not self.local.ever_ran(ctxt, uuid)]
        if len(never_ran) < len(instance_uuids):
            self._set_error(ctxt, never_ran, reason)
            return
        message = _LocalFailure(self.msg_runner, ctxt)
        if self._parent_of_our_kind() is None and not self.state_manager.get_child_cells():
            self._set_error(ctxt, instance_uuids, reason)
            return
        if self.state_manager.get_parent_cells():
            self.msg_runner.outbox.drop(ctxt, instance_uuids)
            self.local.remove_rows(ctxt, instance_uuids)
        self.build_failed(message, instance_uuids, reason, [])

    def _parent_of_our_kind(self):
        parents = self.state_manager.get_parent_cells()
        return parents[0] if len(parents) == 1 and parents[0].is_ours else None

    def _give_up(self, ctxt, uuids: list[str], reason: str, cells_tried: list[str]) -> None:
        parent = self._parent_of_our_kind()
        if parent is None:
            tried = ", ".join(dict.fromkeys(cells_tried))
            self._set_error(ctxt, uuids, f"{reason} (tried: {tried})" if tried else reason)
            return
        try:
            self.msg_runner.send_targeted(
                ctxt, "build_failed", {"instance_uuids": uuids, "reason": reason, "cells_tried": list(cells_tried)},
                routing.UP, parent, strict=True)
        except exception.NovaException as error:
            LOG.warning("Cannot tell cell %s that instances %s were not built: %s", parent.name, uuids, error)
            # A top of our kind finds out that nobody has them, and orders them again.
            if self.msg_runner.place.path_to_top(parent) is None:
                self._set_error(ctxt, uuids, reason)

    def give_up_lost(self, ctxt, instance_uuids: list[str], reason: str) -> None:
        """No cell has these instances: they have failed."""
        self.requests.take(instance_uuids)
        self._set_error(ctxt, instance_uuids, reason)

    def _set_error(self, ctxt, uuids: list[str], reason: str) -> None:
        """Set instances to error, here and at the top, with a fault that says why."""
        for uuid in uuids:
            told = objects.Instance(ctxt, uuid=uuid, vm_state=vm_states.ERROR, task_state=None)
            self.msg_runner.outbox.enqueue(ctxt, uuid, "instance_update_at_top", {"instance": base.to_wire(told)})
            try:
                instance = objects.Instance.get_by_uuid(ctxt.elevated(), uuid)
                instance.vm_state, instance.task_state = vm_states.ERROR, None
                instance.save()
                objects.InstanceFault(ctxt, instance_uuid=uuid, code=500, message="No cell can build this instance",
                                      details=reason, host=self.services.host).create()
            except exception.NotFound:
                LOG.debug("Instance %s has no row here", uuid)


class _LocalFailure:
    """What `build_failed` needs of a message, for a failure that arose in this cell."""

    came_from = None

    def __init__(self, msg_runner, ctxt):
        self.ctxt = ctxt
        self.routing_path = msg_runner.our_name

    def source_is_us(self) -> bool:
        return True


def parts(count: int, rooms: list[int]) -> list[int]:
    """Return how many of `count` instances go to each of the largest rooms; [] when all together are too small."""
    sizes = []
    for room in sorted(rooms, reverse=True):
        size = min(room, count)
        if size > 0:
            sizes.append(size)
            count -= size
    return [] if count else sizes


def _only(cell_name: str, reason: str) -> str:
    return f"Cell {cell_name} was asked for, so no other one is tried: {reason}"


def _request_spec(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what filters and weighers look at, all primitives."""
    first = kwargs["instances"][0]
    flavor = (kwargs.get("filter_properties") or {}).get("instance_type") or first["flavor"]
    return {"image": kwargs.get("image") or {}, "instance_properties": _plain(first), "instance_type": _plain(flavor),
            "num_instances": len(kwargs["instances"]),
            "root_is_volume": any(_is_root_volume(bdm) for bdm in kwargs.get("block_device_mapping") or ())}


def _is_root_volume(bdm: Any) -> bool:
    return bdm.get("boot_index") == 0 and bdm.get("destination_type") == "volume"


def _plain(thing: Any) -> dict[str, Any]:
    wire = base.to_wire(thing)
    return wire.get("nova_object.data", wire) if isinstance(wire, dict) else dict(thing)
