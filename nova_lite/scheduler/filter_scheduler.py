"""Choosing hosts by filters and weights, and sending the work there (compute specification §11.2)."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance, task_states, vm_states
from nova_lite.scheduler import weights
from nova_lite.scheduler.filters import base as filters
from nova_lite.scheduler.host_manager import HostManager, HostState, named_hosts
from nova_lite.scheduler.reporting import FailureReport
from nova_lite.scheduler.settings_file import SettingsFile

LOG = logging.getLogger(__name__)

# A broker that is away is waited for. When it is back, services need a moment until they listen again.
_BROKER_PATIENCE_S = 60.0
_LISTENER_PATIENCE_S = 5.0
_PAUSE_S = 0.5


@dataclasses.dataclass(frozen=True)
class BuildRequest:
    """What `run_instance` was asked for."""

    request_spec: dict[str, Any]
    admin_password: str | None
    injected_files: list | None
    requested_networks: list | None
    is_first_time: bool
    filter_properties: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Selection:
    """A host that was chosen; `limits` is how far compute may fill it."""

    host: str
    node: str | None
    limits: dict[str, float]
    weight: float


class FilterScheduler:
    """Chooses hosts for builds and resizes and hands the work to their compute services."""

    def __init__(self, services: Services, host_manager: HostManager, report: FailureReport) -> None:
        self._services = services
        self._conf = services.conf
        self._compute = ComputeAPI(services)
        self._hosts = host_manager
        self._report = report
        self._filters = filters.load_filters(services)
        self._weighers = weights.load_weighers(services)
        self._settings = SettingsFile(services)
        self._random = random.SystemRandom()

    def schedule_run_instance(self, context: RequestContext, request: BuildRequest) -> None:
        """Send each instance of the request to a host. Raises NoValidHost when not even the first one fits.

        An instance that nothing is left for fails by itself, the others are built.
        """
        spec, properties = request.request_spec, dict(request.filter_properties)
        uuids = spec["instance_uuids"]
        self._announce(context, "run_instance.start", {"request_spec": spec})
        retry = self._next_attempt(properties, uuids[0])
        selections = self.select(context, spec, properties, len(uuids), retry)
        if not selections:
            raise exception.NoValidHost(reason="")
        for index, uuid in enumerate(uuids):
            try:
                if index >= len(selections):
                    raise exception.NoValidHost(reason="")
                self._place(context, request, properties, selections[index], uuid, index, retry)
            except exception.InstanceNotFound:
                LOG.info("Instance %s was deleted before it was placed", uuid)
            except Exception as error:  # one instance must not keep the others from being built
                is_expected = isinstance(error, exception.NovaException)
                LOG.error("Could not place instance %s: %s", uuid, error, exc_info=None if is_expected else error)
                self._report.build_failed(context, error, spec, [uuid], request.is_first_time)
        self._announce(context, "run_instance.end", {"request_spec": spec})

    def schedule_prep_resize(self, context: RequestContext, image: dict, request_spec: dict[str, Any],
                             filter_properties: dict[str, Any], instance: Any, instance_type: dict[str, Any],
                             reservations: list | None) -> None:
        """Send the resize to the host that is to take the instance. Raises NoValidHost."""
        properties = dict(filter_properties)
        retry = self._next_attempt(properties, instance["uuid"])
        selected = self.select(context, request_spec, properties, 1, retry)
        if not selected:
            raise exception.NoValidHost(reason="")
        try:
            self._patiently(lambda: self._compute.prep_resize(
                context, image, instance, instance_type, selected[0].host, reservations, request_spec=request_spec,
                filter_properties=_for_compute(properties, selected[0], retry), node=selected[0].node))
        except exception.RpcUnavailable as error:  # nothing has begun
            raise exception.NoValidHost(reason=f"{selected[0].host} does not listen: {error}") from error

    def select_hosts(self, context: RequestContext, request_spec: dict[str, Any],
                     filter_properties: dict[str, Any]) -> list[Selection]:
        """Return a host for each instance of the request. Raises NoValidHost unless there is one for each."""
        count = len(request_spec.get("instance_uuids") or [None])
        selections = self.select(context, request_spec, dict(filter_properties), count, None)
        if len(selections) < count:
            raise exception.NoValidHost(reason="")
        return selections

    def select(self, context: RequestContext, request_spec: dict[str, Any], filter_properties: dict[str, Any],
               count: int, retry: dict[str, Any] | None) -> list[Selection]:
        """Return up to `count` hosts, one for each instance; the hosts are read once."""
        seen = self._seen_by_filters(context, request_spec, filter_properties, retry)
        needs = _needs(request_spec)
        nodes = self._hosts.read(context)
        selections: list[Selection] = []
        with self._hosts.lock:
            states = self._hosts.refresh(nodes)
            while len(selections) < count:
                chosen = self._choose(states, seen)
                if chosen is None:
                    break
                selections.append(Selection(*chosen.state.key, dict(chosen.state.limits), chosen.weight))
                chosen.state.consume_from_instance(needs, self._services.clock.utcnow())
                if "group_hosts" in seen:
                    seen["group_hosts"].append(chosen.state.host)
        return selections

    def _choose(self, states: list[HostState], seen: dict[str, Any]) -> weights.WeighedHost | None:
        passing, forced = named_hosts(states, seen)
        if not forced:
            for one in self._filters:
                passing = one.filter_all(passing, seen)
                if not passing:
                    LOG.info("%s left no host", type(one).__name__)
                    return None
        weighed = weights.weigh(self._weighers, passing, seen)
        subset_size = min(max(1, self._conf.scheduler_host_subset_size), len(weighed))
        return self._random.choice(weighed[:subset_size]) if weighed else None

    def _seen_by_filters(self, context: RequestContext, request_spec: dict[str, Any],
                         filter_properties: dict[str, Any], retry: dict[str, Any] | None) -> dict[str, Any]:
        instance = request_spec.get("instance_properties") or {}
        seen = {**self._settings.get(), **filter_properties, "context": context, "request_spec": request_spec,
                "config_options": self._conf, "instance_type": request_spec["instance_type"],
                "project_id": instance.get("project_id"), "os_type": instance.get("os_type")}
        if retry:
            seen["retry"] = retry
        group = (filter_properties.get("scheduler_hints") or {}).get("group")
        if group:
            seen["group_hosts"] = self._hosts_of_group(context, group, seen["project_id"])
        return seen

    def _hosts_of_group(self, context: RequestContext, group: Any, project_id: str | None) -> list[str]:
        """Return where the group's members are; another project's group of that name is another group."""
        if not isinstance(group, str):
            raise exception.InvalidInput(reason="hint group: not the name of a group")
        members = self._services.db.instance_get_all_by_filters(
            context.elevated(), {"system_metadata": {"group": group}, "project_id": project_id, "deleted": False})
        return [member["host"] for member in members if member["host"]]

    def _next_attempt(self, filter_properties: dict[str, Any], uuid: str) -> dict[str, Any] | None:
        """Take the record of attempts out of the properties and count this one; None when there is no second one.

        Raises NoValidHost when the attempts are used up.
        """
        limit = self._conf.scheduler_max_attempts
        if limit < 1:
            raise exception.NovaException("scheduler_max_attempts must be at least 1")
        before = filter_properties.pop("retry", None) or {}
        if before.get("exc"):
            host = (before.get("hosts") or [[None, None]])[-1]
            # The traceback is in that host's log and in the instance's fault.
            LOG.error("Host %s could not take instance %s: %s", host, uuid, before["exc"][-1].strip())
        if limit == 1:
            return None
        retry = {"num_attempts": before.get("num_attempts", 0) + 1, "hosts": list(before.get("hosts", []))}
        if retry["num_attempts"] > limit:
            raise exception.NoValidHost(
                reason=f"Exceeded scheduler_max_attempts ({limit}) for instance {uuid}")
        return retry

    def _place(self, context: RequestContext, request: BuildRequest, filter_properties: dict[str, Any],
               selection: Selection, uuid: str, index: int, retry: dict[str, Any] | None) -> None:
        """Send one instance to its host, or to another one when that host has no service listening."""
        try:
            self._provision(context, request, filter_properties, selection, uuid, index, retry)
        except exception.RpcUnavailable as error:
            if retry is None:
                raise
            LOG.warning("Host %s does not listen, trying another one for instance %s: %s", selection.host, uuid, error)
            self.schedule_run_instance(context, dataclasses.replace(
                request, request_spec={**request.request_spec, "instance_uuids": [uuid]},
                filter_properties=_for_compute(filter_properties, selection, retry)))

    def _provision(self, context: RequestContext, request: BuildRequest, filter_properties: dict[str, Any],
                   selection: Selection, uuid: str, index: int, retry: dict[str, Any] | None) -> None:
        instance = Instance.get_by_uuid(context, uuid)
        if _is_taken_up(instance):
            LOG.info("Instance %s is %s on host %s: a repeated request for it is dropped", uuid, instance.vm_state,
                     instance.host)
            return
        spec = {**request.request_spec, "instance_uuids": [uuid], "instance_properties": {
            **request.request_spec["instance_properties"], "uuid": uuid,
            "launch_index": index if instance.launch_index is None else instance.launch_index}}
        self._announce(context, "run_instance.scheduled", {
            "request_spec": spec, "weighted_host": {"weight": selection.weight, "host": selection.host},
            "instance_id": uuid})
        self._note_placement(context, instance, (filter_properties.get("scheduler_hints") or {}).get("group"))
        self._patiently(lambda: self._compute.run_instance(
            context, instance, selection.host, spec, _for_compute(filter_properties, selection, retry),
            request.requested_networks, request.injected_files, request.admin_password, request.is_first_time,
            node=selection.node))

    def _patiently(self, send: Callable[[], None]) -> None:
        """Send an order, again for a while if it cannot be sent. Raises RpcUnavailable in the end.

        When a broker is back its listeners come back a little later: their time begins then.
        """
        clock = self._services.clock
        since_s, was_there = clock.monotonic(), True
        while True:
            try:
                return send()
            except exception.RpcUnavailable as error:
                now_s = clock.monotonic()
                if error.is_broker_there and not was_there:
                    since_s = now_s
                was_there = error.is_broker_there
                if now_s - since_s > (_LISTENER_PATIENCE_S if was_there else _BROKER_PATIENCE_S):
                    raise
                clock.sleep(_PAUSE_S)

    def _note_placement(self, context: RequestContext, instance: Instance, group: str | None) -> None:
        """Record when it was placed; the host is written by the claim there."""
        if group:
            instance.system_metadata = {**instance.system_metadata, "group": group}
        if instance.host is not None or instance.node is not None:
            instance.host = instance.node = None
        if instance.obj_what_changed():
            instance.save()
        now = self._services.clock.utcnow().replace(tzinfo=None)
        self._services.db.instance_update(context, instance.uuid, {"scheduled_at": now}, replicate=False)

    def _announce(self, context: RequestContext, event: str, payload: dict[str, Any]) -> None:
        notifications.send(context, f"scheduler.{self._services.host}", f"scheduler.{event}",
                           payload)


def _is_taken_up(instance: Instance) -> bool:
    """Whether a host builds, or has built, an instance; one that could not puts it back to scheduling."""
    is_waiting = instance.vm_state == vm_states.BUILDING and instance.task_state == task_states.SCHEDULING
    return bool(instance.host and instance.launched_on) and not is_waiting


def _needs(request_spec: dict[str, Any]) -> dict[str, Any]:
    """What the instance takes of a host: its flavor's sizes under its owner's name."""
    flavor = request_spec["instance_type"]
    sizes = {key: flavor.get(key) for key in ("memory_mb", "vcpus", "root_gb", "ephemeral_gb")}
    return {**(request_spec.get("instance_properties") or {}), **sizes}


def _for_compute(filter_properties: dict[str, Any], selection: Selection,
                 retry: dict[str, Any] | None) -> dict[str, Any]:
    properties = {**filter_properties, "limits": selection.limits}
    if retry:
        properties["retry"] = {**retry, "hosts": [*retry["hosts"], [selection.host, selection.node]]}
    return properties
