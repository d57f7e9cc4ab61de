"""A driver without a hypervisor, for trying the rest: guests are entries of a dict, and so are their states."""

from dataclasses import dataclass

from oslo_log import log as logging

from nova_lite import exception
from nova_lite.objects import power_state
from nova_lite.virt import driver, virtapi

LOG = logging.getLogger(__name__)

DEFAULT_NODE = "fake-mini"


@dataclass
class FakeInstance:
    """A guest of the fake driver."""

    name: str
    uuid: str
    state: int

    def __getitem__(self, key):
        return getattr(self, key)


class FakeDriver(driver.ComputeDriver):
    """Keeps guests in memory. Node names are those of set_nodes, or `fake-mini`."""

    capabilities = {"has_imagecache": True, "supports_recreate": True}

    def __init__(self, virtapi, read_only=False, *, conf=None, image_api=None):
        super().__init__(virtapi)
        self.instances: dict[str, FakeInstance] = {}
        self._mounts: dict[str, dict[str, dict]] = {}
        self._interfaces: dict[str, object] = {}
        self._enabled = True
        self._nodes = [DEFAULT_NODE]

    def set_nodes(self, nodes):
        """Have the driver look after these nodes."""
        self._nodes = list(nodes)

    def restore_nodes(self):
        """Have the driver look after its own node again."""
        self._nodes = [DEFAULT_NODE]

    def init_host(self, host):
        """Nothing to prepare."""

    def _instance(self, instance) -> FakeInstance:
        try:
            return self.instances[instance["name"]]
        except KeyError:
            raise exception.InstanceNotFound(instance_id=instance["name"]) from None

    def _set_state(self, instance, state):
        self._instance(instance).state = state

    def list_instances(self):
        return list(self.instances)

    def list_instance_uuids(self):
        return [guest.uuid for guest in self.instances.values()]

    def get_power_states(self):
        return {guest.uuid: guest.state for guest in self.instances.values()}

    def get_info(self, instance):
        return {"state": self._instance(instance).state, "max_mem": 0, "mem": 0, "num_cpu": 2, "cpu_time": 0}

    def spawn(self, context, instance, image_meta, injected_files, admin_password, network_info=None,
              block_device_info=None):
        name = instance["name"]
        self.instances[name] = FakeInstance(name, instance["uuid"], power_state.RUNNING)

    def destroy(self, instance, network_info, block_device_info=None, destroy_disks=True):
        if self.instances.pop(instance["name"], None) is None:
            LOG.warning("Guest %s does not exist, nothing to destroy", instance["name"])

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None,
               bad_volumes_callback=None):
        self._set_state(instance, power_state.RUNNING)

    def pause(self, instance):
        self._set_state(instance, power_state.PAUSED)

    def unpause(self, instance):
        self._set_state(instance, power_state.RUNNING)

    def suspend(self, instance):
        self._set_state(instance, power_state.SUSPENDED)

    def resume(self, instance, network_info, block_device_info=None):
        self._set_state(instance, power_state.RUNNING)

    def power_off(self, instance, timeout=0, retry_interval=0):
        self._set_state(instance, power_state.SHUTDOWN)

    def power_on(self, context, instance, network_info, block_device_info=None):
        self._set_state(instance, power_state.RUNNING)

    def resume_state_on_host_boot(self, context, instance, network_info, block_device_info=None):
        self._set_state(instance, power_state.RUNNING)

    def soft_delete(self, instance):
        self._set_state(instance, power_state.SHUTDOWN)

    def restore(self, instance):
        self._set_state(instance, power_state.RUNNING)

    def rescue(self, context, instance, network_info, image_meta, rescue_password):
        self._set_state(instance, power_state.RUNNING)

    def unrescue(self, instance, network_info):
        self._set_state(instance, power_state.RUNNING)

    def snapshot(self, context, instance, image_id, update_task_state):
        if instance["name"] not in self.instances:
            raise exception.InstanceNotRunning(instance_id=instance["uuid"])
        update_task_state(task_state="image_uploading")

    def migrate_disk_and_power_off(self, context, instance, dest, instance_type, network_info,
                                   block_device_info=None):
        self._set_state(instance, power_state.SHUTDOWN)
        return "{}"

    def finish_migration(self, context, migration, instance, disk_info, network_info, image_meta, resize_instance,
                         block_device_info=None):
        self.spawn(context, instance, image_meta, [], None, network_info, block_device_info)

    def confirm_migration(self, migration, instance, network_info):
        """The guest left behind is not kept here."""

    def finish_revert_migration(self, instance, network_info, block_device_info=None):
        self._set_state(instance, power_state.RUNNING)

    def attach_volume(self, connection_info, instance, mountpoint):
        self._mounts.setdefault(instance["name"], {})[mountpoint] = connection_info

    def detach_volume(self, connection_info, instance, mountpoint):
        self._mounts.get(instance["name"], {}).pop(mountpoint, None)

    def get_volume_connector(self, instance):
        return {"ip": "127.0.0.1", "initiator": "fake", "host": "fakehost"}

    def get_all_volume_usage(self, context, compute_host_bdms):
        return []

    def attach_interface(self, instance, image_meta, network_info):
        self._interfaces.update({vif["id"]: vif for vif in network_info})

    def detach_interface(self, instance, network_info):
        for vif in network_info:
            self._interfaces.pop(vif["id"], None)

    def plug_vifs(self, instance, network_info):
        """There is no host to prepare."""

    def unplug_vifs(self, instance, network_info):
        """There is no host to clean."""

    def legacy_nwinfo(self):
        return False

    def get_console_output(self, instance):
        return "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE"

    def get_vnc_console(self, instance):
        return {"internal_access_path": "FAKE", "host": "fakevncconsole.com", "port": 6969}

    def get_spice_console(self, instance):
        return {"internal_access_path": "FAKE", "host": "fakespiceconsole.com", "port": 6969, "tlsPort": 6970}

    def get_console_pool_info(self, console_type):
        return {"address": "127.0.0.1", "username": "fakeuser", "password": "fakepassword"}

    def get_diagnostics(self, instance):
        self._instance(instance)
        return {"cpu0_time": 17300000000, "memory": 524288, "vda_errors": -1, "vda_read": 262144, "vda_read_req": 112,
                "vda_write": 5778432, "vda_write_req": 488, "vnet1_rx": 2070139, "vnet1_rx_drop": 0,
                "vnet1_rx_errors": 0, "vnet1_rx_packets": 26701, "vnet1_tx": 140208, "vnet1_tx_drop": 0,
                "vnet1_tx_errors": 0, "vnet1_tx_packets": 662}

    def get_all_bw_counters(self, instances):
        return []

    def block_stats(self, instance_name, disk_id):
        return [0, 0, 0, 0, None]

    def interface_stats(self, instance_name, iface_id):
        return [0, 0, 0, 0, 0, 0, 0, 0]

    def set_admin_password(self, instance, new_pass):
        self._instance(instance)

    def inject_file(self, instance, path, contents):
        self._instance(instance)

    def poll_rebooting_instances(self, timeout, instances):
        """No reboot ever hangs here."""

    def refresh_security_group_rules(self, security_group_id):
        return True

    def refresh_security_group_members(self, security_group_id):
        return True

    def refresh_instance_security_rules(self, instance):
        return True

    def refresh_provider_fw_rules(self):
        """There are no rules."""

    def get_available_resource(self, nodename):
        if nodename not in self._nodes:
            return {}
        return {"vcpus": 1, "memory_mb": 8192, "local_gb": 1028, "vcpus_used": 0, "memory_mb_used": 0,
                "local_gb_used": 0, "hypervisor_type": "fake", "hypervisor_version": "1.0",
                "hypervisor_hostname": nodename, "cpu_info": "?"}

    def get_host_stats(self, refresh=False):
        stats = [{"host_name-description": "Fake Host", "host_hostname": node, "hypervisor_hostname": node,
                  "host_memory_total": 8000000000, "host_memory_overhead": 10000000, "host_memory_free": 7900000000,
                  "host_memory_free_computed": 7900000000, "host_other_config": {}, "host_ip_address": "192.168.1.109",
                  "host_cpu_info": {}, "disk_available": 500000000000, "disk_total": 600000000000,
                  "disk_used": 100000000000, "host_uuid": "cedb9b39-9388-41df-8891-c5c9a0c0fe5f",
                  "host_name_label": "fake-host", "supported_instances": [("i686", "fake", "hvm")],
                  "enabled": self._enabled} for node in self._nodes]
        return stats[0] if len(stats) == 1 else stats

    def get_available_nodes(self):
        return list(self._nodes)

    def get_host_ip_addr(self):
        return "192.168.0.1"

    def get_host_uptime(self, host):
        return "up 1 days, 0:00"

    def host_power_action(self, host, action):
        return action

    def host_maintenance_mode(self, host, mode):
        return "on_maintenance" if mode else "off_maintenance"

    def set_host_enabled(self, host, enabled):
        self._enabled = bool(enabled)
        return "enabled" if enabled else "disabled"

    def add_to_aggregate(self, context, aggregate, host, **kwargs):
        """There is no pool to join."""

    def remove_from_aggregate(self, context, aggregate, host, **kwargs):
        """There is no pool to leave."""

    def undo_aggregate_operation(self, context, op, aggregate, host, set_error=True):
        """There is nothing to take back."""

    def instance_on_disk(self, instance):
        return False

    def check_can_live_migrate_destination(self, context, instance, src_compute_info, dst_compute_info,
                                           block_migration=False, disk_over_commit=False):
        return {}

    def check_can_live_migrate_destination_cleanup(self, context, dest_check_data):
        """The check leaves nothing."""

    def check_can_live_migrate_source(self, context, instance, dest_check_data):
        return {}

    def get_instance_disk_info(self, instance_name):
        return None

    def pre_live_migration(self, context, instance, block_device_info, network_info, disk_info, migrate_data=None):
        """There is nothing to prepare."""

    def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                       migrate_data=None):
        post_method(context, instance, dest, block_migration, migrate_data)

    def post_live_migration_at_destination(self, context, instance, network_info, block_migration=False,
                                           block_device_info=None):
        self.instances.setdefault(instance["name"],
                                  FakeInstance(instance["name"], instance["uuid"], power_state.RUNNING))


class FakeVirtAPI(virtapi.VirtAPI):
    """The compute service above, answered from a database object and an admin context."""

    def __init__(self, db):
        self._db = db

    def instance_update(self, context, instance_uuid, updates):
        return self._db.instance_update_and_get_original(context, instance_uuid, updates)

    def instance_get_by_uuid(self, context, instance_uuid):
        return self._db.instance_get_by_uuid(context, instance_uuid)

    def instance_get_all_by_host(self, context, host):
        return self._db.instance_get_all_by_host(context, host)

    def agent_build_get_by_triple(self, context, hypervisor, os, architecture):
        return self._db.agent_build_get_by_triple(context, hypervisor, os, architecture)

    def instance_type_get(self, context, instance_type_id):
        return self._db.flavor_get(context, instance_type_id)
