"""Emptying a host for maintenance: every VM of an instance goes to another host of its pool."""

from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import task_states, vm_states
from nova_lite.virt.xenapi import errors, instances
from nova_lite.virt.xenapi.pool import POOL_FLAG
from nova_lite.virt.xenapi.pool_moves import PoolMoves
from nova_lite.virt.xenapi.vm_cache import VmCache

LOG = logging.getLogger(__name__)


class Maintenance:
    """Enters and leaves maintenance. The records of instances follow their VMs."""

    def __init__(self, session, cache: VmCache, virtapi, conf):
        self._session = session
        self._cache = cache
        self._virtapi = virtapi
        self._conf = conf

    def set_mode(self, enter: bool) -> str:
        """Enter or leave maintenance; returns on_maintenance or off_maintenance. Raises NoValidHost."""
        if not enter:
            self._session.call_xenapi("host.enable", self._session.host_ref)
            return "off_maintenance"
        self._session.call_xenapi("host.disable", self._session.host_ref)
        others = {ref: record for ref, record in self._session.get_all_refs_and_recs("host")
                  if ref != self._session.host_ref and record["enabled"]}
        names, moves = self._compute_names(), PoolMoves(self._session)
        stuck = [vm.name_label for vm in self._cache.here()
                 if vm.instance_uuid and vm.resident_on == self._session.host_ref
                 and not self._move(vm, others, names, moves)]
        if stuck:
            raise exception.NoValidHost(reason=f"no other host of the pool takes {', '.join(stuck)}")
        return "on_maintenance"

    def _compute_names(self) -> dict[str, str]:
        """Return {host uuid: compute service} of the pool, as its aggregate knows them."""
        try:
            aggregates = self._virtapi.aggregate_get_by_host(self._virtapi.admin_context(), self._conf.host, POOL_FLAG)
        except NotImplementedError:
            return {}
        return {host_uuid: name for aggregate in aggregates
                for name, host_uuid in instances.metadata_of(aggregate, "metadata").items()}

    def _move(self, vm: Any, others: dict[str, dict], names: dict[str, str], moves: PoolMoves) -> bool:
        """Move one VM to the first host that takes it; its instance is that host's from before the move on."""
        for host_ref, host in others.items():
            name = names.get(host["uuid"])
            try:
                moves.check(vm.ref, host_ref)
                self._update(vm, name, host["hostname"], task_states.MIGRATING)
                self._session.call_task("VM.pool_migrate", vm.ref, host_ref, {"live": "true"})
                self._take_over(vm, host)
            except (XenAPI.Failure, exception.NovaException) as error:
                # Only the code: the arguments may repeat the session of a migration.
                reason = errors.code_of(error) if isinstance(error, XenAPI.Failure) else error
                LOG.warning("%s could not be moved to %s: %s", vm.name_label, host["name_label"], reason)
                continue
            if name is None:
                LOG.warning("%s is on %s now, whose compute service no aggregate names", vm.name_label,
                            host["name_label"])
            self._update(vm, name, host["hostname"], None)
            return True
        self._update(vm, self._conf.host, self._own_hostname(), None)
        return False

    def _take_over(self, vm: Any, host: dict) -> None:
        self._session.call_xenapi("VM.remove_from_other_config", vm.ref, "nova_host")
        self._session.call_xenapi("VM.add_to_other_config", vm.ref, "nova_host", host["uuid"])

    def _own_hostname(self) -> str:
        return self._session.call_xenapi("host.get_hostname", self._session.host_ref)

    def _update(self, vm: Any, host: str | None, node: str, task_state: str | None) -> None:
        if host is None:
            return
        updates = {"host": host, "node": node, "vm_state": vm_states.ACTIVE, "task_state": task_state}
        try:
            self._virtapi.instance_update(self._virtapi.admin_context(), vm.instance_uuid, updates)
        except NotImplementedError:
            LOG.debug("no compute service above to keep the host of %s", vm.name_label)
        except exception.InstanceNotFound:
            LOG.warning("VM %s is of an instance nobody knows", vm.name_label)
