"""Interfaces and addresses whose way to an instance, or back, ended with the process that was at it."""

from collections.abc import Sequence

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.networking import Networking
from nova_lite.compute.undertakings import Undertaking
from nova_lite.concurrency import TimeLimitExceeded
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)


class InterfaceRecovery:
    """Carries through what was begun; an interface that its caller waits for no more is taken back."""

    def __init__(self, here: ComputeHost, networking: Networking) -> None:
        self._here = here
        self._networking = networking

    def settle(self, context: RequestContext, instances: Sequence[objects.Instance], older_than_s: float = 0) -> None:
        """Settle what was begun so long ago for these instances and did not end; each failure is logged."""
        for message, uuid, undertaking in self._networking.unfinished(context, instances, older_than_s):
            try:
                with self._here.locks.hold(uuid, timeout_s=0):
                    self._settle(message, self._here.load(message, uuid), undertaking)
            except TimeLimitExceeded:
                LOG.debug("Instance %s is worked on; its interfaces have to wait", uuid)
            except exception.NovaException as error:
                LOG.warning("Could not settle %s of instance %s: %s", undertaking.name, uuid, error)
            except Exception:  # start-up must survive any one instance
                LOG.exception("Could not settle %s of instance %s", undertaking.name, uuid)

    def _settle(self, context: RequestContext, instance: objects.Instance, undertaking: Undertaking) -> None:
        LOG.info("Instance %s: %s broke off", instance.uuid, undertaking.name)
        if undertaking.name == "attach_interface":
            self._networking.take_back_interface(context, instance, undertaking)
        else:
            getattr(self._networking, undertaking.name)(context, instance, **undertaking.arguments)
