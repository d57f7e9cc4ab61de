"""What crosses the wire and the database: instances, flavors, services … Importing the package registers them all."""

from nova_lite.objects.base import NovaObject, NovaObjectSerializer, OpaqueObject, from_wire, to_wire
from nova_lite.objects.block_device_mapping import BlockDeviceMapping, BlockDeviceMappingList
from nova_lite.objects.compute_node import ComputeNode, ComputeNodeList
from nova_lite.objects.flavor import Flavor, FlavorList
from nova_lite.objects.instance import Instance, InstanceList
from nova_lite.objects.instance_action import (
    InstanceAction,
    InstanceActionEvent,
    InstanceActionEventList,
    InstanceActionList,
)
from nova_lite.objects.instance_fault import InstanceFault, InstanceFaultList
from nova_lite.objects.instance_info_cache import InstanceInfoCache
from nova_lite.objects.keypair import KeyPair, KeyPairList
from nova_lite.objects.migration import Migration, MigrationList
from nova_lite.objects.network_request import NetworkRequest, NetworkRequestList
from nova_lite.objects.service import Service, ServiceList

__all__ = [
    "BlockDeviceMapping",
    "BlockDeviceMappingList",
    "ComputeNode",
    "ComputeNodeList",
    "Flavor",
    "FlavorList",
    "Instance",
    "InstanceAction",
    "InstanceActionEvent",
    "InstanceActionEventList",
    "InstanceActionList",
    "InstanceFault",
    "InstanceFaultList",
    "InstanceInfoCache",
    "InstanceList",
    "KeyPair",
    "KeyPairList",
    "Migration",
    "MigrationList",
    "NetworkRequest",
    "NetworkRequestList",
    "NovaObject",
    "NovaObjectSerializer",
    "OpaqueObject",
    "Service",
    "ServiceList",
    "from_wire",
    "to_wire",
]
