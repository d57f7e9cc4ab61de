"""Methods of `nova-cells` that the reference does not have: namespace nova_lite, version 1.0, topic cells."""

from typing import Any

from nova_lite.cells.remote_exceptions import first_line

NAMESPACE = "nova_lite"
VERSION = "1.0"
# Who changes much in a moment tells of it once: nova-cells looks again a little later.
OUTBOX_TOLD_EVERY_S = 0.05
_SIBLING_TIMEOUT_S = 5.0


class OwnCellsMethods:
    """Server side, beside CellsManager."""

    namespace = NAMESPACE
    version = VERSION
    remote_methods = frozenset(("outbox_ready", "capacity_changed", "build_failed", "ping", "tree_info", "cell_state",
                                "cell_failures", "build_decisions", "take_failed_build"))

    def __init__(self, msg_runner, partial_results):
        self._runner = msg_runner
        self._partial_results = partial_results

    def outbox_ready(self, ctxt) -> None:
        """Rows wait in the outbox."""
        self._runner.outbox.kick()

    def capacity_changed(self, ctxt) -> None:
        """A host of this cell can hold more or less than before."""
        self._runner.state_manager.recount_soon()

    def build_failed(self, ctxt, instance_uuids: list[str], reason: str) -> None:
        """No host of this cell can build these instances."""
        self._runner.scheduler.local_build_failed(ctxt, instance_uuids, reason)

    def take_failed_build(self, ctxt, instance_uuids: list[str], reason: str, cells_tried: list[str],
                          failed_cell: str) -> bool:
        """A build has failed that another process of this cell knows nothing of; whether this one takes it up."""
        return self._runner.scheduler.take_failed_build(ctxt, instance_uuids, reason, cells_tried, failed_cell)

    def ping(self, ctxt, cell_name: str) -> dict[str, Any]:
        """Send a message to a cell (full path) and back.

        Returns {'cell', 'host', 'time'} of that cell and 'round_trip_s'. Raises CellRoutingInconsistency, CellTimeout,
        CellsOperationUnsupported where a neighbour on the way is no nova_lite.
        """
        started_s = self._runner.clock.monotonic()
        answer = self._runner.ping(ctxt, cell_name).value_or_raise()
        return {**answer, "round_trip_s": self._runner.clock.monotonic() - started_s}

    def tree_info(self, ctxt) -> list[dict[str, Any]]:
        """Return what every cell below, and this one, tells of itself; {'cell', 'error'} for those that failed."""
        return [{"cell": response.cell_name, "error": first_line(response.error)} if response.failure
                else response.value for response in self._runner.tree_info(ctxt)]

    def build_decisions(self, ctxt, request_id: str) -> list[dict[str, Any]]:
        """Return how the cells that can be reached chose where to build, for a request id or an instance's uuid.

        [{'cell', 'request_id', 'instances', 'time', 'candidates', 'filters': [{'filter', 'dropped', 'handled'}],
        'weights': [{'cell', 'weight', 'raw': {weigher: number}}], 'outcome'}], in the order of time.
        """
        found = [record for response in self._runner.build_decisions(ctxt, request_id) if not response.failure
                 for record in response.value]
        return sorted(found, key=lambda record: record["time"])

    def cell_state(self, ctxt) -> dict[str, Any]:
        """Return what this cell alone tells of itself."""
        return self._runner.health.info(self._runner.our_name)

    def cell_failures(self, ctxt) -> list[dict[str, Any]]:
        """Return the cells that are missing in lists of all cells: [{'cell', 'operation', 'error', 'time' (ISO)}].

        As this process knows them from the lists it was asked for in the last hour.
        """
        return self._partial_results.failures()


class OwnCellsClient:
    """Client side: the own methods of this cell's `nova-cells`."""

    def __init__(self, services):
        conf = services.conf
        self._clock = services.clock
        self._client = services.rpc.client(conf.cells.topic, version=VERSION, namespace=NAMESPACE)
        self._told_at_s: float | None = None

    def outbox_ready(self, ctxt) -> None:
        """Tell every process, since the rows are of the share of any of them; not if they have just been told."""
        now_s = self._clock.monotonic()
        if self._told_at_s is None or now_s - self._told_at_s >= OUTBOX_TOLD_EVERY_S:
            self._told_at_s = now_s
            self._client.cast(ctxt, "outbox_ready", fanout=True)

    def capacity_changed(self, ctxt) -> None:
        self._client.cast(ctxt, "capacity_changed", fanout=True)

    def build_failed(self, ctxt, instance_uuids: list[str], reason: str) -> None:
        self._client.cast(ctxt, "build_failed", instance_uuids=list(instance_uuids), reason=reason)

    def take_failed_build(self, ctxt, host: str, instance_uuids: list[str], reason: str, cells_tried: list[str],
                          failed_cell: str) -> bool:
        """Ask the process on one host."""
        return self._client.call(ctxt, "take_failed_build", server=host, timeout=_SIBLING_TIMEOUT_S,
                                 instance_uuids=list(instance_uuids), reason=reason, cells_tried=list(cells_tried),
                                 failed_cell=failed_cell)

    def ping(self, ctxt, cell_name: str) -> dict[str, Any]:
        return self._client.call(ctxt, "ping", cell_name=cell_name)

    def tree_info(self, ctxt) -> list[dict[str, Any]]:
        return self._client.call(ctxt, "tree_info")

    def cell_state(self, ctxt) -> dict[str, Any]:
        return self._client.call(ctxt, "cell_state")

    def cell_failures(self, ctxt) -> list[dict[str, Any]]:
        return self._client.call(ctxt, "cell_failures")

    def build_decisions(self, ctxt, request_id: str) -> list[dict[str, Any]]:
        return self._client.call(ctxt, "build_decisions", request_id=request_id)
