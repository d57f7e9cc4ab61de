"""What a user can do with instances: the compute API of a cell that has hosts (compute specification §10.3, §10.4).

`API` is an index: each method says when it may run (`guarded`) and names the part that does it. `cells_api` has the
same for a cell whose instances live in cells below it.
"""

from typing import Any

from nova_lite import exception, notifications, policy
from nova_lite.compute import api_block_devices as block_devices
from nova_lite.compute import api_checks as checks
from nova_lite.compute.api_actions import InstanceActionAPI
from nova_lite.compute.api_aggregates import AggregateAPI
from nova_lite.compute.api_consoles import Consoles
from nova_lite.compute.api_create import BuildOrder, InstanceCreation, authorize_image
from nova_lite.compute.api_delete import Deletion
from nova_lite.compute.api_find import InstanceSearch
from nova_lite.compute.api_guards import IDLE, guarded, tells_faults
from nova_lite.compute.api_images import Imaging
from nova_lite.compute.api_keypairs import KeypairAPI
from nova_lite.compute.api_metadata import Metadata
from nova_lite.compute.api_power import REBOOT_VM_STATES, Power
from nova_lite.compute.api_quota import Quotas
from nova_lite.compute.api_resize import LocalTasks, Rebuilding, Resizing
from nova_lite.compute.api_rows import NewRows
from nova_lite.compute.api_security_groups import SecurityGroupAPI
from nova_lite.compute.api_steps import Steps
from nova_lite.compute.api_volumes import Volumes
from nova_lite.compute.host_api import HostAPI
from nova_lite.compute.rpcapi import ComputeAPI
from nova_lite.context import RequestContext, Services
from nova_lite.objects import (
    BlockDeviceMappingList,
    Instance,
    MigrationList,
    task_states,
    vm_states,
)
from nova_lite.objects import instance_actions as actions
from nova_lite.scheduler.rpcapi import SchedulerAPI, network_triples, request_spec

__all__ = ["API", "AggregateAPI", "HostAPI", "InstanceActionAPI", "KeypairAPI", "SecurityGroupAPI"]

ACTIVE, STOPPED, PAUSED = vm_states.ACTIVE, vm_states.STOPPED, vm_states.PAUSED
SUSPENDED, RESCUED, RESIZED = vm_states.SUSPENDED, vm_states.RESCUED, vm_states.RESIZED
SOFT_DELETED = vm_states.SOFT_DELETED

ATTACHABLE = (ACTIVE, PAUSED, SUSPENDED, STOPPED, RESIZED, SOFT_DELETED)
DESCRIBABLE = (ACTIVE, PAUSED, SUSPENDED, STOPPED)


class API:
    """Operations on instances whose hosts are in this cell.

    Every method takes the request's context and, as `instance`, an Instance or a dict with its uuid. They raise
    PolicyNotAuthorized, InstanceIsLocked, InstanceNotReady, InstanceInvalidState before anything is changed, and
    UnexpectedTaskStateError when somebody else was faster.
    """

    hosts_are_here = True

    def __init__(self, services: Services) -> None:
        self._assemble(services, Steps(), ComputeAPI(services))

    def _assemble(self, services: Services, steps: Steps, compute: Any) -> None:
        self.services = services
        self._policy = policy.Policy.of(services.conf)
        self._quotas = Quotas(services)
        self._steps = steps
        self._compute = compute
        self._scheduler = SchedulerAPI(services) if self.hosts_are_here else None
        tasks = self._tasks(services)
        self._rows = NewRows(services, with_parts=self.hosts_are_here)
        self._creation = InstanceCreation(services, self.authorize, self._quotas, steps, self._rows, self._send_build,
                                          self.hosts_are_here)
        self._power = Power(steps, compute)
        self._deletion = self._deletion_of(services)
        self._resizing = self._resizing_of(services, tasks)
        self._rebuilding = Rebuilding(services, self._quotas, steps, compute, tasks)
        self._imaging = Imaging(services, steps, tasks)
        self._live_migrate = tasks.live_migrate
        self._volumes = Volumes(services, compute)
        self._metadata = Metadata(self._quotas, steps, compute)
        self._consoles = Consoles(services)
        self._search = InstanceSearch(services)

    def _tasks(self, services: Services) -> Any:
        return LocalTasks(services, self._compute, self._scheduler)

    def _deletion_of(self, services: Services) -> Deletion:
        return Deletion(services, self._quotas, self._steps, self._compute)

    def _resizing_of(self, services: Services, tasks: Any) -> Resizing:
        return Resizing(services, self._quotas, self._steps, self._compute, tasks)

    # -- guards --

    def authorize(self, context: RequestContext, operation: str, target: Any = None) -> None:
        """Raise PolicyNotAuthorized unless rule `compute:<operation>` allows it on the target's owner."""
        if isinstance(target, Instance):
            target = {"project_id": target.project_id, "user_id": target.user_id}
        self._policy.authorize(context, f"compute:{operation}", target)

    def check_placed(self, instance: Instance) -> None:
        """Instances of this cell live here."""

    # -- creating and finding --

    @tells_faults
    def create(self, context: RequestContext, instance_type: Any, image_href: str | None, kernel_id: str | None = None,
               ramdisk_id: str | None = None, min_count: int | None = None, max_count: int | None = None,
               display_name: str | None = None, display_description: str | None = None, key_name: str | None = None,
               key_data: str | None = None, security_group: Any = None, availability_zone: str | None = None,
               user_data: str | None = None, metadata: dict[str, str] | None = None, injected_files: list | None = None,
               admin_password: str | None = None, block_device_mapping: Any = None, access_ip_v4: str | None = None,
               access_ip_v6: str | None = None, requested_networks: Any = None, config_drive: Any = None,
               auto_disk_config: bool | None = None, scheduler_hints: dict[str, Any] | None = None,
               legacy_bdm: bool = True, shutdown_terminate: bool = False) -> tuple[list[Instance], str]:
        """Have `min_count` to `max_count` instances built; returns ([Instance], reservation id).

        instance_type: Flavor or dict, None for the default. image_href: id or address, None to boot from a volume.
        injected_files: [[path, base64]]. user_data: base64. requested_networks: NetworkRequestList or tuples
        (network id, fixed address, port id). availability_zone: zone[:host[:node]]. Raises the errors of §10.4.
        """
        return self._creation.create(context, BuildOrder(
            instance_type, image_href, kernel_id, ramdisk_id, min_count, max_count, display_name, display_description,
            key_name, key_data, security_group, availability_zone, user_data, metadata, injected_files, admin_password,
            block_device_mapping, access_ip_v4, access_ip_v6, requested_networks, config_drive, auto_disk_config,
            scheduler_hints, shutdown_terminate))

    def _send_build(self, context: RequestContext, order: BuildOrder, instances: list[Instance], groups: list[str],
                    mappings: BlockDeviceMappingList) -> None:
        self._scheduler.run_instance(
            context, request_spec(order.flavor, order.image, instances, groups, mappings), order.admin_password,
            order.injected_files or [], network_triples(order.requested_networks), True, order.filter_properties())

    def create_db_entry_for_new_instance(self, context: RequestContext, instance_type: Any, image: dict | None,
                                         instance: Any, security_group: Any, block_device_mapping: Any,
                                         num_instances: int, index: int) -> Instance:
        """Return the row of a new instance with all that belongs to it; the one there is, when there is one."""
        return self._rows.create(context, instance_type, image, instance, security_group, block_device_mapping,
                                 num_instances, index)

    def get(self, context: RequestContext, instance_id: str | int, expected_attrs: list | None = None) -> Instance:
        """Return the instance of a uuid or local row id. Raises InstanceNotFound."""
        instance = self._search.one(context, instance_id, expected_attrs)
        self.authorize(context, "get", instance)
        return instance

    def get_all(self, context: RequestContext, search_opts: dict[str, Any] | None = None, sort_key: str = "created_at",
                sort_dir: str = "desc", limit: int | None = None, marker: str | None = None,
                expected_attrs: list | None = None) -> list[Instance]:
        """Return the instances that match, of the user's project unless he is an administrator.

        search_opts: columns (texts are regular expressions), and image, name, flavor, tenant_id, metadata, deleted,
        changes-since. Raises MarkerNotFound.
        """
        self.authorize(context, "get_all")
        return self._search.several(context, search_opts, sort_key, sort_dir, limit, marker, expected_attrs)

    def get_migrations(self, context: RequestContext, filters: dict[str, Any] | None) -> MigrationList:
        """Return the moves that match `status, host, source_compute, instance_uuid, migration_type, hidden`."""
        return MigrationList.get_by_filters(context, dict(filters or {}))

    def is_volume_backed_instance(self, context: RequestContext, instance: Any, bdms: Any = None) -> bool:
        """Whether the instance boots from a volume."""
        if bdms is None:
            bdms = BlockDeviceMappingList.get_by_instance_uuid(context, instance["uuid"])
        return block_devices.is_volume_backed(instance, bdms)

    # -- deleting --

    @guarded(lock=True, placed=False)
    def delete(self, context: RequestContext, instance: Any) -> None:
        """Delete the instance; where reclaim_instance_interval is set, a user's delete can be undone for that long."""
        if self._is_restorable(context, instance):
            self._deletion.soft_delete(context, instance)
        else:
            self._deletion.delete(context, instance)

    def _is_restorable(self, context: RequestContext, instance: Instance) -> bool:
        # In a cell below, the top has decided already.
        return bool(self.services.conf.reclaim_instance_interval > 0 and instance.host
                    and instance.vm_state != SOFT_DELETED and not self.services.db.has_parents(context))

    @guarded(lock=True, placed=False)
    def soft_delete(self, context: RequestContext, instance: Any) -> None:
        """Switch the instance off; it can be restored until it is reclaimed."""
        self._deletion.soft_delete(context, instance)

    @guarded(lock=True, placed=False)
    def force_delete(self, context: RequestContext, instance: Any) -> None:
        """Delete the instance for good, in whatever state it is."""
        self._deletion.force_delete(context, instance)

    @guarded(vm_state=(SOFT_DELETED,), task_state=IDLE, lock=True)
    def restore(self, context: RequestContext, instance: Any) -> None:
        """Bring a soft-deleted instance back."""
        self._deletion.restore(context, instance)

    # -- running --

    @guarded(vm_state=(STOPPED,), task_state=IDLE, lock=True, host=True)
    def start(self, context: RequestContext, instance: Any) -> None:
        """Start a stopped instance."""
        self._power.simple(context, instance, task_states.POWERING_ON, actions.START, "start_instance")

    @guarded(vm_state=(ACTIVE, RESCUED, vm_states.ERROR), task_state=IDLE, lock=True, host=True)
    def stop(self, context: RequestContext, instance: Any, do_cast: bool = True, clean_shutdown: bool = True) -> Any:
        """Stop an instance, asking its guest to shut down first if `clean_shutdown`; waits unless `do_cast`."""
        return self._power.stop(context, instance, do_cast, clean_shutdown)

    @guarded(lock=True, host=True, policy=False)
    def force_stop(self, context: RequestContext, instance: Any, do_cast: bool = True,
                   clean_shutdown: bool = True) -> Any:
        """Stop an idle instance whatever state it is said to be in."""
        return self._power.stop(context, instance, do_cast, clean_shutdown)

    @guarded(vm_state=REBOOT_VM_STATES, lock=True)
    def reboot(self, context: RequestContext, instance: Any, reboot_type: str) -> None:
        """Reboot an instance, SOFT through its guest or HARD; HARD takes over from what does not end."""
        self._power.reboot(context, instance, reboot_type)

    @guarded(vm_state=(ACTIVE, RESCUED), task_state=IDLE, lock=True)
    def pause(self, context: RequestContext, instance: Any) -> None:
        """Freeze an instance in memory."""
        self._power.simple(context, instance, task_states.PAUSING, actions.PAUSE, "pause_instance")

    @guarded(vm_state=(PAUSED,), task_state=IDLE, lock=True)
    def unpause(self, context: RequestContext, instance: Any) -> None:
        """Let a paused instance run on."""
        self._power.simple(context, instance, task_states.UNPAUSING, actions.UNPAUSE, "unpause_instance")

    @guarded(vm_state=(ACTIVE, RESCUED), task_state=IDLE, lock=True)
    def suspend(self, context: RequestContext, instance: Any) -> None:
        """Put an instance to disk."""
        self._power.simple(context, instance, task_states.SUSPENDING, actions.SUSPEND, "suspend_instance")

    @guarded(vm_state=(SUSPENDED,), task_state=IDLE, lock=True)
    def resume(self, context: RequestContext, instance: Any) -> None:
        """Wake a suspended instance."""
        self._power.simple(context, instance, task_states.RESUMING, actions.RESUME, "resume_instance")

    # -- another disk, size or host --

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE, lock=True)
    def rescue(self, context: RequestContext, instance: Any, rescue_password: str | None = None,
               rescue_image_ref: str | None = None, clean_shutdown: bool = True) -> None:
        """Boot an instance from a rescue image with its own disk beside it. Raises InstanceNotRescuable."""
        authorize_image(self.authorize, context, rescue_image_ref)
        self._rebuilding.rescue(context, instance, rescue_password, rescue_image_ref, clean_shutdown)

    @guarded(vm_state=(RESCUED,), task_state=IDLE, lock=True)
    def unrescue(self, context: RequestContext, instance: Any) -> None:
        """Boot a rescued instance from its own disk again."""
        self._power.simple(context, instance, task_states.UNRESCUING, actions.UNRESCUE, "unrescue_instance")

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE, lock=True)
    def rebuild(self, context: RequestContext, instance: Any, image_href: str, admin_password: str | None,
                files_to_inject: list | None = None, preserve_ephemeral: bool = False, **extra: Any) -> None:
        """Make the instance anew from an image; `extra`: fields to change with it (display_name, metadata, …)."""
        if preserve_ephemeral:
            raise exception.Invalid("An ephemeral disk cannot be preserved by a rebuild on XenServer")
        authorize_image(self.authorize, context, image_href)
        self._rebuilding.rebuild(context, instance, image_href, admin_password, files_to_inject, extra)

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE, policy=False)
    def evacuate(self, context: RequestContext, instance: Any, host: str, on_shared_storage: bool,
                 admin_password: str | None = None, force: bool | None = None) -> None:
        """Build an instance whose host is dead again on `host`. Raises ComputeServiceUnavailable, HostNotFound."""
        self._rebuilding.evacuate(context, instance, self.own_host(instance, host), on_shared_storage, admin_password)

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE, lock=True)
    def resize(self, context: RequestContext, instance: Any, flavor_id: str | None = None,
               clean_shutdown: bool = True, flavor: Any = None, **extra: Any) -> None:
        """Give the instance another flavor, or (without one) another host.

        `flavor`: the whole flavor, for a flavor_id that this cell does not know. Raises FlavorNotFound,
        CannotResizeToSameFlavor, TooManyInstances.
        """
        # What comes from above as a resize to its own flavor is a move.
        same_is_move = self.services.db.has_parents(context)
        self._resizing.resize(context, instance, flavor_id, clean_shutdown, flavor, same_is_move, extra)

    @guarded(vm_state=(RESIZED,), task_state=IDLE, lock=True)
    def confirm_resize(self, context: RequestContext, instance: Any, migration: Any = None) -> None:
        """Give up what a resized instance would need to go back. Raises MigrationNotFoundByStatus."""
        self._resizing.confirm(context, instance, migration)

    @guarded(vm_state=(RESIZED,), task_state=IDLE, lock=True)
    def revert_resize(self, context: RequestContext, instance: Any) -> None:
        """Take a resized instance back to where and how it was. Raises MigrationNotFoundByStatus."""
        self._resizing.revert(context, instance)

    @guarded(vm_state=(ACTIVE,), task_state=IDLE, policy=False)
    def live_migrate(self, context: RequestContext, instance: Any, block_migration: bool | None,
                     disk_over_commit: bool | None, host_name: str | None) -> None:
        """Move a running instance to `host_name`, or to a host the scheduler finds. Waits until it has begun.

        Raises what forbids the move: NoValidHost, ComputeServiceUnavailable, MigrationPreCheckError, ….
        """
        host_name = self.own_host(instance, host_name)
        with self._steps.begun(context, instance, actions.LIVE_MIGRATION, task_state=task_states.MIGRATING):
            self._live_migrate(context, instance, host_name, block_migration, disk_over_commit)

    def own_host(self, instance: Instance, host: str | None) -> str | None:
        """Return a host as its own cell knows it. Raises Invalid for a host of another cell than the instance's."""
        if not host or "@" not in host:
            return host
        path, _, name = host.rpartition("@")
        if path not in (instance.cell_name, self.services.conf.cells.name) and not self._is_own_path(path):
            raise exception.Invalid(f"Instance {instance.uuid} cannot move to {host}: moves end in its own cell")
        return name

    def _is_own_path(self, path: str) -> bool:
        return path.rpartition("!")[2] == self.services.conf.cells.name

    # -- images --

    @guarded(vm_state=(ACTIVE, STOPPED, PAUSED, SUSPENDED), task_state=IDLE)
    def snapshot(self, context: RequestContext, instance: Any, name: str,
                 extra_properties: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make an image of the instance; returns its metadata, its content follows."""
        return self._imaging.snapshot(context, instance, name, extra_properties)

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE)
    def backup(self, context: RequestContext, instance: Any, name: str, backup_type: str, rotation: int,
               extra_properties: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make an image of the instance, keeping `rotation` of its type. Raises RotationRequiredForBackup."""
        return self._imaging.backup(context, instance, name, backup_type, rotation, extra_properties)

    @guarded(vm_state=(ACTIVE, STOPPED), task_state=IDLE, policy=False)
    def snapshot_volume_backed(self, context: RequestContext, instance: Any, image_meta: dict[str, Any], name: str,
                               extra_properties: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make an image that boots from snapshots of the instance's volumes; returns its metadata."""
        return self._imaging.snapshot_volume_backed(context, instance, image_meta, name, extra_properties)

    # -- volumes and interfaces --

    @guarded(vm_state=ATTACHABLE, lock=True)
    def attach_volume(self, context: RequestContext, instance: Any, volume_id: str, device: str | None = None,
                      disk_bus: str | None = None, device_type: str | None = None) -> str:
        """Attach a volume; returns the device name it gets. Raises InvalidDevicePath, InvalidVolume, …."""
        return self._volumes.attach(context, instance, volume_id, device, disk_bus, device_type)

    @guarded(vm_state=ATTACHABLE, lock=True)
    def detach_volume(self, context: RequestContext, instance: Any, volume: Any) -> None:
        """Detach a volume, given as dict or id. Raises InvalidVolume, VolumeUnattached."""
        self._volumes.detach(context, instance, volume)

    @guarded()
    def attach_interface(self, context: RequestContext, instance: Any, network_id: str | None, port_id: str | None,
                         requested_ip: str | None) -> Any:
        """Attach an interface; returns its legacy pair (network, mapping)."""
        if requested_ip is not None:
            checks.check_address(requested_ip)
        return self._compute.attach_interface(context, instance, network_id, port_id, requested_ip)

    @guarded()
    def detach_interface(self, context: RequestContext, instance: Any, port_id: str) -> None:
        """Detach an interface."""
        self._compute.detach_interface(context, instance, port_id)

    @guarded(lock=True)
    def add_fixed_ip(self, context: RequestContext, instance: Any, network_id: str) -> None:
        """Give the instance another address of a network."""
        self._compute.add_fixed_ip_to_instance(context, instance, network_id)

    @guarded(lock=True)
    def remove_fixed_ip(self, context: RequestContext, instance: Any, address: str) -> None:
        """Take an address from the instance."""
        checks.check_address(address)
        self._compute.remove_fixed_ip_from_instance(context, instance, address)

    @guarded(lock=True)
    def reset_network(self, context: RequestContext, instance: Any) -> None:
        """Have the guest set up its network again."""
        self._compute.reset_network(context, instance)

    @guarded(lock=True)
    def inject_network_info(self, context: RequestContext, instance: Any) -> None:
        """Write the network settings where the guest finds them."""
        self._compute.inject_network_info(context, instance)

    # -- the guest --

    @guarded(vm_state=(ACTIVE,), task_state=IDLE, lock=True)
    def set_admin_password(self, context: RequestContext, instance: Any, password: str | None = None) -> None:
        """Set the password of the guest's administrator, a generated one without `password`."""
        with self._steps.begun(context, instance, actions.CHANGE_PASSWORD, task_state=task_states.UPDATING_PASSWORD):
            self._compute.set_admin_password(context, instance, password)

    @guarded(lock=True)
    def inject_file(self, context: RequestContext, instance: Any, path: str, file_contents: str) -> None:
        """Write a file into the guest. Raises Invalid, OnsetFile(PathLimit|ContentLimit)Exceeded."""
        checks.check_file(self._quotas, context, path, file_contents)
        self._compute.inject_file(context, instance, path, file_contents)

    @guarded()
    def get_diagnostics(self, context: RequestContext, instance: Any) -> Any:
        """Return what the hypervisor knows about the guest."""
        return self._compute.get_diagnostics(context, instance)

    @guarded(host=True)
    def get_console_output(self, context: RequestContext, instance: Any, tail_length: int | None = None) -> str:
        """Return the end of the guest's console log: its last `tail_length` lines, or all that is kept."""
        checks.check_count("tail_length", tail_length)
        return self._compute.get_console_output(context, instance, tail_length)

    @guarded(host=True)
    def get_vnc_console(self, context: RequestContext, instance: Any, console_type: str) -> dict[str, str]:
        """Return `{'url'}` of the guest's screen, with a token that expires."""
        info = self._compute.get_vnc_console(context, instance, console_type)
        return self._consoles.authorize(context, instance, console_type, info)

    @guarded(host=True)
    def get_spice_console(self, context: RequestContext, instance: Any, console_type: str) -> dict[str, str]:
        """Return `{'url'}` of the guest's screen. Raises ConsoleTypeInvalid where there is none."""
        info = self._compute.get_spice_console(context, instance, console_type)
        return self._consoles.authorize(context, instance, console_type, info)

    @guarded(host=True)
    def get_vnc_connect_info(self, context: RequestContext, instance: Any, console_type: str) -> dict[str, Any]:
        """Return what opens the screen (token, host, port, …), for the cell that will authorise the token."""
        return self._compute.get_vnc_console(context, instance, console_type)

    @guarded(host=True)
    def get_spice_connect_info(self, context: RequestContext, instance: Any, console_type: str) -> dict[str, Any]:
        """As get_vnc_connect_info."""
        return self._compute.get_spice_console(context, instance, console_type)

    # -- what is written about it --

    @guarded()
    def get_instance_metadata(self, context: RequestContext, instance: Any) -> dict[str, str]:
        """Return the metadata."""
        return dict(instance.metadata)

    @guarded(vm_state=DESCRIBABLE, lock=True)
    def update_instance_metadata(self, context: RequestContext, instance: Any, metadata: dict[str, str],
                                 delete: bool = False) -> dict[str, str]:
        """Set pairs of metadata, or with `delete` replace all; returns all. Raises MetadataLimitExceeded, …."""
        return self._metadata.update(context, instance, metadata, delete)

    @guarded(vm_state=DESCRIBABLE, lock=True)
    def delete_instance_metadata(self, context: RequestContext, instance: Any, key: str) -> None:
        """Remove one pair of metadata."""
        self._metadata.delete(context, instance, key)

    @guarded(lock=True, placed=False)
    def update(self, context: RequestContext, instance: Any, **extra: Any) -> Instance:
        """Change fields of the instance (display_name, access_ip_v4, …) and say so; returns it."""
        checks.check_fields(extra)
        if unknown := sorted(set(extra) - set(instance.fields)):
            raise exception.Invalid(f"An instance has no {', '.join(unknown)[:checks.MAX_TEXT_LENGTH]}")
        before = instance.obj_clone()
        instance.update(extra)
        instance.save()
        notifications.send_update(context, before, instance, service="api", host=self.services.host)
        return instance

    @guarded(placed=False)
    def update_state(self, context: RequestContext, instance: Any, new_state: str) -> None:
        """Set the vm_state and make the instance idle, as an administrator does with one that is stuck."""
        if new_state not in vm_states.ALL:
            raise exception.Invalid(f"{str(new_state)[:checks.MAX_TEXT_LENGTH]!r} is no state of an instance")
        instance.vm_state, instance.task_state = new_state, None
        instance.save(admin_state_reset=True)

    @guarded(placed=False)
    def lock(self, context: RequestContext, instance: Any) -> None:
        """Keep everybody but administrators from changing the instance."""
        if instance.locked and not context.is_admin:
            return
        instance.locked = True
        instance.locked_by = "owner" if instance.project_id == context.project_id else "admin"
        instance.save()

    @guarded(placed=False)
    def unlock(self, context: RequestContext, instance: Any) -> None:
        """Let it be changed again; what an administrator has locked only administrators unlock."""
        if instance.locked_by == "admin":
            self.authorize(context, "unlock_override", instance)
        instance.locked, instance.locked_by = False, None
        instance.save()

    @guarded(placed=False)
    def get_lock(self, context: RequestContext, instance: Any) -> bool:
        """Whether the instance is locked."""
        return bool(instance.locked)
