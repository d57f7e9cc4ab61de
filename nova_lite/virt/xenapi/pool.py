"""XenServer pools as host aggregates."""

import ipaddress
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.driver import HypervisorLoginRefused, HypervisorUnavailable
from nova_lite.virt.xenapi import errors, instances, plugins
from nova_lite.virt.xenapi.own_vm import own_vm_uuid

LOG = logging.getLogger(__name__)

# A host that joins has the same [xenserver] connection_password as the master.
SAME_PASSWORD = "connection_password"
JOINED_WITHIN_S = 120
# The first version of the dom0 plugins that has host_join.
JOINS_HOSTS = "3.2"
POOL_FLAG = "hypervisor_pool"
STATE = "operational_state"
CREATED, CHANGING, ACTIVE, ERROR, DISMISSED = "created", "changing", "active", "error", "dismissed"
REFUSED_IN = {CHANGING: "aggregate setup in progress", DISMISSED: "aggregate deleted", ERROR: "aggregate in error"}


class Pools:
    """Hosts join and leave pools as they are added to and removed from an aggregate with `hypervisor_pool`."""

    def __init__(self, session, virtapi, conf):
        self._session = session
        self._virtapi = virtapi
        self._conf = conf

    def add_host(self, context: Any, aggregate: Any, host: str, slave_info: dict | None = None) -> None:
        """Add `host`. The first one names the pool; others join the master's. Raises InvalidAggregateAction."""
        metadata = metadata_of(aggregate)
        if not _is_pool(metadata):
            return
        self._demand(aggregate, metadata, "add host")
        ours = self._conf.host
        if metadata.get(STATE, CREATED) == CREATED or "master_compute" not in metadata:
            self._init_pool(context, aggregate, host)
        elif metadata["master_compute"] == ours and host != ours:
            self._join(context, aggregate, host, slave_info)
        else:
            self._virtapi.add_aggregate_host(context, aggregate, host, metadata["master_compute"], self._slave_info())

    def _init_pool(self, context: Any, aggregate: Any, host: str) -> None:
        self._name_pool(aggregate, "add_to_aggregate", instances.read(aggregate, "name"))
        self._virtapi.aggregate_metadata_add(context, aggregate, {
            "master_compute": host, host: self._session.host_uuid, STATE: ACTIVE})

    def _name_pool(self, aggregate: Any, action: str, name: str) -> None:
        try:
            pool_ref = self._session.call_xenapi("pool.get_all")[0]
            self._session.call_xenapi("pool.set_name_label", pool_ref, name)
        except XenAPI.Failure as failure:
            raise self._error(aggregate, action, errors.describe(failure)) from failure

    def _join(self, context: Any, aggregate: Any, host: str, slave_info: dict | None) -> None:
        """Have another host join our pool. Its password is not told: it has to be the one we know."""
        slave = slave_info or {}
        if slave.get("secret_ref") != SAME_PASSWORD:
            raise self._error(aggregate, "add_to_aggregate", f"host {host} named no password this host knows")
        try:
            self._call_join(slave)
            joined_uuid = self._await_host(slave)
        except (HypervisorUnavailable, HypervisorLoginRefused) as error:
            raise self._error(aggregate, "add_to_aggregate", str(error)) from error
        except XenAPI.Failure as failure:
            # The arguments of the failure may repeat the password.
            raise self._error(aggregate, "add_to_aggregate", errors.code_of(failure)) from None
        self._virtapi.aggregate_metadata_add(context, aggregate, {host: joined_uuid})

    def _call_join(self, slave: dict) -> None:
        options = self._conf.xenserver
        if slave.get("compute_uuid"):
            return self._join_by_plugin(slave)
        method = "pool.join_force" if options.use_join_force else "pool.join"
        joining = self._session.elsewhere(slave["url"])
        try:
            joining.call_long(method, self._session.master_address, options.connection_username,
                              options.connection_password)
        finally:
            joining.close()
        return None

    def _join_by_plugin(self, slave: dict) -> None:
        """Have our dom0 do it: the host's compute service is a guest of that host and cannot run meanwhile."""
        options = self._conf.xenserver
        if not plugins.goes_with(self._session.plugin_version, JOINS_HOSTS):
            raise XenAPI.Failure([f"our host needs the dom0 plugins {JOINS_HOSTS} or later"])
        self._session.call_plugin("xenhost", "host_join", {
            "compute_uuid": slave["compute_uuid"], "url": slave["url"], "user": options.connection_username,
            "password": options.connection_password, "force": str(options.use_join_force).lower(),
            "master_addr": self._session.master_address, "master_user": options.connection_username,
            "master_pass": options.connection_password, "fingerprints": ",".join(options.connection_fingerprint)})

    def _await_host(self, slave: dict) -> str:
        """Return the uuid under which the pool knows the host that joined; it shows some time after the call."""
        deadline = self._session.clock.monotonic() + JOINED_WITHIN_S
        while True:
            hosts = [record for _, record in self._session.get_all_refs_and_recs("host")]
            for record in hosts:
                # Host names may be alike; the uuid of a host stays when it joins.
                if record["uuid"] == slave.get("xenhost_uuid"):
                    return record["uuid"]
            if self._session.clock.monotonic() > deadline:
                raise XenAPI.Failure(["HOST_NOT_LIVE"])
            self._session.clock.sleep(1)

    @staticmethod
    def _error(aggregate: Any, action: str, reason: str) -> exception.AggregateError:
        return exception.AggregateError(aggregate_id=instances.read(aggregate, "id"), action=action, reason=reason)

    def _slave_info(self) -> dict[str, Any]:
        """What the master needs to know of us. The password is named, not told: messages are no place for it."""
        return {"url": self._own_url(), "user": self._conf.xenserver.connection_username, "secret_ref": SAME_PASSWORD,
                "compute_uuid": self._own_vm(), "xenhost_uuid": self._session.host_uuid}

    def _own_url(self) -> str:
        """Return the URL other hosts reach ours by: a socket, or an address inside the host, is none for them."""
        endpoint = self._session.host_endpoint
        if endpoint.host is not None and not is_inside(endpoint.host):
            return endpoint.without_credentials
        address = self._session.call_xenapi("host.get_address", self._session.host_ref)
        return endpoint.on_host(address).without_credentials if endpoint.host else f"https://{address}"

    def _own_vm(self) -> str | None:
        """Return the guest this service runs in, when it is one of the host it manages."""
        return None if self._conf.xenserver.independent_compute else own_vm_uuid()

    def remove_host(self, context: Any, aggregate: Any, host: str, slave_info: dict | None = None) -> None:
        """Remove `host`. The master ejects others; it leaves itself only when it is alone.

        Ejecting erases the local storage of the ejected host.
        """
        metadata = metadata_of(aggregate)
        if not _is_pool(metadata):
            return
        self._demand(aggregate, metadata, "remove host")
        master = metadata.get("master_compute")
        if master is None:
            raise self._error(aggregate, "remove_from_aggregate", "the pool has no master")
        if master != self._conf.host:
            self._virtapi.remove_aggregate_host(context, aggregate, host, master, self._slave_info())
        elif host != master:
            self._eject(context, aggregate, host, metadata, slave_info or {})
        else:
            self._dissolve(context, aggregate, host, metadata)

    def _eject(self, context: Any, aggregate: Any, host: str, metadata: dict[str, str], slave: dict) -> None:
        try:
            if slave.get("compute_uuid"):
                compute_ref = self._session.call_xenapi("VM.get_by_uuid", slave["compute_uuid"])
                self._session.call_long("VM.clean_shutdown", compute_ref)
            host_ref = self._session.call_xenapi("host.get_by_uuid", metadata[host])
            self._session.call_long("pool.eject", host_ref)
        except (XenAPI.Failure, KeyError) as error:
            reason = errors.describe(error) if isinstance(error, XenAPI.Failure) else f"{host} is not in the pool"
            raise self._error(aggregate, "remove_from_aggregate", reason) from error
        self._virtapi.aggregate_metadata_delete(context, aggregate, host)

    def _dissolve(self, context: Any, aggregate: Any, host: str, metadata: dict[str, str]) -> None:
        hosts = instances.read(aggregate, "hosts") or []
        if len(hosts) > 1:
            raise exception.InvalidAggregateAction(
                aggregate_id=instances.read(aggregate, "id"), action="remove_from_aggregate",
                reason="the master can leave only when it is alone in its pool")
        self._name_pool(aggregate, "remove_from_aggregate", "")
        for key in ("master_compute", host):
            if key in metadata:
                self._virtapi.aggregate_metadata_delete(context, aggregate, key)

    def undo(self, context: Any, op: Any, aggregate: Any, host: str, set_error: bool = True) -> None:
        """Take back `op` on the aggregate's record after it failed here; best effort."""
        try:
            if set_error:
                self._virtapi.aggregate_metadata_add(context, aggregate, {STATE: ERROR})
            op(host)
        except (exception.NovaException, NotImplementedError) as error:
            LOG.error("Aggregate %s: the operation on host %s could not be taken back: %s",
                      instances.read(aggregate, "id"), host, error)

    @staticmethod
    def _demand(aggregate: Any, metadata: dict[str, str], action: str) -> None:
        state = metadata.get(STATE, CREATED)
        if state in REFUSED_IN:
            raise exception.InvalidAggregateAction(aggregate_id=instances.read(aggregate, "id"), action=action,
                                                   reason=REFUSED_IN[state])


def is_inside(host: str) -> bool:
    """Tell whether an address or name means this machine, or one of its own network (169.254.0.1 is dom0's)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_link_local


def metadata_of(aggregate: Any) -> dict[str, str]:
    """Return an aggregate's metadata as a dict; both its forms, dict and rows, are read."""
    for name in ("metadata", "metadetails"):
        found = instances.read(aggregate, name)
        if found:
            return found if isinstance(found, dict) else {row["key"]: row["value"] for row in found}
    return {}


def _is_pool(metadata: dict[str, str]) -> bool:
    return POOL_FLAG in metadata
