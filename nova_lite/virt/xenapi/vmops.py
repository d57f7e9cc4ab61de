"""VMOps: everything that is done to VMs, as an index of the parts that do it."""

from collections import namedtuple

from nova_lite import conf as nova_conf
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import firewall_drivers, vif
from nova_lite.virt.xenapi.agent import Agents, cmp_version
from nova_lite.virt.xenapi.auto_disk import AutoDisk
from nova_lite.virt.xenapi.destroy import Destroyer
from nova_lite.virt.xenapi.device_counters import DeviceCounters
from nova_lite.virt.xenapi.direct_vhd import DirectVhd
from nova_lite.virt.xenapi.disks import Disks
from nova_lite.virt.xenapi.domains import DomainIds
from nova_lite.virt.xenapi.file_injection import FileInjection
from nova_lite.virt.xenapi.guest_data import GuestData
from nova_lite.virt.xenapi.host import Host
from nova_lite.virt.xenapi.image_cache import ImageCache, Janitor
from nova_lite.virt.xenapi.images import Images
from nova_lite.virt.xenapi.ipxe import Ipxe
from nova_lite.virt.xenapi.kernels import Kernels
from nova_lite.virt.xenapi.leftovers import Leftovers
from nova_lite.virt.xenapi.livemigrate import LiveMigrations, name_of_source
from nova_lite.virt.xenapi.local_devices import LocalDevices
from nova_lite.virt.xenapi.local_disks import LocalDisks
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.maintenance import Maintenance
from nova_lite.virt.xenapi.metrics import Consoles, Metrics
from nova_lite.virt.xenapi.migrate import Migrations, confirm_old_resizes
from nova_lite.virt.xenapi.plan import make_step_decorator
from nova_lite.virt.xenapi.pool import Pools
from nova_lite.virt.xenapi.power import Power
from nova_lite.virt.xenapi.rescue import RebootPoller, Rescue
from nova_lite.virt.xenapi.settling import Settling
from nova_lite.virt.xenapi.simple_dh import SimpleDH
from nova_lite.virt.xenapi.snapshot import Snapshots
from nova_lite.virt.xenapi.spawn import Spawner
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.vm_cache import VmCache
from nova_lite.virt.xenapi.volumeops import VolumeOps
from nova_lite.virt.xenapi.xenstore import LiveXenstore, ParamXenstore

__all__ = ["RESIZE_TOTAL_STEPS", "InstanceInfo", "SimpleDH", "VMOps", "cmp_version", "make_step_decorator"]

RESIZE_TOTAL_STEPS = 5

InstanceInfo = namedtuple("InstanceInfo", ["name", "state"])


class VMOps:
    """The VMs of the host `session` is connected to.

    session and product_version suffice for all that needs neither the compute service above (virtapi) nor images
    (image_api). `instance` is an object or mapping; network_info the model, its JSON text, or legacy pairs.
    """

    def __init__(self, session, product_version, virtapi=None, conf=None, image_api=None, cache=None):
        self._session = session
        self.product_version = product_version
        self.XenAPI = session.get_imported_xenapi()
        self._virtapi = virtapi or VirtAPI()
        self._conf = conf or nova_conf.load(prog="nova_lite", config_files=[], config_dirs=[])
        self.cache = cache or VmCache(session)
        self.poll_rescue_last_ran = None
        self._build_parts(image_api)

    def _build_parts(self, image_api) -> None:
        session, conf = self._session, self._conf
        self.firewall_driver = firewall_drivers.load(conf.firewall_driver, virtapi=self._virtapi,
                                                     xenapi_session=session, host=conf.host)
        self.vif_driver = vif.load_driver(conf.xenserver.vif_driver, session, conf)
        self.vifs = vif.Interfaces(session, self.vif_driver, self.firewall_driver.locks_vifs)
        self.finder = VmFinder(session, self.cache, conf.instance_name_template, self._virtapi)
        self.storage = Storage(session, conf.xenserver.sr_matching_filter, conf.host_state_interval)
        self.host = Host(session, self.cache, self.storage, conf.host_state_interval)
        images = Images(image_api)
        self.direct_vhd = DirectVhd(session, self.storage, conf)
        self.disks = Disks(session, self.storage, images, self.direct_vhd, conf)
        self.auto_disk = AutoDisk(session, self.disks, conf)
        self.volumes = VolumeOps(session, self.finder, self.disks, self.storage, conf)
        self.kernels = Kernels(session, self.disks, images, image_api, conf)
        self.domains = DomainIds(session, self.cache)
        self.power = Power(session, self.finder, self.cache, self.domains, self.volumes.find_bad_volumes, conf,
                           self.vifs.after_start)
        self.param_xenstore = ParamXenstore(session, self.finder)
        self.live_xenstore = LiveXenstore(session, self.finder)
        self.guest_data = GuestData(session, self.finder, self.param_xenstore, self.live_xenstore)
        self.agents = Agents(session, self.finder, self.guest_data, self._virtapi, conf)
        self.leftovers = Leftovers(session, self.disks, self.storage, self.volumes)
        self.destroyer = Destroyer(session, self.finder, self.cache, self.disks, self.vifs, self.firewall_driver,
                                   self.volumes, self.kernels, self.leftovers, self.domains)
        self.spawner = Spawner(
            session=session, finder=self.finder, cache=self.cache, host=self.host, disks=self.disks,
            local_disks=LocalDisks(self.disks, conf), auto_disk=self.auto_disk,
            file_injection=FileInjection(session, self.disks, conf), kernels=self.kernels, volumes=self.volumes,
            vifs=self.vifs, firewall=self.firewall_driver, power=self.power, destroyer=self.destroyer,
            agents=self.agents, ipxe=Ipxe(session, self.storage, conf), virtapi=self._virtapi, conf=conf)
        self.rescuer = Rescue(session, self.finder, self.cache, self.disks, self.power, self.spawner, self.destroyer)
        self.reboots = RebootPoller(session, self.power, self._virtapi)
        self.local_devices = LocalDevices(session, self.disks, conf)
        self.snapshots = Snapshots(session, self.finder, self.disks, self.storage, self.direct_vhd, self.local_devices,
                                   image_api, conf)
        self.settling = Settling(session, self.finder, self.power, self.destroyer, self.leftovers, self.snapshots)
        self.migrations = Migrations(
            session=session, finder=self.finder, cache=self.cache, disks=self.disks, storage=self.storage,
            power=self.power, destroyer=self.destroyer, spawner=self.spawner, volumes=self.volumes,
            direct_vhd=self.direct_vhd, auto_disk=self.auto_disk, virtapi=self._virtapi, conf=conf)
        self.live_migrations = LiveMigrations(
            session=session, finder=self.finder, cache=self.cache, disks=self.disks, storage=self.storage,
            volumes=self.volumes, kernels=self.kernels, live_xenstore=self.live_xenstore, vifs=self.vifs,
            destroyer=self.destroyer, leftovers=self.leftovers, virtapi=self._virtapi)
        self.pools = Pools(session, self._virtapi, conf)
        self.maintenance = Maintenance(session, self.cache, self._virtapi, conf)
        self.metrics = Metrics(session, self.finder, self.cache)
        self.device_counters = DeviceCounters(session, self.finder, self.metrics)
        self.consoles = Consoles(session, self.finder, self.cache, conf)
        self.image_cache = ImageCache(session, self.storage, self.disks, conf)
        self.janitor = Janitor(session, self.storage)

    # Listing and state ----------------------------------------------------------------------------------------

    def list_instances(self):
        """Return the names of the guests on this host, halted ones included."""
        return [vm.name_label for vm in self.cache.here()]

    def list_instances_detail(self):
        """Return InstanceInfo(name, state) of the guests on this host."""
        return [InstanceInfo(vm.name_label, vm.state) for vm in self.cache.here()]

    def get_info(self, instance):
        """Return {'state', 'max_mem' KiB, 'mem' KiB, 'num_cpu', 'cpu_time'}. Raises InstanceNotFound."""
        return self.finder.vm(instance).facts

    # Life -----------------------------------------------------------------------------------------------------

    def spawn(self, context, instance, image_meta, network_info, injected_files=None, admin_password=None,
              block_device_info=None, power_on=True):
        """Build the instance and boot it. On any error nothing of it remains and that error is raised."""
        self.spawner.spawn(context, instance, image_meta, network_info, injected_files, admin_password,
                           block_device_info, power_on)

    def spawn_rescue(self, context, instance, image_meta, network_info, injected_files=None, admin_password=None,
                     block_device_info=None, power_on=True):
        """Build the rescue VM of the instance, without a disk of the instance's own."""
        self.spawner.spawn(context, instance, image_meta, network_info, injected_files, admin_password,
                           block_device_info, power_on, rescue=True)

    def destroy(self, instance, network_info, block_device_info=None, destroy_disks=True):
        """Remove the instance's VM, its rescue VM and their disks; volumes stay. May be repeated."""
        self.destroyer.destroy(instance, network_info, block_device_info, destroy_disks)

    def rescue(self, context, instance, network_info, image_meta, rescue_password=None):
        """Boot the rescue VM with the instance's disks beside its own. Raises RuntimeError when it is there already."""
        self.rescuer.rescue(context, instance, network_info, image_meta, rescue_password)

    def unrescue(self, instance):
        """End rescue and start the instance. Raises InstanceNotInRescueMode."""
        self.rescuer.unrescue(instance)

    def snapshot(self, context, instance, image_id, update_task_state=None):
        """Fill the image with the instance's root disk as it is now."""
        self.snapshots.snapshot(context, instance, image_id, update_task_state)

    def migrate_disk_and_power_off(self, context, instance, dest, instance_type, block_device_info=None, timeout=0):
        """Stop the VM, let it step aside as `<name>-orig` and return disk_info (a secret) for the destination."""
        return self.migrations.power_off_and_offer(context, instance, instance_type, RESIZE_TOTAL_STEPS, timeout)

    def finish_migration(self, context, migration, instance, disk_info, network_info, image_meta, resize_instance,
                         block_device_info=None, power_on=True):
        """Build the instance here from the disks of its source."""
        self.migrations.finish(context, instance, disk_info, network_info, image_meta, resize_instance,
                               block_device_info, power_on)

    def confirm_migration(self, migration, instance, network_info):
        """Remove the VM a migration left behind."""
        self.migrations.confirm(instance, network_info)

    def finish_revert_migration(self, instance, block_device_info=None, power_on=True):
        """Take the VM a migration left behind back into service."""
        self.migrations.revert(instance, block_device_info, power_on)

    # Power ----------------------------------------------------------------------------------------------------

    def pause(self, instance):
        """Freeze the VM."""
        self.power.pause(instance)

    def unpause(self, instance):
        """Let a frozen VM go on."""
        self.power.unpause(instance)

    def suspend(self, instance):
        """Write the VM's memory to disk and stop it."""
        self.power.suspend(instance)

    def resume(self, instance):
        """Continue a suspended VM."""
        self.power.resume(instance)

    def power_off(self, instance, timeout=0, retry_interval=0):
        """Stop the VM: cleanly within `timeout` seconds, else, and with 0 at once, hard."""
        self.power.power_off(instance, timeout)

    def power_on(self, instance):
        """Start the VM on this host."""
        self.power.power_on(instance)

    def reboot(self, instance, reboot_type, bad_volumes_callback=None):
        """Reboot the VM, 'HARD' or cleanly; a halted one is started, without volumes that do not answer."""
        self.power.reboot(instance, reboot_type, bad_volumes_callback)

    def soft_delete(self, instance):
        """Stop the VM and keep anybody from starting it."""
        self.power.soft_delete(instance)

    def restore(self, instance):
        """Start a soft-deleted VM again."""
        self.power.restore(instance)

    # Network --------------------------------------------------------------------------------------------------

    def create_vifs(self, vm_ref, instance, network_info):
        """Create the VIFs of the VM. Raises XenAPI.Failure for a reference that is no VM."""
        self.vifs.create_for(vm_ref, instance, network_info)

    def plug_vifs(self, instance, network_info):
        """Have the VIF driver prepare the host."""
        self.vifs.plug(instance, network_info)

    def unplug_vifs(self, instance, network_info):
        """Have the VIF driver take down what it made; None is no network."""
        self.vifs.unplug(instance, network_info)

    def attach_interface(self, instance, network_info):
        """Add interfaces. Raises InterfaceAttachFailed."""
        self.vifs.attach(instance, self.finder.require(instance), network_info)

    def detach_interface(self, instance, network_info):
        """Remove interfaces. Raises InterfaceDetachFailed."""
        self.vifs.detach(instance, self.finder.require(instance), network_info)

    def inject_network_info(self, instance, network_info, vm_ref=None):
        """Write the network configuration into the VM's xenstore, of the running guest too if the host can."""
        self.guest_data.set_network(instance, network_info, vm_ref)

    def inject_hostname(self, instance, vm_ref, hostname):
        """Write the host name into the VM's xenstore, as plain text."""
        self.guest_data.set_hostname(instance, vm_ref, hostname)

    def reset_network(self, instance, vm_ref=None):
        """Have the guest's agent apply host name and network. Raises NotImplementedError without an agent."""
        self.agents.reset_network(instance, vm_ref)

    def refresh_security_group_rules(self, security_group_id):
        """The rules of the group changed."""
        self.firewall_driver.refresh_security_group_rules(security_group_id)

    def refresh_security_group_members(self, security_group_id):
        """The members of the group changed."""
        self.firewall_driver.refresh_security_group_members(security_group_id)

    def refresh_instance_security_rules(self, instance):
        """The rules that apply to the instance changed."""
        self.firewall_driver.refresh_instance_security_rules(instance)

    def refresh_provider_fw_rules(self):
        """The provider's rules changed."""
        self.firewall_driver.refresh_provider_fw_rules()

    def unfilter_instance(self, instance_ref, network_info):
        """Remove the filters of the instance."""
        self.firewall_driver.unfilter_instance(instance_ref, network_info=network_info)

    # Figures and consoles -------------------------------------------------------------------------------------

    def get_diagnostics(self, instance):
        """Return {data source: last value} of the guest."""
        return self.metrics.diagnostics(instance)

    def get_all_bw_usage(self, start_time, stop_time=None):
        """Return {VM name: {MAC: {'bw_in', 'bw_out'}}} in bytes between two epoch times."""
        return self.metrics.bandwidth(start_time, stop_time)

    def get_console_output(self, instance):
        """Return the end of the console's log as text."""
        return self.consoles.output(instance)

    def get_vnc_console(self, instance):
        """Return {'host', 'port', 'internal_access_path'}; the path holds a credential."""
        return self.consoles.vnc(instance)

    # Live migration -------------------------------------------------------------------------------------------

    def check_can_live_migrate_destination(self, context, instance, src_compute_info, block_migration=False):
        """Return dest_check_data, a secret, for a VM of another host. Raises MigrationPreCheckError."""
        return self.live_migrations.check_destination(name_of_source(src_compute_info), block_migration)

    def check_can_live_migrate_source(self, context, instance, dest_check_data):
        """Return migrate_data when the host says the VM can go there. Raises MigrationPreCheckError."""
        return self.live_migrations.check_source(instance, dest_check_data)

    def live_migrate(self, context, instance, dest, post_method, recover_method, block_migration=False,
                     migrate_data=None):
        """Move the VM; ends in exactly one of post_method and recover_method."""
        self.live_migrations.migrate(context, instance, dest, post_method, recover_method, block_migration,
                                     migrate_data)

    def live_migration_abort(self, instance):
        """Stop a live migration that is under way; the VM stays. Raises InstanceInvalidState when there is none."""
        self.live_migrations.cancel(instance)

    def post_live_migration_at_destination(self, context, instance, network_info, block_migration=False,
                                           block_device_info=None):
        """Take over the VM that arrived."""
        self.live_migrations.finish_at_destination(context, instance)

    # Pollers --------------------------------------------------------------------------------------------------

    def poll_rebooting_instances(self, timeout, instances=None):
        """Reboot hard what hangs in a reboot since `timeout` seconds; without a list the service above is asked."""
        self.reboots.poll(timeout, instances)

    def poll_rescued_instances(self, timeout):
        """End the rescues on this host that began more than `timeout` seconds ago."""
        self.poll_rescue_last_ran = self._session.clock.utcnow()
        self.rescuer.end_older_than(timeout)

    def poll_unconfirmed_resizes(self, resize_confirm_window):
        """Confirm the resizes to this host that nobody confirmed within the window (seconds)."""
        confirm_old_resizes(self._virtapi, self._virtapi.admin_context(), resize_confirm_window)

    # Agent ----------------------------------------------------------------------------------------------------

    def get_agent_version(self, instance):
        """Return the guest agent's version, or None when it does not answer in time."""
        return self.agents.get_agent_version(instance)

    def agent_update(self, instance, url, md5sum):
        """Have the guest agent replace itself."""
        return self.agents.agent_update(instance, url, md5sum)

    def set_admin_password(self, instance, new_pass):
        """Set the administrator's password in the guest."""
        return self.agents.set_admin_password(instance, new_pass)

    def inject_file(self, instance, path, contents):
        """Write a file in the guest."""
        return self.agents.inject_file(instance, path, contents)

    # Xenstore -------------------------------------------------------------------------------------------------

    def read_from_param_xenstore(self, instance_or_vm, keys=None):
        """Return {key: value} of the VM's record; all keys, one (text) or several (list)."""
        return self.param_xenstore.read(instance_or_vm, keys)

    def read_partial_from_param_xenstore(self, instance_or_vm, key_prefix):
        """Return {key: value} of the keys with this prefix."""
        return self.param_xenstore.read_partial(instance_or_vm, key_prefix)

    def add_to_param_xenstore(self, instance_or_vm, key, val):
        """Set one key of the VM's record."""
        self.param_xenstore.add(instance_or_vm, key, val)

    def write_to_param_xenstore(self, instance_or_vm, mapping):
        """Set several keys of the VM's record."""
        self.param_xenstore.write(instance_or_vm, mapping)

    def remove_from_param_xenstore(self, instance_or_vm, key_or_keys):
        """Remove keys of the VM's record."""
        self.param_xenstore.remove(instance_or_vm, key_or_keys)

    def clear_param_xenstore(self, instance_or_vm):
        """Remove all keys of the VM's record."""
        self.param_xenstore.clear(instance_or_vm)

    def list_from_xenstore(self, vm, path):
        """Return {sub-path: value} of the running guest's xenstore, or None."""
        return self.live_xenstore.list(vm, path)

    def read_from_xenstore(self, vm, path):
        """Return one value of the running guest's xenstore, or None."""
        return self.live_xenstore.read(vm, path)

    def write_to_xenstore(self, vm, path, value):
        """Set one value of the running guest's xenstore."""
        return self.live_xenstore.write(vm, path, value)

    def add_to_xenstore(self, vm, path, key, value):
        """Set one key of a dict in the running guest's xenstore."""
        self.live_xenstore.add(vm, path, key, value)

    def remove_from_xenstore(self, vm, path, key_or_keys):
        """Remove keys from the running guest's xenstore."""
        self.live_xenstore.remove(vm, path, key_or_keys)

    def clear_xenstore(self, vm, path):
        """Remove a path from the running guest's xenstore."""
        self.live_xenstore.clear(vm, path)

    def change_instance_metadata(self, instance, diff):
        """Write changed metadata ({key: ['+', value] | ['-']}) where the guest finds it."""
        self.guest_data.change_metadata(instance, diff)
