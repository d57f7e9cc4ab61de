"""Taking a host out of scheduling while its hypervisor does not answer."""

import contextlib
from collections.abc import Iterator

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)

FAILURES_ALLOWED = 3
# Marks what this class did, so that it never enables a host that an operator disabled.
_REASON = "AUTO: the hypervisor does not answer"


class Health:
    """Counts failures of the driver in a row; the service is disabled after some and enabled by the next success."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here
        self._failures = 0

    @contextlib.contextmanager
    def watched(self, context: RequestContext) -> Iterator[None]:
        """Judge the driver by whether the block fails; what it raises goes on."""
        try:
            yield
        except Exception:
            self._failures += 1
            if self._failures >= FAILURES_ALLOWED:
                self._switch(context, enabled=False)
            raise
        self._failures = 0
        self._switch(context, enabled=True)

    def _switch(self, context: RequestContext, *, enabled: bool) -> None:
        db = self._here.db
        try:
            service = db.service_get_by_compute_host(context, self._here.name)
        except exception.ComputeHostNotFound:
            return
        if enabled and service["disabled"] and service["disabled_reason"] == _REASON:
            LOG.info("The hypervisor of host %s answers again: builds may come", self._here.name)
            db.service_update(context, service["id"], {"disabled": False, "disabled_reason": None})
        elif not enabled and not service["disabled"]:
            LOG.warning("The hypervisor of host %s failed %d times: no builds until it answers",
                        self._here.name, self._failures)
            db.service_update(context, service["id"], {"disabled": True, "disabled_reason": _REASON})
