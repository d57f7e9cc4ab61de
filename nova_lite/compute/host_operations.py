"""What is done to the host itself: power, maintenance, pool membership."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext

LOG = logging.getLogger(__name__)


class HostOperations:
    """Aggregates, which are pools at the hypervisor; what the driver could not do is undone in the database."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def add_to_aggregate(self, context: RequestContext, host: str, slave_info: dict[str, Any] | None,
                         aggregate: Any, aggregate_id: int | None) -> None:
        """Let `host` join the pool of the aggregate; a host that cannot leaves the aggregate again."""
        aggregate = aggregate or self._here.conductor.aggregate_get(context, aggregate_id)
        try:
            self._here.driver.add_to_aggregate(context, aggregate, host, slave_info=slave_info)
        except exception.AggregateError:
            self._here.driver.undo_aggregate_operation(
                context, self._here.conductor.aggregate_host_delete, aggregate, host)
            raise

    def remove_from_aggregate(self, context: RequestContext, host: str, slave_info: dict[str, Any] | None,
                              aggregate: Any, aggregate_id: int | None) -> None:
        """Take `host` out of the pool of the aggregate; a host that stays joins the aggregate again."""
        aggregate = aggregate or self._here.conductor.aggregate_get(context, aggregate_id)
        try:
            self._here.driver.remove_from_aggregate(context, aggregate, host, slave_info=slave_info)
        except (exception.AggregateError, exception.InvalidAggregateAction) as error:
            self._here.driver.undo_aggregate_operation(
                context, self._here.conductor.aggregate_host_add, aggregate, host,
                isinstance(error, exception.AggregateError))
            raise
