"""When a periodic task is due that has an interval of its own, set by an option that may change."""

import random

from nova_lite.concurrency import Clock

JITTER = 0.1


class Pacing:
    """Remembers when each task ran last. Intervals vary by up to a tenth, so that hosts do not run in step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_at_s: dict[str, float] = {}

    def is_due(self, task: str, interval_s: float) -> bool:
        """Tell whether the task is due, and if so note that it runs now; the first time it is."""
        now_s = self._clock.monotonic()
        if now_s < self._due_at_s.get(task, now_s):
            return False
        self._due_at_s[task] = now_s + interval_s * random.uniform(1 - JITTER, 1)
        return True
