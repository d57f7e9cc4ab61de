"""Planting faults and looking inside: the same operations in process and over HTTP under /_xensim/."""

import base64
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.belongings import Arrival
from nova_lite.xensim.db import Row
from nova_lite.xensim.directory import Entry
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.faults import KINDS, Chance, Fault
from nova_lite.xensim.guest_kinds import BEHAVIOURS
from nova_lite.xensim.handlers import Router
from nova_lite.xensim.http import HttpError, Request
from nova_lite.xensim.iscsi import Target
from nova_lite.xensim.latency import Latency
from nova_lite.xensim.noun import Caller
from nova_lite.xensim.population import HostPlan, Population
from nova_lite.xensim.remote import PATH
from nova_lite.xensim.visitors import StoreError, Visitor

if TYPE_CHECKING:
    from nova_lite.xensim.simulator import Simulator
    from nova_lite.xensim.toolstack import Toolstack


class Control:
    """What a test may do beside the XenAPI.

    Methods are named as clients call them, `VM.start`, and may be patterns, `VBD.*`; a fault concerns the
    asynchronous form too. The data handlers are named `PUT /import_raw_vdi` and `GET /export_raw_vdi`.
    """

    def __init__(self, toolstack: "Toolstack", simulator: "Simulator | None" = None):
        self._toolstack = toolstack
        self._simulator = simulator
        self._faults = toolstack.faults

    # faults of calls: `match` is object= (reference, uuid or name) and caller= (session, user or originator)

    def fail(
        self, method: str, *, nth: int = 1, error: list[str], count: int = 1, after: bool = False, **match: str
    ) -> None:
        """Let the nth call from now fail with this error; `after` lets its effect take place first."""
        self._faults.plant(Fault(method, "error_after" if after else "error", nth, count, list(error), **match))

    def delay(self, method: str, seconds: float, *, nth: int = 1, count: int = 1, **match: str) -> None:
        """Let the nth call from now take this long, with the operation shown in current_operations."""
        self._faults.plant(Fault(method, "delay", nth, count, seconds=seconds, **match))

    def drop(self, method: str, *, nth: int = 1, count: int = 1, **match: str) -> None:
        """Let the nth call from now get lost: no effect, and its connection ends without a reply."""
        self._faults.plant(Fault(method, "drop", nth, count, **match))

    def drop_reply(self, method: str, *, nth: int = 1, count: int = 1, **match: str) -> None:
        """Let the nth call from now take effect, and end its connection without a reply."""
        self._faults.plant(Fault(method, "lose_reply", nth, count, **match))

    def random_faults(
        self, seed: int, rate: float, method: str = "*", kinds: list[str] | None = None,
        error: list[str] | None = None, seconds: float = 0.1,
    ) -> None:  # fmt: skip
        """Let calls meet faults by chance: the same seed and the same calls give the same faults; rate 0 ends it.

        `kinds` are chosen from error, error_after, delay, drop and lose_reply (default: all). Logins and events are
        spared.
        """
        planted = list(error or ["INTERNAL_ERROR", "a fault by chance"])
        self._faults.take_chances(Chance(seed, rate, method, kinds or KINDS, planted, seconds) if rate else None)

    def latency(self, profile: str = "none", scale: float = 1.0) -> None:
        """Let every call take as long as on a real host (`host`), times a scale; `none` ends it. Raises ValueError."""
        self._faults.latency = Latency(profile, scale)

    def faults(self) -> list[dict[str, Any]]:
        """Return what is planted and not yet spent."""
        return [asdict(fault) for fault in self._faults.planted()]

    def clear(self) -> None:
        """Forget every planted fault, chances, latency and slow disks; calls that are delayed go on at once."""
        with self._toolstack.lock:
            self._faults.clear()
            self._toolstack.db.changed.notify_all()

    # the log of calls

    def calls(self) -> list[str]:
        """Return the names of the calls received since the last reset, in order."""
        return self._faults.log.names()

    def call_log(self, method: str = "*", result: str = "*", since: int = 0) -> list[dict[str, Any]]:
        """Return the calls that ended since the last reset: number, ended, method, arguments, seconds, result.

        `method` and `result` are patterns, `since` the number after which to begin. Secrets are masked. The result is
        Success, the code of an error, or `no reply`; what became of an asynchronous call is in its task. The latest
        20,000 are kept.
        """
        return self._faults.log.entries(method, result, since)

    def counts(self) -> dict[str, int]:
        """Return how often each call was received since the last reset."""
        return self._faults.counts()

    def reset_calls(self) -> None:
        self._faults.reset_calls()

    # accidents

    def lose_sessions(self) -> None:
        """End every session, as a restart of the toolstack does."""
        with self._toolstack.lock:
            self._toolstack.sessions.end_all()

    def restart_toolstack(self, down_s: float = 0.0) -> None:
        """End every connection, session and task; answer nothing for a while. Domains go on running."""
        self._simulator.restart_toolstack(down_s)

    def kill_toolstack(self) -> None:
        """End the toolstack of every host: connections break, sessions and tasks are lost; guests go on running.

        Only this control path answers until `start_toolstack`.
        """
        self._simulator.kill_toolstack()

    def start_toolstack(self) -> None:
        """Let the toolstack answer again."""
        self._simulator.start_toolstack()

    def move_master(self, host: str) -> None:
        """Make another host the master, as after the loss of the old one. Sessions are lost. Raises ValueError."""
        with self._toolstack.lock:
            self._toolstack.promote(self._known("host", host).ref)

    def partition_host(self, host: str) -> None:
        """Cut a host off from everybody else: it answers nothing, but its VMs go on running. Raises ValueError.

        Only this control path still answers there.
        """
        self._simulator.silence_host(self._isolate(host))

    def heal_host(self, host: str) -> None:
        """Let a host that was cut off be reached again, with the VMs that run on it. Raises ValueError."""
        with self._toolstack.lock:
            row = self._known("host", host)
            self._toolstack.dead_hosts.discard(row.ref)
            self._toolstack.db.set("host_metrics", row["metrics"], live=True)
            self._toolstack.operations.refresh()
        self._simulator.hear_host(row.ref)

    def _isolate(self, host: str) -> str:
        with self._toolstack.lock:
            row = self._known("host", host)
            self._toolstack.dead_hosts.add(row.ref)
            self._toolstack.db.set("host_metrics", row["metrics"], live=False)
            self._toolstack.availability.host_failed(row.ref)
            return row.ref

    def _known(self, class_name: str, name: str) -> Row:
        """Return the object with this reference, uuid or name. Raises ValueError."""
        for row in self._toolstack.db.rows(class_name):
            if name in (row.ref, row["uuid"], row["name_label"]):
                return row
        raise ValueError(f"no {class_name} {name}")

    def fill_sr(self, sr: str, free: int = 0) -> None:
        """Let something else take the space of a repository but for so many bytes; -1 takes it away again."""
        with self._toolstack.lock:
            row = self._known("SR", sr)
            self._faults.foreign_bytes.pop(row.ref, None)
            self._toolstack.repositories.measure(row.ref)
            if free >= 0:
                own = row["physical_utilisation"]
                self._faults.foreign_bytes[row.ref] = max(row["physical_size"] - own - free, 0)
                self._toolstack.repositories.measure(row.ref)

    def corrupt_disk(self, vdi: str) -> None:
        """Overwrite the beginning of a disk's image: from now on nothing can attach, copy or stream it."""
        with self._toolstack.lock:
            row = self._known("VDI", vdi)
            self._toolstack.images.corrupt(self._toolstack.db.get("SR", row["SR"], "uuid"), row["uuid"])

    def reject_overlapping_plugs(self, *, is_on: bool = True) -> None:
        """Refuse to plug or unplug a device while another of the same VM is being plugged or unplugged."""
        self._faults.rejects_overlapping_plugs = is_on

    def kill_host(self, host: str) -> None:
        """Cut the power of a host: its sockets are closed, its VMs stay Running until it is declared dead.

        With HA enabled the pool declares it dead by itself, and restarts protected VMs elsewhere. Over HTTP another
        host of the pool has to be asked to revive it.
        """
        self._simulator.close_host(self._isolate(host))

    def revive_host(self, host: str) -> None:
        """Let a host that was killed come up again, without the VMs it ran."""
        with self._toolstack.lock:
            row = self._known("host", host)
            self._toolstack.dead_hosts.discard(row.ref)
            self._toolstack.hosts.clear_residents(row.ref)
            self._toolstack.db.set("host_metrics", row["metrics"], live=True)
            self._toolstack.operations.refresh()
        self._simulator.open_host(row.ref)

    def adopt_host(self, belongings: dict[str, Any]) -> None:
        """Take a host into the pool with what it has, and listen where it listened: what pool.join asks of the master.

        Raises OSError when its address is still somebody else's.
        """
        self._simulator.take_over_host(belongings["url"], lambda: self._take_in(belongings))

    def _take_in(self, belongings: dict[str, Any]) -> str:
        with self._toolstack.lock:
            host_ref = Arrival(self._toolstack, belongings).take_in()
            Population(self._toolstack, HostPlan()).add_host_to_shared(host_ref)
            for pgpu_ref in self._toolstack.db.get("host", host_ref, "PGPUs"):
                self._toolstack.graphics.refresh_group(self._toolstack.db.get("PGPU", pgpu_ref, "GPU_group"))
            self._toolstack.hosts.refresh_free_memory()
            self._toolstack.operations.refresh()
        return host_ref

    def iscsi_target(
        self, target: str, iqn: str, luns: dict[str, int], username: str = "", password: str = "", is_away: bool = False
    ) -> None:
        """Describe an iSCSI target: LUN numbers and sizes in bytes, CHAP credentials, whether it can be reached."""
        sizes = {int(number): size for number, size in luns.items()}
        with self._toolstack.lock:
            self._toolstack.iscsi.targets[target, iqn] = Target(sizes, username, password, is_away)

    def directory(self, domain: str, people: list[dict[str, Any]]) -> None:
        """Describe a directory: {name, sid, password, groups}; a group has no password, `groups` are identifiers."""
        with self._toolstack.lock:
            self._toolstack.people.domains[domain] = {each["name"].lower(): Entry(**each) for each in people}

    def xenstore(self, vm: str) -> dict[str, str]:
        """Return {path: value} of what is in xenstore below a running VM's domain."""
        with self._toolstack.lock:
            store, root = self._toolstack.domains.of(self._toolstack.db.row("VM", vm))
            return dict(store.tree(root))

    def guest_writes(self, vm: str, path: str, value: str) -> None:
        """Let a guest write into xenstore, at a path below its own. Raises ValueError when xenstore refuses."""
        with self._toolstack.lock:
            row = self._toolstack.db.row("VM", vm)
            store, root = self._toolstack.domains.of(row)
            try:
                Visitor(store, row["domid"]).write(f"{root}/{path}", value)
            except StoreError as error:
                raise ValueError(f"xenstore refuses {path[:80]}: {error}") from None

    def guest_state(self, vm: str) -> dict[str, Any]:
        """Return what was done to a guest through its agent: password, files (base64), resets, updates."""
        with self._toolstack.lock:
            agent = self._toolstack.guests.agent(vm)
            files = {path: base64.b64encode(content).decode() for path, content in agent.files.items()}
            return {
                "password": agent.password,
                "files": files,
                "network_resets": agent.network_resets,
                "updates": list(agent.updates),
            }

    def slow_disks(self, bytes_per_s: float) -> None:
        """Limit the speed of imports, exports and copies; 0 lifts the limit."""
        self._faults.disk_bytes_per_s = bytes_per_s

    def guest(self, vm: str, behaviour: list[str]) -> None:
        """Say how a VM's guest departs from a good one; the VM "" stands for all. Raises ValueError.

        no-drivers, no-agent, old-agent, hostile, crashing, hanging, ignores-shutdown, holds-devices.
        """
        unknown = set(behaviour) - set(BEHAVIOURS)
        if unknown:
            raise ValueError(f"unknown behaviour {', '.join(sorted(unknown))}: one of {', '.join(sorted(BEHAVIOURS))}")
        with self._toolstack.lock:
            self._toolstack.guests.behaviour[vm] = set(behaviour)

    def guest_timing(self, start_s: float = 0.0, boot_s: float = 0.0, shutdown_s: float = 0.0) -> None:
        """Say how long VM.start takes, how long after it the agent is up, and how long guests take to shut down."""
        with self._toolstack.lock:
            guests = self._toolstack.guests
            guests.start_s, guests.boot_s, guests.shutdown_s = start_s, boot_s, shutdown_s

    def guest_stops(self, vm: str, how: str = "shutdown") -> None:
        """Let a running guest shut down, reboot or crash by itself."""
        with self._toolstack.lock:
            if how == "crash":
                self._toolstack.power.crashed(vm)
            else:
                self._toolstack.power.guest_powered_off(vm, how == "reboot")
            self._toolstack.operations.refresh()

    def collector(self, *, is_paused: bool) -> None:
        """Hold the VHD collector back, or let it run."""
        with self._toolstack.lock:
            self._toolstack.collector.is_paused = is_paused
            if not is_paused:
                for sr in self._toolstack.db.rows("SR"):
                    self._toolstack.collector.wake(sr.ref)

    def failed_login_delay(self, seconds: float) -> None:
        """Set how long a wrong password takes to be refused (XenServer: 5 s)."""
        self._toolstack.sessions.failed_login_s = seconds

    def coverage(self) -> dict[str, list[str]]:
        """Return which calls are simulated and which are known but answered NOT_IMPLEMENTED."""
        own = self._toolstack.dispatcher.implementations
        done, missing = [], []
        for name, described in sorted(self._toolstack.schema.calls.items()):
            has_rule = described.generic[0] and described.generic[0] not in ("create", "destroy")
            (done if name in own or has_rule or described.is_removed else missing).append(name)
        return {"simulated": done, "missing": missing}


OPERATIONS = frozenset(name for name in vars(Control) if not name.startswith("_"))


class ControlPath:
    """POST /_xensim/OPERATION with JSON {"arguments": {name: value}}; the answer is JSON. Needs root's password."""

    def __init__(self, control: Control, door):
        self._control = control
        self._door = door

    def register(self, router: Router) -> None:
        router.add("POST", PATH, self.handle)

    def handle(self, request: Request, caller: Caller) -> None:
        name = request.path.removeprefix(PATH)
        if not caller.is_trusted and not self._door.has_password(request):
            raise self._door.refusal("xensim")
        if name not in OPERATIONS:
            raise HttpError(404, f"no such control operation: {name[:60]}")
        try:
            given = json.loads(request.body(1024 * 1024))
            answer = getattr(self._control, name)(*given.get("positional", []), **given.get("arguments", {}))
        except (ValueError, TypeError, AttributeError, ApiError) as error:
            request.reply(400, str(error).encode(), {"Content-Type": "text/plain"})
            return
        request.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
