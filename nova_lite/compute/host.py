"""This host, as the parts of the compute manager share it."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

from oslo_log import log as logging

from nova_lite import context as nova_context
from nova_lite import exception, objects
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.conductor import LocalConductor
from nova_lite.compute.instance_locks import InstanceLocks
from nova_lite.compute.resources import ResourceTrackers
from nova_lite.context import RequestContext, Services
from nova_lite.objects import power_state, vm_states
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

# Actions that had a single notification, under their own name, before they had a start and an end.
_ANNOUNCED_ONCE = ("suspend", "resume")


class ComputeHost:
    """The collaborators of the manager's parts, and the few acts that most of them need.

    `driver` is set last, because a driver may call back through the VirtAPI while it is loaded.
    """

    def __init__(self, services: Services, host: str) -> None:
        self.services = services
        self.name = host
        self.conf = services.conf
        self.clock = services.clock
        self.db = services.db
        self.network_api = services.network_api
        self.volume_api = services.volume_api
        self.image_api = services.image_api
        self.conductor = LocalConductor(services)
        self.locks = InstanceLocks()
        self.trackers = ResourceTrackers(self)
        self.driver: Any = None
        self._in_hand: dict[str, objects.Instance] = {}

    def admin_context(self, read_deleted: str = "no") -> RequestContext:
        """Return an administrator's context that belongs to this cell."""
        return nova_context.get_admin_context(read_deleted).bind(self.services)

    def load(self, context: RequestContext, uuid: str) -> objects.Instance:
        """Return the instance as it is now; raises InstanceNotFound."""
        return objects.Instance.get_by_uuid(context, uuid)

    def instances(self, context: RequestContext) -> list[objects.Instance]:
        """Return the instances of this host."""
        return list(objects.InstanceList.get_by_host(context, self.name))

    def find(self, context: RequestContext, **filters: Any) -> list[objects.Instance]:
        """Return the instances of this host that match, softly deleted ones included."""
        return list(objects.InstanceList.get_by_filters(context, {**filters, "host": self.name, "deleted": False,
                                                                  "soft_deleted": True}))

    def is_older(self, time: datetime.datetime | None, limit_s: float) -> bool:
        """Tell whether a time is longer ago than that; None never is."""
        return time is not None and self.clock.utcnow() - time > datetime.timedelta(seconds=limit_s)

    def update(self, context: RequestContext, instance: objects.Instance, **changes: Any) -> objects.Instance:
        """Change the instance in hand as LocalConductor.save does, and have its node's tracker see it."""
        self.conductor.save(context, instance, **changes)
        self.trackers.update_usage(context, instance)
        return instance

    @contextlib.contextmanager
    def in_hand(self, instance: objects.Instance) -> Iterator[None]:
        """Have `update_by_uuid` change this very object meanwhile, which need not be read again for each change.

        Expects the instance's lock, and nothing unsaved in the object.
        """
        self._in_hand[instance.uuid] = instance
        try:
            yield
        finally:
            del self._in_hand[instance.uuid]

    def update_by_uuid(self, context: RequestContext, uuid: str, **changes: Any) -> objects.Instance:
        """Change an instance as `update` does and return it; raises InstanceNotFound."""
        return self.update(context, self._in_hand.get(uuid) or self.load(context, uuid), **changes)

    def power_state(self, instance: Any) -> int:
        """Return the guest's power state at the hypervisor, NOSTATE when it has no such guest."""
        try:
            return self.driver.get_info(instance)["state"]
        except exception.NotFound:
            return power_state.NOSTATE

    def power_states(self, instances: list[objects.Instance]) -> dict[str, int]:
        """Return {uuid: power state} of the host's guests: one question to the hypervisor if the driver can."""
        try:
            return self.driver.get_power_states()
        except NotImplementedError:
            states = {instance.uuid: self.power_state(instance) for instance in instances}
            return {uuid: state for uuid, state in states.items() if state != power_state.NOSTATE}

    def network_info(self, context: RequestContext, instance: Any) -> NetworkInfo:
        """Ask the network service for the instance's interfaces, which also refreshes the info cache."""
        return self.network_api.get_instance_nw_info(context, instance)

    def for_driver(self, network_info: NetworkInfo) -> Any:
        """Return network info in the form this driver wants: the model, or legacy (network, mapping) pairs."""
        return network_info.legacy() if self.driver.legacy_nwinfo() else network_info

    def notify(self, context: RequestContext, instance: Any, suffix: str, *, network_info: Any = None,
               extra: dict[str, Any] | None = None) -> None:
        """Send the usage notification `compute.instance.<suffix>`."""
        compute_utils.notify_about_instance_usage(
            context, instance, suffix, network_info=network_info, extra_usage_info=extra, host=self.name)

    @contextlib.contextmanager
    def announced(self, context: RequestContext, instance: Any, name: str | None,
                  extra: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Send `<name>.start` before and `<name>.end` (or `.error` with the failure's text) after the block.

        The block may put the `network_info` that the end is to tell into the dict it gets.
        """
        told_at_end: dict[str, Any] = {}
        if name is None:
            yield told_at_end
            return
        self.notify(context, instance, f"{name}.start", extra=extra)
        try:
            yield told_at_end
        except Exception as error:  # announced, and raised on
            self.notify_error(context, instance, name, error, extra)
            raise
        if name in _ANNOUNCED_ONCE:
            self.notify(context, instance, name, extra=extra)
        self.notify(context, instance, f"{name}.end", extra=extra, **told_at_end)

    def notify_error(self, context: RequestContext, instance: Any, name: str, error: Exception,
                     extra: dict[str, Any] | None = None) -> None:
        """Send `<name>.error` with the failure's class and text."""
        failure = {"exception": type(error).__name__, "message": str(error)}
        self.notify(context, instance, f"{name}.error", extra={**(extra or {}), **failure})

    def set_error(self, context: RequestContext, instance: objects.Instance) -> None:
        """Set vm_state ERROR, leaving the task state alone; an instance that is gone needs none."""
        try:
            self.update(context, instance, vm_state=vm_states.ERROR)
        except exception.InstanceNotFound:
            LOG.debug("Instance %s is gone and cannot be set to ERROR", instance.uuid)

    @contextlib.contextmanager
    def error_out(self, context: RequestContext, instance: objects.Instance,
                  reservations: list[str] | None = None) -> Iterator[None]:
        """On any exception roll reservations back and set the instance to ERROR; it is raised on.

        A driver that has undone its work says so by InstanceFaultRollback: then the vm_state is kept, and the error
        inside is raised. A pre-empted action leaves the instance to whoever took it over, and one that the driver
        does not have leaves it as it was.
        """
        try:
            yield
        except exception.InstanceFaultRollback as error:
            self.rollback_quota(context, reservations)
            LOG.info("Instance %s stays %s: %s", instance.uuid, instance.vm_state, error.inner_exception)
            raise error.inner_exception from error
        except (exception.InstanceNotFound, exception.UnexpectedTaskStateError, NotImplementedError):
            self.rollback_quota(context, reservations)
            raise
        except Exception:  # err-out is about every failure
            self.rollback_quota(context, reservations)
            LOG.exception("Setting instance %s to ERROR", instance.uuid)
            self.set_error(context, instance)
            raise

    def commit_quota(self, context: RequestContext, instance: Any, reservations: list[str] | None) -> None:
        """Make reservations final, in the project that owns the instance."""
        if reservations:
            self.db.reservation_commit(context, reservations, project_id=instance["project_id"])

    def rollback_quota(self, context: RequestContext, reservations: list[str] | None) -> None:
        """Give reservations back; a failure is logged, they expire by themselves."""
        if not reservations:
            return
        try:
            self.db.reservation_rollback(context, reservations)
        except exception.NovaException as error:
            LOG.warning("Could not roll back %d quota reservations: %s", len(reservations), error)
