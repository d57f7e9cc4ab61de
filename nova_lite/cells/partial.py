"""Lists put together from many cells, when some of the cells have not answered."""

import datetime
import threading
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite.cells.remote_exceptions import first_line
from nova_lite.cells.response import Response

LOG = logging.getLogger(__name__)

_MAX_REASON_CHARS = 300
_REMEMBERED_S = 3600  # cells come and go


class PartialResults:
    """Takes what cells have answered and remembers which have not, for who wants to know.

    A cell that fails is logged when it begins to and when it answers again, not for every list in between.
    """

    def __init__(self, services):
        self._conf = services.conf
        self._clock = services.clock
        self._failures: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def answered(self, operation: str, responses: Iterable[Response]) -> list[Response]:
        """Return the responses that are no failures.

        Raises the first failure when no cell has answered, or with `[cells] strict_queries` when any has failed.
        """
        responses = list(responses)
        good = [response for response in responses if not response.failure]
        failed = [response for response in responses if response.failure]
        for response in good:
            self._note_answer(response.cell_name)
        for response in failed:
            self._note_failure(response, operation)
        if failed and (not good or self._conf.cells.strict_queries):
            failed[0].value_or_raise()
        return good

    def failures(self) -> list[dict[str, Any]]:
        """Return [{'cell', 'operation', 'error', 'time' (ISO)}] of cells whose last answer was a failure or none."""
        oldest = (self._clock.utcnow() - datetime.timedelta(seconds=_REMEMBERED_S)).isoformat()
        with self._lock:
            self._failures = {name: one for name, one in self._failures.items() if one["time"] > oldest}
            return [dict(failure) for _name, failure in sorted(self._failures.items())]

    def _note_failure(self, response: Response, operation: str) -> None:
        reason = first_line(response.error)[:_MAX_REASON_CHARS]
        failure = {"cell": response.cell_name, "operation": operation, "error": reason,
                   "time": self._clock.utcnow().isoformat()}
        with self._lock:
            is_news = response.cell_name not in self._failures
            self._failures[response.cell_name] = failure
        if is_news:
            LOG.warning("Cell %s is missing in %s, and in other lists until it answers: %s", response.cell_name,
                        operation, reason)

    def _note_answer(self, cell_name: str) -> None:
        with self._lock:
            failure = self._failures.pop(cell_name, None)
        if failure is not None:
            LOG.info("Cell %s answers again", cell_name)
