"""Planting faults and looking inside: the same operations in process and over HTTP under /_xensim/."""

import json
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nova_lite.xensim.faults import Fault
from nova_lite.xensim.handlers import Router
from nova_lite.xensim.http import HttpError, Request
from nova_lite.xensim.noun import Caller

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

PATH = "/_xensim/"


class Control:
    """What a test may do beside the XenAPI.

    Methods are named as clients call them, `VM.start`, and may be patterns, `VBD.*`; a fault concerns the
    asynchronous form too. The data handlers are named `PUT /import_raw_vdi` and `GET /export_raw_vdi`.
    """

    def __init__(self, toolstack: "Toolstack"):
        self._toolstack = toolstack
        self._faults = toolstack.faults

    def fail(self, method: str, *, nth: int = 1, error: list[str], count: int = 1, after: bool = False) -> None:
        """Let the nth call from now fail with this error; `after` lets its effect take place first."""
        self._faults.plant(Fault(method, "error_after" if after else "error", nth, count, list(error)))

    def delay(self, method: str, seconds: float, *, nth: int = 1, count: int = 1) -> None:
        """Let the nth call from now take this long, with the operation shown in current_operations."""
        self._faults.plant(Fault(method, "delay", nth, count, seconds=seconds))

    def drop_reply(self, method: str, *, nth: int = 1, count: int = 1) -> None:
        """Let the nth call from now take effect, and end its connection without a reply."""
        self._faults.plant(Fault(method, "drop", nth, count))

    def faults(self) -> list[dict[str, Any]]:
        """Return what is planted and not yet spent."""
        return [asdict(fault) for fault in self._faults.planted()]

    def clear(self) -> None:
        """Forget every planted fault."""
        self._faults.clear()

    def calls(self) -> list[str]:
        """Return the names of the calls received since the last reset, in order."""
        return self._faults.calls()

    def counts(self) -> dict[str, int]:
        """Return how often each call was received since the last reset."""
        return self._faults.counts()

    def reset_calls(self) -> None:
        self._faults.reset_calls()

    def lose_sessions(self) -> None:
        """End every session, as a restart of the toolstack does."""
        with self._toolstack.lock:
            self._toolstack.sessions.end_all()

    def slow_disks(self, bytes_per_s: float) -> None:
        """Limit the speed of imports, exports and copies; 0 lifts the limit."""
        self._faults.disk_bytes_per_s = bytes_per_s

    def guest(self, vm: str, behaviour: list[str]) -> None:
        """Say how a VM's guest behaves: no-drivers, ignores-shutdown, holds-devices. The VM "" stands for all."""
        with self._toolstack.lock:
            self._toolstack.guests.behaviour[vm] = set(behaviour)

    def guest_timing(self, start_s: float = 0.0, shutdown_s: float = 0.0) -> None:
        """Say how long guests take to start and to shut down."""
        with self._toolstack.lock:
            self._toolstack.guests.start_s, self._toolstack.guests.shutdown_s = start_s, shutdown_s

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
    """POST /_xensim/OPERATION with a JSON object of arguments; the answer is JSON. Needs the superuser's password."""

    def __init__(self, control: Control, door):
        self._control = control
        self._door = door

    def register(self, router: Router) -> None:
        router.add("POST", PATH, self.handle)

    def handle(self, request: Request, caller: Caller) -> None:
        name = request.path.removeprefix(PATH)
        if not caller.is_trusted and not self._door._has_password(request):
            raise self._door._refusal("xensim")
        if name not in OPERATIONS:
            raise HttpError(404, f"no such control operation: {name[:60]}")
        try:
            arguments = json.loads(request.body(1024 * 1024) or b"{}")
            answer = getattr(self._control, name)(**arguments)
        except (ValueError, TypeError, AttributeError) as error:
            raise HttpError(400, str(error)) from None
        request.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


class RemoteControl:
    """The same operations against a simulator in another process.

    Each operation of `Control` is a method here. Raises OSError when the simulator cannot be reached, ValueError when
    it refuses the arguments.
    """

    def __init__(self, url: str, username: str = "root", password: str = "xensim"):
        import base64

        self._url = url.rstrip("/") + PATH
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def __getattr__(self, name: str):
        if name not in OPERATIONS:
            raise AttributeError(name)

        def operation(*positional, **arguments):
            names = getattr(Control, name).__code__.co_varnames[1:]
            arguments |= dict(zip(names, positional, strict=False))
            request = urllib.request.Request(self._url + name, json.dumps(arguments).encode(), self._headers)
            try:
                with urllib.request.urlopen(request) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                raise ValueError(f"the simulator refused {name}: {error.read().decode(errors='replace')}") from None

        return operation
