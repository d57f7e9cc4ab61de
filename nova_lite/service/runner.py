"""A process that runs one service: its signals and its exit status.

Handlers do nothing but let the interpreter write the signal's number into a pipe: what touches locks in a handler is
noticed late, or never, when threads are green.
"""

import gc
import signal
import socket
from typing import Any

from oslo_log import log as logging

from nova_lite import concurrency, exception
from nova_lite.service.lifecycle import Service, Stopped

LOG = logging.getLogger(__name__)

OK = 0
FAILED = 1
MISCONFIGURED = 2
_WAKE = 0


class Signals:
    """Signals as numbers to wait for. Belongs to the main thread."""

    def __init__(self, *numbers: int):
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def wait(self) -> int:
        """The number of the next signal, or 0 for wake()."""
        return self._read.recv(1)[0]

    def wake(self) -> None:
        """Let wait() return."""
        self._write.send(bytes([_WAKE]))


def run(service: Service) -> int:
    """Run the service until SIGTERM or SIGINT, then drain it; SIGHUP reads the configuration again.

    Returns the exit status: 0 after a drain, 1 when it could not start, 2 when its configuration forbids it. A second
    SIGTERM ends without waiting for work in flight.
    """
    signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    starting = _spawn_and_wake(signals, _start, service)
    stopping: concurrency.Task | None = None
    while True:
        number = signals.wait()
        if number == signal.SIGHUP:
            service.reset()
        elif number == _WAKE:
            if stopping is not None and stopping.done:
                return starting.wait() if starting.done else OK
            if starting.done and (status := starting.wait()) != OK:
                service.stop(timeout=0)
                return status
        elif stopping is None:
            LOG.info("%s on host %s is told to stop", service.binary, service.host)
            stopping = _spawn_and_wake(signals, service.stop)
        else:
            return FAILED


def _spawn_and_wake(signals: Signals, function: Any, *args: Any) -> concurrency.Task:
    """Run a function beside; wake whoever waits for signals once it is done."""
    task = concurrency.spawn(function, *args)
    concurrency.spawn(_wake_after, signals, task)
    return task


def _wake_after(signals: Signals, task: concurrency.Task) -> None:
    try:
        task.wait()
    finally:
        signals.wake()


def _start(service: Service) -> int:
    try:
        service.start()
    except Stopped:
        return OK
    except exception.ConfigurationError as error:
        LOG.error("%s", error)
        return MISCONFIGURED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED
    except Exception:
        LOG.exception("%s on host %s could not start", service.binary, service.host)
        return FAILED
    else:
        gc.collect()  # what importing left behind, a few MB
        return OK
