"""XenAPIDriver: the compute driver interface on top of VMOps."""

import socket
from contextlib import ExitStack

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import power_state
from nova_lite.virt import driver
from nova_lite.virt.xenapi import pool, records
from nova_lite.virt.xenapi.requirements import check_host, check_plugins, runs_in_its_host, unsupported
from nova_lite.virt.xenapi.session import XenAPISession
from nova_lite.virt.xenapi.transport import TlsPolicy
from nova_lite.virt.xenapi.vm_changes import VmChanges
from nova_lite.virt.xenapi.vmops import VMOps

LOG = logging.getLogger(__name__)

FIRST_PICTURE_S = 30
NEED_PLUGINS = ("guest agents", "changes of a running guest's xenstore", "console logs", "kernel and ramdisk files",
                "image_handler = direct_vhd")

class XenAPIDriver(driver.ComputeDriver):
    """A XenServer or XCP-ng host.

    Connects when init_host runs, or with the first call that needs the host; an unreachable host raises
    HypervisorUnavailable, a wrong password HypervisorLoginRefused, both with the URL and without the password.
    """

    capabilities = {"has_imagecache": True, "supports_recreate": True}

    def __init__(self, virtapi, read_only=False, *, conf, image_api, clock=None):
        super().__init__(virtapi)
        if not conf.xenserver.connection_url or conf.xenserver.connection_password is None:
            raise exception.ConfigurationError(
                reason="[xenserver] connection_url and connection_password must be set to use "
                       "compute_driver = xenapi.XenAPIDriver")
        for line in unsupported(conf):
            raise exception.ConfigurationError(reason=line)
        self._conf = conf
        self._image_api = image_api
        self._clock = clock
        self._vmops: VMOps | None = None
        self._changes: VmChanges | None = None

    def connect(self) -> VMOps:
        """Return the VMs of the host, connecting to it when that was not done yet."""
        if self._vmops is None:
            session = self._log_in()
            with ExitStack() as stack:
                stack.callback(session.close)  # unless all goes well
                vmops = VMOps(session, session.product_version, self.virtapi, self._conf, self._image_api)
                if runs_in_its_host(self._conf):
                    check_host(session)
                check_plugins(session, self._conf)
                if session.plugin_version is None:
                    LOG.warning("The host has no dom0 plugins. Not available without them: %s", ", ".join(NEED_PLUGINS))
                stack.pop_all()
            self._changes = VmChanges(vmops.domains, self.emit_event, lambda: self._event_callback is not None)
            vmops.cache.on_change = self._changes.changed
            vmops.cache.start()
            self._session, self._vmops = session, vmops
        return self._vmops

    def _log_in(self) -> XenAPISession:
        options = self._conf.xenserver
        return XenAPISession(
            options.connection_url, options.connection_username, options.connection_password,
            timeout=options.login_timeout, concurrent=options.connection_concurrent, tls=TlsPolicy.of(options),
            call_timeout=options.call_timeout, task_timeout=options.task_timeout,
            task_poll_interval=options.task_poll_interval, plugin_wire=options.plugin_wire,
            remembered_host=self._uuid_in_aggregate, clock=self._clock)

    def _uuid_in_aggregate(self) -> str | None:
        """Return the uuid under which the pool's aggregate knows our host, None where there is none."""
        try:
            aggregates = self.virtapi.aggregate_get_by_host(
                self.virtapi.admin_context(), self._conf.host, key=pool.POOL_FLAG)
        except NotImplementedError:
            return None
        return next((uuid for aggregate in aggregates if (uuid := pool.metadata_of(aggregate).get(self._conf.host))),
                    None)

    @property
    def vmops(self) -> VMOps:
        return self.connect()

    def init_host(self, host):
        """Connect to the host, get the first picture of its VMs, put away what an earlier run had in hand."""
        vmops = self.connect()
        vmops.cache.wait_synced(FIRST_PICTURE_S)
        vmops.leftovers.clear_up()
        if runs_in_its_host(self._conf):
            vmops.local_devices.detach_leftovers()
        vmops.host.stats()

    def cleanup_host(self, host):
        """Log out of the host."""
        if self._vmops is not None:
            vmops, self._vmops = self._vmops, None
            vmops.cache.stop()
            vmops.migrations.sessions.close_all()
            self._session.close()
            self._changes.stop()

    # Guests ---------------------------------------------------------------------------------------------------

    def list_instances(self):
        return self.vmops.list_instances()

    def list_instance_uuids(self):
        return [vm.instance_uuid for vm in self.vmops.cache.here() if vm.instance_uuid]

    def settle_interrupted(self, instance, task_state):
        return self.vmops.settling.settle(instance, task_state)

    def get_info(self, instance):
        return self.vmops.get_info(instance)

    def get_power_states(self):
        return {vm.instance_uuid: vm.state for vm in self.vmops.cache.here()
                if vm.instance_uuid and vm.is_guest and not vm.name_label.endswith(("-rescue", "-orig"))}

    def get_per_instance_usage(self):
        usage = {}
        for vm in self.vmops.cache.here():
            if vm.instance_uuid and vm.state in (power_state.RUNNING, power_state.PAUSED):
                entry = usage.setdefault(vm.instance_uuid, {"uuid": vm.instance_uuid, "memory_mb": 0})
                entry["memory_mb"] += vm.memory_static_max_b >> 20
        return usage

    def estimate_instance_overhead(self, sizes):
        return {"memory_mb": records.memory_overhead_mb(sizes["memory_mb"] or 0, sizes["vcpus"] or 1)}

    def spawn(self, context, instance, image_meta, injected_files, admin_password, network_info=None,
              block_device_info=None):
        self.vmops.spawn(context, instance, image_meta, network_info, injected_files, admin_password,
                         block_device_info)

    def destroy(self, instance, network_info, block_device_info=None, destroy_disks=True):
        self.vmops.destroy(instance, network_info, block_device_info, destroy_disks)

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None,
               bad_volumes_callback=None):
        try:
            self.vmops.reboot(instance, reboot_type, bad_volumes_callback=bad_volumes_callback)
        except exception.InstanceNotFound:
            if not self.vmops.migrations.put_back(instance, block_device_info):
                raise

    def pause(self, instance):
        self.vmops.pause(instance)

    def unpause(self, instance):
        self.vmops.unpause(instance)

    def suspend(self, instance):
        self.vmops.suspend(instance)

    def resume(self, instance, network_info, block_device_info=None):
        self.vmops.resume(instance)

    def power_off(self, instance, timeout=0, retry_interval=0):
        self.vmops.power_off(instance, timeout, retry_interval)

    def power_on(self, context, instance, network_info, block_device_info=None):
        self.vmops.power_on(instance)

    def resume_state_on_host_boot(self, context, instance, network_info, block_device_info=None):
        self.vmops.power_on(instance)

    def soft_delete(self, instance):
        self.vmops.soft_delete(instance)

    def restore(self, instance):
        self.vmops.restore(instance)

    def set_admin_password(self, instance, new_pass):
        self.vmops.set_admin_password(instance, new_pass)

    def inject_file(self, instance, path, contents):
        self.vmops.inject_file(instance, path, contents)

    def change_instance_metadata(self, context, instance, diff):
        self.vmops.change_instance_metadata(instance, diff)

    def rescue(self, context, instance, network_info, image_meta, rescue_password):
        self.vmops.rescue(context, instance, network_info, image_meta, rescue_password)

    def unrescue(self, instance, network_info):
        self.vmops.unrescue(instance)

    def snapshot(self, context, instance, image_id, update_task_state):
        self.vmops.snapshot(context, instance, image_id, update_task_state)

    def migrate_disk_and_power_off(self, context, instance, dest, instance_type, network_info,
                                   block_device_info=None):
        return self.vmops.migrate_disk_and_power_off(context, instance, dest, instance_type, block_device_info)

    def finish_migration(self, context, migration, instance, disk_info, network_info, image_meta, resize_instance,
                         block_device_info=None):
        self.vmops.finish_migration(context, migration, instance, disk_info, network_info, image_meta,
                                    resize_instance, block_device_info)

    def confirm_migration(self, migration, instance, network_info):
        self.vmops.confirm_migration(migration, instance, network_info)

    def finish_revert_migration(self, instance, network_info, block_device_info=None):
        self.vmops.finish_revert_migration(instance, block_device_info)

    def get_console_output(self, instance):
        return self.vmops.get_console_output(instance)

    def get_vnc_console(self, instance):
        return self.vmops.get_vnc_console(instance)

    def get_spice_console(self, instance):
        raise exception.ConsoleTypeInvalid(console_type="spice")

    def get_diagnostics(self, instance):
        return self.vmops.get_diagnostics(instance)

    def get_all_bw_counters(self, instances):
        return self.vmops.metrics.counters(instances)

    def get_all_volume_usage(self, context, compute_host_bdms):
        return self.vmops.device_counters.volumes(compute_host_bdms)

    def block_stats(self, instance_name, disk_id):
        return self.vmops.device_counters.disk(instance_name, disk_id)

    def interface_stats(self, instance_name, iface_id):
        return self.vmops.device_counters.interface(instance_name, iface_id)

    def poll_rebooting_instances(self, timeout, instances):
        self.vmops.poll_rebooting_instances(timeout, instances)

    def manage_image_cache(self, context, all_instances):
        self.vmops.image_cache.sweep()
        self.vmops.janitor.report({instance["uuid"] for instance in all_instances})

    def get_instance_disk_info(self, instance_name):
        """Return None: the destination learns nothing from it."""

    def instance_on_disk(self, instance):
        return self.vmops.disks.has_root_of(instance["uuid"])

    # Volumes and networks -------------------------------------------------------------------------------------

    def attach_volume(self, connection_info, instance, mountpoint):
        vmops = self.vmops
        vmops.volumes.attach_volume(connection_info, vmops.finder.name(instance), mountpoint)

    def detach_volume(self, connection_info, instance, mountpoint):
        vmops = self.vmops
        vmops.volumes.detach_volume(connection_info, vmops.finder.name(instance), mountpoint)

    def get_volume_connector(self, instance):
        stats = self.get_host_stats()
        return {"ip": self.get_host_ip_addr(), "initiator": stats["host_iscsi_iqn"], "host": stats["host_hostname"]}

    def attach_interface(self, instance, image_meta, network_info):
        self.vmops.attach_interface(instance, network_info)

    def detach_interface(self, instance, network_info):
        self.vmops.detach_interface(instance, network_info)

    def plug_vifs(self, instance, network_info):
        self.vmops.plug_vifs(instance, network_info)

    def unplug_vifs(self, instance, network_info):
        self.vmops.unplug_vifs(instance, network_info)

    def inject_network_info(self, instance, nw_info):
        self.vmops.inject_network_info(instance, nw_info)

    def reset_network(self, instance):
        self.vmops.reset_network(instance)

    def legacy_nwinfo(self):
        return False

    def refresh_security_group_rules(self, security_group_id):
        self.vmops.refresh_security_group_rules(security_group_id)

    def refresh_security_group_members(self, security_group_id):
        self.vmops.refresh_security_group_members(security_group_id)

    def refresh_instance_security_rules(self, instance):
        self.vmops.refresh_instance_security_rules(instance)

    def refresh_provider_fw_rules(self):
        self.vmops.refresh_provider_fw_rules()

    def ensure_filtering_rules_for_instance(self, instance, network_info):
        """See that filters in dom0 are in force; those of VIF locking mode arrive with the VM's record."""
        self.vmops.firewall_driver.ensure_instance_filter(instance, network_info)

    def unfilter_instance(self, instance, network_info):
        self.vmops.unfilter_instance(instance, network_info)

    def filter_defer_apply_on(self):
        self.vmops.firewall_driver.filter_defer_apply_on()

    def filter_defer_apply_off(self):
        self.vmops.firewall_driver.filter_defer_apply_off()

    # The host -------------------------------------------------------------------------------------------------

    def get_available_resource(self, nodename):
        resources = self.vmops.host.available_resource()
        if nodename and nodename != resources["hypervisor_hostname"]:
            return {}
        return resources

    def get_available_nodes(self):
        return [self.get_host_stats()["hypervisor_hostname"]]

    def get_host_stats(self, refresh=False):
        return self.vmops.host.stats(refresh)

    def get_host_ip_addr(self):
        self.connect()
        return self._session.host_endpoint.host or self._conf.my_ip

    def get_host_uptime(self, host):
        return self.vmops.host.uptime()

    def host_power_action(self, host, action):
        return self.vmops.host.power_action(action)

    def set_host_enabled(self, host, enabled):
        return self.vmops.host.set_enabled(enabled)

    def get_console_pool_info(self, console_type):
        options = self._conf.xenserver
        return {"address": options.console_public_hostname or self.get_host_ip_addr() or socket.gethostname(),
                "username": options.connection_username, "password": options.connection_password}

    def host_maintenance_mode(self, host, mode):
        return self.vmops.maintenance.set_mode(mode)

    def add_to_aggregate(self, context, aggregate, host, **kwargs):
        self.vmops.pools.add_host(context, aggregate, host, kwargs.get("slave_info"))

    def remove_from_aggregate(self, context, aggregate, host, **kwargs):
        self.vmops.pools.remove_host(context, aggregate, host, kwargs.get("slave_info"))

    def undo_aggregate_operation(self, context, op, aggregate, host, set_error=True):
        self.vmops.pools.undo(context, op, aggregate, host, set_error)

    # Live migration -------------------------------------------------------------------------------------------

    def check_can_live_migrate_destination(self, context, instance, src_compute_info, dst_compute_info,
                                           block_migration=False, disk_over_commit=False):
        return self.vmops.check_can_live_migrate_destination(context, instance, src_compute_info, block_migration)

    def check_can_live_migrate_destination_cleanup(self, context, dest_check_data):
        """The check leaves nothing behind."""

    def check_can_live_migrate_source(self, context, instance, dest_check_data):
        return self.vmops.check_can_live_migrate_source(context, instance, dest_check_data)

    def pre_live_migration(self, context, instance, block_device_info, network_info, disk_info, migrate_data=None):
        return self.vmops.live_migrations.prepare_destination(instance, block_device_info, network_info, migrate_data)

    def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                       migrate_data=None):
        self.vmops.live_migrate(context, instance, dest, post_method, recover_method, block_migration, migrate_data)

    def live_migration_abort(self, instance):
        """Stop a live migration that is under way; it ends in recover_method."""
        self.vmops.live_migration_abort(instance)

    def post_live_migration_at_destination(self, context, instance, network_info, block_migration=False,
                                           block_device_info=None):
        self.vmops.post_live_migration_at_destination(context, instance, network_info, block_migration,
                                                      block_device_info)
