"""A world with a time of its own: tasks that wait in it, in one thread and, for one seed, always in the same order."""

import datetime
import heapq
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import greenlet

from nova_lite import concurrency

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

_LOOK_S = 0.05


class World:
    """Runs what is due, in the order of its time; the time moves only when nothing is due any more.

    Tasks belong to an owner, so that all that a crashed process was doing can be ended. The process has to run on
    native threads: eventlet's greenthreads would wait in a time of their own.
    """

    def __init__(self, seed: int):
        if concurrency.is_green():
            raise RuntimeError("a simulated world needs a process with concurrency = threading")
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.errors: list[BaseException] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._tasks: dict[str, set[greenlet.greenlet]] = {}
        self._hub = greenlet.getcurrent()

    def after(self, delay_s: float, function: Callable, *args: Any) -> None:
        """Call a function, which must not wait, some time from now."""
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._numbers), lambda: function(*args)))

    def spawn(self, owner: str, function: Callable, *args: Any, delay_s: float = 0.0) -> None:
        """Run a function, which may wait, beside everything else. What it raises is kept in `errors`."""
        task: Any = greenlet.greenlet(lambda: self._run_task(owner, task, function, args), parent=self._hub)
        self._tasks.setdefault(owner, set()).add(task)
        self.after(delay_s, self._resume, owner, task)

    def kill(self, owner: str) -> None:
        """End all tasks of an owner where they are. Only for what `after` calls, and from outside."""
        for task in list(self._tasks.pop(owner, ())):
            task.throw(greenlet.GreenletExit)

    def sleep(self, seconds: float) -> None:
        """Let time pass: for the calling task, or for the whole world if nobody's task is running."""
        task = greenlet.getcurrent()
        if task is self._hub:
            self.run(seconds)
            return
        owner = next(name for name, tasks in self._tasks.items() if task in tasks)
        self.after(max(0.0, seconds), self._resume, owner, task)
        self._hub.switch()

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within some seconds. Raises the first error of a task."""
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            due_s, _number, function = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due_s)
            function()
            if self.errors:
                raise self.errors[0]
        self.now_s = end_s

    def _resume(self, owner: str, task: greenlet.greenlet) -> None:
        if task in self._tasks.get(owner, ()):
            task.switch()

    def _run_task(self, owner: str, task: greenlet.greenlet, function: Callable, args: tuple) -> None:
        try:
            function(*args)
        except Exception as error:  # task top
            self.errors.append(error)
        finally:
            self._tasks.get(owner, set()).discard(task)


class WorldClock:
    """A clock of one cell: the world's time, wrong by `step_s` where it tells the time of day."""

    def __init__(self, world: World):
        self._world = world
        self.step_s = 0.0

    def utcnow(self) -> datetime.datetime:
        return START + datetime.timedelta(seconds=self._world.now_s + self.step_s)

    def time(self) -> float:
        return self.utcnow().timestamp()

    def monotonic(self) -> float:
        return 1000.0 + self._world.now_s

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)

    def wait(self, waitable: Any, timeout: float | None = None) -> bool:
        """Wait for an event, or, as a condition's users look for themselves, until it is worth another look."""
        is_event = isinstance(waitable, threading.Event)
        end_s = None if timeout is None else self._world.now_s + timeout
        while not (is_event and waitable.is_set()):
            left_s = _LOOK_S if end_s is None else end_s - self._world.now_s
            if left_s <= 0:
                return False
            self._world.sleep(min(_LOOK_S, left_s))
            if not is_event:
                return True
        return True


class WorldTimers:
    """Jobs put off, as tasks of an owner: what cells.timers.Timers does with threads."""

    def __init__(self, world: World, owner: str):
        self._world = world
        self._owner = owner

    def later(self, delay_s: float, job: Callable[[], None]) -> None:
        self._world.spawn(self._owner, job, delay_s=delay_s)

    def stop(self) -> list[Callable[[], None]]:
        return []
