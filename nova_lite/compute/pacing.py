"""When a periodic task is due that has an interval of its own, and how long a pass of one may take."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite.concurrency import Clock, TimeLimitExceeded
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)

JITTER = 0.1
# All periodic tasks of a host run one after the other: none may keep the others waiting for long.
BUDGET_S = 60


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


def each_in_turn(clock: Clock, act: Callable[..., Any], context: RequestContext, items: Sequence[Any],
                 *args: Any) -> None:
    """Act on each item; a failure is logged and is the item's own, and what is worked on waits for the next pass.

    So do the items that are left when the pass has used up its time.
    """
    started_s = clock.monotonic()
    for done, item in enumerate(items):
        if clock.monotonic() - started_s > BUDGET_S:
            LOG.warning("%s has taken %d s: %d of %d wait for the next pass",
                        act.__name__, BUDGET_S, len(items) - done, len(items))
            return
        try:
            act(context, item, *args)
        except TimeLimitExceeded:
            LOG.debug("%s is worked on and has to wait", item)
        except Exception:
            LOG.exception("%s failed for %s", act.__name__, item)
