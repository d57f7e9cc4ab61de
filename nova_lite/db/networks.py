"""Networks of the local network service, their addresses, and instances' interfaces on them."""

import functools
import ipaddress
import uuid as uuid_module
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, visible

NETWORKS = models.Network.__table__
IPS = models.FixedIp.__table__
VIFS = models.VirtualInterface.__table__

_MOST_ADDRESSES = 65_536
_CANDIDATES = 20

_IS_FREE = (IPS.c.deleted == 0, IPS.c.reserved.is_(False), IPS.c.allocated.is_(False), IPS.c.instance_uuid.is_(None))
_FREE = {"instance_uuid": None, "virtual_interface_id": None, "allocated": False, "leased": False, "host": None}


class Networks(Part):
    """Rows of networks; ``uuid`` names one to the outside, ``id`` inside the database."""

    @operation
    def network_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a network and the addresses of its ``cidr``, and return it.

        What is not given follows of the cidr: netmask, broadcast, gateway (the first address) and ``dhcp_start`` (the
        first one for instances). The ends of the range, the gateway and what lies before ``dhcp_start`` are reserved.
        Raises Duplicate for a cidr or VLAN that another network has, InvalidInput for a cidr that is none or has
        more than 65,536 addresses.
        """
        values = {"uuid": str(uuid_module.uuid4()), **values}
        addresses = _planned(values) if values.get("cidr") else []
        with self.store.writer(context) as session:
            try:
                row = session.insert_row(models.Network, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.Duplicate(
                    f"Another network has cidr {values.get('cidr')}, {values.get('cidr_v6')} or VLAN "
                    f"{values.get('vlan')}") from exc
            session.insert_rows(models.FixedIp, [{**address, "network_id": row["id"]} for address in addresses])
            return row

    @operation
    def network_get(self, context: Any, network_id: int | str) -> dict[str, Any]:
        """Return a network by id or uuid. Raises NetworkNotFound."""
        networks = self._all(context, _network_is(network_id))
        if not networks:
            raise exception.NetworkNotFound(network_id=network_id)
        return networks[0]

    @operation
    def network_get_by_uuid(self, context: Any, uuid: str) -> dict[str, Any]:
        """Return a network by uuid. Raises NetworkNotFound."""
        return self.network_get(context, uuid)

    @operation
    def network_get_all(self, context: Any, project_only: bool = False) -> list[dict[str, Any]]:
        """Return the networks; with ``project_only`` those of the context's project, or of none when it has none."""
        if not project_only:
            return self._all(context)
        return self.network_get_all_by_project(context, context.project_id)

    @operation
    def network_get_all_by_project(self, context: Any, project_id: str | None) -> list[dict[str, Any]]:
        """Return the networks of a project; when it has none, those of nobody."""
        own = self._all(context, NETWORKS.c.project_id == project_id) if project_id else []
        return own or self._all(context, NETWORKS.c.project_id.is_(None))

    @operation
    def network_get_all_by_uuids(self, context: Any, uuids: Collection[str]) -> list[dict[str, Any]]:
        """Return some networks, in the order of the uuids. Raises NetworkNotFound."""
        found = {row["uuid"]: row for row in self._all(context, NETWORKS.c.uuid.in_(list(uuids)))}
        for uuid in uuids:
            if uuid not in found:
                raise exception.NetworkNotFound(network_id=uuid)
        return [found[uuid] for uuid in uuids]

    @operation
    def network_update(self, context: Any, network_id: int | str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change a network and return it. Raises NetworkNotFound, Duplicate."""
        with self.store.writer(context) as session:
            try:
                if not session.update_rows(models.Network, _network_is(network_id), NETWORKS.c.deleted == 0,
                                           **values):
                    raise exception.NetworkNotFound(network_id=network_id)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.Duplicate("Another network has this cidr or VLAN") from exc
            return self.network_get(context, network_id)

    @operation
    def network_associate(self, context: Any, project_id: str | None, network_id: int | str,
                          force: bool = False) -> dict[str, Any]:
        """Give a network to a project (None: to nobody) and return it; one that has an owner only with ``force``.

        Raises NetworkNotFound, NetworkInUse.
        """
        with self.store.writer(context):
            network = self.network_get(context, network_id)
            if network["project_id"] not in (None, project_id) and not force:
                raise exception.NetworkInUse(network_id=network_id)
            return self.network_update(context, network_id, {"project_id": project_id})

    @operation
    def network_delete(self, context: Any, network_id: int | str) -> None:
        """Soft-delete a network and its addresses. Raises NetworkNotFound, NetworkInUse while one is in use."""
        with self.store.writer(context) as session:
            network = self.network_get(context, network_id)
            used = sqlalchemy.or_(IPS.c.allocated.is_(True), IPS.c.instance_uuid.is_not(None))
            if session.one(sqlalchemy.select(IPS.c.id).where(IPS.c.network_id == network["id"], IPS.c.deleted == 0,
                                                             used).limit(1)) is not None:
                raise exception.NetworkInUse(network_id=network_id)
            session.soft_delete(models.FixedIp, IPS.c.network_id == network["id"])
            session.soft_delete(models.Network, NETWORKS.c.id == network["id"])

    def _all(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(NETWORKS).where(
                *criteria, *visible(models.Network, context)).order_by(NETWORKS.c.id))


class FixedIps(Part):
    """Addresses. Free: not reserved and without an instance."""

    @operation
    def fixed_ip_bulk_create(self, context: Any, ips: Iterable[Mapping[str, Any]]) -> None:
        """Insert addresses: ``address, network_id`` and perhaps ``reserved, host``. Raises Duplicate."""
        with self.store.writer(context) as session:
            try:
                session.insert_rows(models.FixedIp, [dict(ip) for ip in ips])
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.Duplicate("The network has one of these addresses already") from exc

    @operation
    def fixed_ip_allocate(self, context: Any, network_id: int, instance_uuid: str,
                          virtual_interface_id: int | None = None, address: str | None = None,
                          host: str | None = None) -> dict[str, Any]:
        """Give a free address of a network, or that very one, to an instance and return its row.

        The address that has been free longest comes first. Two callers never get the same. Raises NoMoreFixedIps;
        for a given address FixedIpNotFoundForAddress, FixedIpAlreadyInUse.
        """
        taken = {"instance_uuid": instance_uuid, "virtual_interface_id": virtual_interface_id, "allocated": True,
                 "host": host}
        with self.store.writer(context) as session:
            row = (self._take_any(session, network_id, taken) if address is None
                   else self._take(session, network_id, address, taken))
            return {**row, **taken, "updated_at": session.now}

    def _take_any(self, session: RowSession, network_id: int, taken: dict[str, Any]) -> dict[str, Any]:
        """Take the first address that nobody takes meanwhile: one that was never given, else by the time it was freed.

        Looking does not lock: a search that locks what it sorts would hide free addresses from others. Addresses that
        were never given are in order as they are, so that a large network costs no more than a small one.
        """
        free = sqlalchemy.select(IPS).where(IPS.c.network_id == network_id, *_IS_FREE).limit(_CANDIDATES)
        never_given = free.where(IPS.c.updated_at.is_(None)).order_by(IPS.c.id)
        given_back = free.where(IPS.c.updated_at.is_not(None)).order_by(IPS.c.updated_at, IPS.c.id)
        for search in (never_given, given_back):
            while candidates := session.all(search):
                for row in candidates:
                    if session.update_rows(models.FixedIp, IPS.c.id == row["id"], *_IS_FREE, **taken):
                        return row
        raise exception.NoMoreFixedIps(net=network_id)

    def _take(self, session: RowSession, network_id: int, address: str, taken: dict[str, Any]) -> dict[str, Any]:
        row = session.one(sqlalchemy.select(IPS).where(
            IPS.c.network_id == network_id, IPS.c.address == address, IPS.c.deleted == 0))
        if row is None:
            raise exception.FixedIpNotFoundForAddress(address=address)
        if not session.update_rows(models.FixedIp, IPS.c.id == row["id"], *_IS_FREE, **taken):
            raise exception.FixedIpAlreadyInUse(address=address, instance_uuid=row["instance_uuid"])
        return row

    @operation
    def fixed_ip_deallocate(self, context: Any, fixed_ip_id: int) -> None:
        """Make an address free again. Raises FixedIpNotFound."""
        self.fixed_ip_update(context, fixed_ip_id, _FREE)

    @operation
    def fixed_ip_deallocate_by_instance(self, context: Any, instance_uuid: str) -> int:
        """Make every address of an instance free again; returns how many it had."""
        with self.store.writer(context) as session:
            return session.update_rows(models.FixedIp, IPS.c.instance_uuid == instance_uuid, IPS.c.deleted == 0,
                                       **_FREE)

    @operation
    def fixed_ip_update(self, context: Any, fixed_ip_id: int, values: Mapping[str, Any]) -> None:
        """Change the row of an address. Raises FixedIpNotFound."""
        with self.store.writer(context) as session:
            if not session.update_rows(models.FixedIp, IPS.c.id == fixed_ip_id, IPS.c.deleted == 0, **values):
                raise exception.FixedIpNotFound(id=fixed_ip_id)

    @operation
    def fixed_ip_get_by_address(self, context: Any, address: str, network_id: int | None = None) -> dict[str, Any]:
        """Return the row of an address. Raises FixedIpNotFoundForAddress."""
        criteria = [] if network_id is None else [IPS.c.network_id == network_id]
        rows = self._all(context, IPS.c.address == address, *criteria)
        if not rows:
            raise exception.FixedIpNotFoundForAddress(address=address)
        return rows[0]

    @operation
    def fixed_ip_get_by_instance(self, context: Any, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the addresses of an instance."""
        return self._all(context, IPS.c.instance_uuid == instance_uuid)

    @operation
    def fixed_ips_by_virtual_interface(self, context: Any, virtual_interface_id: int) -> list[dict[str, Any]]:
        """Return the addresses of an interface."""
        return self._all(context, IPS.c.virtual_interface_id == virtual_interface_id)

    @operation
    def fixed_ip_get_by_network(self, context: Any, network_id: int) -> list[dict[str, Any]]:
        """Return the addresses of a network."""
        return self._all(context, IPS.c.network_id == network_id)

    @operation
    def fixed_ip_count_by_project(self, context: Any, project_id: str) -> int:
        """Return how many addresses the instances of a project have."""
        instances = models.Instance.__table__
        with self.store.reader(context) as session:
            return session.scalar(sqlalchemy.select(sqlalchemy.func.count(IPS.c.id)).join(
                instances, instances.c.uuid == IPS.c.instance_uuid).where(
                IPS.c.deleted == 0, instances.c.deleted == 0, instances.c.project_id == project_id))

    def _all(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(IPS).where(
                *criteria, *visible(models.FixedIp, context)).order_by(IPS.c.id))


class VirtualInterfaces(Part):
    """Interfaces of instances on networks; ``uuid`` is the id of the interface in the network model."""

    @operation
    def virtual_interface_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert an interface of ``address, network_id, instance_uuid`` and return it.

        Raises VirtualInterfaceCreateException for a MAC address or uuid that is taken.
        """
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.VirtualInterface, {"uuid": str(uuid_module.uuid4()), **values})
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.VirtualInterfaceCreateException from exc

    @operation
    def virtual_interface_get(self, context: Any, vif_id: int) -> dict[str, Any] | None:
        """Return an interface by id, None without it."""
        return self._first(context, VIFS.c.id == vif_id)

    @operation
    def virtual_interface_get_by_uuid(self, context: Any, vif_uuid: str) -> dict[str, Any] | None:
        """Return an interface by uuid, None without it."""
        return self._first(context, VIFS.c.uuid == vif_uuid)

    @operation
    def virtual_interface_get_by_address(self, context: Any, address: str) -> dict[str, Any] | None:
        """Return an interface by MAC address, None without it."""
        return self._first(context, VIFS.c.address == address)

    @operation
    def virtual_interface_get_by_instance(self, context: Any, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the interfaces of an instance, in the order they were made."""
        return self._all(context, VIFS.c.instance_uuid == instance_uuid)

    @operation
    def virtual_interface_get_connected(
            self, context: Any, *instance_uuids: str) -> dict[str, tuple[list[dict[str, Any]], str | None]]:
        """Return of each instance that is there the interfaces that are on networks, in the order they were made, and
        the text of its info cache, None without one.

        Each interface has its ``network``, a row, and the ``addresses`` it has there.
        """
        with self.store.reader(context) as session:
            rows = session.all(_connected(context.read_deleted), {"wanted": instance_uuids})
        found: dict[str, tuple[dict[int, dict[str, Any]], str | None]] = {}
        for row in rows:
            vifs, _ = found.setdefault(row["uuid"], ({}, row["cached"]))
            vif = vifs.get(row["vif.id"])
            if vif is None and row["network.id"] is not None:
                vif = vifs[row["vif.id"]] = {**_named(row, "vif"), "network": _named(row, "network"), "addresses": []}
            if vif is not None and row["address"] is not None:
                vif["addresses"].append(row["address"])
        return {uuid: (list(vifs.values()), cached) for uuid, (vifs, cached) in found.items()}

    @operation
    def virtual_interface_get_by_instance_and_network(self, context: Any, instance_uuid: str,
                                                      network_id: int) -> dict[str, Any] | None:
        """Return the first interface of an instance on a network, None without one."""
        return self._first(context, VIFS.c.instance_uuid == instance_uuid, VIFS.c.network_id == network_id)

    @operation
    def virtual_interface_delete(self, context: Any, vif_id: int) -> None:
        """Soft-delete an interface; its addresses become free."""
        self._delete(context, VIFS.c.id == vif_id)

    @operation
    def virtual_interface_delete_by_instance(self, context: Any, instance_uuid: str) -> None:
        """Soft-delete the interfaces of an instance; their addresses become free."""
        self._delete(context, VIFS.c.instance_uuid == instance_uuid)

    def _delete(self, context: Any, criterion: Any) -> None:
        with self.store.writer(context) as session:
            ids = [row["id"] for row in session.all(sqlalchemy.select(VIFS.c.id).where(
                criterion, VIFS.c.deleted == 0).order_by(VIFS.c.id))]
            if ids:
                session.update_rows(models.FixedIp, IPS.c.virtual_interface_id.in_(ids), **_FREE)
                session.soft_delete(models.VirtualInterface, VIFS.c.id.in_(ids))

    def _first(self, context: Any, *criteria: Any) -> dict[str, Any] | None:
        rows = self._all(context, *criteria)
        return rows[0] if rows else None

    def _all(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(VIFS).where(
                *criteria, *visible(models.VirtualInterface, context)).order_by(VIFS.c.id))


@functools.cache
def _connected(read_deleted: str) -> sqlalchemy.Select:
    """Return the statement for the interfaces of instances beside their networks, addresses and info caches.

    Columns are named after their table. There is one row at least for an instance that is there.
    """
    instances, caches = models.Instance.__table__, models.InstanceInfoCache.__table__
    columns = [column.label(f"{name}.{column.name}") for name, table in (("vif", VIFS), ("network", NETWORKS))
               for column in table.columns]
    joined: Any = instances
    for table, model, criterion in (
            (caches, models.InstanceInfoCache, caches.c.instance_uuid == instances.c.uuid),
            (VIFS, models.VirtualInterface, VIFS.c.instance_uuid == instances.c.uuid),
            (NETWORKS, models.Network, NETWORKS.c.id == VIFS.c.network_id),
            (IPS, models.FixedIp, sqlalchemy.and_(IPS.c.virtual_interface_id == VIFS.c.id,
                                                  IPS.c.instance_uuid == VIFS.c.instance_uuid))):
        joined = joined.outerjoin(table, sqlalchemy.and_(criterion, *visible(model, None, read_deleted)))
    columns += [instances.c.uuid.label("uuid"), caches.c.network_info.label("cached"), IPS.c.address.label("address")]
    return sqlalchemy.select(*columns).select_from(joined).where(
        instances.c.uuid.in_(sqlalchemy.bindparam("wanted", expanding=True))).order_by(VIFS.c.id, IPS.c.id)


def _named(row: dict[str, Any], table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _network_is(network_id: int | str) -> Any:
    if isinstance(network_id, str) and not network_id.isdigit():
        return NETWORKS.c.uuid == network_id
    return NETWORKS.c.id == int(network_id)


def _planned(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Fill in what follows of the cidr and return the rows of its addresses."""
    try:
        network = ipaddress.IPv4Network(values["cidr"])
    except ValueError as exc:
        raise exception.InvalidInput(reason=f"{values['cidr']!r} is no IPv4 network") from exc
    if network.num_addresses > _MOST_ADDRESSES:
        raise exception.InvalidInput(reason=f"{network} has more than {_MOST_ADDRESSES} addresses")
    hosts = list(network.hosts())
    derived = {"netmask": network.netmask, "broadcast": network.broadcast_address, "gateway": hosts[0]}
    for name, value in derived.items():
        values[name] = values.get(name) or str(value)
    first = values.get("dhcp_start") or str(next((host for host in hosts if str(host) != values["gateway"]), hosts[0]))
    values["dhcp_start"] = first
    usable = {host for host in hosts if host >= ipaddress.IPv4Address(first) and str(host) != values["gateway"]}
    return [{"address": str(address), "reserved": address not in usable} for address in network]
