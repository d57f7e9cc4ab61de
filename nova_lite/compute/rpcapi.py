"""Client of the compute manager's RPC API 2.x (compute specification §10.1).

Every method stamps its message with the oldest server version that understands it; under `[upgrade_levels] compute`
it takes an older form (`rpc_history`). Arguments newer than 2.27 are optional on the server and travel only when they
differ from their default, so that older servers need no negotiation.
"""

import datetime
from typing import Any

from oslo_utils import timeutils

from nova_lite import exception, rpc
from nova_lite.compute import rpc_history
from nova_lite.context import RequestContext, Services
from nova_lite.objects.base import NovaObject

BASE_VERSION = "2.0"


def primitive(value: Any) -> Any:
    """Return `value` as the plain JSON data of RPC 2.27: objects as dicts, times as ISO text without zone."""
    if hasattr(value, "to_legacy_dict"):
        return value.to_legacy_dict()
    if isinstance(value, NovaObject):
        if "objects" in value.fields:
            return [primitive(item) for item in value.objects]
        return {name: primitive(getattr(value, name)) for name in value.fields if value.obj_attr_is_set(name)}
    if isinstance(value, dict):
        return {key: primitive(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [primitive(item) for item in value]
    if isinstance(value, datetime.datetime):
        return timeutils.normalize_time(value).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return value


def target_host(host: str | None, instance: Any) -> str:
    """Return the host to address: `host`, else the instance's; raises NovaException when there is neither."""
    if host:
        return host
    if not instance:
        raise exception.NovaException("No compute host to address: neither a host nor an instance was given")
    if not instance["host"]:
        raise exception.NovaException(f"Instance {instance['uuid']} is on no host, so no compute host to address")
    return instance["host"]


def unless(default: Any, **arguments: Any) -> dict[str, Any]:
    """Return the arguments whose value is not `default`: what peers that do not know them need not see."""
    return {name: value for name, value in arguments.items() if value != default}


class _Client:
    """Sends to `compute.<host>`."""

    def __init__(self, services: Services) -> None:
        self._cap = rpc.resolve_cap("compute", services.conf.upgrade_levels.compute)
        self._client = services.rpc.client(services.conf.compute_topic, version=BASE_VERSION, version_cap=self._cap)

    def _cast(self, ctxt: RequestContext, method: str, server: str, version: str = "2.0", **args: Any) -> None:
        version, args = rpc_history.fitted(method, version, primitive(args), self._cap)
        self._client.cast(ctxt, method, version=version, server=server, **args)

    def _call(self, ctxt: RequestContext, method: str, server: str, version: str = "2.0", **args: Any) -> Any:
        version, args = rpc_history.fitted(method, version, primitive(args), self._cap)
        return self._client.call(ctxt, method, version=version, server=server, **args)

    def _cast_instance(self, ctxt: RequestContext, method: str, instance: Any, version: str = "2.0", *,
                       host: str | None = None, **args: Any) -> None:
        self._cast(ctxt, method, target_host(host, instance), version, instance=instance, **args)

    def _call_instance(self, ctxt: RequestContext, method: str, instance: Any, version: str = "2.0", *,
                       host: str | None = None, **args: Any) -> Any:
        return self._call(ctxt, method, target_host(host, instance), version, instance=instance, **args)


class ComputeAPI(_Client):
    """The compute manager of a host, as seen from elsewhere. `instance` arguments are Instance or dict."""

    def add_aggregate_host(self, ctxt: RequestContext, aggregate: Any, host_param: str, host: str,
                           slave_info: dict[str, Any] | None = None) -> None:
        self._cast(ctxt, "add_aggregate_host", host, "2.14", aggregate=aggregate, host=host_param,
                   slave_info=slave_info)

    def add_fixed_ip_to_instance(self, ctxt: RequestContext, instance: Any, network_id: str | None) -> None:
        self._cast_instance(ctxt, "add_fixed_ip_to_instance", instance, network_id=network_id)

    def attach_interface(self, ctxt: RequestContext, instance: Any, network_id: str | None, port_id: str | None,
                         requested_ip: str | None) -> Any:
        return self._call_instance(ctxt, "attach_interface", instance, "2.25", network_id=network_id,
                                   port_id=port_id, requested_ip=requested_ip)

    def attach_volume(self, ctxt: RequestContext, instance: Any, volume_id: str | None, mountpoint: str) -> None:
        self._cast_instance(ctxt, "attach_volume", instance, volume_id=volume_id, mountpoint=mountpoint)

    def change_instance_metadata(self, ctxt: RequestContext, instance: Any, diff: dict[str, list[str]]) -> None:
        self._cast_instance(ctxt, "change_instance_metadata", instance, diff=diff)

    def check_can_live_migrate_destination(self, context: RequestContext, instance: Any, destination: str,
                                           block_migration: bool | None, disk_over_commit: bool | None) -> Any:
        return self._call_instance(context, "check_can_live_migrate_destination", instance, host=destination,
                                   block_migration=block_migration, disk_over_commit=disk_over_commit)

    def check_can_live_migrate_source(self, context: RequestContext, instance: Any,
                                      dest_check_data: dict[str, Any]) -> Any:
        return self._call_instance(context, "check_can_live_migrate_source", instance,
                                   dest_check_data=dest_check_data)

    def confirm_resize(self, ctxt: RequestContext, instance: Any, migration: Any, host: str | None,
                       reservations: list[str] | None = None, cast: bool = True) -> Any:
        send = self._cast_instance if cast else self._call_instance
        return send(ctxt, "confirm_resize", instance, "2.7", host=host, migration=migration,
                    reservations=reservations)

    def detach_interface(self, ctxt: RequestContext, instance: Any, port_id: str | None) -> None:
        self._cast_instance(ctxt, "detach_interface", instance, "2.25", port_id=port_id)

    def detach_volume(self, ctxt: RequestContext, instance: Any, volume_id: str | None) -> None:
        self._cast_instance(ctxt, "detach_volume", instance, volume_id=volume_id)

    def finish_resize(self, ctxt: RequestContext, instance: Any, migration: Any, image: Any, disk_info: Any,
                      host: str, reservations: list[str] | None = None) -> None:
        self._cast_instance(ctxt, "finish_resize", instance, "2.8", host=host, migration=migration, image=image,
                            disk_info=disk_info, reservations=reservations)

    def finish_revert_resize(self, ctxt: RequestContext, instance: Any, migration: Any, host: str | None,
                             reservations: list[str] | None = None) -> None:
        self._cast_instance(ctxt, "finish_revert_resize", instance, "2.13", host=host, migration=migration,
                            reservations=reservations)

    def get_backdoor_port(self, ctxt: RequestContext, host: str) -> Any:
        return self._call(ctxt, "get_backdoor_port", host)

    def get_console_output(self, ctxt: RequestContext, instance: Any, tail_length: int | None) -> Any:
        return self._call_instance(ctxt, "get_console_output", instance, tail_length=tail_length)

    def get_console_pool_info(self, ctxt: RequestContext, console_type: str, host: str) -> Any:
        return self._call(ctxt, "get_console_pool_info", host, console_type=console_type)

    def get_console_topic(self, ctxt: RequestContext, host: str) -> Any:
        return self._call(ctxt, "get_console_topic", host)

    def get_diagnostics(self, ctxt: RequestContext, instance: Any) -> Any:
        return self._call_instance(ctxt, "get_diagnostics", instance)

    def get_host_uptime(self, ctxt: RequestContext, host: str) -> Any:
        return self._call(ctxt, "get_host_uptime", host)

    def get_spice_console(self, ctxt: RequestContext, instance: Any, console_type: str) -> Any:
        return self._call_instance(ctxt, "get_spice_console", instance, "2.24", console_type=console_type)

    def get_vnc_console(self, ctxt: RequestContext, instance: Any, console_type: str) -> Any:
        return self._call_instance(ctxt, "get_vnc_console", instance, console_type=console_type)

    def host_maintenance_mode(self, ctxt: RequestContext, host_param: str, mode: bool, host: str) -> Any:
        return self._call(ctxt, "host_maintenance_mode", host, host=host_param, mode=mode)

    def host_power_action(self, ctxt: RequestContext, action: str, host: str) -> Any:
        return self._call(ctxt, "host_power_action", host, action=action)

    def inject_file(self, ctxt: RequestContext, instance: Any, path: str, file_contents: str) -> None:
        self._cast_instance(ctxt, "inject_file", instance, path=path, file_contents=file_contents)

    def inject_network_info(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "inject_network_info", instance)

    def live_migration(self, ctxt: RequestContext, instance: Any, dest: str, block_migration: bool | None, host: str,
                       migrate_data: dict[str, Any] | None = None) -> None:
        self._cast_instance(ctxt, "live_migration", instance, host=host, dest=dest,
                            block_migration=block_migration, migrate_data=migrate_data)

    def pause_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "pause_instance", instance)

    def post_live_migration_at_destination(self, ctxt: RequestContext, instance: Any, block_migration: bool | None,
                                           host: str) -> Any:
        return self._call_instance(ctxt, "post_live_migration_at_destination", instance, host=host,
                                   block_migration=block_migration)

    def power_off_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "power_off_instance", instance)

    def power_on_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "power_on_instance", instance)

    def pre_live_migration(self, ctxt: RequestContext, instance: Any, block_migration: bool | None, disk: Any,
                           host: str, migrate_data: dict[str, Any] | None = None) -> Any:
        return self._call_instance(ctxt, "pre_live_migration", instance, "2.21", host=host,
                                   block_migration=block_migration, disk=disk, migrate_data=migrate_data)

    def prep_resize(self, ctxt: RequestContext, image: Any, instance: Any, instance_type: Any, host: str,
                    reservations: list[str] | None = None, request_spec: dict[str, Any] | None = None,
                    filter_properties: dict[str, Any] | None = None, node: str | None = None) -> None:
        self._cast_instance(ctxt, "prep_resize", instance, "2.20", host=host, image=image,
                            instance_type=instance_type, reservations=reservations, request_spec=request_spec,
                            filter_properties=filter_properties, node=node)

    def publish_service_capabilities(self, ctxt: RequestContext) -> None:
        if rpc_history.exists("publish_service_capabilities", self._cap):  # a hint that older hosts do not give
            self._client.cast(ctxt, "publish_service_capabilities", version="2.0", fanout=True)

    def reboot_instance(self, ctxt: RequestContext, instance: Any, block_device_info: dict[str, Any] | None,
                        reboot_type: str) -> None:
        self._cast_instance(ctxt, "reboot_instance", instance, "2.23", block_device_info=block_device_info,
                            reboot_type=reboot_type)

    def rebuild_instance(self, ctxt: RequestContext, instance: Any, new_pass: str | None,
                         injected_files: list[Any] | None, image_ref: str | None, orig_image_ref: str | None,
                         orig_sys_metadata: dict[str, str] | None, bdms: list[Any] | None, recreate: bool = False,
                         on_shared_storage: bool = False, host: str | None = None, preserve_ephemeral: bool = False,
                         migration: Any = None) -> None:
        self._cast_instance(ctxt, "rebuild_instance", instance, "2.22", host=host, new_pass=new_pass,
                            injected_files=injected_files, image_ref=image_ref, orig_image_ref=orig_image_ref,
                            orig_sys_metadata=orig_sys_metadata, bdms=bdms, recreate=recreate,
                            on_shared_storage=on_shared_storage,
                            **unless(False, preserve_ephemeral=preserve_ephemeral),
                            **unless(None, migration=migration))

    def refresh_provider_fw_rules(self, ctxt: RequestContext, host: str) -> None:
        self._cast(ctxt, "refresh_provider_fw_rules", host)

    def remove_aggregate_host(self, ctxt: RequestContext, aggregate: Any, host_param: str, host: str,
                              slave_info: dict[str, Any] | None = None) -> None:
        self._cast(ctxt, "remove_aggregate_host", host, "2.15", aggregate=aggregate, host=host_param,
                   slave_info=slave_info)

    def remove_fixed_ip_from_instance(self, ctxt: RequestContext, instance: Any, address: str) -> None:
        self._cast_instance(ctxt, "remove_fixed_ip_from_instance", instance, address=address)

    def remove_volume_connection(self, ctxt: RequestContext, instance: Any, volume_id: str | None, host: str) -> Any:
        return self._call_instance(ctxt, "remove_volume_connection", instance, host=host, volume_id=volume_id)

    def rescue_instance(self, ctxt: RequestContext, instance: Any, rescue_password: str | None,
                        rescue_image_ref: str | None = None, clean_shutdown: bool = True) -> None:
        self._cast_instance(ctxt, "rescue_instance", instance, rescue_password=rescue_password,
                            **unless(None, rescue_image_ref=rescue_image_ref),
                            **unless(True, clean_shutdown=clean_shutdown))

    def reserve_block_device_name(self, ctxt: RequestContext, instance: Any, device: str | None,
                                  volume_id: str | None, disk_bus: str | None = None,
                                  device_type: str | None = None) -> Any:
        return self._call_instance(ctxt, "reserve_block_device_name", instance, "2.3", device=device,
                                   volume_id=volume_id,
                                   **unless(None, disk_bus=disk_bus, device_type=device_type))

    def reset_network(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "reset_network", instance)

    def resize_instance(self, ctxt: RequestContext, instance: Any, migration: Any, image: Any, instance_type: Any,
                        reservations: list[str] | None = None, clean_shutdown: bool = True) -> None:
        self._cast_instance(ctxt, "resize_instance", instance, "2.16", migration=migration, image=image,
                            instance_type=instance_type, reservations=reservations,
                            **unless(True, clean_shutdown=clean_shutdown))

    def restore_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "restore_instance", instance)

    def resume_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "resume_instance", instance)

    def revert_resize(self, ctxt: RequestContext, instance: Any, migration: Any, host: str | None,
                      reservations: list[str] | None = None) -> None:
        self._cast_instance(ctxt, "revert_resize", instance, "2.12", host=host, migration=migration,
                            reservations=reservations)

    def rollback_live_migration_at_destination(self, ctxt: RequestContext, instance: Any, host: str) -> None:
        self._cast_instance(ctxt, "rollback_live_migration_at_destination", instance, host=host)

    def run_instance(self, ctxt: RequestContext, instance: Any, host: str, request_spec: dict[str, Any] | None,
                     filter_properties: dict[str, Any] | None, requested_networks: list[Any] | None,
                     injected_files: list[Any] | None, admin_password: str | None, is_first_time: bool,
                     node: str | None = None) -> None:
        self._cast_instance(ctxt, "run_instance", instance, "2.19", host=host, request_spec=request_spec,
                            filter_properties=filter_properties, requested_networks=requested_networks,
                            injected_files=injected_files, admin_password=admin_password,
                            is_first_time=is_first_time, node=node)

    def set_admin_password(self, ctxt: RequestContext, instance: Any, new_pass: str | None) -> Any:
        return self._call_instance(ctxt, "set_admin_password", instance, new_pass=new_pass)

    def set_host_enabled(self, ctxt: RequestContext, enabled: bool, host: str) -> Any:
        return self._call(ctxt, "set_host_enabled", host, enabled=enabled)

    def snapshot_instance(self, ctxt: RequestContext, instance: Any, image_id: str, image_type: str,
                          backup_type: str | None = None, rotation: int | None = None) -> None:
        self._cast_instance(ctxt, "snapshot_instance", instance, image_id=image_id, image_type=image_type,
                            backup_type=backup_type, rotation=rotation)

    def soft_delete_instance(self, ctxt: RequestContext, instance: Any,
                             reservations: list[str] | None = None) -> None:
        self._cast_instance(ctxt, "soft_delete_instance", instance, "2.27", reservations=reservations)

    def start_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "start_instance", instance)

    def stop_instance(self, ctxt: RequestContext, instance: Any, cast: bool = True,
                      clean_shutdown: bool = True) -> Any:
        send = self._cast_instance if cast else self._call_instance
        return send(ctxt, "stop_instance", instance, **unless(True, clean_shutdown=clean_shutdown))

    def suspend_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "suspend_instance", instance)

    def terminate_instance(self, ctxt: RequestContext, instance: Any, bdms: list[Any] | None,
                           reservations: list[str] | None = None) -> None:
        self._cast_instance(ctxt, "terminate_instance", instance, "2.27", bdms=bdms, reservations=reservations)

    def unpause_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "unpause_instance", instance)

    def unrescue_instance(self, ctxt: RequestContext, instance: Any) -> None:
        self._cast_instance(ctxt, "unrescue_instance", instance)

    def validate_console_port(self, context: RequestContext, instance: Any, port: int, console_type: str) -> Any:
        return self._call_instance(context, "validate_console_port", instance, "2.26", port=port,
                                   console_type=console_type)


class SecurityGroupAPI(_Client):
    """Tells computes that firewall rules changed."""

    def refresh_security_group_rules(self, ctxt: RequestContext, security_group_id: int, host: str) -> None:
        self._cast(ctxt, "refresh_security_group_rules", host, security_group_id=security_group_id)

    def refresh_security_group_members(self, ctxt: RequestContext, security_group_id: int, host: str) -> None:
        self._cast(ctxt, "refresh_security_group_members", host, security_group_id=security_group_id)

    def refresh_instance_security_rules(self, ctxt: RequestContext, host: str, instance: Any) -> None:
        self._cast_instance(ctxt, "refresh_instance_security_rules", instance)
