"""What the hypervisor driver may ask back of this compute service."""

from typing import Any

from nova_lite import objects
from nova_lite.compute import rpcapi
from nova_lite.compute.policy import record_fault
from nova_lite.context import RequestContext, get_admin_context
from nova_lite.virt.virtapi import VirtAPI


class ComputeVirtAPI(VirtAPI):
    """The VirtAPI of a compute manager. Results are plain dicts, except where a network or compute call has none."""

    def __init__(self, compute: Any) -> None:
        super().__init__()
        self._compute = compute

    @property
    def _conductor(self) -> Any:
        return self._compute.conductor_api

    @property
    def _services(self) -> Any:
        return self._compute.services

    def admin_context(self) -> RequestContext:
        return get_admin_context().bind(self._services)

    def instance_update(self, context: RequestContext, instance_uuid: str, updates: dict[str, Any]) -> dict[str, Any]:
        """Change the instance so that its tracker sees it; returns the updated instance."""
        return self._compute._instance_update(context, instance_uuid, **updates)

    def instance_get(self, context: RequestContext, instance_id: int) -> dict[str, Any]:
        return self._conductor.instance_get(context, instance_id)

    def instance_get_by_uuid(self, context: RequestContext, instance_uuid: str) -> dict[str, Any]:
        return self._conductor.instance_get_by_uuid(context, instance_uuid)

    def instance_get_all_by_host(self, context: RequestContext, host: str) -> list[dict[str, Any]]:
        return self._conductor.instance_get_all_by_host(context, host)

    def instance_get_all_hung_in_rebooting(self, context: RequestContext, timeout: int) -> list[dict[str, Any]]:
        return self._conductor.instance_get_all_hung_in_rebooting(context, timeout)

    def instance_fault_create(self, context: RequestContext, instance: Any, exception: BaseException,
                              exc_info: Any = None) -> None:
        """Record a fault; a failure to record it is logged."""
        record_fault(self._conductor, context, instance, exception)

    def instance_type_get(self, context: RequestContext, instance_type_id: int) -> dict[str, Any]:
        return self._conductor.instance_type_get(context, instance_type_id)

    def aggregate_get_by_host(self, context: RequestContext, host: str,
                              key: str | None = None) -> list[dict[str, Any]]:
        return self._conductor.aggregate_get_by_host(context, host, key)

    def aggregate_metadata_add(self, context: RequestContext, aggregate: Any, metadata: dict[str, str],
                               set_delete: bool = False) -> dict[str, str]:
        return self._conductor.aggregate_metadata_add(context, aggregate["id"], metadata, set_delete)

    def aggregate_metadata_delete(self, context: RequestContext, aggregate: Any, key: str) -> None:
        self._conductor.aggregate_metadata_delete(context, aggregate["id"], key)

    def add_aggregate_host(self, context: RequestContext, aggregate: Any, host_param: str, host: str,
                           slave_info: dict[str, Any]) -> None:
        rpcapi.ComputeAPI(self._services).add_aggregate_host(context, aggregate, host_param, host, slave_info)

    def remove_aggregate_host(self, context: RequestContext, aggregate: Any, host_param: str, host: str,
                              slave_info: dict[str, Any]) -> None:
        rpcapi.ComputeAPI(self._services).remove_aggregate_host(context, aggregate, host_param, host, slave_info)

    def security_group_get_by_instance(self, context: RequestContext, instance: Any) -> list[dict[str, Any]]:
        return self._conductor.security_group_get_by_instance(context, instance["uuid"])

    def security_group_rule_get_by_security_group(self, context: RequestContext,
                                                  security_group: Any) -> list[dict[str, Any]]:
        return self._conductor.security_group_rule_get_by_security_group(context, security_group["id"])

    def provider_fw_rule_get_all(self, context: RequestContext) -> list[dict[str, Any]]:
        return self._conductor.provider_fw_rule_get_all(context)

    def agent_build_get_by_triple(self, context: RequestContext, hypervisor: str, os: str,
                                  architecture: str) -> dict[str, Any] | None:
        return self._conductor.agent_build_get_by_triple(context, hypervisor, os, architecture)

    def migration_get_unconfirmed_by_dest_compute(self, context: RequestContext,
                                                  confirm_window: int) -> list[dict[str, Any]]:
        return self._conductor.migration_get_unconfirmed_by_dest_compute(context, confirm_window,
                                                                         self._compute.host)

    def migration_update(self, context: RequestContext, migration: Any, status: str) -> None:
        self._conductor.migration_update(context, migration["id"], {"status": status})

    def confirm_resize(self, context: RequestContext, instance: Any, migration: Any) -> None:
        self._services.compute_api.confirm_resize(context, self._instance(context, instance), migration)

    def reboot_instance(self, context: RequestContext, instance: Any, reboot_type: str) -> None:
        self._services.compute_api.reboot(context, self._instance(context, instance), reboot_type)

    def wait_vifs_active(self, context: RequestContext, instance: Any, vif_ids: list[str], timeout_s: float) -> None:
        """Wait until the network service reports the interfaces active; what it raises at the end goes through."""
        self._services.network_api.wait_active(context, instance, vif_ids, timeout_s)

    def _instance(self, context: RequestContext, instance: Any) -> objects.Instance:
        return objects.Instance.get_by_uuid(context, instance["uuid"])
