"""Networks and addresses in the cell's own database: flat, without any service behind them."""

import ipaddress
import secrets
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.context import RequestContext
from nova_lite.network import info_cache
from nova_lite.network.port import NetworkAPI, requests_of
from nova_lite.objects import network_model as model

LOG = logging.getLogger(__name__)

MAC_PREFIX = (0xFA, 0x16, 0x3E)
MAC_ATTEMPTS = 5


class LocalNetworkAPI(NetworkAPI):
    """Hands out addresses of the table of networks. Host addresses are taken in one transaction each, so that no two
    instances get the same one."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    # -- asking --

    def validate_networks(self, context: RequestContext, requested_networks: Any) -> None:
        for request in requests_of(requested_networks):
            self._refuse_port(request)
            network = self._network(context, request.network_id)
            if request.get("address"):
                self._check_address(context, network, str(request.address))

    def _check_address(self, context: RequestContext, network: dict[str, Any], address: str) -> None:
        try:
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(network["cidr"])
        except ValueError as error:
            raise exception.FixedIpInvalid(address=address) from error
        if not inside:
            raise exception.FixedIpInvalid(address=address)
        row = context.services.db.fixed_ip_get_by_address(context.elevated(), address, network["id"])
        if row["instance_uuid"] or row["reserved"]:
            raise exception.FixedIpAlreadyInUse(address=address, instance_uuid=row["instance_uuid"])

    def _refuse_port(self, request: Any) -> None:
        if request.get("port_id"):
            raise exception.PortNotFound(port_id=request.port_id)

    def _network(self, context: RequestContext, network_id: str) -> dict[str, Any]:
        """The network of a uuid, if the context's project may use it."""
        network = context.services.db.network_get_by_uuid(context.elevated(), str(network_id))
        if not context.is_admin and network["project_id"] not in (None, context.project_id):
            raise exception.NetworkNotFound(network_id=network_id)
        return network

    def _networks_of(self, context: RequestContext, project_id: str | None) -> list[dict[str, Any]]:
        """The project's own networks, else those that belong to nobody."""
        every = context.services.db.network_get_all(context.elevated())
        own = [network for network in every if network["project_id"] and network["project_id"] == project_id]
        return own or [network for network in every if not network["project_id"]]

    # -- giving and taking --

    def allocate_for_instance(self, context: RequestContext, instance: Any, vpn: bool = False,
                              requested_networks: Any = None, macs: Collection[str] | None = None,
                              conductor_api: Any = None, security_groups: Any = None) -> model.NetworkInfo:
        wanted = self._wanted(context, instance, requested_networks)
        if macs is not None and len(macs) < len(wanted):
            raise exception.PortNotFound(f"Instance {instance['uuid']} needs {len(wanted)} MAC addresses, "
                                         f"its host offers {len(macs)}", port_id=None)
        free_macs = sorted(macs) if macs is not None else []
        have = context.services.db.virtual_interface_get_by_instance(context.elevated(), instance["uuid"])
        if not have:
            for index, (network, address) in enumerate(wanted):
                self._attach(context, instance, network, address, free_macs[index] if free_macs else None)
        return self._refreshed(context, instance)

    def _wanted(self, context: RequestContext, instance: Any,
                requested_networks: Any) -> list[tuple[dict[str, Any], str | None]]:
        requests = requests_of(requested_networks)
        if not requests:
            return [(network, None) for network in self._networks_of(context, instance["project_id"])]
        for request in requests:
            self._refuse_port(request)
        return [(self._network(context, request.network_id), request.get("address") and str(request.address))
                for request in requests]

    def _attach(self, context: RequestContext, instance: Any, network: dict[str, Any], address: str | None,
                mac: str | None) -> dict[str, Any]:
        """Make an interface with an address; neither stays when one of them cannot be had."""
        database, elevated = context.services.db, context.elevated()
        vif = self._new_vif(context, instance, network, mac)
        try:
            database.fixed_ip_allocate(elevated, network["id"], instance["uuid"], address=address,
                                       virtual_interface_id=vif["id"], host=instance["host"])
        except Exception:  # the interface must not stay without an address
            database.virtual_interface_delete(elevated, vif["id"])
            raise
        return vif

    def _new_vif(self, context: RequestContext, instance: Any, network: dict[str, Any],
                 mac: str | None) -> dict[str, Any]:
        for _attempt in range(1 if mac else MAC_ATTEMPTS):
            try:
                return context.services.db.virtual_interface_create(context.elevated(), {
                    "address": mac or new_mac(), "network_id": network["id"], "instance_uuid": instance["uuid"],
                    "uuid": str(uuid.uuid4())})
            except exception.VirtualInterfaceCreateException:
                LOG.info("A MAC address for instance %s is taken already", instance["uuid"])
        raise exception.VirtualInterfaceMacAddressException()

    def deallocate_for_instance(self, context: RequestContext, instance: Any) -> None:
        database, elevated = context.services.db, context.elevated(read_deleted="yes")
        database.fixed_ip_deallocate_by_instance(elevated, instance["uuid"])
        database.virtual_interface_delete_by_instance(elevated, instance["uuid"])
        info_cache.save(context, instance["uuid"], model.NetworkInfo(), update_cells=True)

    def allocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str | None,
                                   network_id: str | None = None, requested_ip: str | None = None,
                                   conductor_api: Any = None) -> model.NetworkInfo:
        if port_id:
            raise exception.PortNotFound(port_id=port_id)
        if network_id:
            network = self._network(context, network_id)
        else:
            network = next(iter(self._networks_of(context, instance["project_id"])), None)
            if network is None:
                raise exception.NoMoreNetworks()
        if requested_ip:
            self._check_address(context, network, requested_ip)
        vif = self._attach(context, instance, network, requested_ip, None)
        return model.NetworkInfo(one for one in self._refreshed(context, instance) if one["id"] == vif["uuid"])

    def deallocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str,
                                     conductor_api: Any = None) -> model.NetworkInfo:
        database, elevated = context.services.db, context.elevated()
        vif = next((one for one in database.virtual_interface_get_by_instance(elevated, instance["uuid"])
                    if one["uuid"] == port_id), None)
        if vif is None:
            raise exception.PortNotFound(port_id=port_id)
        database.virtual_interface_delete(elevated, vif["id"])
        return self._refreshed(context, instance)

    def add_fixed_ip_to_instance(self, context: RequestContext, instance: Any, network_id: str,
                                 conductor_api: Any = None) -> None:
        database, elevated = context.services.db, context.elevated()
        network = self._network(context, network_id)
        vif = next((one for one in database.virtual_interface_get_by_instance(elevated, instance["uuid"])
                    if one["network_id"] == network["id"]), None)
        if vif is None:
            self._attach(context, instance, network, None, None)
        else:
            database.fixed_ip_allocate(elevated, network["id"], instance["uuid"], virtual_interface_id=vif["id"],
                                       host=instance["host"])
        self._refreshed(context, instance)

    def remove_fixed_ip_from_instance(self, context: RequestContext, instance: Any, address: str,
                                      conductor_api: Any = None) -> None:
        row = next((one for one in self._addresses_of(context, instance["uuid"]) if one["address"] == address), None)
        if row is None:
            raise exception.FixedIpNotFoundForSpecificInstance(instance_uuid=instance["uuid"], ip=address)
        context.services.db.fixed_ip_deallocate(context.elevated(), row["id"])
        self._refreshed(context, instance)

    # -- what an instance has --

    def get_instance_nw_info(self, context: RequestContext, instance: Any,
                             conductor_api: Any = None) -> model.NetworkInfo:
        info, before = self._network_info(context, instance["uuid"])
        info_cache.save(context, instance["uuid"], info, update_cells=False, before=before)
        return info

    def _refreshed(self, context: RequestContext, instance: Any) -> model.NetworkInfo:
        info, _ = self._network_info(context, instance["uuid"])
        info_cache.save(context, instance["uuid"], info, update_cells=True)
        return info

    def _addresses_of(self, context: RequestContext, instance_uuid: str) -> list[dict[str, Any]]:
        return context.services.db.fixed_ip_get_by_instance(context.elevated(), instance_uuid)

    def heal_info_caches(self, context: RequestContext, instances: Sequence[Any]) -> None:
        infos = self._network_infos(context, *(instance["uuid"] for instance in instances))
        for instance_uuid, (info, before) in infos.items():
            info_cache.save(context, instance_uuid, info, update_cells=False, before=before)

    def _network_info(self, context: RequestContext, instance_uuid: str) -> tuple[model.NetworkInfo, str | None]:
        """Return what an instance has, and the text of its info cache."""
        return self._network_infos(context, instance_uuid).get(instance_uuid, (model.NetworkInfo(), None))

    def _network_infos(self, context: RequestContext,
                       *instance_uuids: str) -> dict[str, tuple[model.NetworkInfo, str | None]]:
        """Return the same of several that are there, in one query."""
        found = context.services.db.virtual_interface_get_connected(context.elevated(), *instance_uuids)
        return {instance_uuid: (model.NetworkInfo(vif_of(vif, vif["network"], vif["addresses"]) for vif in vifs), text)
                for instance_uuid, (vifs, text) in found.items()}

    # -- hosts --

    def setup_networks_on_host(self, context: RequestContext, instance: Any, host: str | None = None,
                               teardown: bool = False) -> None:
        """Nothing to prepare: the bridges of the hosts are there before."""

    def migrate_instance_start(self, context: RequestContext, instance: Any, migration: Any) -> None:
        """Nothing to take down."""

    def migrate_instance_finish(self, context: RequestContext, instance: Any, migration: Any) -> None:
        """Note on which host the addresses are now."""
        for row in self._addresses_of(context, instance["uuid"]):
            context.services.db.fixed_ip_update(context.elevated(), row["id"], {"host": migration["dest_compute"]})

    def wait_active(self, context: RequestContext, instance: Any, vif_ids: Collection[str], timeout_s: float) -> None:
        """An interface on a bridge can be used at once."""


# --- The model ---

def new_mac() -> str:
    """Return a random MAC address of the range that is used here."""
    return ":".join(f"{part:02x}" for part in (*MAC_PREFIX, *secrets.token_bytes(3)))


def vif_of(vif: dict[str, Any], network: dict[str, Any], addresses: list[str]) -> model.VIF:
    """Return the interface of a row, on its network, with its addresses."""
    return model.VIF(id=vif["uuid"], address=vif["address"], type=model.VIF_TYPE_BRIDGE,
                     devname=("tap" + vif["uuid"])[:model.NIC_NAME_LEN],
                     network=network_of(network, vif["address"], addresses), rxtx_cap=None)


def network_of(network: dict[str, Any], mac: str, addresses: list[str]) -> model.Network:
    """Return the network of a row with the subnets that one interface sees."""
    subnets = [_subnet_v4(network, addresses)]
    if network["cidr_v6"]:
        subnets.append(_subnet_v6(network, mac))
    return model.Network(
        id=network["uuid"], bridge=network["bridge"], label=network["label"], subnets=subnets,
        injected=bool(network["injected"]), multi_host=bool(network["multi_host"]), vlan=network["vlan"],
        bridge_interface=network["bridge_interface"], should_create_bridge=False, should_create_vlan=False,
        tenant_id=network["project_id"])


def _subnet_v4(network: dict[str, Any], addresses: list[str]) -> model.Subnet:
    dns = [model.IP(address=server, type="dns") for server in (network["dns1"], network["dns2"]) if server]
    gateway = model.IP(address=network["gateway"], type="gateway") if network["gateway"] else None
    return model.Subnet(cidr=network["cidr"], dns=dns, gateway=gateway,
                        ips=[model.FixedIP(address=address) for address in addresses],
                        dhcp_server=network["gateway"])


def _subnet_v6(network: dict[str, Any], mac: str) -> model.Subnet:
    gateway = model.IP(address=network["gateway_v6"], type="gateway") if network["gateway_v6"] else None
    return model.Subnet(cidr=network["cidr_v6"], gateway=gateway,
                        ips=[model.FixedIP(address=eui64(network["cidr_v6"], mac))])


def eui64(cidr: str, mac: str) -> str:
    """Return the address that an interface gives itself in an IPv6 network (RFC 4291, appendix A)."""
    parts = [int(part, 16) for part in mac.split(":")]
    identifier = bytes([parts[0] ^ 0x02, *parts[1:3], 0xFF, 0xFE, *parts[3:]])
    return str(ipaddress.ip_network(cidr)[int.from_bytes(identifier, "big")])
