"""Building an instance: a plan of steps, each taken back when a later one fails."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import XenAPI
from oslo_log import log as logging
from oslo_utils import strutils

from nova_lite import exception
from nova_lite.objects import vm_mode
from nova_lite.virt.driver import HypervisorUnavailable, block_device_info_get_mapping
from nova_lite.virt.xenapi import instances, records, vif
from nova_lite.virt.xenapi.auto_disk import AutoDisk
from nova_lite.virt.xenapi.disks import CD_KINDS, CONFIG_DRIVE, EPHEMERAL, ROOT, SWAP, Disk, Disks, cd
from nova_lite.virt.xenapi.errors import NULL_REF
from nova_lite.virt.xenapi.file_injection import FileInjection
from nova_lite.virt.xenapi.firmware import Firmware
from nova_lite.virt.xenapi.guest_data import data_of_new, provider_data
from nova_lite.virt.xenapi.images import ImageType
from nova_lite.virt.xenapi.ipxe import Ipxe
from nova_lite.virt.xenapi.plan import Undo, make_step_decorator, percentage
from nova_lite.virt.xenapi.volumeops import device_number

LOG = logging.getLogger(__name__)

FIRST_WITH_DEVICE_IDS = (6, 1)


@dataclass
class Build:
    """Everything known about a VM while it is built."""

    context: Any
    instance: Any
    image_meta: dict
    network_info: list
    name_label: str
    hostname: str | None
    flavor: Any
    undo: Undo
    injected_files: Any = None
    admin_password: str | None = None
    block_device_info: dict | None = None
    power_on: bool = True
    # Disks of the instance that a rescue VM sees beside its own.
    borrowed: list[Disk] = field(default_factory=list)
    is_rescue: bool = False
    first_boot: bool = True
    disks: list[Disk] = field(default_factory=list)
    kernel: str = ""
    ramdisk: str = ""
    mode: str = ""
    device_id: str | None = None
    firmware: Firmware = Firmware()
    vm_ref: str | None = None

    @property
    def os_type(self) -> str | None:
        return instances.read(self.instance, "os_type")

    @property
    def asked_mode(self) -> str | None:
        """How the guest wants to boot: a rescue VM as its own image says."""
        of_image = self.image_property("vm_mode") if self.is_rescue else None
        return vm_mode.canonical(of_image or instances.read(self.instance, "vm_mode"))

    @property
    def auto_disk_config(self) -> bool | None:
        of_image = self.image_property("auto_disk_config") if self.is_rescue else None
        return instances.follows_disk(self.instance) if of_image is None else strutils.bool_from_string(of_image)

    def image_property(self, name: str) -> Any:
        """Return a property of the image, None when it has none."""
        return (self.image_meta.get("properties") or {}).get(name)


class MemoryReservations:
    """Memory promised to builds whose VM does not run yet, so that parallel builds do not count it twice."""

    def __init__(self, free_memory_b):
        self._free_memory_b = free_memory_b
        self._promised: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, uuid: str, memory_mb: int) -> None:
        """Promise memory to a build. Raises InsufficientFreeMemory."""
        wanted_b = memory_mb * records.MIB
        free_b = self._free_memory_b()
        with self._lock:
            if wanted_b > free_b - sum(self._promised.values()):
                raise exception.InsufficientFreeMemory(uuid=uuid)
            self._promised[uuid] = wanted_b

    def release(self, uuid: str) -> None:
        """End a promise: the VM runs, or the build failed."""
        with self._lock:
            self._promised.pop(uuid, None)


class Evacuation:
    """Takes over the disks of an instance whose host in our pool died."""

    def __init__(self, session, cache, disks: Disks, destroyer):
        self._session = session
        self._cache = cache
        self._disks = disks
        self._destroyer = destroyer

    def take_over(self, vm_ref: str, instance_uuid: str, name_label: str) -> list[Disk]:
        """Remove the dead host's VM record and return its disks. Raises InstanceExists for any other VM."""
        record = self._session.call_xenapi("VM.get_record", vm_ref)
        if record["other_config"].get("nova_uuid") != instance_uuid or not self._host_is_dead(record):
            raise exception.InstanceExists(name=name_label)
        vbds = self._disks.vbds_of(vm_ref)
        if record["power_state"].lower() != "halted":
            self._session.call_xenapi("VM.power_state_reset", vm_ref)
            self._cache.note_state(vm_ref, "Halted")
        self._destroyer.remove_record(vm_ref)
        own = set(self._disks.own(vbds))
        return [Disk(vbd["VDI"], int(vbd["userdevice"]), bootable=vbd["bootable"], read_only=vbd["mode"] == "RO",
                     is_cd=vbd["type"].lower() == "cd", other_config=vbd["other_config"])
                for vbd in vbds.values() if vbd["VDI"] in own]

    def _host_is_dead(self, record: dict) -> bool:
        host_ref = record["resident_on"]
        if host_ref == NULL_REF:
            host_ref = record["affinity"]
        if host_ref in (NULL_REF, "", self._session.host_ref):
            return False
        metrics_ref = self._session.call_xenapi("host.get_metrics", host_ref)
        return not self._session.call_xenapi("host_metrics.get_live", metrics_ref)


class Spawner:
    """Builds VMs for instances."""

    def __init__(self, *, session, finder, cache, host, disks: Disks, local_disks, auto_disk: AutoDisk,
                 file_injection: FileInjection, kernels,
                 volumes, vifs, firewall, power, destroyer, agents, ipxe: Ipxe, virtapi, conf):
        self._session = session
        self._finder = finder
        self._cache = cache
        self._host = host
        self._disks = disks
        self._local_disks = local_disks
        self._auto_disk = auto_disk
        self._file_injection = file_injection
        self._kernels = kernels
        self._volumes = volumes
        self._vifs = vifs
        self._firewall = firewall
        self._power = power
        self._destroyer = destroyer
        self._agents = agents
        self._ipxe = ipxe
        self._virtapi = virtapi
        self._conf = conf
        self._provider_data = provider_data(conf.xenserver.provider_data or [])
        self._evacuation = Evacuation(session, cache, disks, destroyer)
        self._memory = MemoryReservations(host.free_memory_b)

    def spawn(self, context: Any, instance: Any, image_meta: dict, network_info: Any, injected_files: Any = None,
              admin_password: str | None = None, block_device_info: dict | None = None, power_on: bool = True,
              *, rescue: bool = False, borrowed: list[Disk] | None = None) -> str:
        """Build the instance (or its rescue VM) and boot it; returns the VM.

        On any error everything is taken back and that error is raised.
        """
        suffix = instances.RESCUE if rescue else ""
        name_label = self._finder.name(instance)
        if not name_label.endswith(suffix):
            name_label += suffix
        hostname = instances.read(instance, "hostname")
        with Undo(f"spawn {name_label}") as undo:
            build = Build(
                context=context, instance=instance,
                image_meta=_with_id(image_meta, instance), network_info=vif.records(network_info),
                name_label=name_label, hostname=f"RESCUE-{hostname}" if rescue and hostname else hostname,
                flavor=instances.flavor_of(context, instance, self._virtapi), undo=undo,
                injected_files=_given(injected_files, instance, "injected_files"),
                admin_password=_given(admin_password, instance, "admin_pass"),
                block_device_info=block_device_info, power_on=power_on, borrowed=borrowed or [], is_rescue=rescue)
            self._run(build)
        return build.vm_ref

    def build_from_disks(self, context: Any, instance: Any, image_meta: dict, network_info: Any, disks: list[Disk],
                         block_device_info: dict | None, power_on: bool, undo: Undo) -> str:
        """Build the VM of an instance whose disks are here already; returns the VM."""
        # A guest with an agent has taken its name, and may have given itself another one.
        hostname = None if self._agents.enabled_for(instance) else instances.read(instance, "hostname")
        build = Build(
            context=context, instance=instance, image_meta=_with_id(image_meta, instance),
            network_info=vif.records(network_info), name_label=self._finder.name(instance), hostname=hostname,
            flavor=instances.flavor_of(context, instance, self._virtapi), undo=undo,
            block_device_info=block_device_info, power_on=power_on, disks=disks, first_boot=False)
        try:
            for part in (self.vanity_step, self.create_kernel_ramdisk_step, self.create_vm_record_step,
                         self.prepare_security_group_filters_step, self.boot_instance_step,
                         self.apply_security_group_filters_step):
                part(build)
        finally:
            self._memory.release(instance["uuid"])
        self._progress(context, instance["uuid"], {"progress": 100})
        return build.vm_ref

    def _run(self, build: Build) -> None:
        step = make_step_decorator(build.context, build.instance, self._step_done)
        plan = [step(function) for function in (
            self.vanity_step, self.create_disks_step, self.create_kernel_ramdisk_step, self.create_vm_record_step,
            self.prepare_security_group_filters_step, self.boot_instance_step, self.apply_security_group_filters_step)]
        try:
            for run_step in plan:
                run_step(build)
        finally:
            self._memory.release(build.instance["uuid"])

    def _step_done(self, context: Any, instance: Any, current: int, total: int) -> None:
        self._progress(context, instance["uuid"], {"progress": percentage(current, total)})

    def _progress(self, context: Any, uuid: str, updates: dict) -> None:
        try:
            self._virtapi.instance_update(context, uuid, updates)
        except NotImplementedError:
            LOG.debug("progress of %s: %s", uuid, updates)

    # Steps ----------------------------------------------------------------------------------------------------

    def vanity_step(self, build: Build) -> None:
        """Move progress off 0, since making disks may take long, and refuse what cannot work."""
        existing_ref = self._finder.lookup_fresh(build.name_label)
        if existing_ref is not None:
            build.disks.extend(self._evacuation.take_over(existing_ref, build.instance["uuid"], build.name_label))
        self._memory.take(build.instance["uuid"], build.flavor["memory_mb"])
        build.mode = self._mode(build)
        build.device_id = self._device_id(build)
        build.firmware = Firmware.of(build.image_meta)

    def create_disks_step(self, build: Build) -> None:
        """Make the root disk, and swap, ephemeral disks and config drive as asked."""
        if build.disks:
            return  # those of a host that died
        if build.image_meta.get("id") and not _boots_from_volume(build):
            self._add_image_disks(build)
        if build.is_rescue:
            return
        self._add_local_disks(build)

    def create_kernel_ramdisk_step(self, build: Build) -> None:
        """Bring kernel and ramdisk into dom0 where the instance has them."""
        build.kernel, build.ramdisk = self._kernels.fetch(build.context, build.instance, build.undo)

    def create_vm_record_step(self, build: Build) -> None:
        """Create the VM with its disks and interfaces."""
        self.create_vm(build)
        for disk in build.disks + build.borrowed:
            self._disks.attach(build.vm_ref, disk)
        self._volumes.attach_mapped(build.vm_ref, build.block_device_info, build.undo, build.name_label)
        if not build.is_rescue:  # whose interfaces are on the networks of the instance's own
            build.undo.add(self._vifs.unplug, build.instance, build.network_info, build.vm_ref)
        self._vifs.create(build.vm_ref, build.instance, build.network_info)

    def prepare_security_group_filters_step(self, build: Build) -> None:
        """Have the packet filters ready before the guest can send anything."""
        build.undo.add(self._firewall.unfilter_instance, build.instance, network_info=build.network_info)
        try:
            self._firewall.setup_basic_filtering(build.instance, build.network_info)
        except NotImplementedError:
            LOG.debug("the firewall driver has no basic filtering")
        self._firewall.prepare_instance_filter(build.instance, build.network_info)

    def boot_instance_step(self, build: Build) -> None:
        """Start the VM frozen, wait for its interfaces, let it run and configure it."""
        if not build.power_on:
            return
        # With volumes attached nothing else can be taken back while the VM runs.
        build.undo.add(self._destroyer.stop, build.vm_ref)
        self._power.start(build.vm_ref, paused=True)
        self._memory.release(build.instance["uuid"])
        if build.first_boot and not build.is_rescue:
            self._wait_for_vifs(build)
        self._session.call_xenapi("VM.unpause", build.vm_ref)
        self._cache.note_state(build.vm_ref, "Running")
        if build.first_boot:
            self._agents.configure_new(build)

    def apply_security_group_filters_step(self, build: Build) -> None:
        """Put the packet filters in force."""
        self._firewall.apply_instance_filter(build.instance, build.network_info)

    # Parts of steps -------------------------------------------------------------------------------------------

    def _mode(self, build: Build) -> str:
        if build.asked_mode != vm_mode.XEN:
            mode = vm_mode.HVM
        elif self._host.supports_paravirtual():
            mode = vm_mode.XEN
        else:
            raise exception.InstanceUnacceptable(instance_id=build.instance["uuid"],
                                                 reason="this host does not boot paravirtual guests")
        if not build.is_rescue and mode != instances.read(build.instance, "vm_mode"):
            self._progress(build.context, build.instance["uuid"], {"vm_mode": mode})
        return mode

    def _device_id(self, build: Build) -> str | None:
        """Return the device model that drivers in the image need."""
        device_id = build.image_property("hw_device_id")
        if device_id is not None and self._session.product_version < FIRST_WITH_DEVICE_IDS:
            raise exception.InstanceUnacceptable(instance_id=build.instance["uuid"],
                                                 reason=f"this host is too old for device id {device_id}")
        return None if device_id is None else str(device_id)

    def _add_image_disks(self, build: Build) -> None:
        if ImageType.of(build.image_meta) is ImageType.ISO:
            self._add_cd(build)
            return
        # A rescue disk is as large as its image.
        root_gb = 0 if build.is_rescue else build.flavor["root_gb"]
        root = self._disks.root_from_image(build.context, build.instance, build.image_meta, build.name_label, root_gb,
                                           build.undo)
        if root_gb and self._auto_disk.is_wanted(build.instance):
            self._auto_disk.fill(root.vdi_ref)
        if not build.is_rescue and self._file_injection.is_wanted:
            self._file_injection.inject(root.vdi_ref, build)
        build.disks.append(root)

    def _add_cd(self, build: Build) -> None:
        from_network = self._ipxe.is_wanted(build.image_meta)
        installation = self._disks.iso_from_image(build.context, build.instance, build.image_meta, build.undo,
                                                  as_file=from_network)
        if from_network:
            self._ipxe.prepare(installation.vdi_ref, build.network_info)
        if build.flavor["root_gb"]:
            root = self._disks.blank("blank HD", build.flavor["root_gb"] * records.GIB, self._owner(build, "root"),
                                     build.undo)
            build.disks.append(Disk(root, ROOT, "root"))
        build.disks.append(installation)

    def _add_local_disks(self, build: Build) -> None:
        for device, kind, make in self._local_disks.plan(build, SWAP, CONFIG_DRIVE, EPHEMERAL):
            vdi_ref = make(self._owner(build, kind), build.undo)
            build.disks.append(cd(vdi_ref, device, kind) if kind in CD_KINDS else Disk(vdi_ref, device, kind))

    def _owner(self, build: Build, kind: str) -> dict[str, str]:
        return self._disks.marks(build.instance["uuid"], kind)

    def create_vm(self, build: Build) -> None:
        """Create the VM record, with all the guest is to find in its xenstore, and register its removal."""
        record = records.vm(
            name_label=build.name_label, flavor=build.flavor, mode=build.mode, host_ref=self._session.host_ref,
            other_config={"nova_uuid": build.instance["uuid"], "nova_host": self._session.host_uuid,
                          **self._role_marks(build)},
            xenstore_data=data_of_new(build, self._provider_data), windows=build.os_type == "windows",
            firmware=build.firmware, device_id=build.device_id, kernel=build.kernel,
            ramdisk=build.ramdisk, vcpu_params=_vcpu_params(build.flavor))
        try:
            build.vm_ref = self._session.call_xenapi("VM.create", record)
        except (XenAPI.Failure, HypervisorUnavailable):
            self._remove_unseen(build)
            raise
        build.undo.add(self._destroyer.remove_record, build.vm_ref)
        self._cache.note_created(build.vm_ref, record)

    def _remove_unseen(self, build: Build) -> None:
        """Remove the VM of a call whose outcome nobody knows, if the host made it: the name was free before."""
        with suppress(XenAPI.Failure, exception.NovaException):
            for vm_ref in self._session.call_xenapi("VM.get_by_name_label", build.name_label):
                marks = self._session.call_xenapi("VM.get_other_config", vm_ref)
                if marks.get("nova_uuid") == build.instance["uuid"]:
                    self._destroyer.remove_record(vm_ref)

    def _role_marks(self, build: Build) -> dict[str, str]:
        return {"nova_rescued_at": str(int(self._session.clock.time()))} if build.is_rescue else {}

    def _wait_for_vifs(self, build: Build) -> None:
        timeout_s = self._conf.vif_plugging_timeout
        vif_ids = [mapping["vif_uuid"] for _, mapping in build.network_info if mapping.get("vif_uuid")]
        if not timeout_s or not vif_ids:
            return
        try:
            self._virtapi.wait_vifs_active(build.context, build.instance, vif_ids, timeout_s)
        except NotImplementedError:
            LOG.debug("no compute service above to wait for interfaces")
        except (exception.NovaException, TimeoutError) as error:
            if self._conf.vif_plugging_is_fatal:
                raise
            LOG.warning("interfaces of %s are not active, booting all the same: %s", build.name_label, error)


def _boots_from_volume(build: Build) -> bool:
    return not build.is_rescue and any(device_number(mapping["mount_device"]) == ROOT
                                       for mapping in block_device_info_get_mapping(build.block_device_info))


def _with_id(image_meta: dict | None, instance: Any) -> dict:
    """The image's id comes with its description, else from the instance; none means boot from volume."""
    image_meta = dict(image_meta or {})
    if image_meta and not image_meta.get("id"):
        image_meta["id"] = instances.read(instance, "image_ref")
    return image_meta


def _given(value: Any, instance: Any, name: str) -> Any:
    return value if value is not None else instances.read(instance, name)


def _vcpu_params(flavor: Any) -> dict[str, str]:
    weight = instances.read(flavor, "vcpu_weight")
    # XenServer 6.1 ignored a weight without a cap.
    return {"weight": str(weight), "cap": "0"} if weight is not None else {}
