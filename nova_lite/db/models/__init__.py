"""Tables of a cell's database (compute specification §8.2, widened by seams §5).

Every table has ``created_at, updated_at, deleted_at`` (naive UTC) and ``deleted``: 0, or the row's own id once it is
soft-deleted. A change here needs a migration; a test compares the two.
"""

from nova_lite.db.models import archive  # noqa: F401  (its tables belong to the schema)
from nova_lite.db.models.accounting import BandwidthUsage, Quota, QuotaUsage, Reservation, TaskLog, VolumeUsage
from nova_lite.db.models.base import Base
from nova_lite.db.models.builds import BuildOrder
from nova_lite.db.models.consoles import ConsoleAuthToken
from nova_lite.db.models.flavors import InstanceType, InstanceTypeExtraSpec, InstanceTypeProject, KeyPair
from nova_lite.db.models.hosts import (
    AgentBuild,
    Aggregate,
    AggregateHost,
    AggregateMetadata,
    Cell,
    ComputeNode,
    Migration,
    Service,
)
from nova_lite.db.models.instances import (
    BlockDeviceMapping,
    Instance,
    InstanceAction,
    InstanceActionEvent,
    InstanceExtra,
    InstanceFault,
    InstanceInfoCache,
    InstanceMetadata,
    InstanceSystemMetadata,
    Outbox,
    Tombstone,
)
from nova_lite.db.models.networks import (
    FixedIp,
    Network,
    ProviderFirewallRule,
    SecurityGroup,
    SecurityGroupInstanceAssociation,
    SecurityGroupRule,
    VirtualInterface,
)

__all__ = [
    "AgentBuild",
    "Aggregate",
    "AggregateHost",
    "AggregateMetadata",
    "BandwidthUsage",
    "Base",
    "BlockDeviceMapping",
    "BuildOrder",
    "Cell",
    "ComputeNode",
    "ConsoleAuthToken",
    "FixedIp",
    "Instance",
    "InstanceAction",
    "InstanceActionEvent",
    "InstanceExtra",
    "InstanceFault",
    "InstanceInfoCache",
    "InstanceMetadata",
    "InstanceSystemMetadata",
    "InstanceType",
    "InstanceTypeExtraSpec",
    "InstanceTypeProject",
    "KeyPair",
    "Migration",
    "Network",
    "Outbox",
    "ProviderFirewallRule",
    "Quota",
    "QuotaUsage",
    "Reservation",
    "SecurityGroup",
    "SecurityGroupInstanceAssociation",
    "SecurityGroupRule",
    "Service",
    "TaskLog",
    "Tombstone",
    "VirtualInterface",
    "VolumeUsage",
]
