"""One action at a time on an instance, unless a delete overtakes it."""

import contextlib
import enum
from collections.abc import Iterator

from nova_lite.concurrency import KeyedLocks


class Hold(enum.Enum):
    """How an action holds its instance."""

    ORDINARY = "waits for every other action, and a delete waits for it"
    PREEMPTIBLE = "may take hours and cannot be cancelled: a delete goes ahead, and its next state change fails"
    DELETE = "waits for ordinary actions only"


class InstanceLocks:
    """Locks by instance uuid: one for actions, one for deletes. An ordinary action holds both. Re-entrant."""

    def __init__(self) -> None:
        self._actions = KeyedLocks()
        self._deletes = KeyedLocks()

    @contextlib.contextmanager
    def hold(self, uuid: str, how: Hold = Hold.ORDINARY, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the instance. Raises TimeLimitExceeded when it is not free within `timeout_s`."""
        with contextlib.ExitStack() as held:
            if how is not Hold.DELETE:
                held.enter_context(self._actions.hold(uuid, timeout_s))
            if how is not Hold.PREEMPTIBLE:
                held.enter_context(self._deletes.hold(uuid, timeout_s))
            yield
