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
        self._due: list[tuple[float, int, Callable[..., None], tuple]] = []
        self._numbers = itertools.count()
        self._tasks: dict[str, set[Task]] = {}
        self._hub = greenlet.getcurrent()

    def after(self, delay_s: float, function: Callable, *args: Any) -> None:
        """Call a function, which must not wait, some time from now."""
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._numbers), function, args))

    def spawn(self, owner: str, function: Callable, *args: Any, delay_s: float = 0.0) -> None:
        """Run a function, which may wait, beside everything else. What it raises is kept in `errors`."""
        task = Task(self._run_task, parent=self._hub)
        task.owner, task.work = owner, (function, args)
        self._tasks.setdefault(owner, set()).add(task)
        self.after(delay_s, self.resume, task)

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
        self.after(max(0.0, seconds), self.resume, task)
        self._hub.switch()

    def wait(self, event: "WorldEvent", timeout_s: float | None) -> bool:
        """Have the calling task wait for an event."""
        task = greenlet.getcurrent()
        token = object()
        if timeout_s is not None:
            self.after(max(0.0, timeout_s), event.give_up, token)
        event.waiting[token] = task
        self._hub.switch()
        return event.is_set()

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within some seconds. Raises the first error of a task."""
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            due_s, _number, function, args = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due_s)
            function(*args)
            if self.errors:
                raise self.errors[0]
        self.now_s = end_s

    def resume(self, task: "Task") -> None:
        """Let a task go on, if it has not been ended."""
        if task in self._tasks.get(task.owner, ()):
            task.switch()

    def _run_task(self) -> None:
        task: Any = greenlet.getcurrent()
        function, args = task.work
        try:
            function(*args)
        except Exception as error:  # task top
            self.errors.append(error)
        finally:
            self._tasks.get(task.owner, set()).discard(task)


class Task(greenlet.greenlet):
    """Something that goes on in a world, and whose it is."""

    owner: str
    work: tuple[Callable, tuple]


class WorldEvent(threading.Event):
    """An event whose waiters a world wakes when it is set."""

    def __init__(self, world: World):
        super().__init__()
        self._world = world
        self.waiting: dict[object, Any] = {}

    def set(self) -> None:
        super().set()
        woken, self.waiting = self.waiting, {}
        for task in woken.values():
            self._world.after(0.0, self._world.resume, task)

    def give_up(self, token: object) -> None:
        """Wake a waiter whose time is over."""
        task = self.waiting.pop(token, None)
        if task is not None:
            self._world.resume(task)


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

    def event(self) -> WorldEvent:
        return WorldEvent(self._world)

    def wait(self, waitable: Any, timeout: float | None = None) -> bool:
        """Wait for an event, or, as a condition's users look for themselves, until it is worth another look."""
        if isinstance(waitable, WorldEvent):
            return waitable.is_set() or self._world.wait(waitable, timeout)
        if timeout is not None and timeout <= 0:
            return False
        self._world.sleep(_LOOK_S if timeout is None else min(_LOOK_S, timeout))
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
