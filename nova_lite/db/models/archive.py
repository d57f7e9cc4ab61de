"""Tables that hold what was archived: each is named after the table its rows come from, with `shadow_` before it.

They have the same columns and no constraints but the key, because what a row points to may be archived later or never.
"""

from typing import Any

import sqlalchemy

from nova_lite.db.models import accounting, consoles, flavors, hosts, instances, networks
from nova_lite.db.models.base import Base

PREFIX = "shadow_"
OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mariadb_engine": "InnoDB",
           "mariadb_charset": "utf8mb4"}

# Children before their parents.
OF_INSTANCES = (instances.InstanceMetadata, instances.InstanceSystemMetadata, instances.InstanceInfoCache,
                instances.InstanceExtra, instances.InstanceFault, instances.BlockDeviceMapping,
                networks.SecurityGroupInstanceAssociation, hosts.Migration)
ACTIONS = (instances.InstanceActionEvent, instances.InstanceAction)
OTHERS = (networks.SecurityGroupInstanceAssociation, networks.SecurityGroupRule, hosts.ComputeNode,
          hosts.AggregateHost, hosts.AggregateMetadata, flavors.InstanceTypeExtraSpec, flavors.InstanceTypeProject,
          accounting.Reservation, instances.BlockDeviceMapping, instances.InstanceMetadata,
          instances.InstanceSystemMetadata, flavors.KeyPair, hosts.Cell, hosts.Aggregate, hosts.AgentBuild,
          networks.ProviderFirewallRule, accounting.VolumeUsage, consoles.ConsoleAuthToken)


def _shadow(table: sqlalchemy.Table) -> sqlalchemy.Table:
    columns = [sqlalchemy.Column(column.name, column.type, primary_key=column.primary_key, autoincrement=False,
                                 nullable=column.nullable) for column in table.columns]
    options: dict[str, Any] = OPTIONS
    return sqlalchemy.Table(f"{PREFIX}{table.name}", Base.metadata, *columns, **options)


# {name of a table: the one its rows are archived in}
SHADOWS = {model.__tablename__: _shadow(model.__table__)
           for model in dict.fromkeys((instances.Instance, *OF_INSTANCES, *ACTIONS, *OTHERS))}
