"""XenServer pools as host aggregates, and emptying a host for maintenance."""

from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)

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
        metadata = _metadata(aggregate)
        if not _is_pool(metadata):
            return
        self._demand(aggregate, metadata, "add host")
        ours = self._conf.host
        if metadata.get(STATE, CREATED) == CREATED or "master_compute" not in metadata:
            self._init_pool(context, aggregate, host)
        elif metadata["master_compute"] == ours and host != ours:
            self._demand_secret(aggregate, slave_info)
        else:
            self._virtapi.add_aggregate_host(context, aggregate, host, metadata["master_compute"], self._slave_info())

    def _init_pool(self, context: Any, aggregate: Any, host: str) -> None:
        try:
            pool_ref = self._session.call_xenapi("pool.get_all")[0]
            self._session.call_xenapi("pool.set_name_label", pool_ref, instances.read(aggregate, "name"))
        except XenAPI.Failure as failure:
            raise exception.AggregateError(aggregate_id=instances.read(aggregate, "id"), action="add_to_aggregate",
                                           reason=errors.describe(failure)) from failure
        self._virtapi.aggregate_metadata_add(context, aggregate, {
            "master_compute": host, host: self._session.host_uuid, STATE: ACTIVE})

    def _demand_secret(self, aggregate: Any, slave_info: dict | None) -> None:
        """Joining needs the password of the joining host, which never travels on the message bus."""
        raise exception.AggregateError(
            aggregate_id=instances.read(aggregate, "id"), action="add_to_aggregate",
            reason=f"join {(slave_info or {}).get('url', 'the host')} to the pool with the host's own tools "
                   "(xe pool-join): its password is not sent between hosts")

    def _slave_info(self) -> dict[str, Any]:
        endpoint = self._session.host_endpoint
        return {"url": endpoint.without_credentials, "user": self._conf.xenserver.connection_username,
                "secret_ref": None, "compute_uuid": None, "xenhost_uuid": self._session.host_uuid}

    def remove_host(self, context: Any, aggregate: Any, host: str, slave_info: dict | None = None) -> None:
        """Remove `host`. The master ejects others; it leaves itself only when it is alone.

        Ejecting erases the local storage of the ejected host.
        """
        metadata = _metadata(aggregate)
        if not _is_pool(metadata):
            return
        self._demand(aggregate, metadata, "remove host")
        master = metadata.get("master_compute")
        if master is None:
            raise exception.AggregateError(aggregate_id=instances.read(aggregate, "id"),
                                           action="remove_from_aggregate", reason="the pool has no master")
        if master != self._conf.host:
            self._virtapi.remove_aggregate_host(context, aggregate, host, master, self._slave_info())
        elif host != master:
            self._eject(context, aggregate, host, metadata)
        else:
            self._dissolve(context, aggregate, host, metadata)

    def _eject(self, context: Any, aggregate: Any, host: str, metadata: dict[str, str]) -> None:
        try:
            host_ref = self._session.call_xenapi("host.get_by_uuid", metadata[host])
            self._session.call_long("pool.eject", host_ref)
        except (XenAPI.Failure, KeyError) as error:
            reason = errors.describe(error) if isinstance(error, XenAPI.Failure) else f"{host} is not in the pool"
            raise exception.AggregateError(aggregate_id=instances.read(aggregate, "id"),
                                           action="remove_from_aggregate", reason=reason) from error
        self._virtapi.aggregate_metadata_delete(context, aggregate, host)

    def _dissolve(self, context: Any, aggregate: Any, host: str, metadata: dict[str, str]) -> None:
        hosts = instances.read(aggregate, "hosts") or []
        if len(hosts) > 1:
            raise exception.InvalidAggregateAction(
                aggregate_id=instances.read(aggregate, "id"), action="remove_from_aggregate",
                reason="the master can leave only when it is alone in its pool")
        pool_ref = self._session.call_xenapi("pool.get_all")[0]
        self._session.call_xenapi("pool.set_name_label", pool_ref, "")
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


def _metadata(aggregate: Any) -> dict[str, str]:
    for name in ("metadata", "metadetails"):
        found = instances.read(aggregate, name)
        if found:
            return found if isinstance(found, dict) else {row["key"]: row["value"] for row in found}
    return {}


def _is_pool(metadata: dict[str, str]) -> bool:
    return POOL_FLAG in metadata


class Maintenance:
    """Empties the host: every VM of an instance goes to another host of the pool."""

    def __init__(self, session, cache: VmCache, virtapi):
        self._session = session
        self._cache = cache
        self._virtapi = virtapi

    def set_mode(self, enter: bool) -> str:
        """Enter or leave maintenance; returns on_maintenance or off_maintenance. Raises NoValidHost."""
        if not enter:
            self._session.call_xenapi("host.enable", self._session.host_ref)
            return "off_maintenance"
        self._session.call_xenapi("host.disable", self._session.host_ref)
        others = [ref for ref, record in self._session.get_all_refs_and_recs("host")
                  if ref != self._session.host_ref and record["enabled"]]
        stuck = [vm.name_label for vm in self._cache.here()
                 if vm.instance_uuid and vm.resident_on == self._session.host_ref and not self._move(vm, others)]
        if stuck:
            raise exception.NoValidHost(reason=f"no other host of the pool takes {', '.join(stuck)}")
        return "on_maintenance"

    def _move(self, vm: Any, others: list[str]) -> bool:
        for host_ref in others:
            try:
                self._session.call_task("VM.pool_migrate", vm.ref, host_ref, {"live": "true"})
                return True
            except (XenAPI.Failure, exception.NovaException) as error:
                LOG.warning("%s could not be moved to %s: %s", vm.name_label, host_ref, error)
        return False
