"""What can befall a call to a host: each trouble is planted at one call, and mended when the act is over."""

import collections
import contextlib
import threading

from tests.fixtures.processes import wait_until

LATE_S = 2.5
NO_ROOM = ["SR_BACKEND_FAILURE_44", "", "There is insufficient space", ""]
BUSY = ["OTHER_OPERATION_IN_PROGRESS", "object", "OpaqueRef:one", "something", "OpaqueRef:two"]
# Calls that take room on a repository, and those that are refused while something else is done to the same VM or disk.
TAKES_ROOM = ("VDI.create", "VDI.clone", "VDI.copy", "VDI.snapshot", "VDI.resize", "PUT /import_raw_vdi",
              "VM.migrate_send", "SR.scan")
TAKES_TURNS = ("VBD.plug", "VBD.unplug", "VIF.plug", "VIF.unplug", "VDI.clone", "VDI.destroy", "VDI.snapshot",
               "VM.start_on", "VM.start", "VM.hard_shutdown", "VM.destroy", "VM.migrate_send")
# The long poll, and calls that the host answers when something happens.
WAITING = ("event.from", "event.next")


class Trouble:
    """One kind of trouble. Where `is_undone`, the act that meets it takes everything back before it fails.

    Elsewhere the host cannot be reached for that, or does what it was asked after all: the next start of the service,
    or the removal of the instance, clears up.
    """

    is_undone = True
    # Whether a machine may be off after it, and whether a move that meets it may leave one in error wherever it is.
    switches_off = False
    leaves_error = False
    # How long the driver that meets it waits for an answer; None: as long as it does otherwise.
    deadline_s: float | None = None

    def suits(self, method):
        return True

    def plant(self, control, method, nth):
        raise NotImplementedError

    @contextlib.contextmanager
    def befalling(self, simulator, method, nth):
        """Let the nth call of a method meet the trouble; it is over, with all that follows from it, at the end."""
        self.plant(simulator.control, method, nth)
        try:
            yield
        finally:
            simulator.control.clear()


class Failing(Trouble):
    """The call is refused with an error."""

    def __init__(self, error, methods=None):
        self._error = error
        self._methods = methods

    def suits(self, method):
        return self._methods is None or method in self._methods

    def plant(self, control, method, nth):
        control.fail(method, nth=nth, error=self._error)


class LosingReply(Trouble):
    """The call takes effect, and nobody is told."""

    def plant(self, control, method, nth):
        control.drop_reply(method, nth=nth)


class Late(Trouble):
    """The call is carried out when nobody waits for it any more: as soon as the act is over."""

    is_undone = False
    deadline_s = 1
    switches_off = True  # a shutdown may be what comes late

    def plant(self, control, method, nth):
        control.delay(method, LATE_S, nth=nth)

    @contextlib.contextmanager
    def befalling(self, simulator, method, nth):
        try:
            with super().befalling(simulator, method, nth):
                yield
        finally:
            wait_until(lambda: not in_flight(simulator.control),
                       lambda: f"calls did not end: {in_flight(simulator.control)}", interval_s=0.01)


class Accident(Trouble):
    """The call is lost, and something happens to the host then: strike(simulator), in the end mend(simulator)."""

    is_undone = False
    switches_off = True  # with the host
    leaves_error = True  # a host that is away undoes nothing

    def __init__(self, strike, mend=lambda simulator: None):
        self._strike = strike
        self._mend = mend

    def plant(self, control, method, nth):
        control.drop(method, nth=nth)

    @contextlib.contextmanager
    def befalling(self, simulator, method, nth):
        over, struck = threading.Event(), threading.Event()

        def watch():
            while not over.is_set() and simulator.control.faults():
                over.wait(0.002)
            if not over.is_set():
                struck.set()
                self._strike(simulator)

        watcher = threading.Thread(target=watch)
        with super().befalling(simulator, method, nth):
            watcher.start()
            try:
                yield
            finally:
                over.set()
                watcher.join()
                if struck.is_set():
                    self._mend(simulator)


def in_flight(control):
    """Return what was received and has not ended, but for calls that wait for events."""
    received = collections.Counter(control.calls())
    ended = collections.Counter(entry["method"] for entry in control.call_log())
    return [name for name in received - ended if name not in WAITING]


def cut_power(simulator):
    simulator.control.kill_host(simulator.toolstack.master_ref)


def power_on(simulator):
    simulator.control.revive_host(simulator.toolstack.master_ref)


TROUBLES = {
    "error": Failing(["INTERNAL_ERROR", "planted"]),
    "lost reply": LosingReply(),
    "no room": Failing(NO_ROOM, TAKES_ROOM),
    "busy": Failing(BUSY, TAKES_TURNS),
    "late": Late(),
    "restart": Accident(lambda simulator: simulator.control.restart_toolstack()),
    "no power": Accident(cut_power, power_on),
}
