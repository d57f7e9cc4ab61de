"""Deleting instances: softly, for good, and bringing back what was only softly deleted."""

from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)


class Deleter:
    """Takes guests, their networks and volumes away, and then their rows."""

    def __init__(self, here: ComputeHost, block_devices: BlockDevices, computes: ComputeAPI) -> None:
        self._here = here
        self._block_devices = block_devices
        self._computes = computes

    def terminate(self, context: RequestContext, instance: objects.Instance,
                  reservations: list[str] | None) -> None:
        """Delete on request: a guest that cannot be ended leaves ERROR, an instance that is gone is fine.

        An instance that was moved after the request was sent is deleted by the host that has it.
        """
        if instance.host not in (None, self._here.name):
            LOG.info("Instance %s has moved to host %s, which is asked to delete it", instance.uuid, instance.host)
            self._computes.terminate_instance(context, instance, None, reservations)
            return
        try:
            self.delete(context, instance, reservations=reservations)
        except exception.InstanceTerminationFailure as error:
            LOG.error("Could not terminate instance %s: %s", instance.uuid, error)
            self._here.set_error(context, instance)
        except exception.InstanceNotFound as error:
            LOG.warning("Instance %s was deleted by someone else: %s", instance.uuid, error)

    def delete(self, context: RequestContext, instance: objects.Instance,
               bdms: list[objects.BlockDeviceMapping] | None = None, reservations: list[str] | None = None) -> None:
        """Delete guest, networks, flagged volumes and row. On failure the row stays, with its task state."""
        here = self._here
        if bdms is None:
            bdms = self._block_devices.of(context, instance)
        if instance.vm_state == vm_states.SOFT_DELETED:
            here.rollback_quota(context, reservations)  # given back when it was softly deleted
            reservations = None
        try:
            here.notify(context, instance, "delete.start")
            self.shut_down(context, instance, bdms)
            self._block_devices.delete_flagged(context, instance, bdms)
            here.update(context, instance, vm_state=vm_states.DELETED, task_state=None, cleaned=True,
                        terminated_at=here.clock.utcnow())
            instance.destroy()
        except Exception:  # the reservations must not stay open, whatever failed
            here.rollback_quota(context, reservations)
            raise
        here.commit_quota(context, instance, reservations)
        for bdm in bdms:
            bdm.destroy()
        here.notify(context, instance, "delete.end")
        if here.conf.vnc_enabled or here.conf.spice.enabled:
            here.services.cells_notifier.delete_console_tokens(context, instance.uuid)

    def shut_down(self, context: RequestContext, instance: objects.Instance, bdms: Iterable[Any]) -> None:
        """Remove the guest, release its network and detach its volumes, announced as shutdown.start and .end."""
        context = context.elevated()
        bdms = list(bdms)
        with self._here.announced(context, instance, "shutdown"):
            self._destroy_guest(context, instance, bdms)
            try:
                self.release_network(context, instance)
            except Exception:  # any failure here leaves addresses taken
                self._here.set_error(context, instance)
                raise
            self._block_devices.detach_all(context, instance, bdms)

    def _destroy_guest(self, context: RequestContext, instance: objects.Instance, bdms: list[Any]) -> None:
        network_info = self._here.for_driver(self._network_info(context, instance))
        try:
            self._here.driver.destroy(instance, network_info, self._block_devices.info(context, instance, bdms))
        except exception.InstancePowerOffFailure:
            raise  # it may still run, and keeps its addresses
        except Exception:  # the guest is down at least: let its addresses go
            self.release_network(context, instance)
            raise

    def _network_info(self, context: RequestContext, instance: objects.Instance) -> NetworkInfo:
        try:
            return self._here.network_info(context, instance)
        except exception.NetworkNotFound:
            return NetworkInfo()

    def release_network(self, context: RequestContext, instance: Any) -> None:
        """Give the instance's addresses and ports back."""
        LOG.debug("Deallocating the network of instance %s", instance["uuid"])
        self._here.network_api.deallocate_for_instance(context, instance)

    def soft_delete(self, context: RequestContext, instance: objects.Instance,
                    reservations: list[str] | None) -> None:
        """Put the guest away so that it can be restored; its state is set here, before the quota is given back."""
        here = self._here
        try:
            try:
                here.driver.soft_delete(instance)
            except NotImplementedError:
                here.driver.power_off(instance)
            here.update(context, instance, power_state=here.power_state(instance), vm_state=vm_states.SOFT_DELETED,
                        task_state=None, expected_task_state=task_states.SOFT_DELETING)
        except Exception:  # the reservations must not stay open, whatever failed
            here.rollback_quota(context, reservations)
            raise
        here.commit_quota(context, instance, reservations)

    def restore(self, context: RequestContext, instance: objects.Instance) -> None:
        """Bring a softly deleted guest back."""
        here = self._here
        try:
            here.driver.restore(instance)
        except NotImplementedError:
            here.driver.power_on(context, instance, here.for_driver(here.network_info(context, instance)),
                                 self._block_devices.info(context, instance))
