"""Addresses and interfaces of guests that exist."""

from collections.abc import Sequence
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, notifications, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.undertakings import Undertaking, Undertakings
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)

_UNDERTAKEN = ("add_fixed_ip", "remove_fixed_ip", "attach_interface", "detach_interface")


class Networking:
    """Changes what a guest is connected to, at the network service and in the guest."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here
        self._undertakings = Undertakings(here)

    def unfinished(self, context: RequestContext, instances: Sequence[objects.Instance],
                   older_than_s: float) -> list[tuple[RequestContext, str, Undertaking]]:
        """Return what was begun so long ago for these instances and did not end: (context, instance, undertaking)."""
        return self._undertakings.unfinished(context, instances, _UNDERTAKEN, older_than_s)

    # --- Addresses ---

    def add_fixed_ip(self, context: RequestContext, instance: objects.Instance, network_id: str) -> None:
        """Give the guest one more address of the network, however often the message comes."""
        has = self._addresses(context, instance)
        with self._undertakings.begun(context, instance, "add_fixed_ip", has, network_id=network_id) as undertaking:
            if not undertaking.is_done:
                change = None if set(has) - set(undertaking.found) else self._here.network_api.add_fixed_ip_to_instance
                self._change_addresses(context, instance, "create_ip", change, network_id)

    def remove_fixed_ip(self, context: RequestContext, instance: objects.Instance, address: str) -> None:
        """Take an address from the guest."""
        has = self._addresses(context, instance)
        with self._undertakings.begun(context, instance, "remove_fixed_ip", has, address=address) as undertaking:
            if not undertaking.is_done:
                is_removed = address in set(undertaking.found) - set(has)
                change = None if is_removed else self._here.network_api.remove_fixed_ip_from_instance
                self._change_addresses(context, instance, "delete_ip", change, address)

    def _addresses(self, context: RequestContext, instance: objects.Instance) -> list[str]:
        return [ip["address"] for vif in self._here.network_info(context, instance) for ip in vif.fixed_ips()]

    def _change_addresses(self, context: RequestContext, instance: objects.Instance, name: str, change: Any,
                          argument: str) -> None:
        """Change the addresses at the network service, unless (None) they are, and tell the guest."""
        here = self._here
        here.notify(context, instance, f"{name}.start")
        if change is not None:
            change(context, instance, argument, conductor_api=here.conductor)
        network_info = self.inject(context, instance)
        try:
            here.driver.reset_network(instance)
        except NotImplementedError:
            LOG.debug("Instance %s has to set its network up by itself", instance.uuid)
        here.update(context, instance, updated_at=here.clock.utcnow())
        here.notify(context, instance, f"{name}.end", network_info=network_info)

    def inject(self, context: RequestContext, instance: objects.Instance) -> NetworkInfo:
        """Write the network information where the guest reads it; return it."""
        network_info = self._here.network_info(context, instance)
        self._here.driver.inject_network_info(instance, self._here.for_driver(network_info))
        return network_info

    # --- Interfaces ---

    def attach_interface(self, context: RequestContext, instance: objects.Instance, network_id: str | None,
                         port_id: str | None, requested_ip: str | None) -> tuple[dict, dict]:
        """Give the guest one more interface, and return its legacy pair (network, mapping), IPv4 or not.

        A message that comes again has the same interface as its answer. A port whose interface the driver cannot make
        is given back. Raises InterfaceAttachFailed.
        """
        has = self._here.network_info(context, instance)
        with self._undertakings.begun(context, instance, "attach_interface",
                                      [vif["id"] for vif in has]) as undertaking:
            network_info = _given_by(undertaking, has)
            if not undertaking.is_done:
                network_info = network_info or self._allocate(context, instance, network_id, port_id, requested_ip)
                self._attach(context, instance, network_info)
                undertaking.gave = [network_info[0]["id"]]
            elif not network_info:  # and detached since
                raise exception.InterfaceAttachFailed(instance=instance.uuid)
        return network_info[0].legacy_pair()

    def _allocate(self, context: RequestContext, instance: objects.Instance, network_id: str | None,
                  port_id: str | None, requested_ip: str | None) -> NetworkInfo:
        network_info = NetworkInfo.hydrate(self._here.network_api.allocate_port_for_instance(
            context, instance, port_id, network_id, requested_ip, conductor_api=self._here.conductor))
        if len(network_info) != 1:
            LOG.error("Expected one interface for port %s of instance %s, the network service gave %d",
                      port_id, instance.uuid, len(network_info))
            raise exception.InterfaceAttachFailed(instance=instance.uuid)
        return network_info

    def _attach(self, context: RequestContext, instance: objects.Instance, network_info: NetworkInfo) -> None:
        here = self._here
        try:
            here.driver.attach_interface(instance, self._image_of(context, instance), here.for_driver(network_info))
        except Exception as error:  # whatever failed, the port must not stay taken
            LOG.exception("Could not attach an interface to instance %s", instance.uuid)
            here.network_api.deallocate_port_for_instance(context, instance, network_info[0]["id"],
                                                          conductor_api=here.conductor)
            raise exception.InterfaceAttachFailed(instance=instance.uuid) from error

    def _image_of(self, context: RequestContext, instance: objects.Instance) -> dict[str, Any]:
        """Return the image's metadata, {} without one; of an image that is gone, what the instance remembers."""
        if not instance.image_ref:
            return {}
        try:
            return self._here.image_api.show(context, instance.image_ref)
        except exception.ImageNotFound:
            return {"id": instance.image_ref, "properties": notifications.image_meta(instance.system_metadata)}

    def take_back_interface(self, context: RequestContext, instance: objects.Instance,
                            undertaking: Undertaking) -> None:
        """Undo an attachment that broke off: who asked for it has been told that it failed, or will be."""
        for vif in _given_by(undertaking, self._here.network_info(context, instance)):
            self._detach(context, instance, vif)
        self._undertakings.end(context, instance, undertaking, exception.InterfaceAttachFailed(instance=instance.uuid))

    def detach_interface(self, context: RequestContext, instance: objects.Instance, port_id: str) -> None:
        """Take the interface from the guest, then give its port back. Raises PortNotFound."""
        has = self._here.network_info(context.elevated(), instance)
        with self._undertakings.begun(context, instance, "detach_interface", [vif["id"] for vif in has],
                                      port_id=port_id) as undertaking:
            wanted = [vif for vif in has if vif["id"] == port_id]
            if wanted and not undertaking.is_done:
                self._detach(context, instance, wanted[0])
            elif port_id not in undertaking.found:
                raise exception.PortNotFound(port_id=port_id)

    def _detach(self, context: RequestContext, instance: objects.Instance, vif: Any) -> None:
        here = self._here
        here.driver.detach_interface(instance, here.for_driver(NetworkInfo([vif])))
        here.network_api.deallocate_port_for_instance(context, instance, vif["id"], conductor_api=here.conductor)


def _given_by(undertaking: Undertaking, has: NetworkInfo) -> NetworkInfo:
    """Return what an instance has of what an undertaking gave it, by all that is known."""
    if undertaking.is_done:
        return NetworkInfo([vif for vif in has if vif["id"] in undertaking.gave])
    return NetworkInfo([vif for vif in has if vif["id"] not in undertaking.found])
