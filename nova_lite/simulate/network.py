"""Messages between simulated cells: each as JSON text, queued while its receiver is away, as a broker does."""

import collections
from collections.abc import Callable
from typing import Any

from nova_lite import exception
from nova_lite.cells.rpc_driver import BaseCellsDriver
from nova_lite.simulate.world import World

_LATENCY_S = (0.001, 0.02)


class Network:
    """Carries messages between cells by name. `faults(source, target)` returns the delays (s) at which copies of a
    message arrive, none for one that is lost, and raises what sending raises; without it every message arrives once.
    """

    def __init__(self, world: World):
        self._world = world
        self._receivers: dict[str, Callable[[str], None]] = {}
        self._waiting: dict[str, collections.deque[str]] = collections.defaultdict(collections.deque)
        self.faults: Callable[[str, str], list[float]] | None = None
        self.counts: collections.Counter[str] = collections.Counter()

    def attach(self, name: str, receive: Callable[[str], None]) -> None:
        """Begin to hand a cell its messages, those that waited first."""
        self._receivers[name] = receive
        waiting = self._waiting[name]
        while waiting:
            self._world.spawn(name, receive, waiting.popleft())

    def detach(self, name: str) -> None:
        self._receivers.pop(name, None)

    def send(self, source: str, target: str, text: str, fanout: bool = False) -> None:
        self.counts["sent"] += 1
        delays = [self.latency_s()] if self.faults is None else self.faults(source, target)
        self.counts["lost"] += not delays
        self.counts["copies"] += max(0, len(delays) - 1)
        for delay_s in delays:
            self._world.after(delay_s, self._arrive, target, text, fanout)

    def client(self, topic: str, **_target: Any) -> "NobodyListens":
        """Stand for an RPC client of the cell's own topics: each simulated cell has a single process."""
        return NobodyListens(topic)

    def latency_s(self) -> float:
        return self._world.random.uniform(*_LATENCY_S)

    def _arrive(self, target: str, text: str, fanout: bool) -> None:
        receive = self._receivers.get(target)
        if receive is not None:
            self._world.spawn(target, receive, text)
        elif not fanout:  # a fan-out queue goes with its process
            self._waiting[target].append(text)


class NobodyListens:
    """A client of a topic without a server. Every request raises RpcUnavailable."""

    def __init__(self, topic: str):
        self._topic = topic

    def call(self, ctxt: Any, method: str, **_args: Any) -> Any:
        raise exception.RpcUnavailable(method=method, topic=self._topic, reason="nobody listens in a simulated cell")

    cast = call


class CellsSimulatedDriver(BaseCellsDriver):
    """The cells driver of a simulated cell; its services' `rpc` is the Network."""

    def __init__(self, services):
        self._network = services.rpc
        self._name = services.conf.cells.name

    def start_servers(self, msg_runner) -> None:
        self._network.attach(self._name, msg_runner.receive)

    def stop_servers(self) -> None:
        self._network.detach(self._name)

    def send_message_to_cell(self, cell_state, message, server: str | None = None) -> None:
        text = message.msg_runner.seal(cell_state, message.to_json(for_reference=not cell_state.is_ours))
        self._network.send(self._name, cell_state.name, text, fanout=bool(message.fanout))
