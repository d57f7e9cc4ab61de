"""The interface a hypervisor driver implements, and how the configured one is found."""

import sys

from oslo_log import log as logging
from oslo_utils import importutils

from nova_lite import exception
from nova_lite.virt import event as virtevent

LOG = logging.getLogger(__name__)


class HypervisorUnavailable(exception.NovaException):
    """The hypervisor does not answer. One line, with the address and without credentials; worth trying again."""

    msg_fmt = "Cannot reach the hypervisor at %(url)s: %(reason)s"


class HypervisorLoginRefused(exception.NovaException):
    """The hypervisor answered and refused user or password; trying again does not help."""

    msg_fmt = "The hypervisor at %(url)s refused to log in user %(user)s: %(reason)s"


def driver_dict_from_config(named_driver_config, *args, **kwargs):
    """Return {name: driver object} of entries `name=class.path`, each class built with the given arguments."""
    drivers = {}
    for entry in named_driver_config:
        name, _, class_path = entry.partition("=")
        drivers[name] = importutils.import_class(class_path)(*args, **kwargs)
    return drivers


def block_device_info_get_root(block_device_info):
    """Return the root device name, or None."""
    return (block_device_info or {}).get("root_device_name")


def block_device_info_get_swap(block_device_info):
    """Return {'device_name', 'swap_size'}; without swap the name is None and the size 0."""
    return (block_device_info or {}).get("swap") or {"device_name": None, "swap_size": 0}


def swap_is_usable(swap):
    """Tell whether the swap entry names a device and has a size."""
    return bool(swap and swap["device_name"] and swap["swap_size"] > 0)


def block_device_info_get_ephemerals(block_device_info):
    """Return the list of ephemeral disks."""
    return (block_device_info or {}).get("ephemerals") or []


def block_device_info_get_mapping(block_device_info):
    """Return the list of volumes to attach."""
    return (block_device_info or {}).get("block_device_mapping") or []


class ComputeDriver:
    """A hypervisor, as the compute manager uses it.

    Methods without a default raise NotImplementedError. `instance` is an objects.Instance or any mapping with its
    keys, `network_info` a NetworkInfo model, `block_device_info` the dict of the block_device_info_* accessors.
    """

    capabilities = {"has_imagecache": False, "supports_recreate": False}

    def __init__(self, virtapi):
        self.virtapi = virtapi
        self._event_callback = None

    # Life of the driver ---------------------------------------------------------------------------------------

    def init_host(self, host):
        """Prepare the driver for the compute service named `host`. May block until the hypervisor answers."""
        raise NotImplementedError

    def cleanup_host(self, host):
        """Release what init_host took; called when the service stops."""

    def register_event_listener(self, callback):
        """Have `callback(event)` called for every event; None stops it."""
        self._event_callback = callback

    def emit_event(self, event):
        """Hand `event` to the listener. Without one it is dropped; what the listener raises is logged."""
        if self._event_callback is None:
            LOG.debug("nobody listens, dropping %s", event)
            return
        if not isinstance(event, virtevent.Event):
            raise ValueError("Event must be an instance of nova_lite.virt.event.Event")
        try:
            self._event_callback(event)
        except Exception:
            LOG.exception("the event listener failed on %s", event)

    # Guests ---------------------------------------------------------------------------------------------------

    def get_info(self, instance):
        """Return {'state', 'max_mem' KiB, 'mem' KiB, 'num_cpu', 'cpu_time' ns}. Raises InstanceNotFound."""
        raise NotImplementedError

    def get_num_instances(self):
        """Return the number of guests on this host."""
        return len(self.list_instances())

    def instance_exists(self, instance_name):
        """Tell whether a guest of this name is on this host."""
        return instance_name in self.list_instances()

    def get_power_states(self):
        """Return {uuid: power state} of all guests that are instances of ours, from one question to the hypervisor."""
        raise NotImplementedError

    def settle_interrupted(self, instance, task_state):
        """Bring a guest to one side of the operation that ended with the last run of the service.

        Returns the vm_state that now holds, None where its power state tells that.
        """

    def list_instances(self):
        """Return the names of all guests."""
        raise NotImplementedError

    def list_instance_uuids(self):
        """Return the uuids of all guests that are instances of ours."""
        raise NotImplementedError

    def spawn(self, context, instance, image_meta, injected_files, admin_password, network_info=None,
              block_device_info=None):
        """Create the guest and boot it; on failure nothing of it remains. injected_files: [(path, bytes)]."""
        raise NotImplementedError

    def destroy(self, instance, network_info, block_device_info=None, destroy_disks=True):
        """Remove the guest; succeeds with a warning when there is none."""
        raise NotImplementedError

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None,
               bad_volumes_callback=None):
        """Reboot ('SOFT' or 'HARD'); the guest runs afterwards even if it was halted or paused."""
        raise NotImplementedError

    def pause(self, instance):
        """Freeze the guest."""
        raise NotImplementedError

    def unpause(self, instance):
        """Let a frozen guest go on."""
        raise NotImplementedError

    def suspend(self, instance):
        """Write the guest's memory to disk and stop it."""
        raise NotImplementedError

    def resume(self, instance, network_info, block_device_info=None):
        """Continue a suspended guest."""
        raise NotImplementedError

    def power_off(self, instance, timeout=0, retry_interval=0):
        """Stop the guest: cleanly within `timeout` seconds, else (and with 0 at once) hard."""
        raise NotImplementedError

    def power_on(self, context, instance, network_info, block_device_info=None):
        """Start a halted guest."""
        raise NotImplementedError

    def soft_delete(self, instance):
        """Stop the guest and keep everything of it."""
        raise NotImplementedError

    def restore(self, instance):
        """Bring back a soft-deleted guest."""
        raise NotImplementedError

    def resume_state_on_host_boot(self, context, instance, network_info, block_device_info=None):
        """Start a guest that should run and was found stopped when the host came up."""
        raise NotImplementedError

    def rescue(self, context, instance, network_info, image_meta, rescue_password):
        """Boot the instance from a rescue image, with its own root disk beside it."""
        raise NotImplementedError

    def unrescue(self, instance, network_info):
        """End rescue and boot the instance from its own disk."""
        raise NotImplementedError

    def snapshot(self, context, instance, image_id, update_task_state):
        """Upload the root disk as image `image_id`, reporting through update_task_state."""
        raise NotImplementedError

    def migrate_disk_and_power_off(self, context, instance, dest, instance_type, network_info,
                                   block_device_info=None):
        """Make the disks ready for the host `dest` (an address) and stop the guest; returns disk_info."""
        raise NotImplementedError

    def finish_migration(self, context, migration, instance, disk_info, network_info, image_meta, resize_instance,
                         block_device_info=None):
        """Build the guest here from the disks of another host."""
        raise NotImplementedError

    def confirm_migration(self, migration, instance, network_info):
        """Remove the guest a migration left behind."""
        raise NotImplementedError

    def finish_revert_migration(self, instance, network_info, block_device_info=None):
        """Take the guest a migration left behind back into service."""
        raise NotImplementedError

    def get_console_output(self, instance):
        """Return the last text of the guest's console."""
        raise NotImplementedError

    def get_vnc_console(self, instance):
        """Return {'host', 'port', 'internal_access_path'} of the graphical console."""
        raise NotImplementedError

    def get_spice_console(self, instance):
        """Return {'host', 'port', 'tlsPort', 'internal_access_path'} of the spice console."""
        raise NotImplementedError

    def get_diagnostics(self, instance):
        """Return driver-specific figures of the guest."""
        raise NotImplementedError

    def set_admin_password(self, instance, new_pass):
        """Set the administrator's password inside the guest."""
        raise NotImplementedError

    def inject_file(self, instance, path, contents):
        """Write a file inside the guest; path and contents in plain text."""
        raise NotImplementedError

    def change_instance_metadata(self, context, instance, diff):
        """Tell the guest about changed metadata; diff: {key: ['+', value] | ['-']}."""

    # Volumes and networks -------------------------------------------------------------------------------------

    def attach_volume(self, connection_info, instance, mountpoint):
        """Attach a volume to the guest as device `mountpoint`."""
        raise NotImplementedError

    def detach_volume(self, connection_info, instance, mountpoint):
        """Detach the volume at `mountpoint`."""
        raise NotImplementedError

    def get_volume_connector(self, instance):
        """Return {'ip', 'initiator', 'host'} for the volume service."""
        raise NotImplementedError

    def get_all_volume_usage(self, context, compute_host_bdms):
        """Return [{'volume', 'instance', 'rd_req', 'rd_bytes', 'wr_req', 'wr_bytes'}]."""
        raise NotImplementedError

    def block_stats(self, instance_name, disk_id):
        """Return [rd_req, rd_bytes, wr_req, wr_bytes, errors] of one disk."""
        raise NotImplementedError

    def interface_stats(self, instance_name, iface_id):
        """Return the eight counters of one network interface."""
        raise NotImplementedError

    def attach_interface(self, instance, image_meta, network_info):
        """Add network interfaces to the guest; those it has are fine. Raises InterfaceAttachFailed."""
        raise NotImplementedError

    def detach_interface(self, instance, network_info):
        """Take network interfaces from the guest; those it has not are fine. Raises InterfaceDetachFailed."""
        raise NotImplementedError

    def plug_vifs(self, instance, network_info):
        """Connect the interfaces on the host."""
        raise NotImplementedError

    def unplug_vifs(self, instance, network_info):
        """Disconnect the interfaces on the host."""
        raise NotImplementedError

    def inject_network_info(self, instance, nw_info):
        """Give the guest its network configuration."""

    def reset_network(self, instance):
        """Have the guest apply its network configuration."""

    def macs_for_instance(self, instance):
        """Return the set of MACs the instance must use, or None when any will do."""
        return

    def legacy_nwinfo(self):
        """Tell whether network_info must be the legacy list of (network, mapping) pairs."""
        return True

    # Packet filters -------------------------------------------------------------------------------------------

    def refresh_security_group_rules(self, security_group_id):
        """The rules of the group changed."""
        raise NotImplementedError

    def refresh_security_group_members(self, security_group_id):
        """The members of the group changed."""
        raise NotImplementedError

    def refresh_instance_security_rules(self, instance):
        """The rules that apply to the instance changed."""
        raise NotImplementedError

    def refresh_provider_fw_rules(self):
        """The provider's rules changed."""
        raise NotImplementedError

    def ensure_filtering_rules_for_instance(self, instance, network_info):
        """Put the filters of an arriving guest in place."""
        raise NotImplementedError

    def unfilter_instance(self, instance, network_info):
        """Remove the filters of the guest."""
        raise NotImplementedError

    def filter_defer_apply_on(self):
        """Collect filter changes instead of applying each."""

    def filter_defer_apply_off(self):
        """Apply the collected filter changes."""

    # The host -------------------------------------------------------------------------------------------------

    def get_available_resource(self, nodename):
        """Return the resource dict of the node, or {} for an unknown one."""
        raise NotImplementedError

    def get_per_instance_usage(self):
        """Return {uuid: {'uuid', 'memory_mb'}} of the active guests."""
        return {}

    def estimate_instance_overhead(self, sizes):
        """Return {'memory_mb'} that a guest of these sizes (an instance or a flavor) takes beyond its own memory."""
        return {"memory_mb": 0}

    def get_available_nodes(self):
        """Return the node names this driver looks after."""
        stats = self.get_host_stats(refresh=True)
        entries = stats if isinstance(stats, list) else [stats]
        return [entry["hypervisor_hostname"] for entry in entries]

    def node_is_available(self, nodename):
        """Tell whether the node is one of ours."""
        return nodename in self.get_available_nodes()

    def get_host_stats(self, refresh=False):
        """Return the figures of the host, or a list of them for several nodes."""
        raise NotImplementedError

    def get_host_ip_addr(self):
        """Return the address of the hypervisor."""
        raise NotImplementedError

    def get_host_uptime(self, host):
        """Return the uptime of the host as text."""
        raise NotImplementedError

    def host_power_action(self, host, action):
        """'reboot', 'shutdown' or 'startup' the host."""
        raise NotImplementedError

    def host_maintenance_mode(self, host, mode):
        """Enter (True) or leave (False) maintenance; entering moves all guests away."""
        raise NotImplementedError

    def set_host_enabled(self, host, enabled):
        """Let the host accept new guests, or not."""
        raise NotImplementedError

    def get_console_pool_info(self, console_type):
        """Return {'address', 'username', 'password'} for a console proxy."""
        raise NotImplementedError

    def get_all_bw_counters(self, instances):
        """Return [{'uuid', 'mac_address', 'bw_in', 'bw_out'}] counters of the instances."""
        raise NotImplementedError

    def poll_rebooting_instances(self, timeout, instances):
        """Reboot hard those whose reboot hangs since `timeout` seconds."""
        raise NotImplementedError

    def manage_image_cache(self, context, all_instances):
        """Remove cached images nobody needs."""

    def instance_on_disk(self, instance):
        """Tell whether this host can reach the disks of an instance whose host is gone."""
        return False

    def add_to_aggregate(self, context, aggregate, host, **kwargs):
        """Add the host to the hypervisor pool the aggregate stands for."""
        raise NotImplementedError

    def remove_from_aggregate(self, context, aggregate, host, **kwargs):
        """Remove the host from the hypervisor pool the aggregate stands for."""
        raise NotImplementedError

    def undo_aggregate_operation(self, context, op, aggregate, host, set_error=True):
        """Take back `op` on the aggregate's record after it failed here."""
        raise NotImplementedError

    # Live migration -------------------------------------------------------------------------------------------

    def check_can_live_migrate_destination(self, context, instance, src_compute_info, dst_compute_info,
                                           block_migration=False, disk_over_commit=False):
        """Check at the destination; returns dest_check_data, which may contain migrate_data."""
        raise NotImplementedError

    def check_can_live_migrate_destination_cleanup(self, context, dest_check_data):
        """Undo what the check at the destination left."""
        raise NotImplementedError

    def check_can_live_migrate_source(self, context, instance, dest_check_data):
        """Check at the source; returns migrate_data."""
        raise NotImplementedError

    def get_instance_disk_info(self, instance_name):
        """Return driver-specific facts of the disks for the destination."""
        raise NotImplementedError

    def pre_live_migration(self, context, instance, block_device_info, network_info, disk_info, migrate_data=None):
        """Prepare the destination."""
        raise NotImplementedError

    def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                       migrate_data=None):
        """Move the running guest; ends in post_method or recover_method."""
        raise NotImplementedError

    def post_live_migration_at_destination(self, context, instance, network_info, block_migration=False,
                                           block_device_info=None):
        """Finish at the destination."""
        raise NotImplementedError


def load_compute_driver(virtapi, compute_driver=None, *, conf, image_api=None):
    """Return the driver object named `compute_driver`, or by the option of that name.

    A name is looked up below nova_lite.virt first (`xenapi.XenAPIDriver`), then as it stands. No name, a class
    that cannot be imported or is no ComputeDriver: one line in the log and exit status 1.
    """
    name = compute_driver or conf.compute_driver
    if not name:
        LOG.error("Compute driver option required, but not specified")
        sys.exit(1)
    LOG.info("Loading compute driver '%s'", name)
    try:
        found = _import_class(name)
    except ImportError as error:
        LOG.error("Unable to load the compute driver '%s': %s", name, error)
        sys.exit(1)
    if not (isinstance(found, type) and issubclass(found, ComputeDriver)):
        LOG.error("The compute driver '%s' is not a ComputeDriver", name)
        sys.exit(1)
    return found(virtapi, conf=conf, image_api=image_api)


def _import_class(name):
    try:
        return importutils.import_class(f"nova_lite.virt.{name}")
    except ImportError as below:
        try:
            return importutils.import_class(name)
        except (ImportError, ValueError) as error:  # ValueError: a name without a module
            raise ImportError(f"{below}; {error}") from None


def compute_driver_matches(match, *, conf):
    """Tell whether the configured driver's name ends with `match`."""
    return bool(conf.compute_driver) and conf.compute_driver.endswith(match)
