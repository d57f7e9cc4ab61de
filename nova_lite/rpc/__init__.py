"""Messages between the parts of a cell and between cells, over oslo.messaging.

``Rpc`` is one cell's messaging in a process; it makes clients, servers and notifiers. What the library leaves open is
decided here: every call ends by an absolute deadline, receivers serve explicit methods only and drop what has expired.
"""

from nova_lite.rpc.client import RpcClient
from nova_lite.rpc.serializer import PlainSerializer
from nova_lite.rpc.server import RpcServer, expose
from nova_lite.rpc.transport import Rpc
from nova_lite.rpc.versions import is_compatible, resolve_cap

__all__ = ["PlainSerializer", "Rpc", "RpcClient", "RpcServer", "expose", "is_compatible", "resolve_cap"]
