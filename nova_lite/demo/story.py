"""The demo's story: boot machines through the top cell, then take one through its life, checking every step.

A step counts only when the top cell and the XenServer itself agree that it has happened.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nova_lite import exception
from nova_lite.demo.disk import Image
from nova_lite.demo.tree import Host, Tree
from nova_lite.demo.xenserver import DiskView, XenServer
from nova_lite.objects import vm_states

FLAVOR = "m1.tiny"
ASKS_FOR_A_CELL = 3
POLL_S = 0.03
BOOT_TIMEOUT_S = 120
STEP_TIMEOUT_S = 60

# What XenServer calls the states that the story passes through.
POWER_STATES = {vm_states.ACTIVE: "Running", vm_states.PAUSED: "Paused", vm_states.STOPPED: "Halted"}


class StepFailed(Exception):
    """A step did not happen; the text says which, and what was seen instead."""


@dataclasses.dataclass
class Step:
    """One thing that was done: what, where, how long it took; `seconds` is None while it goes on."""

    title: str
    where: str = ""
    seconds: float | None = None
    detail: str = ""


class Story:
    """Tells `on_step(step)` when a step begins and again when it has ended."""

    def __init__(self, tree: Tree, image: Image, count: int, on_step: Callable[[Step], None] = lambda step: None):
        self.tree = tree
        self.image = image
        self.count = count
        self.steps: list[Step] = []
        self.disks: dict[str, DiskView] = {}
        self._on_step = on_step
        self._servers: dict[str, XenServer] = {}

    def run(self) -> None:
        """Play the whole story. Raises StepFailed at the first step that does not happen."""
        try:
            image_id = self.upload()
            instances = self.boot(image_id)
            self.compare_disks(instances)
            self.live(instances[0])
        finally:
            for server in self._servers.values():
                server.close()

    def upload(self) -> str:
        """Store the image and return its id."""
        with self._step("upload the image", "image store") as step:
            meta = {"name": "demo", "disk_format": self.image.disk_format, "container_format": "bare"}
            with self.image.path.open("rb") as stream:
                stored = self.tree.api.services.image_api.create(self.tree.context(), meta, stream)
            step.detail = f"{self.image.disk_format}, {self.image.path.stat().st_size:,} bytes"
        return stored["id"]

    def boot(self, image_id: str) -> list[Any]:
        """Boot all machines through the top cell and return them, active."""
        with self._step(f"boot {self.count} machine{'s' if self.count > 1 else ''}", self.tree.top.path) as step:
            asked = [self._create(image_id, number) for number in range(1, self.count + 1)]
            instances = [self._until(instance.uuid, vm_states.ACTIVE, BOOT_TIMEOUT_S) for instance in asked]
            for instance in instances:
                self._expect_power(instance, "Running")
            placed = collections.Counter(f"{instance.cell_name}@{host_name(instance)}" for instance in instances)
            step.detail = ", ".join(f"{count} on {place}" for place, count in sorted(placed.items()))
        return instances

    def _create(self, image_id: str, number: int) -> Any:
        """Ask for one machine. The cells choose where; every third machine names the last cell, so that it has some."""
        from nova_lite import objects

        context = self.tree.context()
        hints = {} if number % ASKS_FOR_A_CELL else {"target_cell": list(self.tree.cells)[-1]}
        flavor = next(one for one in objects.FlavorList.get_all(context) if one.name == FLAVOR)
        instances, _ = self.tree.api.compute_api.create(
            context, flavor, image_id, min_count=1, max_count=1, display_name=f"demo-{number}", scheduler_hints=hints
        )
        return instances[0]

    def compare_disks(self, instances: list[Any]) -> None:
        """Read every root disk back from its XenServer and compare it with the image."""
        with self._step("read the disks back", "XenServer") as step:
            for instance in instances:
                found = self._server(self._host(instance)).root_disk(instance.uuid, self.image.size_b)
                self.disks[instance.uuid] = found
                if found.digest != self.image.digest:
                    raise StepFailed(f"the root disk of {instance.display_name} differs from the image")
            step.detail = f"{len(instances)} × {self.image.size_b:,} bytes identical"

    def live(self, instance: Any) -> None:
        """Reboot, pause, unpause, stop, start and delete one machine."""
        api = self.tree.api.compute_api
        for verb, act, goal in (
            ("reboot", lambda context, server: api.reboot(context, server, "SOFT"), vm_states.ACTIVE),
            ("pause", api.pause, vm_states.PAUSED),
            ("unpause", api.unpause, vm_states.ACTIVE),
            ("stop", api.stop, vm_states.STOPPED),
            ("start", api.start, vm_states.ACTIVE),
        ):
            self._change(instance, verb, act, goal)
        self._delete(instance)

    def _change(self, instance: Any, verb: str, act: Callable, goal: str) -> None:
        host = self._host(instance)
        with self._step(f"{verb} {instance.display_name}", where(instance)) as step:
            host.simulator.control.reset_calls()
            context = self.tree.context()
            act(context, self.tree.api.compute_api.get(context, instance.uuid))
            self._expect_power(self._until(instance.uuid, goal), POWER_STATES[goal])
            step.detail = self._called(host, verb)

    def _delete(self, instance: Any) -> None:
        host = self._host(instance)
        with self._step(f"delete {instance.display_name}", where(instance)) as step:
            host.simulator.control.reset_calls()
            context = self.tree.context()
            self.tree.api.compute_api.delete(context, self.tree.api.compute_api.get(context, instance.uuid))
            self._wait(lambda: self._read(instance.uuid) is None, "the top cell still has the instance")
            self._wait(lambda: self._power(instance) is None, "the XenServer still has its VM")
            step.detail = self._called(host, "delete")

    def _called(self, host: Host, verb: str) -> str:
        """Return the VM operations that the XenServer was asked for. Raises StepFailed when there was none."""
        called = list(dict.fromkeys(name for name in calls_of(host) if name in OPERATIONS[verb]))
        if not called:
            raise StepFailed(f"{host.name} was not asked to {verb} anything")
        return f"{', '.join(called)} on {host.name}"

    def _until(self, uuid: str, vm_state: str, timeout_s: float = STEP_TIMEOUT_S) -> Any:
        """Return the instance once the top cell has it idle in `vm_state`. Raises StepFailed on an error state."""

        def arrived() -> Any:
            instance = self._read(uuid)
            if instance is None:
                raise StepFailed(f"instance {uuid} is gone")
            if instance.vm_state == vm_states.ERROR:
                raise StepFailed(f"{instance.display_name} is in error{fault_of(instance)}")
            if instance.task_state is not None or instance.vm_state == vm_states.BUILDING:
                return None
            if instance.vm_state != vm_state:
                raise StepFailed(f"{instance.display_name} stayed {instance.vm_state}{fault_of(instance)}")
            return instance

        return self._wait(arrived, lambda: f"{uuid} did not become {vm_state}: {state_of(self._read(uuid))}", timeout_s)

    def _expect_power(self, instance: Any, power_state: str) -> None:
        def seen() -> str:
            return f"XenServer says {self._power(instance)} of {instance.display_name}, not {power_state}"

        self._wait(lambda: self._power(instance) == power_state, seen)

    def _power(self, instance: Any) -> str | None:
        """Return the power state that XenServer gives, None when it has no such VM."""
        machines = self._server(self._host(instance)).machines()
        return next((one.power_state for one in machines if one.instance_uuid == instance.uuid), None)

    def _read(self, uuid: str) -> Any:
        try:
            return self.tree.api.compute_api.get(self.tree.context(), uuid)
        except exception.InstanceNotFound:
            return None

    def _host(self, instance: Any) -> Host:
        name = host_name(instance)
        return next(host for host in self.tree.hosts if host.name == name)

    def _server(self, host: Host) -> XenServer:
        if host.name not in self._servers:
            self._servers[host.name] = XenServer(host.url, host.simulator.username, host.simulator.password)
        return self._servers[host.name]

    def _wait(self, claim: Callable[[], Any], failure: Any, timeout_s: float = STEP_TIMEOUT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := claim()):
            if time.monotonic() > deadline:
                raise StepFailed(failure() if callable(failure) else failure)
            time.sleep(POLL_S)
        return value

    @contextmanager
    def _step(self, title: str, where: str) -> Iterator[Step]:
        step = Step(title, where)
        self.steps.append(step)
        self._on_step(step)
        started = time.monotonic()
        try:
            yield step
        except (exception.NovaException, LookupError, OSError) as error:
            raise StepFailed(f"{title}: {error}") from error
        except StepFailed as error:
            raise StepFailed(f"{title}: {error}") from error
        step.seconds = time.monotonic() - started
        self._on_step(step)


# The XenAPI calls that carry out each verb.
OPERATIONS = {
    "reboot": ("VM.clean_reboot", "VM.hard_reboot"),
    "pause": ("VM.pause",),
    "unpause": ("VM.unpause",),
    "stop": ("VM.clean_shutdown", "VM.hard_shutdown"),
    "start": ("VM.start", "VM.start_on"),
    "delete": ("VM.clean_shutdown", "VM.hard_shutdown", "VDI.destroy", "VM.destroy"),
}


def calls_of(host: Host) -> list[str]:
    """Return the names of the calls that the host's XenServer got, an asynchronous one like a plain one."""
    return [name.removeprefix("Async.") for name in host.simulator.control.calls()]


def host_name(instance: Any) -> str:
    """Return the instance's host without the path of its cell."""
    return (instance.host or "").rpartition("@")[2]


def where(instance: Any) -> str:
    """Return the way from the top cell to the instance: cells, then host."""
    return " → ".join([*cells_on_the_way(instance.cell_name or ""), host_name(instance)])


def cells_on_the_way(path: str) -> list[str]:
    names = path.split("!")
    return ["!".join(names[: depth + 1]) for depth in range(len(names))]


def state_of(instance: Any) -> str:
    return f"{instance.vm_state}, {instance.task_state}" if instance else "gone"


def fault_of(instance: Any) -> str:
    message = getattr(getattr(instance, "fault", None), "message", None)
    return f": {message}" if message else ""
