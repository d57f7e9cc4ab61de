"""Addresses and interfaces of guests that exist."""

from typing import Any

from oslo_log import log as logging

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.context import RequestContext
from nova_lite.objects.network_model import NetworkInfo

LOG = logging.getLogger(__name__)


class Networking:
    """Changes what a guest is connected to, at the network service and in the guest."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def add_fixed_ip(self, context: RequestContext, instance: objects.Instance, network_id: str) -> None:
        """Give the guest one more address of the network."""
        self._change_addresses(context, instance, "create_ip", self._here.network_api.add_fixed_ip_to_instance,
                               network_id)

    def remove_fixed_ip(self, context: RequestContext, instance: objects.Instance, address: str) -> None:
        """Take an address from the guest."""
        self._change_addresses(context, instance, "delete_ip",
                               self._here.network_api.remove_fixed_ip_from_instance, address)

    def _change_addresses(self, context: RequestContext, instance: objects.Instance, name: str, change: Any,
                          argument: str) -> None:
        here = self._here
        here.notify(context, instance, f"{name}.start")
        change(context, instance, argument, conductor_api=here.conductor)
        network_info = self.inject(context, instance)
        here.driver.reset_network(instance)
        here.update(context, instance, updated_at=here.clock.utcnow())
        here.notify(context, instance, f"{name}.end", network_info=network_info)

    def inject(self, context: RequestContext, instance: objects.Instance) -> NetworkInfo:
        """Write the network information where the guest reads it; return it."""
        network_info = self._here.network_info(context, instance)
        self._here.driver.inject_network_info(instance, self._here.for_driver(network_info))
        return network_info

    def attach_interface(self, context: RequestContext, instance: objects.Instance, network_id: str | None,
                         port_id: str | None, requested_ip: str | None) -> tuple[dict, dict]:
        """Give the guest one more interface; return its legacy pair (network, mapping).

        A port whose interface the driver cannot make is given back. Raises InterfaceAttachFailed.
        """
        here = self._here
        network_info = NetworkInfo.hydrate(here.network_api.allocate_port_for_instance(
            context, instance, port_id, network_id, requested_ip, conductor_api=here.conductor))
        if len(network_info) != 1:
            LOG.error("Expected one interface for port %s of instance %s, the network service gave %d",
                      port_id, instance.uuid, len(network_info))
            raise exception.InterfaceAttachFailed(instance=instance.uuid)
        image_meta = here.image_api.show(context, instance.image_ref) if instance.image_ref else {}
        try:
            here.driver.attach_interface(instance, image_meta, here.for_driver(network_info))
        except Exception as error:  # whatever failed, the port must not stay taken
            LOG.exception("Could not attach an interface to instance %s", instance.uuid)
            here.network_api.deallocate_port_for_instance(context, instance, network_info[0]["id"],
                                                          conductor_api=here.conductor)
            raise exception.InterfaceAttachFailed(instance=instance.uuid) from error
        return network_info.legacy()[0]

    def detach_interface(self, context: RequestContext, instance: objects.Instance, port_id: str) -> None:
        """Take the interface from the guest, then give its port back. Raises PortNotFound."""
        here = self._here
        network_info = here.network_info(context.elevated(), instance)
        wanted = NetworkInfo([vif for vif in network_info if vif["id"] == port_id])
        if not wanted:
            raise exception.PortNotFound(port_id=port_id)
        here.driver.detach_interface(instance, here.for_driver(wanted))
        here.network_api.deallocate_port_for_instance(context, instance, port_id, conductor_api=here.conductor)
