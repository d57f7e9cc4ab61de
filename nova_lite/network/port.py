"""What the rest of the project asks of a network service (compute specification §9.6, seams §4.5)."""

import abc
from collections.abc import Collection, Sequence
from typing import Any

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.objects import NetworkRequestList
from nova_lite.objects.network_model import NetworkInfo


class NetworkAPI(abc.ABC):
    """A network service. `instance`: an Instance or a dict with its uuid. `conductor_api` is accepted and ignored.

    What changes an instance's addresses also brings its info cache up to date.
    """

    @abc.abstractmethod
    def validate_networks(self, context: RequestContext, requested_networks: Any) -> None:
        """Check [(network id, fixed address, port id)] or a NetworkRequestList; None asks for the project's networks.

        Raises NetworkNotFound, FixedIpInvalid, FixedIpNotFoundForAddress, FixedIpAlreadyInUse, PortNotFound.
        """

    @abc.abstractmethod
    def allocate_for_instance(self, context: RequestContext, instance: Any, vpn: bool = False,
                              requested_networks: Any = None, macs: Collection[str] | None = None,
                              conductor_api: Any = None, security_groups: Any = None) -> NetworkInfo:
        """Give an instance its interfaces and addresses; what it has already is kept. Raises NoMoreFixedIps, ….

        `macs`: the addresses its interfaces must have, None for any.
        """

    @abc.abstractmethod
    def deallocate_for_instance(self, context: RequestContext, instance: Any) -> None:
        """Take everything back; an instance without any is fine."""

    @abc.abstractmethod
    def allocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str | None,
                                   network_id: str | None = None, requested_ip: str | None = None,
                                   conductor_api: Any = None) -> NetworkInfo:
        """Give the instance another interface; returns the new ones only."""

    @abc.abstractmethod
    def deallocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str,
                                     conductor_api: Any = None) -> NetworkInfo:
        """Take an interface back; returns those that are left."""

    @abc.abstractmethod
    def add_fixed_ip_to_instance(self, context: RequestContext, instance: Any, network_id: str,
                                 conductor_api: Any = None) -> None:
        """Give the instance's interface on a network another address."""

    @abc.abstractmethod
    def remove_fixed_ip_from_instance(self, context: RequestContext, instance: Any, address: str,
                                      conductor_api: Any = None) -> None:
        """Take an address back. Raises FixedIpNotFoundForSpecificInstance."""

    @abc.abstractmethod
    def get_instance_nw_info(self, context: RequestContext, instance: Any, conductor_api: Any = None) -> NetworkInfo:
        """Return what the instance has, and refresh its info cache here, without telling the cells above."""

    @abc.abstractmethod
    def heal_info_caches(self, context: RequestContext, instances: Sequence[Any]) -> None:
        """Do the same for some instances, in as many questions however many they are."""

    @abc.abstractmethod
    def setup_networks_on_host(self, context: RequestContext, instance: Any, host: str | None = None,
                               teardown: bool = False) -> None:
        """Prepare (or take down) the instance's networks on a host."""

    @abc.abstractmethod
    def migrate_instance_start(self, context: RequestContext, instance: Any, migration: Any) -> None:
        """The instance is about to leave `migration['source_compute']`."""

    @abc.abstractmethod
    def migrate_instance_finish(self, context: RequestContext, instance: Any, migration: Any) -> None:
        """The instance has arrived at `migration['dest_compute']`."""

    @abc.abstractmethod
    def wait_active(self, context: RequestContext, instance: Any, vif_ids: Collection[str],
                    timeout_s: float) -> None:
        """Return when the interfaces can be used. Raises VirtualInterfacePlugException after `timeout_s`."""


def requests_of(requested_networks: Any) -> list[Any]:
    """Return what was asked for, one NetworkRequest each. Raises FixedIpInvalid for an address that is none."""
    try:
        return list(NetworkRequestList.of(requested_networks) or ())
    except ValueError as error:
        raise exception.FixedIpInvalid(address=str(error).partition(" ")[0].strip("'")) from error
