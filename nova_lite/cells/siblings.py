"""The other `nova-cells` processes of this cell: each knows only what it has sent itself."""

from typing import Any

from oslo_log import log as logging

from nova_lite import context, exception, servicegroup
from nova_lite.cells import own_methods

LOG = logging.getLogger(__name__)

_BINARY = "nova-cells"


class Siblings:
    """Finds, among the processes of this cell, the one that knows of a build."""

    def __init__(self, services):
        self._services = services
        self._servicegroup = servicegroup.API(services)
        self._client = own_methods.OwnCellsClient(services)

    def take_over(self, ctxt, instance_uuids: list[str], reason: str, cells_tried: list[str], failed_cell: str) -> bool:
        """Whether another process has sent this build on, and now sees to it that the next cell builds it.

        Waits a few seconds for each process that is said to be alive and does not answer.
        """
        return any(self._takes_over(ctxt, host, instance_uuids, reason, cells_tried, failed_cell)
                   for host in self._hosts())

    def _hosts(self) -> list[str]:
        ctxt = context.get_admin_context().bind(self._services)
        services = self._services.db.service_get_all_by_binary(ctxt, _BINARY, include_disabled=True)
        return [service["host"] for service in services
                if service["host"] != self._services.host and self._servicegroup.service_is_up(service)]

    def _takes_over(self, ctxt, host: str, *failure: Any) -> bool:
        try:
            return self._client.take_failed_build(ctxt, host, *failure)
        except exception.RpcError as error:
            LOG.warning("nova-cells on host %s cannot be asked for a build that has failed: %s", host, error)
            return False
