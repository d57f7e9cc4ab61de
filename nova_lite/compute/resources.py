"""The resource trackers of this host's nodes."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute.resource_tracker import ResourceTracker
from nova_lite.context import RequestContext

if TYPE_CHECKING:
    from nova_lite.compute.host import ComputeHost

LOG = logging.getLogger(__name__)


class ResourceTrackers:
    """One tracker per node of the driver. The list of nodes is kept for `host_state_interval` seconds."""

    def __init__(self, here: "ComputeHost") -> None:
        self._here = here
        self._lock = threading.Lock()
        self._trackers: dict[str, ResourceTracker] = {}
        self._nodes: list[str] = []
        self._nodes_at_s: float | None = None

    def of(self, nodename: str) -> ResourceTracker:
        """Return the tracker of a node; raises NovaException when the driver has no such node."""
        with self._lock:
            tracker = self._trackers.get(nodename)
            if tracker is None:
                if nodename not in self._current_nodes(refresh=nodename not in self._nodes):
                    raise exception.NovaException(f"{nodename} is no node of host {self._here.name}")
                tracker = self._trackers[nodename] = ResourceTracker(
                    self._here.name, self._here.driver, nodename, self._here.services)
            return tracker

    def update_usage(self, context: RequestContext, instance: Mapping[str, Any]) -> None:
        """Hand a changed instance to the tracker of its node, if that node is here."""
        if instance["host"] != self._here.name or not instance["node"]:
            return
        tracker = self._trackers.get(instance["node"])
        if tracker is None and instance["node"] in self._current_nodes():
            tracker = self.of(instance["node"])
        if tracker is not None:
            tracker.update_usage(context, instance)

    def update_available_resource(self, context: RequestContext) -> None:
        """Audit every node and drop the records of nodes that are no more. One node's failure stops no other."""
        with self._lock:
            nodes = list(self._current_nodes(refresh=True))
        for nodename in nodes:
            try:
                self.of(nodename).update_available_resource(context)
            except Exception:  # each node stands for itself
                LOG.exception("Could not update the resources of node %s", nodename)
        self._drop_orphans(context, nodes)
        with self._lock:
            self._trackers = {name: tracker for name, tracker in self._trackers.items() if name in nodes}

    def _drop_orphans(self, context: RequestContext, nodes: list[str]) -> None:
        try:
            service = self._here.db.service_get_by_compute_host(context, self._here.name)
        except exception.ComputeHostNotFound:
            LOG.error("Host %s has no service record: its node records are left as they are", self._here.name)
            return
        for record in service["compute_node"]:
            if record["hypervisor_hostname"] not in nodes:
                LOG.info("Deleting the record of node %s, which host %s no longer has",
                         record["hypervisor_hostname"], self._here.name)
                self._here.db.compute_node_delete(context, record["id"])

    def _current_nodes(self, refresh: bool = False) -> list[str]:
        now_s = self._here.clock.monotonic()
        stale = self._nodes_at_s is None or now_s - self._nodes_at_s > self._here.conf.host_state_interval
        if refresh or stale:
            self._nodes = list(self._here.driver.get_available_nodes())
            self._nodes_at_s = now_s
        return self._nodes
