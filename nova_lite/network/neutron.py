"""Networks of OpenStack's network service (Neutron, API 2)."""

import contextlib
import ipaddress
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
from nova_lite.openstack import Meanings, Service

LOG = logging.getLogger(__name__)

Port = dict[str, Any]

_LOOK_S = 1.0
_OWNER = "compute:"
# Says of a port that it was made for an instance and goes with it; others are only given back.
_MADE = "made for instance "


class NeutronNetworkAPI(NetworkAPI):
    """The network service, asked by this deployment's account. An instance's interfaces are its ports."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._service = Service(conf, "network")

    # -- asking --

    def validate_networks(self, context: RequestContext, requested_networks: Any) -> None:
        for request in requests_of(requested_networks):
            if request.get("port_id"):
                self._free_port(context, str(request.port_id), None)
                continue
            network = self._network(context, str(request.network_id))
            if request.get("address"):
                self._check_address(network, str(request.address))

    def _free_port(self, context: RequestContext, port_id: str, instance_uuid: str | None) -> Port:
        port = self._service.ask("GET", f"/ports/{_id(port_id, exception.PortNotFound, 'port_id')}",
                                 meanings=_no_port(port_id)).json()["port"]
        if not context.is_admin and port.get("tenant_id") != context.project_id:
            raise exception.PortNotFound(port_id=port_id)
        if port.get("device_id") not in ("", None, instance_uuid):
            raise exception.PortInUse(port_id=port_id)
        return port

    def _network(self, context: RequestContext, network_id: str) -> dict[str, Any]:
        """The network, if the context's project may use it."""
        path = f"/networks/{_id(network_id, exception.NetworkNotFound, 'network_id')}"
        network = self._service.ask("GET", path, meanings={
            404: lambda: exception.NetworkNotFound(network_id=network_id)}).json()["network"]
        if not (context.is_admin or network.get("shared") or network.get("tenant_id") == context.project_id):
            raise exception.NetworkNotFound(network_id=network_id)
        return network

    def _networks_of(self, project_id: str | None) -> list[dict[str, Any]]:
        """The project's own networks, else those that are everybody's."""
        own = list(self._service.pages("/networks", "networks", tenant_id=project_id)) if project_id else []
        return own or list(self._service.pages("/networks", "networks", shared="true"))

    def _check_address(self, network: dict[str, Any], address: str) -> None:
        try:
            wanted = ipaddress.ip_address(address)
        except ValueError as error:
            raise exception.FixedIpInvalid(address=address) from error
        subnets = self._service.pages("/subnets", "subnets", network_id=network["id"])
        if not any(wanted in ipaddress.ip_network(subnet["cidr"]) for subnet in subnets):
            raise exception.FixedIpInvalid(address=address)
        taken = next(self._service.pages("/ports", "ports", network_id=network["id"],
                                         fixed_ips=f"ip_address={address}"), None)
        if taken:
            raise exception.FixedIpAlreadyInUse(address=address, instance_uuid=taken.get("device_id"))

    def _ports_of(self, *instance_uuids: str) -> list[Port]:
        return list(self._service.pages("/ports", "ports", device_id=instance_uuids))

    # -- giving and taking --

    def allocate_for_instance(self, context: RequestContext, instance: Any, vpn: bool = False,
                              requested_networks: Any = None, macs: Collection[str] | None = None,
                              conductor_api: Any = None, security_groups: Any = None) -> model.NetworkInfo:
        if not self._ports_of(instance["uuid"]):
            groups = self._group_ids(instance["project_id"], security_groups)
            self._attach_all(context, instance, requested_networks, sorted(macs) if macs is not None else None, groups)
        return self._refreshed(context, instance)

    def _attach_all(self, context: RequestContext, instance: Any, requested_networks: Any, macs: list[str] | None,
                    groups: list[str] | None) -> None:
        """Make or take every port; none stays when one of them cannot be had."""
        requests = requests_of(requested_networks)
        wanted = [(request.get("port_id"), request.get("network_id"), request.get("address")) for request in requests]
        if not requests:
            wanted = [(None, network["id"], None) for network in self._networks_of(instance["project_id"])]
        if macs is not None and len(macs) < len(wanted):
            raise exception.PortNotFound(f"Instance {instance['uuid']} needs {len(wanted)} MAC addresses, "
                                         f"its host offers {len(macs)}", port_id=None)
        have: list[Port] = []
        try:
            for index, (port_id, network_id, address) in enumerate(wanted):
                mac = macs[index] if macs else None
                have.append(self._take(context, instance, str(port_id)) if port_id else self._make(
                    context, instance, str(network_id), address and str(address), mac, groups))
        except Exception:  # what was had before must not stay
            for port in have:
                with contextlib.suppress(exception.NovaException):  # the first reason is the one to tell
                    self._release(port)
            raise

    def _take(self, context: RequestContext, instance: Any, port_id: str) -> Port:
        """Give the instance a port that its user made."""
        port = self._free_port(context, port_id, instance["uuid"])
        return self._change(port["id"], device_id=instance["uuid"], **_place(instance))

    def _make(self, context: RequestContext, instance: Any, network_id: str, address: str | None, mac: str | None,
              groups: list[str] | None) -> Port:
        network = self._network(context, network_id)
        values = {"network_id": network["id"], "device_id": instance["uuid"], "tenant_id": instance["project_id"],
                  "admin_state_up": True, "description": _MADE + instance["uuid"], **_place(instance)}
        if address:
            values["fixed_ips"] = [{"ip_address": address}]
        if mac:
            values["mac_address"] = mac
        if groups:
            values["security_groups"] = groups
        return self._service.ask("POST", "/ports", json={"port": values}, meanings={
            409: lambda: exception.FixedIpAlreadyInUse(address=address, instance_uuid=None) if address
            else exception.NoMoreFixedIps(net=network_id),
            400: lambda: exception.FixedIpInvalid(address=address)}).json()["port"]

    def _group_ids(self, project_id: str | None, names: Any) -> list[str] | None:
        """The ids of security groups, given by name or id; None for the default one, which ports get by themselves."""
        wanted = [name["name"] if isinstance(name, dict) else str(name) for name in names or ()]
        if wanted in ([], ["default"]):
            return None
        known = list(self._service.pages("/security-groups", "security_groups", tenant_id=project_id))
        ids = []
        for name in wanted:
            found = [group["id"] for group in known if name in (group["id"], group["name"])]
            if not found:
                raise exception.SecurityGroupNotFound(security_group_id=name)
            ids.append(found[0])
        return ids

    def deallocate_for_instance(self, context: RequestContext, instance: Any) -> None:
        for port in self._ports_of(instance["uuid"]):
            self._release(port)
        info_cache.save(context, instance["uuid"], model.NetworkInfo(), update_cells=True)

    def _release(self, port: Port) -> None:
        """Delete a port that was made for its instance; give back one that a user made."""
        if (port.get("description") or "").startswith(_MADE):
            with contextlib.suppress(exception.PortNotFound):  # gone already
                self._service.ask("DELETE", f"/ports/{port['id']}", meanings=_no_port(port["id"]))
        else:
            with contextlib.suppress(exception.PortNotFound):
                self._change(port["id"], device_id="", device_owner="", **{"binding:host_id": ""})

    def _change(self, port_id: str, **values: Any) -> Port:
        return self._service.ask("PUT", f"/ports/{port_id}", json={"port": values},
                                 meanings=_no_port(port_id)).json()["port"]

    def allocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str | None,
                                   network_id: str | None = None, requested_ip: str | None = None,
                                   conductor_api: Any = None) -> model.NetworkInfo:
        if port_id:
            port = self._take(context, instance, port_id)
        else:
            if not network_id:
                networks = self._networks_of(instance["project_id"])
                if not networks:
                    raise exception.NoMoreNetworks()
                network_id = networks[0]["id"]
            port = self._make(context, instance, network_id, requested_ip, None, None)
        return model.NetworkInfo(one for one in self._refreshed(context, instance) if one["id"] == port["id"])

    def deallocate_port_for_instance(self, context: RequestContext, instance: Any, port_id: str,
                                     conductor_api: Any = None) -> model.NetworkInfo:
        port = next((one for one in self._ports_of(instance["uuid"]) if one["id"] == port_id), None)
        if port is None:
            raise exception.PortNotFound(port_id=port_id)
        self._release(port)
        return self._refreshed(context, instance)

    def add_fixed_ip_to_instance(self, context: RequestContext, instance: Any, network_id: str,
                                 conductor_api: Any = None) -> None:
        network = self._network(context, network_id)
        port = next((one for one in self._ports_of(instance["uuid"]) if one["network_id"] == network["id"]), None)
        if port is None:
            self._make(context, instance, network["id"], None, None, None)
        else:
            subnet = next(self._service.pages("/subnets", "subnets", network_id=network["id"]), None)
            if subnet is None:
                raise exception.NoMoreFixedIps(net=network_id)
            self._change(port["id"], fixed_ips=[*port["fixed_ips"], {"subnet_id": subnet["id"]}])
        self._refreshed(context, instance)

    def remove_fixed_ip_from_instance(self, context: RequestContext, instance: Any, address: str,
                                      conductor_api: Any = None) -> None:
        for port in self._ports_of(instance["uuid"]):
            left = [fixed for fixed in port["fixed_ips"] if fixed["ip_address"] != address]
            if left != port["fixed_ips"]:
                self._change(port["id"], fixed_ips=left)
                self._refreshed(context, instance)
                return
        raise exception.FixedIpNotFoundForSpecificInstance(instance_uuid=instance["uuid"], ip=address)

    # -- what an instance has --

    def get_instance_nw_info(self, context: RequestContext, instance: Any,
                             conductor_api: Any = None) -> model.NetworkInfo:
        info = self._network_info(instance["uuid"])
        info_cache.save(context, instance["uuid"], info, update_cells=False)
        return info

    def heal_info_caches(self, context: RequestContext, instances: Sequence[Any]) -> None:
        for instance_uuid, info in self._network_infos(*(instance["uuid"] for instance in instances)).items():
            info_cache.save(context, instance_uuid, info, update_cells=False)

    def _refreshed(self, context: RequestContext, instance: Any) -> model.NetworkInfo:
        info = self._network_info(instance["uuid"])
        info_cache.save(context, instance["uuid"], info, update_cells=True)
        return info

    def _network_info(self, instance_uuid: str) -> model.NetworkInfo:
        return self._network_infos(instance_uuid)[instance_uuid]

    def _network_infos(self, *instance_uuids: str) -> dict[str, model.NetworkInfo]:
        """Return what each instance has, in three requests however many there are."""
        ports = self._ports_of(*instance_uuids)
        infos = {uuid: model.NetworkInfo() for uuid in instance_uuids}
        wanted = sorted({port["network_id"] for port in ports})
        if not wanted:
            return infos
        networks = {one["id"]: one for one in self._service.pages("/networks", "networks", id=wanted)}
        subnets: dict[str, list[dict[str, Any]]] = {}
        for subnet in self._service.pages("/subnets", "subnets", network_id=wanted):
            subnets.setdefault(subnet["network_id"], []).append(subnet)
        for port in ports:
            if port["network_id"] in networks:
                infos[port["device_id"]].append(
                    vif_of(port, networks[port["network_id"]], subnets.get(port["network_id"], [])))
        return infos

    # -- hosts --

    def setup_networks_on_host(self, context: RequestContext, instance: Any, host: str | None = None,
                               teardown: bool = False) -> None:
        """Nothing to prepare: the agents of the service do that."""

    def migrate_instance_start(self, context: RequestContext, instance: Any, migration: Any) -> None:
        """Nothing to take down."""

    def migrate_instance_finish(self, context: RequestContext, instance: Any, migration: Any) -> None:
        for port in self._ports_of(instance["uuid"]):
            self._change(port["id"], **{"binding:host_id": migration["dest_compute"]})

    def wait_active(self, context: RequestContext, instance: Any, vif_ids: Collection[str], timeout_s: float) -> None:
        clock = context.services.clock
        limit = clock.monotonic() + timeout_s
        waiting = set(vif_ids)
        while waiting:
            waiting -= {port["id"] for port in self._ports_of(instance["uuid"]) if port.get("status") == "ACTIVE"}
            if waiting and clock.monotonic() >= limit:
                raise exception.VirtualInterfacePlugException()
            if waiting:
                clock.sleep(_LOOK_S)


# --- The model ---

def vif_of(port: Port, network: dict[str, Any], subnets: list[dict[str, Any]]) -> model.VIF:
    """Return the interface of a port, on its network, with its addresses."""
    kind = port.get("binding:vif_type") or model.VIF_TYPE_OVS
    bridge = (port.get("binding:vif_details") or {}).get("bridge_name")
    if not bridge:
        bridge = f"brq{network['id']}"[:model.NIC_NAME_LEN] if kind == model.VIF_TYPE_BRIDGE else "br-int"
    mine = {fixed["subnet_id"] for fixed in port["fixed_ips"]}
    return model.VIF(
        id=port["id"], address=port["mac_address"], type=kind, devname=f"tap{port['id']}"[:model.NIC_NAME_LEN],
        ovs_interfaceid=port["id"] if kind == model.VIF_TYPE_OVS else None, rxtx_cap=None,
        network=model.Network(
            id=network["id"], bridge=bridge, label=network["name"], injected=False, tenant_id=network.get("tenant_id"),
            should_create_bridge=False, should_create_vlan=False,
            subnets=[_subnet(subnet, port) for subnet in subnets if subnet["id"] in mine]))


def _subnet(subnet: dict[str, Any], port: Port) -> model.Subnet:
    gateway = model.IP(address=subnet["gateway_ip"], type="gateway") if subnet.get("gateway_ip") else None
    return model.Subnet(
        cidr=subnet["cidr"], gateway=gateway,
        dns=[model.IP(address=server, type="dns") for server in subnet.get("dns_nameservers") or ()],
        ips=[model.FixedIP(address=fixed["ip_address"]) for fixed in port["fixed_ips"]
             if fixed["subnet_id"] == subnet["id"]])


def _place(instance: Any) -> dict[str, Any]:
    """Say to whom a port belongs and where that runs."""
    return {"device_owner": f"{_OWNER}{instance['availability_zone'] or 'None'}",
            "binding:host_id": instance["host"] or ""}


def _no_port(port_id: Any) -> Meanings:
    return {404: lambda: exception.PortNotFound(port_id=port_id), 409: lambda: exception.PortInUse(port_id=port_id)}


def _id(text: Any, missing: type[exception.NovaException], name: str) -> str:
    try:
        return str(uuid.UUID(str(text)))
    except ValueError as error:
        raise missing(**{name: text}) from error
