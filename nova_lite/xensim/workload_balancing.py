"""Workload balancing: an appliance beside the pool, which the simulator does not contain.

A pool can be pointed to one over the network, and everything else says that none is known.
"""

import http.client
import socket
import urllib.parse

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call

TIMEOUT_S = 30


class WorkloadBalancing(Noun):
    @call("pool.initialize_wlb")
    def initialize(self, _caller, url, _username, _password, _server_username, _server_password):
        address = urllib.parse.urlsplit(url if "//" in url else f"//{url}")
        try:
            host, port = address.hostname, address.port or 8012
        except ValueError:
            host, port = None, 0
        if not host:
            raise ApiError("WLB_URL_INVALID", url)
        with self.toolstack.unlocked():
            answer = self._ask(host, port)
        raise ApiError("WLB_MALFORMED_RESPONSE", "AddXenServer", "no envelope", answer[:200])

    @staticmethod
    def _ask(host: str, port: int) -> str:
        """Return what answers at the address. Raises what keeps anything from answering."""
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/", "", {"Content-Type": "text/xml"})
            return connection.getresponse().read(200).decode(errors="replace")
        except socket.gaierror:
            raise ApiError("WLB_UNKNOWN_HOST") from None
        except TimeoutError:
            raise ApiError("WLB_TIMEOUT", str(TIMEOUT_S)) from None
        except ConnectionRefusedError:
            raise ApiError("WLB_CONNECTION_REFUSED") from None
        except (OSError, http.client.HTTPException):
            raise ApiError("WLB_CONNECTION_RESET") from None
        finally:
            connection.close()

    @call("pool.deconfigure_wlb")
    def deconfigure(self, _caller):
        self._refuse()

    @call("pool.send_wlb_configuration")
    def send_configuration(self, _caller, _config):
        self._refuse()

    @call("pool.retrieve_wlb_configuration")
    @call("pool.retrieve_wlb_recommendations")
    def retrieve(self, _caller):
        self._refuse()

    @call("host.retrieve_wlb_evacuate_recommendations")
    def retrieve_for_host(self, _caller, ref):
        self.db.row("host", ref)
        self._refuse()

    @call("VM.retrieve_wlb_recommendations")
    def retrieve_for_vm(self, _caller, ref):
        self.db.row("VM", ref)
        self._refuse()

    def _refuse(self) -> None:
        raise ApiError("WLB_NOT_INITIALIZED")
