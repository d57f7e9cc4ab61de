"""The one place that knows whether this process runs on eventlet or on native threads.

``setup(mode)`` is the first thing an entry point does, before it imports anything else of ours or of the libraries; a
process has one mode for good. All other code is written against plain threading primitives and what is here.
"""

import collections
import concurrent.futures
import contextlib
import contextvars
import datetime
import importlib.abc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any

EVENTLET = "eventlet"
THREADING = "threading"


class TimeLimitExceeded(Exception):
    """A function did not return within the time it was given."""


class PoolFull(Exception):
    """Every worker of a pool is busy and its queue is at its bound."""


# --- Mode ------------------------------------------------------------------------------------------------------------

class _NoEventlet(importlib.abc.MetaPathFinder):
    """Keeps the libraries from choosing eventlet, and its memory, when the process runs on native threads."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "eventlet" or fullname.startswith("eventlet."):
            raise ModuleNotFoundError("eventlet is not used with concurrency = threading", name=fullname)


def setup(mode: str) -> None:
    """Choose how this process runs concurrent work: ``eventlet`` (monkey-patched) or ``threading``.

    Has to come before the libraries are imported. Calling it again with the same mode does nothing; with the other
    one it raises RuntimeError.
    """
    _silence_known_warnings()
    if mode == EVENTLET:
        _set_up_eventlet()
    elif mode == THREADING:
        _set_up_threading()
    else:
        raise ValueError(f"concurrency must be {EVENTLET} or {THREADING}, not {mode!r}")


def _set_up_eventlet() -> None:
    if any(isinstance(finder, _NoEventlet) for finder in sys.meta_path):
        raise RuntimeError("this process already runs on native threads")
    # 15 MB and 0.1 s less; addresses in configuration files are numbers, or looked up once at a connect.
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
    import eventlet

    # psycopg2 costs 5 MB and is patched when a database wants it: use_psycopg2().
    eventlet.monkey_patch(psycopg=False)


def _set_up_threading() -> None:
    if is_green():
        raise RuntimeError("this process already runs on eventlet")
    if any(isinstance(finder, _NoEventlet) for finder in sys.meta_path):
        return
    if "eventlet" not in sys.modules:
        sys.meta_path.insert(0, _NoEventlet())
    if "oslo_service.backend" not in sys.modules:
        from oslo_service import backend

        # oslo.messaging's server class derives from one of the chosen backend; the default would import eventlet.
        backend.init_backend(backend.BackendType.THREADING)


def _silence_known_warnings() -> None:
    """Both modes are supported here on purpose, so the libraries' farewells to eventlet tell a user nothing."""
    warnings.filterwarnings("ignore", message=r"(?s).*[Ee]ventlet")
    warnings.filterwarnings("ignore", message=r"(?s).*executor", category=DeprecationWarning)


def use_psycopg2() -> None:
    """Let waiting for PostgreSQL suspend a greenthread instead of the whole process."""
    if is_green():
        from eventlet.support import psycopg2_patcher

        psycopg2_patcher.make_psycopg_green()


def is_green() -> bool:
    """Whether threads are greenthreads in this process."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and patcher.is_monkey_patched("thread")


# --- Running things --------------------------------------------------------------------------------------------------

def sleep(seconds: float) -> None:
    """Suspend this worker; 0 lets others run."""
    time.sleep(seconds)


class Task:
    """A function running beside its caller."""

    def __init__(self, future: concurrent.futures.Future, greenlet: Any = None):
        self._future = future
        self._greenlet = greenlet

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._future.done()

    def wait(self, timeout: float | None = None) -> Any:
        """Its result, or its exception raised. TimeLimitExceeded when it is not there after ``timeout`` seconds."""
        return _result(self._future, timeout)

    def kill(self) -> bool:
        """End it at its next switch where that is possible (greenthreads); False on native threads."""
        if self._greenlet is None:
            return False
        self._greenlet.kill()
        if not self._future.done():
            self._future.cancel()
            self._future.set_running_or_notify_cancel()
        return True


def spawn(function: Callable, *args: Any, **kwargs: Any) -> Task:
    """Run the function beside the caller, in a copy of its contextvars (greenthreads would start with none)."""
    future: concurrent.futures.Future = concurrent.futures.Future()
    run = contextvars.copy_context().run
    if is_green():
        import eventlet

        return Task(future, eventlet.spawn(run, _settle, future, function, args, kwargs))
    name = getattr(function, "__qualname__", "task")
    threading.Thread(target=run, args=(_settle, future, function, args, kwargs), name=name, daemon=True).start()
    return Task(future)


def _settle(future: concurrent.futures.Future, function: Callable, args: tuple, kwargs: dict) -> None:
    """Top of a worker: whatever happens becomes the future's outcome. What was cancelled before is not begun."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _result(future: concurrent.futures.Future, timeout: float | None) -> Any:
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():
            raise  # its own
        raise TimeLimitExceeded(f"not done after {timeout:.1f} s") from None


class Pool:
    """Named workers, at most ``size`` of them, started when needed and kept.

    ``queue_size``: how many jobs may wait for a worker; None for no bound, 0 to refuse when all are busy.
    """

    def __init__(self, name: str, size: int, queue_size: int | None = None):
        self.name = name
        self.size = size
        self._queue_size = queue_size
        self._jobs: collections.deque = collections.deque()
        self._changed = threading.Condition()
        self._workers = 0
        self._idle = 0
        self._closed = False

    @property
    def busy(self) -> int:
        """How many workers have something to do."""
        with self._changed:
            return self._workers - self._idle

    def submit(self, function: Callable, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """Have the function run by a worker. Raises PoolFull, and RuntimeError after shutdown."""
        future: concurrent.futures.Future = concurrent.futures.Future()
        job = (contextvars.copy_context().run, future, function, args, kwargs)
        with self._changed:
            if self._closed:
                raise RuntimeError(f"pool {self.name} is shut down")
            waiting = len(self._jobs) - self._idle
            if waiting >= 0 and self._workers < self.size:
                self._start_worker()
            elif self._queue_size is not None and waiting >= self._queue_size:
                raise PoolFull(f"all {self.size} workers of pool {self.name} are busy")
            self._jobs.append(job)
            self._changed.notify()
        return future

    def withdraw(self, future: concurrent.futures.Future) -> bool:
        """Take back a job that waits for a worker, so that it makes room and is never run; False if it has begun."""
        if not future.cancel():
            return False
        with self._changed:
            self._jobs = collections.deque(job for job in self._jobs if job[1] is not future)
        return True

    def _start_worker(self) -> None:
        self._workers += 1
        self._idle += 1  # until it takes its first job; submit() counts on it
        threading.Thread(target=self._work, name=f"{self.name}-{self._workers}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    self._idle -= 1
                    self._workers -= 1
                    self._changed.notify_all()
                    return
                self._idle -= 1
                run, future, function, args, kwargs = self._jobs.popleft()
            run(_settle, future, function, args, kwargs)
            del run, future, function, args, kwargs
            with self._changed:
                self._idle += 1

    def shutdown(self, wait_s: float = 0) -> bool:
        """Take no more jobs, let those accepted end; True if they have within ``wait_s`` seconds."""
        limit = time.monotonic() + wait_s
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._workers:
                left_s = limit - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return not self._workers
        return True


def call_within(limit_s: float, pool: Pool, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """The function's result, or TimeLimitExceeded after ``limit_s`` seconds whatever the function is blocked in.

    A greenthread is interrupted where it is. A native thread cannot be: the function runs in ``pool`` and is given
    up, keeping its worker until it returns. Waiting for a free worker counts; a function that found none in its time
    is never run. Raises PoolFull when too many wait.
    """
    if not is_green():
        future = pool.submit(function, *args, **kwargs)
        try:
            return _result(future, limit_s)
        except TimeLimitExceeded:
            pool.withdraw(future)
            raise
    import eventlet

    # Its own class matters: libraries take a TimeoutError for a broken connection, and try again.
    timer = eventlet.Timeout(limit_s)
    try:
        return function(*args, **kwargs)
    except eventlet.Timeout as expired:
        if expired is not timer:
            raise
        raise TimeLimitExceeded(f"not done after {limit_s:.1f} s") from None
    finally:
        timer.cancel()


def run_blocking(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Run something that blocks in C or on a disk without stopping the other greenthreads."""
    if not is_green():
        return function(*args, **kwargs)
    from eventlet import tpool

    return tpool.execute(function, *args, **kwargs)


# --- Locks, time -----------------------------------------------------------------------------------------------------

class KeyedLocks:
    """One re-entrant lock per key, kept only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[Hashable, list] = {}

    @contextlib.contextmanager
    def hold(self, key: Hashable, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock of ``key``. Raises TimeLimitExceeded when it is not free within ``timeout_s``."""
        with self._guard:
            entry = self._locks.setdefault(key, [threading.RLock(), 0])
            entry[1] += 1
        try:
            if not entry[0].acquire(timeout=-1 if timeout_s is None else timeout_s):
                raise TimeLimitExceeded(f"{key} is still locked after {timeout_s:.1f} s")
            try:
                yield
            finally:
                entry[0].release()
        finally:
            with self._guard:
                entry[1] -= 1
                if not entry[1]:
                    del self._locks[key]

    def __len__(self) -> int:
        return len(self._locks)


class Clock:
    """The time. Product code has it from ``services.clock``, so that tests can move it."""

    def utcnow(self) -> datetime.datetime:
        """Now, as an aware datetime in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Suspend this worker; 0 lets others run."""
        time.sleep(seconds)

    def event(self) -> threading.Event:
        """An event that ``wait`` can wait on."""
        return threading.Event()

    def wait(self, waitable: Any, timeout: float | None = None) -> bool:
        """Wait on an event, or a condition that is held, for at most ``timeout`` seconds; False when it ran out."""
        return waitable.wait(timeout)
