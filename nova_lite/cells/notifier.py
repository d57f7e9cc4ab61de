"""How the rest of a cell reaches its `nova-cells`: the port that compute and the objects call."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.cells import own_methods

LOG = logging.getLogger(__name__)


class CellsNotifier:
    """The cells notifier of a cell that is part of a tree. What is told is told once; nobody waits for it."""

    def __init__(self, services, cells_api):
        self._api = cells_api
        self._own = own_methods.OwnCellsClient(services)

    def outbox_ready(self, context: Any) -> None:
        """Rows wait in the outbox. If this is not heard they are found a second later."""
        try:
            self._own.outbox_ready(context)
        except exception.RpcError as error:
            LOG.debug("nova-cells was not told of new rows in the outbox: %s", error)

    def capacity_changed(self, context: Any) -> None:
        """A host here can hold more or less than before. If this is not heard it is found a minute later."""
        try:
            self._own.capacity_changed(context)
        except exception.RpcError as error:
            LOG.debug("nova-cells was not told of a change of capacity: %s", error)

    def delete_console_tokens(self, context: Any, instance_uuid: str) -> None:
        """Make the console tokens of an instance invalid, at the top."""
        try:
            self._api.consoleauth_delete_tokens(context, instance_uuid)
        except exception.RpcError as error:
            LOG.warning("Console tokens of instance %s were not deleted: %s", instance_uuid, error)

    def get_keypair(self, context: Any, user_id: str, name: str) -> Any:
        """Return a key pair of the top. Raises KeypairNotFound."""
        return self._api.get_keypair_at_top(context, user_id, name)

    def instance_update_from_api(self, context: Any, instance: Any, expected_vm_state: Any = None,
                                 expected_task_state: Any = None, admin_state_reset: bool = False) -> None:
        """Send an instance's changes down to its cell."""
        self._api.instance_update_from_api(context, instance, expected_vm_state, expected_task_state,
                                           admin_state_reset)

    def build_failed(self, context: Any, instance_uuids: list[str], reason: str) -> None:
        """No host here can build these instances."""
        self._own.build_failed(context, instance_uuids, reason)
