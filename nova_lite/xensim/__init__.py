"""A XenServer pool behind the real XenAPI protocol: reached over its sockets by any XenAPI client."""

from nova_lite.xensim.population import HostPlan
from nova_lite.xensim.remote import RemoteControl
from nova_lite.xensim.simulator import Simulator

__all__ = ["HostPlan", "RemoteControl", "Simulator"]
