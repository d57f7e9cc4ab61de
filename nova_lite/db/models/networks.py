"""Networks, addresses, security groups."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, UniqueConstraint

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, Row


class Network(Row, Base):
    __tablename__ = "networks"
    constraints = (
        UniqueConstraint("cidr", "deleted", name="uniq_networks0cidr0deleted"),
        UniqueConstraint("cidr_v6", "deleted", name="uniq_networks0cidr_v60deleted"),
        UniqueConstraint("vlan", "deleted", name="uniq_networks0vlan0deleted"),
        UniqueConstraint("vpn_public_address", "vpn_public_port", "deleted",
                         name="uniq_networks0vpn_public_address0vpn_public_port0deleted"),
    )

    id = columns.row_id()
    uuid = columns.uuid(unique=True)
    label = columns.short_text()
    injected = columns.flag()
    cidr = Column(String(43))
    cidr_v6 = Column(String(43))
    multi_host = columns.flag()
    gateway_v6 = Column(String(39))
    netmask_v6 = Column(String(39))
    netmask = Column(String(39))
    bridge = columns.short_text()
    bridge_interface = columns.short_text()
    gateway = Column(String(39))
    broadcast = Column(String(39))
    dns1 = Column(String(39))
    dns2 = Column(String(39))
    vlan = Column(Integer)
    vpn_public_address = Column(String(39))
    vpn_public_port = Column(Integer)
    vpn_private_address = Column(String(39))
    dhcp_start = Column(String(39))
    rxtx_base = Column(Integer)
    project_id = columns.short_text(index=True)
    priority = Column(Integer)
    host = columns.short_text()


class VirtualInterface(Row, Base):
    __tablename__ = "virtual_interfaces"
    constraints = (UniqueConstraint("address", "deleted", name="uniq_virtual_interfaces0address0deleted"),)

    id = columns.row_id()
    address = columns.short_text(nullable=False)
    network_id = Column(Integer, ForeignKey("networks.id"), nullable=False, index=True)
    instance_uuid = columns.uuid(nullable=False, index=True)
    uuid = columns.uuid(nullable=False, unique=True)


class FixedIp(Row, Base):
    __tablename__ = "fixed_ips"
    constraints = (
        UniqueConstraint("network_id", "address", "deleted", name="uniq_fixed_ips0network_id0address0deleted"),
        Index("fixed_ips_host_idx", "host"),
        Index("fixed_ips_network_id_host_deleted_idx", "network_id", "host", "deleted"),
        Index("fixed_ips_address_reserved_network_id_deleted_idx", "address", "reserved", "network_id", "deleted"),
        Index("fixed_ips_address_deleted_allocated_idx", "address", "deleted", "allocated"),
    )

    id = columns.row_id()
    address = Column(String(39), nullable=False)
    network_id = Column(Integer, ForeignKey("networks.id"), nullable=False)
    virtual_interface_id = Column(Integer, ForeignKey("virtual_interfaces.id"), index=True)
    instance_uuid = columns.uuid(index=True)
    allocated = columns.flag()
    leased = columns.flag()
    reserved = columns.flag()
    host = columns.short_text()


class SecurityGroup(Row, Base):
    __tablename__ = "security_groups"
    constraints = (UniqueConstraint("project_id", "name", "deleted",
                                    name="uniq_security_groups0project_id0name0deleted"),)

    id = columns.row_id()
    name = columns.short_text()
    description = columns.short_text()
    user_id = columns.short_text()
    project_id = columns.short_text()


class SecurityGroupInstanceAssociation(Row, Base):
    __tablename__ = "security_group_instance_association"

    id = columns.row_id()
    security_group_id = Column(Integer, ForeignKey("security_groups.id"), nullable=False, index=True)
    instance_uuid = columns.instance_uuid(nullable=False, index=True)


class SecurityGroupRule(Row, Base):
    __tablename__ = "security_group_rules"

    id = columns.row_id()
    parent_group_id = Column(Integer, ForeignKey("security_groups.id"), nullable=False, index=True)
    protocol = Column(String(5))
    from_port = Column(Integer)
    to_port = Column(Integer)
    cidr = Column(String(43))
    group_id = Column(Integer, ForeignKey("security_groups.id"), index=True)


class ProviderFirewallRule(Row, Base):
    __tablename__ = "provider_fw_rules"

    id = columns.row_id()
    protocol = Column(String(5))
    from_port = Column(Integer)
    to_port = Column(Integer)
    cidr = Column(String(43))
