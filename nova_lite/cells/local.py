"""What an operation's work may use in the cell where it runs."""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.cells import legacy, operations
from nova_lite.objects import base

LOG = logging.getLogger(__name__)

_COMPUTE_VERSION = "2.27"


class LocalCell:
    """The cell a message arrived in: its collaborators, and the few steps that many operations share."""

    def __init__(self, runner):
        self.runner = runner
        self.services = runner.services
        self.state = runner.state_manager

    @property
    def db(self):
        return self.services.db

    @property
    def compute_api(self):
        return self.services.compute_api

    @property
    def host_api(self):
        return self.services.host_api

    @property
    def is_top(self) -> bool:
        """Whether this cell has no parents, whatever its cell_type says."""
        return not self.state.get_parent_cells()

    def arguments(self, op: operations.Operation, message) -> dict[str, Any]:
        """Return a message's arguments as the operation's work takes them."""
        kwargs = op.accepted(message.method_kwargs)
        if isinstance(kwargs.get("instance"), dict):
            as_object = legacy.update_of if op.route is operations.Route.TOP else legacy.instance_of
            kwargs["instance"] = as_object(message.ctxt, kwargs["instance"])
        return kwargs

    def compute_client(self, host: str):
        """Return an RPC client of one of this cell's hosts."""
        return self.services.rpc.client(self.services.conf.compute_topic, server=host, version=_COMPUTE_VERSION)

    def load_instance(self, ctxt, uuid: str, expected_attrs=None):
        """Return the instance; tell the top to forget it if this cell has none. Raises InstanceNotFound."""
        try:
            return objects.Instance.get_by_uuid(ctxt, uuid, expected_attrs=expected_attrs)
        except exception.InstanceNotFound:
            self.disown(ctxt, uuid)
            raise

    def refresh(self, ctxt, instance) -> None:
        """Bring an instance up to this cell's database; tell the top to forget it if this cell has none."""
        try:
            instance.refresh()
        except exception.InstanceNotFound:
            self.disown(ctxt, instance["uuid"])
            raise

    def disown(self, ctxt, uuid: str) -> None:
        """Tell the top that an instance it believes to be here does not exist."""
        LOG.warning("Instance %s is not in this cell, telling the top", uuid)
        gone = base.to_wire(objects.Instance(ctxt, uuid=uuid))
        self.runner.outbox.enqueue(ctxt, uuid, "instance_destroy_at_top", {"instance": gone})

    def act(self, message, instance, method: str, *args, **kwargs) -> Any:
        """Call a method of the compute API on an instance refreshed from this cell's database.

        When nobody waits for the answer a failure is recorded as the instance's fault, and the true state
        sent up, so that the top does not keep the state it hoped for.
        """
        ctxt = message.ctxt
        return self.reported(message, instance, lambda: self._call(ctxt, instance, method, args, kwargs))

    def reported(self, message, instance, step: Callable[[], Any]) -> Any:
        """Run a step; on failure of a cast, report it upwards as a fault and the instance's true state."""
        try:
            return step()
        except exception.InstanceNotFound:
            raise
        except Exception as error:  # edge: recorded, then raised
            if not message.need_response:
                self.report_failure(message.ctxt, instance["uuid"], message.method_name, error)
            raise

    def report_failure(self, ctxt, uuid: str, operation: str, error: Exception) -> None:
        """Write the fault of an operation that nobody waits for, and send the instance's true state up."""
        try:
            objects.InstanceFault(
                ctxt, instance_uuid=uuid, code=getattr(error, "code", 500), message=str(error)[:255],
                details=f"{operation} failed", host=self.services.host).create()
            self.runner.healer.push(ctxt, uuid)
        except Exception:  # edge: the first error is the one to keep
            LOG.exception("Cannot report that %s failed for instance %s", operation, uuid)

    def _call(self, ctxt, instance, method: str, args: tuple, kwargs: dict) -> Any:
        try:
            self.refresh(ctxt, instance)
        except exception.InstanceInfoCacheNotFound:
            if method not in ("delete", "force_delete"):
                raise
        return getattr(self.compute_api, method)(ctxt, instance, *args, **kwargs)
