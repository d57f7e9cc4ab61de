"""The compute service of one host: an index of its parts.

Every method that peers may call is here, with the policy it follows (`instance_action`) and the part that does it.
"""

import random
import socket
from typing import Any

from oslo_log import log as logging

from nova_lite import exception, manager, objects
from nova_lite.compute import rpcapi
from nova_lite.compute import utils as compute_utils
from nova_lite.compute.block_devices import BlockDevices
from nova_lite.compute.build import Builder, BuildRequest
from nova_lite.compute.consoles import Consoles
from nova_lite.compute.delete import Deleter
from nova_lite.compute.evacuated import EvacuatedGuests
from nova_lite.compute.guest import GuestAccess
from nova_lite.compute.health import Health
from nova_lite.compute.host import ComputeHost
from nova_lite.compute.host_operations import HostOperations
from nova_lite.compute.image_cache import ImageCache
from nova_lite.compute.instance_locks import Hold
from nova_lite.compute.leftovers import Leftovers
from nova_lite.compute.live_migration import LiveMigrator
from nova_lite.compute.networking import Networking
from nova_lite.compute.pacing import Pacing
from nova_lite.compute.policy import (
    instance_action,
    reverts_task_state,
    wrap_exception,
    wrap_instance_event,
    wrap_instance_fault,
)
from nova_lite.compute.power import Power
from nova_lite.compute.reboot import EXPECTED as REBOOT_TASKS
from nova_lite.compute.reboot import Rebooter
from nova_lite.compute.rebuild import Rebuilder, RebuildRequest
from nova_lite.compute.recovery import Recovery
from nova_lite.compute.reschedule import Rescheduler
from nova_lite.compute.rescue import Rescuer
from nova_lite.compute.resize import Resizer
from nova_lite.compute.snapshot import EXPECTED as SNAPSHOT_TASKS
from nova_lite.compute.snapshot import Snapshots
from nova_lite.compute.sync import PowerSync
from nova_lite.compute.usage import Usage
from nova_lite.compute.virtapi import ComputeVirtAPI
from nova_lite.compute.volumes import Volumes
from nova_lite.compute.watch import Watch
from nova_lite.context import RequestContext
from nova_lite.objects import task_states, vm_states
from nova_lite.virt import driver as virt_driver
from nova_lite.virt import event as virtevent

__all__ = ["ComputeManager", "ComputeVirtAPI", "instance_action", "publisher_id", "reverts_task_state",
           "wrap_exception", "wrap_instance_event", "wrap_instance_fault"]

LOG = logging.getLogger(__name__)

STALE_RESERVATION_S = 3600
STUCK_TASK_S = 1800
ANSWERS_SPREAD_S = 3


def publisher_id(host: str | None = None) -> str:
    """Return the publisher of a compute service's notifications; default: the one of this machine's host name."""
    return compute_utils.publisher_id(host or socket.gethostname())


class ComputeManager(manager.SchedulerDependentManager):
    """Runs the instances of one host on one hypervisor driver.

    `compute_driver` is the name of a driver, or one that is built already; default: option compute_driver.
    """

    RPC_API_VERSION = "2.27"
    at_most_once = True
    remote_methods = frozenset({
        "add_aggregate_host", "add_fixed_ip_to_instance", "attach_interface", "attach_volume",
        "change_instance_metadata", "check_can_live_migrate_destination", "check_can_live_migrate_source",
        "confirm_resize", "detach_interface", "detach_volume", "finish_resize", "finish_revert_resize",
        "get_backdoor_port", "get_console_output", "get_console_pool_info", "get_console_topic", "get_diagnostics",
        "get_host_uptime", "get_spice_console", "get_vnc_console", "host_maintenance_mode", "host_power_action",
        "inject_file", "inject_network_info", "live_migration", "pause_instance",
        "post_live_migration_at_destination", "power_off_instance", "power_on_instance", "pre_live_migration",
        "prep_resize", "publish_service_capabilities", "reboot_instance", "rebuild_instance",
        "refresh_instance_security_rules", "refresh_provider_fw_rules", "refresh_security_group_members",
        "refresh_security_group_rules", "remove_aggregate_host", "remove_fixed_ip_from_instance",
        "remove_volume_connection", "rescue_instance", "reserve_block_device_name", "reset_network",
        "resize_instance", "restore_instance", "resume_instance", "revert_resize",
        "rollback_live_migration_at_destination", "run_instance", "set_admin_password", "set_host_enabled",
        "snapshot_instance", "soft_delete_instance", "start_instance", "stop_instance", "suspend_instance",
        "terminate_instance", "unpause_instance", "unrescue_instance", "validate_console_port",
    })

    def __init__(self, compute_driver: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, service_name="compute", **kwargs)
        self.compute_host = here = ComputeHost(self.services, self.host)
        self.conductor_api = here.conductor
        self.compute_rpcapi = rpcapi.ComputeAPI(self.services)
        self.virtapi = ComputeVirtAPI(self)
        self._block_devices = BlockDevices(here)
        self._deleter = Deleter(here, self._block_devices, self.compute_rpcapi)
        self._rescheduler = Rescheduler(here, self.scheduler_rpcapi)
        self._builder = Builder(here, self._block_devices, self._deleter, self._rescheduler)
        self._power = Power(here, self._block_devices)
        self._volumes = Volumes(here, self._block_devices)
        self._rebooter = Rebooter(here, self._block_devices, self._volumes)
        self._rebuilder = Rebuilder(here, self._block_devices, self._power)
        self._rescuer = Rescuer(here, self._power)
        self._snapshots = Snapshots(here)
        self._resizer = Resizer(here, self._block_devices, self._power, self._rescheduler, self.compute_rpcapi)
        self._live_migrator = LiveMigrator(here, self._block_devices, self.compute_rpcapi)
        self._networking = Networking(here)
        self._guest = GuestAccess(here)
        self._consoles = Consoles(here)
        self._host_operations = HostOperations(here)
        self._evacuated = EvacuatedGuests(here, self._block_devices)
        self._recovery = Recovery(here, self._block_devices, self._deleter, self._volumes,
                                  self._networking, self)
        self._sync = PowerSync(here)
        self._watch = Watch(here, self._block_devices, self._recovery)
        self._leftovers = Leftovers(here, self._block_devices, self._deleter)
        self._usage = Usage(here, self._block_devices)
        self._image_cache = ImageCache(here)
        self._health = Health(here)
        self._pacing = Pacing(here.clock)
        self.driver = self._load_driver(compute_driver)

    def _load_driver(self, compute_driver: Any) -> Any:
        if compute_driver is not None and not isinstance(compute_driver, str):
            return compute_driver
        return virt_driver.load_compute_driver(self.virtapi, compute_driver, conf=self.services.conf,
                                               image_api=self.services.image_api)

    @property
    def driver(self) -> Any:
        """The hypervisor driver, which all parts share."""
        return self.compute_host.driver

    @driver.setter
    def driver(self, driver: Any) -> None:
        self.compute_host.driver = driver

    # --- Start and stop ---

    def init_host(self) -> None:
        """Connect to the hypervisor and recover what the last run of this service left unfinished.

        What schedulers hear about the host is collected now and told by the first periodic pass, whose random delay
        keeps hosts that start together from telling it together.
        """
        context = self.compute_host.admin_context()
        self.driver.init_host(host=self.host)
        if self.services.conf.defer_iptables_apply:
            self.driver.filter_defer_apply_on()
        try:
            self.init_virt_events()
            self._evacuated.remove(context)
            self._recovery.recover_all(context)
        finally:
            if self.services.conf.defer_iptables_apply:
                self.driver.filter_defer_apply_off()
        self._report_driver_status(context)

    def pre_start_hook(self, **kwargs: Any) -> None:
        """Count the resources of the host, once its service record exists and before messages come in."""
        self.update_available_resource(self.compute_host.admin_context())

    def stop(self) -> None:
        """Let go of what the manager holds."""
        self.driver.register_event_listener(None)
        self._sync.stop()
        self.driver.cleanup_host(self.host)
        super().stop()

    def init_virt_events(self) -> None:
        """Listen to the driver's events."""
        self.driver.register_event_listener(self.handle_events)

    def handle_events(self, event: Any) -> None:
        """Take up a driver's event; those that are no lifecycle events are ignored."""
        if isinstance(event, virtevent.LifecycleEvent):
            self.handle_lifecycle_event(event)
        else:
            LOG.debug("Ignoring event %s", event)

    def handle_lifecycle_event(self, event: virtevent.LifecycleEvent) -> None:
        """Reconcile the instance that started, stopped, paused or resumed at the hypervisor."""
        self._sync.handle(event)

    def update_available_resource(self, context: RequestContext) -> None:
        """Count the resources of every node of this host again."""
        self.compute_host.trackers.update_available_resource(context)

    @manager.periodic_task
    def publish_service_capabilities(self, context: RequestContext) -> None:
        """Tell all schedulers what the host can do; when one asks that starts, not in the same moment as all hosts."""
        if context.operation_id is not None:  # a message
            self.services.clock.sleep(random.uniform(0, ANSWERS_SPREAD_S))
        super().publish_service_capabilities(context)

    # --- Building and deleting ---

    @instance_action(elevated=True)
    def run_instance(self, context: RequestContext, instance: Any, request_spec: dict[str, Any] | None = None,
                     filter_properties: dict[str, Any] | None = None, requested_networks: list[Any] | None = None,
                     injected_files: list[Any] | None = None, admin_password: str | None = None,
                     is_first_time: bool = False, node: str | None = None) -> None:
        """Build the instance here, or send it back to the scheduler; a repeated message is dropped."""
        self._builder.run(context, instance, BuildRequest(
            request_spec, filter_properties or {}, requested_networks, injected_files, admin_password,
            is_first_time, node))

    @instance_action(revert=False, hold=Hold.DELETE)
    def terminate_instance(self, context: RequestContext, instance: Any, bdms: list[Any] | None = None,
                           reservations: list[str] | None = None) -> None:
        """Delete the instance. A failed delete keeps its task state, so that it can be tried again."""
        self._deleter.terminate(context, instance, reservations)

    @instance_action(expects=[task_states.SOFT_DELETING], notify="soft_delete")
    def soft_delete_instance(self, context: RequestContext, instance: Any,
                             reservations: list[str] | None = None) -> None:
        """Put the instance away so that it can be restored."""
        self._deleter.soft_delete(context, instance, reservations)

    @instance_action(expects=[task_states.RESTORING], becomes=vm_states.ACTIVE, notify="restore")
    def restore_instance(self, context: RequestContext, instance: Any) -> None:
        """Bring a softly deleted instance back."""
        self._deleter.restore(context, instance)

    def power_off_instance(self, context: RequestContext, instance: Any) -> None:
        """Old name of soft_delete_instance, whatever it sounds like."""
        self.soft_delete_instance(context, instance=instance)

    def power_on_instance(self, context: RequestContext, instance: Any) -> None:
        """Old name of restore_instance, whatever it sounds like."""
        self.restore_instance(context, instance=instance)

    # --- Power ---

    @instance_action(expects=[task_states.POWERING_OFF, task_states.STOPPING], becomes=vm_states.STOPPED,
                     notify="power_off")
    def stop_instance(self, context: RequestContext, instance: Any, clean_shutdown: bool = True) -> None:
        """Switch the guest off; `clean_shutdown` gives it time to shut down by itself."""
        self._power.stop(context, instance, clean_shutdown)

    @instance_action(expects=[task_states.POWERING_ON, task_states.STARTING], becomes=vm_states.ACTIVE,
                     notify="power_on")
    def start_instance(self, context: RequestContext, instance: Any) -> None:
        """Start the guest."""
        self._power.start(context, instance)

    @instance_action(expects=[task_states.PAUSING], becomes=vm_states.PAUSED, notify="pause", elevated=True)
    def pause_instance(self, context: RequestContext, instance: Any) -> None:
        """Freeze the guest."""
        self.driver.pause(instance)

    @instance_action(expects=[task_states.UNPAUSING], becomes=vm_states.ACTIVE, notify="unpause", elevated=True)
    def unpause_instance(self, context: RequestContext, instance: Any) -> None:
        """Let a frozen guest go on."""
        self.driver.unpause(instance)

    @instance_action(expects=[task_states.SUSPENDING], becomes=vm_states.SUSPENDED, notify="suspend", elevated=True)
    def suspend_instance(self, context: RequestContext, instance: Any) -> None:
        """Write the guest's memory to disk and switch it off."""
        self._power.suspend(context, instance)

    @instance_action(expects=[task_states.RESUMING], becomes=vm_states.ACTIVE, notify="resume", elevated=True)
    def resume_instance(self, context: RequestContext, instance: Any) -> None:
        """Let a suspended guest go on."""
        self._power.resume(context, instance)

    @instance_action(expects=REBOOT_TASKS, notify="reboot", elevated=True)
    def reboot_instance(self, context: RequestContext, instance: Any, block_device_info: dict[str, Any] | None = None,
                        network_info: Any = None, reboot_type: str = "SOFT") -> None:
        """Reboot the guest, 'SOFT' or 'HARD'. `network_info` of old callers is ignored: it is asked anew."""
        self._rebooter.reboot(context, instance, reboot_type, block_device_info)

    # --- Rebuilding, rescuing, snapshots ---

    @instance_action(expects=[task_states.REBUILDING], elevated=True)
    def rebuild_instance(self, context: RequestContext, instance: Any, orig_image_ref: str | None,
                         image_ref: str | None, injected_files: list[Any] | None, new_pass: str | None,
                         orig_sys_metadata: dict[str, str] | None = None, bdms: list[Any] | None = None,
                         recreate: bool = False, on_shared_storage: bool = False, preserve_ephemeral: bool = False,
                         migration: Any = None) -> None:
        """Give the instance a new guest; with `recreate` here, after its host died (evacuation)."""
        if preserve_ephemeral:
            raise exception.Invalid("preserve_ephemeral is not possible with this hypervisor")
        self._rebuilder.rebuild(context, instance, RebuildRequest(
            orig_image_ref, image_ref, injected_files, new_pass, orig_sys_metadata, recreate, on_shared_storage,
            migration))

    @instance_action(expects=[task_states.RESCUING], elevated=True)
    def rescue_instance(self, context: RequestContext, instance: Any, rescue_password: str | None = None,
                        rescue_image_ref: str | None = None, clean_shutdown: bool = True) -> None:
        """Boot a rescue image with the instance's root disk beside it."""
        self._rescuer.rescue(context, instance, rescue_password, rescue_image_ref, clean_shutdown)

    @instance_action(expects=[task_states.UNRESCUING], becomes=vm_states.ACTIVE, notify="unrescue", elevated=True)
    def unrescue_instance(self, context: RequestContext, instance: Any) -> None:
        """Boot the instance from its own disk again."""
        self._rescuer.unrescue(context, instance)

    @instance_action(expects=SNAPSHOT_TASKS, notify="snapshot", event=False, elevated=True, hold=Hold.PREEMPTIBLE)
    def snapshot_instance(self, context: RequestContext, image_id: str, instance: Any, image_type: str = "snapshot",
                          backup_type: str | None = None, rotation: int | None = None) -> None:
        """Fill an image with the guest's disks; a 'backup' keeps only `rotation` images of its type."""
        self._snapshots.snapshot(context, instance, image_id, image_type, backup_type, rotation)

    # --- Resizing ---

    @instance_action(expects=[task_states.RESIZE_PREP], elevated=True)
    def prep_resize(self, context: RequestContext, image: Any, instance: Any, instance_type: Any,
                    reservations: list[str] | None = None, request_spec: dict[str, Any] | None = None,
                    filter_properties: dict[str, Any] | None = None, node: str | None = None) -> None:
        """Destination: take room for the new flavor and ask the source to begin."""
        flavor = objects.Flavor.of(context, instance_type)
        self._resizer.prepare(context, instance, image, flavor, reservations, request_spec, filter_properties, node)

    @instance_action(expects=[task_states.RESIZE_PREP], elevated=True, hold=Hold.PREEMPTIBLE)
    def resize_instance(self, context: RequestContext, instance: Any, image: Any,
                        reservations: list[str] | None = None, migration: Any = None,
                        migration_id: int | None = None, instance_type: Any = None,
                        clean_shutdown: bool = True) -> None:
        """Source: stop the guest and hand its disks over."""
        flavor = objects.Flavor.of(context, instance_type)
        self._resizer.begin(context, instance, image, reservations, self._migration(context, migration, migration_id),
                            flavor, clean_shutdown)

    @instance_action(expects=[task_states.RESIZE_MIGRATED], elevated=True)
    def finish_resize(self, context: RequestContext, disk_info: Any, image: Any, instance: Any,
                      reservations: list[str] | None = None, migration: Any = None,
                      migration_id: int | None = None) -> None:
        """Destination: build the guest from the disks that came."""
        self._resizer.finish(context, instance, disk_info, image, reservations,
                             self._migration(context, migration, migration_id))

    @instance_action(revert=False, elevated=True)
    def confirm_resize(self, context: RequestContext, instance: Any, reservations: list[str] | None = None,
                       migration: Any = None, migration_id: int | None = None) -> None:
        """Source: remove what was kept for a revert."""
        self._resizer.confirm(context, instance, reservations, self._migration(context, migration, migration_id))

    @instance_action(expects=[task_states.RESIZE_REVERTING], elevated=True)
    def revert_resize(self, context: RequestContext, instance: Any, migration: Any = None,
                      migration_id: int | None = None, reservations: list[str] | None = None) -> None:
        """Destination: remove the guest and ask the source to take its own back."""
        self._resizer.revert(context, instance, reservations, self._migration(context, migration, migration_id))

    @instance_action(expects=[task_states.RESIZE_REVERTING], elevated=True)
    def finish_revert_resize(self, context: RequestContext, instance: Any, reservations: list[str] | None = None,
                             migration: Any = None, migration_id: int | None = None) -> None:
        """Source: take the guest back into service with its old flavor."""
        self._resizer.finish_revert(context, instance, reservations,
                                    self._migration(context, migration, migration_id))

    @staticmethod
    def _migration(context: RequestContext, migration: Any, migration_id: int | None) -> objects.Migration:
        """Return the migration as it is now; older callers send its id."""
        return objects.Migration.get_by_id(context, migration["id"] if migration else migration_id)

    # --- Live migration ---

    @wrap_exception
    def check_can_live_migrate_destination(self, context: RequestContext, instance: Any,
                                           block_migration: bool | None = False,
                                           disk_over_commit: bool | None = False) -> dict[str, Any]:
        """Destination: tell whether the guest can come here, and what both drivers need for it."""
        return self._live_migrator.check_destination(context, self._fresh(context, instance), block_migration,
                                                     disk_over_commit)

    @wrap_exception
    def check_can_live_migrate_source(self, context: RequestContext, instance: Any,
                                      dest_check_data: dict[str, Any]) -> dict[str, Any]:
        """Source: tell whether the guest can go where `dest_check_data` comes from."""
        return self._live_migrator.check_source(context, self._fresh(context, instance), dest_check_data)

    def pre_live_migration(self, context: RequestContext, instance: Any, block_migration: bool | None = False,
                           disk: Any = None, migrate_data: dict[str, Any] | None = None) -> Any:
        """Destination: make everything ready for a guest that is about to arrive."""
        return self._live_migrator.pre(context, self._fresh(context, instance), disk, migrate_data)

    @instance_action(expects=[task_states.MIGRATING], event=False, revert=False, hold=Hold.PREEMPTIBLE)
    def live_migration(self, context: RequestContext, dest: str, instance: Any, block_migration: bool | None = False,
                       migrate_data: dict[str, Any] | None = None) -> None:
        """Source: move the guest to `dest`; a failure puts things back as they were."""
        self._live_migrator.migrate(context, dest, instance, block_migration, migrate_data)

    def post_live_migration_at_destination(self, context: RequestContext, instance: Any,
                                           block_migration: bool | None = False) -> None:
        """Destination: take the guest that has arrived over."""
        self._live_migrator.post_at_destination(context, self._fresh(context, instance), block_migration)

    def rollback_live_migration_at_destination(self, context: RequestContext, instance: Any) -> None:
        """Destination: remove what was made ready for a guest that did not arrive."""
        self._live_migrator.rollback_at_destination(context, self._fresh(context, instance))

    def _fresh(self, context: RequestContext, instance: Any) -> objects.Instance:
        return self.compute_host.load(context, instance["uuid"])

    # --- Volumes ---

    @instance_action(event=False, revert=False, missing_ok=False)
    def reserve_block_device_name(self, context: RequestContext, instance: Any, device: str | None,
                                  volume_id: str | None = None, disk_bus: str | None = None,
                                  device_type: str | None = None) -> str:
        """Choose and take the device name of a new volume."""
        return self._volumes.reserve_name(context, instance, device, volume_id, disk_bus, device_type)

    @instance_action(event=False, revert=False)
    def attach_volume(self, context: RequestContext, volume_id: str, mountpoint: str, instance: Any) -> None:
        """Attach the volume to the guest; on failure nothing of it remains."""
        self._volumes.attach(context, volume_id, mountpoint, instance)

    @instance_action(event=False, revert=False)
    def detach_volume(self, context: RequestContext, volume_id: str, instance: Any) -> None:
        """Detach the volume from the guest."""
        self._volumes.detach(context, volume_id, instance)

    @wrap_exception
    def remove_volume_connection(self, context: RequestContext, volume_id: str, instance: Any) -> None:
        """Take the volume from this host, though not from the instance."""
        self._volumes.remove_connection(context, volume_id, self._fresh(context, instance))

    # --- Networking ---

    @instance_action(event=False, revert=False)
    def add_fixed_ip_to_instance(self, context: RequestContext, network_id: str, instance: Any) -> None:
        """Give the instance one more address of the network."""
        self._networking.add_fixed_ip(context, instance, network_id)

    @instance_action(event=False, revert=False)
    def remove_fixed_ip_from_instance(self, context: RequestContext, address: str, instance: Any) -> None:
        """Take an address from the instance."""
        self._networking.remove_fixed_ip(context, instance, address)

    @instance_action(event=False, revert=False)
    def reset_network(self, context: RequestContext, instance: Any) -> None:
        """Have the guest set its network up again."""
        self.driver.reset_network(instance)

    @instance_action(event=False, revert=False)
    def inject_network_info(self, context: RequestContext, instance: Any) -> None:
        """Write the network information where the guest reads it."""
        self._networking.inject(context, instance)

    @instance_action(event=False, revert=False, missing_ok=False)
    def attach_interface(self, context: RequestContext, instance: Any, network_id: str | None, port_id: str | None,
                         requested_ip: str | None = None) -> tuple[dict, dict]:
        """Give the guest one more interface; returns its legacy pair (network, mapping)."""
        return self._networking.attach_interface(context, instance, network_id, port_id, requested_ip)

    @instance_action(event=False, revert=False)
    def detach_interface(self, context: RequestContext, instance: Any, port_id: str) -> None:
        """Take the interface from the guest and give its port back."""
        self._networking.detach_interface(context, instance, port_id)

    # --- Inside the guest ---

    @instance_action(expects=[task_states.UPDATING_PASSWORD], elevated=True, missing_ok=False)
    def set_admin_password(self, context: RequestContext, instance: Any, new_pass: str | None = None) -> None:
        """Set the administrator's password in the guest; None: a generated one."""
        self._guest.set_admin_password(context, instance, new_pass)

    @instance_action(event=False, revert=False, elevated=True)
    def inject_file(self, context: RequestContext, path: str, file_contents: str, instance: Any) -> None:
        """Write a file into the guest."""
        self._guest.inject_file(instance, path, file_contents)

    @instance_action(event=False, revert=False)
    def change_instance_metadata(self, context: RequestContext, diff: dict[str, list[str]], instance: Any) -> None:
        """Tell the guest what changed: {key: ['-']} was removed, {key: ['+', value]} was set."""
        self.driver.change_instance_metadata(context, instance, diff)

    @wrap_exception
    @wrap_instance_fault
    def get_diagnostics(self, context: RequestContext, instance: Any) -> dict[str, Any] | None:
        """Return the driver's figures of a running guest, None of one that does not run."""
        return self._guest.diagnostics(self._fresh(context, instance))

    # --- Consoles ---

    @wrap_exception
    @wrap_instance_fault
    def get_console_output(self, context: RequestContext, instance: Any, tail_length: Any = None) -> str:
        """Return the text of the guest's console, or its last lines."""
        return self._consoles.output(self._fresh(context.elevated(), instance), tail_length)

    @wrap_exception
    @wrap_instance_fault
    def get_vnc_console(self, context: RequestContext, console_type: str, instance: Any) -> dict[str, Any]:
        """Return where the VNC console is, with a token and the URL to use it."""
        return self._consoles.vnc(self._fresh(context.elevated(), instance), console_type)

    @wrap_exception
    @wrap_instance_fault
    def get_spice_console(self, context: RequestContext, console_type: str, instance: Any) -> dict[str, Any]:
        """Return where the SPICE console is, with a token and the URL to use it."""
        return self._consoles.spice(self._fresh(context.elevated(), instance), console_type)

    @wrap_exception
    @wrap_instance_fault
    def validate_console_port(self, context: RequestContext, instance: Any, port: Any, console_type: str) -> bool:
        """Tell whether the console of the guest is at this port."""
        return self._consoles.port_is_valid(self._fresh(context, instance), port, console_type)

    def get_console_topic(self, context: RequestContext) -> str:
        """Return the direct queue of the console service."""
        conf = self.services.conf
        return f"{conf.console_topic}.{conf.console_host}"

    def get_console_pool_info(self, context: RequestContext, console_type: str) -> dict[str, Any]:
        """Return {'address', 'username', 'password'} of the host's console pool."""
        return self.driver.get_console_pool_info(console_type)

    # --- The host ---

    @wrap_exception
    def host_power_action(self, context: RequestContext, host: str | None = None, action: str | None = None) -> str:
        """Do 'startup', 'shutdown' or 'reboot' to the host."""
        return self.driver.host_power_action(host, action)

    @wrap_exception
    def host_maintenance_mode(self, context: RequestContext, host: str, mode: bool) -> str:
        """Empty the host of its guests, or take it back into service."""
        return self.driver.host_maintenance_mode(host, mode)

    @wrap_exception
    def set_host_enabled(self, context: RequestContext, host: str | None = None, enabled: bool | None = None) -> str:
        """Let the host take new guests, or not."""
        return self.driver.set_host_enabled(host, enabled)

    @wrap_exception
    def get_host_uptime(self, context: RequestContext) -> str:
        """Return what the host's uptime command says."""
        return self.driver.get_host_uptime(self.host)

    @wrap_exception
    def add_aggregate_host(self, context: RequestContext, host: str, slave_info: dict[str, Any] | None = None,
                           aggregate: Any = None, aggregate_id: int | None = None) -> None:
        """Let `host` join the pool of the aggregate."""
        self._host_operations.add_to_aggregate(context, host, slave_info, aggregate, aggregate_id)

    @wrap_exception
    def remove_aggregate_host(self, context: RequestContext, host: str, slave_info: dict[str, Any] | None = None,
                              aggregate: Any = None, aggregate_id: int | None = None) -> None:
        """Take `host` out of the pool of the aggregate."""
        self._host_operations.remove_from_aggregate(context, host, slave_info, aggregate, aggregate_id)

    @wrap_exception
    def refresh_security_group_rules(self, context: RequestContext, security_group_id: int) -> Any:
        """Apply the changed rules of a security group."""
        return self.driver.refresh_security_group_rules(security_group_id)

    @wrap_exception
    def refresh_security_group_members(self, context: RequestContext, security_group_id: int) -> Any:
        """Apply the changed members of a security group."""
        return self.driver.refresh_security_group_members(security_group_id)

    @instance_action(event=False, fault=False, revert=False)
    def refresh_instance_security_rules(self, context: RequestContext, instance: Any) -> Any:
        """Apply the changed rules of an instance, once nothing else is done to it."""
        return self.driver.refresh_instance_security_rules(instance)

    @wrap_exception
    def refresh_provider_fw_rules(self, context: RequestContext) -> Any:
        """Apply the changed rules that hold for every guest."""
        return self.driver.refresh_provider_fw_rules()

    # --- What peers and drivers ask in between ---

    def get_backdoor_port(self, context: RequestContext) -> int | None:
        """Return the port of the debugging console, None when there is none."""
        return self.backdoor_port

    def _instance_update(self, context: RequestContext, instance_uuid: str, **kwargs: Any) -> dict[str, Any]:
        """Change an instance by uuid (LocalConductor.save), seen by its node's tracker; returns the updated row."""
        return self.compute_host.update_by_uuid(context, instance_uuid, **kwargs).to_legacy_dict()

    # --- Periodic tasks ---

    @manager.periodic_task
    def _audit_resources(self, context: RequestContext) -> None:
        interval_s = self.services.conf.update_resources_interval
        if interval_s >= 0 and self._pacing.is_due("update_available_resource", interval_s):
            self.update_available_resource(context)

    @manager.periodic_task
    def _sync_power_states(self, context: RequestContext) -> None:
        self._paced("sync_power_states", self.services.conf.sync_power_state_interval, self._sync.sync_all, context)

    @manager.periodic_task
    def _report_driver_status(self, context: RequestContext) -> None:
        if self._pacing.is_due("report_driver_status", self.services.conf.host_state_interval):
            with self._health.watched(context):
                stats = self.driver.get_host_stats(refresh=True)
            entries = stats if isinstance(stats, list) else [stats]
            self.update_service_capabilities([{**entry, "host_ip": self.services.conf.my_ip} for entry in entries])

    @manager.periodic_task(external_process_ok=True)
    def _run_image_cache_manager_pass(self, context: RequestContext) -> None:
        if self.driver.capabilities["has_imagecache"]:
            self._paced("image_cache", self.services.conf.image_cache_manager_interval, self._image_cache.sweep,
                        context)

    @manager.periodic_task
    def _check_instance_build_time(self, context: RequestContext) -> None:
        self._watch.fail_slow_builds(context)

    @manager.periodic_task
    def _heal_instance_info_cache(self, context: RequestContext) -> None:
        self._paced("heal_info_cache", self.services.conf.heal_instance_info_cache_interval,
                    self._watch.heal_info_cache, context)

    @manager.periodic_task
    def _poll_rebooting_instances(self, context: RequestContext) -> None:
        self._watch.force_slow_reboots(context)

    @manager.periodic_task
    def _poll_rescued_instances(self, context: RequestContext) -> None:
        self._watch.end_old_rescues(context)

    @manager.periodic_task
    def _poll_unconfirmed_resizes(self, context: RequestContext) -> None:
        self._watch.confirm_old_resizes(context)

    @manager.periodic_task
    def _instance_usage_audit(self, context: RequestContext) -> None:
        if self.services.conf.instance_usage_audit:
            self._usage.audit(context)

    @manager.periodic_task
    def _poll_bandwidth_usage(self, context: RequestContext) -> None:
        self._paced("bandwidth", self.services.conf.bandwidth_poll_interval, self._usage.poll_bandwidth, context)

    @manager.periodic_task
    def _poll_volume_usage(self, context: RequestContext, start_time: Any = None) -> None:
        self._paced("volume_usage", self.services.conf.volume_usage_poll_interval, self._usage.poll_volumes, context,
                    start_time)

    @manager.periodic_task
    def _reclaim_queued_deletes(self, context: RequestContext) -> None:
        self._leftovers.reclaim_deleted(context)

    @manager.periodic_task
    def _cleanup_running_deleted_instances(self, context: RequestContext) -> None:
        self._paced("running_deleted", self.services.conf.running_deleted_instance_poll_interval,
                    self._leftovers.clean_running_deleted, context)

    @manager.periodic_task
    def _run_pending_deletes(self, context: RequestContext) -> None:
        self._paced("pending_deletes", self.services.conf.instance_delete_interval, self._leftovers.finish_deletions,
                    context)

    @manager.periodic_task
    def _cleanup_incomplete_migrations(self, context: RequestContext) -> None:
        self._paced("incomplete_migrations", self.services.conf.instance_delete_interval,
                    self._leftovers.clean_up_migrations, context)

    @manager.periodic_task(spacing=600)
    def _recover_stuck_instances(self, context: RequestContext) -> None:
        self._watch.recover_stuck(context, STUCK_TASK_S)

    @manager.periodic_task(spacing=3600)
    def _drop_stale_device_reservations(self, context: RequestContext) -> None:
        self._watch.drop_stale_reservations(context, STALE_RESERVATION_S)

    def _paced(self, task: str, interval_s: float, act: Any, *args: Any) -> None:
        """Run a task that has an interval of its own; 0 or less is off."""
        if interval_s > 0 and self._pacing.is_due(task, interval_s):
            act(*args)
