"""A host joins a pool: what keeps it from that, and how the pool's master takes it over."""

import ssl
import urllib.parse
import xmlrpc.client
from typing import Any

from nova_lite.xensim.belongings import packed
from nova_lite.xensim.db import Row
from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.remote import RemoteControl
from nova_lite.xensim.vm_rules import HALTED, SUSPENDED

# What a host and a pool must have in common: a key of software_version, and the error if they differ.
SAME_VERSIONS = ("product_version", "product_brand", "build_number")


def any_certificate() -> ssl.SSLContext:
    """Return a TLS context that accepts every certificate: hosts trust each other only once they are of one pool."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Master:
    """The master of another pool, as its administrator sees it. Raises what keeps one from it."""

    def __init__(self, url: str, username: str, password: str):
        self._proxy = xmlrpc.client.ServerProxy(url, allow_none=True, context=any_certificate())
        self._session = self._call("session.login_with_password", username, password, "1.0", "pool.join")

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            answer: Any = getattr(self._proxy, name)(*arguments)
        except (OSError, xmlrpc.client.Error):
            raise ApiError("JOINING_HOST_CONNECTION_FAILED") from None
        if answer["Status"] != "Success":
            raise ApiError(*answer["ErrorDescription"])
        return answer["Value"]

    def pool_and_host(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the records of the pool and of its master."""
        (pool,) = self._call("pool.get_all_records", self._session).values()
        return pool, self._call("host.get_record", self._session, pool["master"])

    def leave(self) -> None:
        self._call("session.logout", self._session)


class Joining(Noun):
    @call("pool.join")
    def join(self, _caller, address, username, password):
        self._join(address, username, password, is_forced=False)

    @call("pool.join_force")
    def join_force(self, _caller, address, username, password):
        self._join(address, username, password, is_forced=True)

    def _join(self, address: str, username: str, password: str, *, is_forced: bool) -> None:
        """Become a slave of another simulated pool: its master takes over the host, its VMs, its disks, its address.

        An address without a port means the port this host itself listens on.
        """
        self._check_here(is_forced)
        host = self.db.row("host", self.toolstack.master_ref)
        own_url = self.toolstack.urls.get(host.ref, "http://127.0.0.1:80").rstrip("/")
        own = urllib.parse.urlsplit(own_url)
        url = f"{own.scheme}://{address}" if ":" in address else f"{own.scheme}://{address}:{own.port}"
        if url == own_url:
            raise ApiError("HOST_ITS_OWN_SLAVE")
        with self.toolstack.unlocked():
            master = Master(url, username, password)
            theirs = master.pool_and_host()
            master.leave()
        self._check_there(host, *theirs, is_forced=is_forced)
        self._hand_over(RemoteControl(url, username, password, any_certificate()), host)
        self.toolstack.joined_to = address.removesuffix(f":{own.port}")
        self.toolstack.sessions.end_all()

    def _hand_over(self, master: RemoteControl, host: Row) -> None:
        belongings = packed(self.toolstack)
        with self.toolstack.unlocked():
            self.toolstack.host_services.hand_over_agent(host.ref)
            try:
                master.adopt_host(belongings)
            except (OSError, ValueError):
                self.toolstack.host_services.take_back_agent(host.ref)
                raise ApiError("JOINING_HOST_SERVICE_FAILED") from None

    def _check_here(self, is_forced: bool) -> None:
        """Raise what of this host's own keeps it from joining."""
        self.toolstack.availability.check_disabled()
        if len(self.db.tables["host"]) > 1:
            raise ApiError("JOINING_HOST_CANNOT_BE_MASTER_OF_OTHER_HOSTS")
        vms = [vm for vm in self.db.rows("VM") if not vm["is_control_domain"] and not vm["is_a_snapshot"]]
        if any(vm["power_state"] not in (HALTED, SUSPENDED) for vm in vms):
            raise ApiError("JOINING_HOST_CANNOT_HAVE_RUNNING_VMS")
        if any(vm["power_state"] == SUSPENDED for vm in vms):
            raise ApiError("JOINING_HOST_CANNOT_HAVE_RUNNING_OR_SUSPENDED_VMS")
        if any(vm["current_operations"] for vm in vms):
            raise ApiError("JOINING_HOST_CANNOT_HAVE_VMS_WITH_CURRENT_OPERATIONS")
        if not is_forced and any(sr["shared"] and not sr["is_tools_sr"] for sr in self.db.rows("SR")):
            raise ApiError("JOINING_HOST_CANNOT_CONTAIN_SHARED_SRS")
        if self.db.tables["Bond"]:
            raise ApiError("POOL_JOINING_HOST_HAS_BONDS")
        if self.db.tables["tunnel"]:
            raise ApiError("POOL_JOINING_HOST_HAS_TUNNELS")
        if any(not pif["management"] and not is_null(pif["VLAN_master_of"]) for pif in self.db.rows("PIF")):
            raise ApiError("POOL_JOINING_HOST_HAS_NON_MANAGEMENT_VLANS")
        if not any(pif["physical"] for pif in self.db.select("PIF", management=True)):
            raise ApiError("POOL_JOINING_HOST_MUST_HAVE_PHYSICAL_MANAGEMENT_NIC")

    def _check_there(self, host: Row, pool: dict[str, Any], master: dict[str, Any], *, is_forced: bool) -> None:
        """Raise in what this host and the pool differ."""
        ours, theirs = host["software_version"], master["software_version"]
        if any(ours.get(key) != theirs.get(key) for key in SAME_VERSIONS):
            raise ApiError("POOL_JOINING_HOST_MUST_HAVE_SAME_PRODUCT_VERSION")
        own_api, their_api = _api_version(host), _api_version(master)
        if own_api != their_api:
            raise ApiError("POOL_JOINING_HOST_MUST_HAVE_SAME_API_VERSION", own_api, their_api)
        if ours.get("dbv") != theirs.get("dbv"):
            raise ApiError("POOL_JOINING_HOST_MUST_HAVE_SAME_DB_SCHEMA", ours.get("dbv", ""), theirs.get("dbv", ""))
        if host["edition"] != master["edition"] and not is_forced:
            raise ApiError("LICENSE_HOST_POOL_MISMATCH")
        auth = ("external_auth_type", "external_auth_service_name")
        if any(host[field] != master[field] for field in auth) and not is_forced:
            raise ApiError("POOL_JOINING_EXTERNAL_AUTH_MISMATCH")
        own_pool = self.db.row("pool", self.toolstack.pool_ref)
        if own_pool["tls_verification_enabled"] != pool["tls_verification_enabled"]:
            raise ApiError("POOL_JOINING_HOST_TLS_VERIFICATION_MISMATCH")
        if pool["ha_enabled"]:
            raise ApiError("HA_IS_ENABLED")


def _api_version(host: Row | dict[str, Any]) -> str:
    return f"{host['API_version_major']}.{host['API_version_minor']}"
