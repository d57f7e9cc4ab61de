"""What a freshly installed pool contains."""

import os
import time
import uuid as uuid_module
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nova_lite.xensim.hardware import Hardware
from nova_lite.xensim.model import API_VERSION, EPOCH, NULL
from nova_lite.xensim.storage_rules import DRIVERS
from nova_lite.xensim.values import timestamp_text

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

GIB = 1024**3
MIB = 1024**2
INSTALL_MEDIA = "552bce37-51b2-445d-84f2-5f33fa112d7e"
CAPABILITIES = ["xen-3.0-x86_64", "xen-3.0-x86_32p", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64"]
SOFTWARE_VERSION = {
    "product_brand": "XenServer",
    "product_version": "8.4.0",
    "product_version_text": "8",
    "product_version_text_short": "8",
    "platform_name": "XCP",
    "platform_version": "3.4.0",
    "xapi": "24.19",
    "xapi_build": "24.19.2",
    "xen": "4.17.4",
    "linux": "4.19.0+1",
    "xencenter_min": "2.21",
    "xencenter_max": "2.21",
    "network_backend": "openvswitch",
    "dbv": "2024.0516",
    "build_number": "stream",
    "date": "2024-06-12",
}
CPU = {
    "vendor": "GenuineIntel",
    "speed": "2400.000",
    "modelname": "Intel(R) Xeon(R) Gold 5318Y CPU @ 2.10GHz",
    "family": "6",
    "model": "106",
    "stepping": "6",
    "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat clflush mmx fxsr sse sse2 ht nx lm",
}
BIOS_STRINGS = {
    "bios-vendor": "Dell Inc.",
    "bios-version": "1.11.2",
    "system-manufacturer": "Dell Inc.",
    "system-product-name": "PowerEdge R750",
    "system-version": "",
    "system-serial-number": "XENSIM1",
    "oem-1": "Xen",
    "oem-2": "MS_VM_CERT/SHA1/bdbeb6e0a816d43fa6d3fe8aaef04c2bad9d3e3d",
    "hp-rombios": "",
}
FEATURES = "1fcbfbff-f7fa3223-2d93fbff-00000423-00000001-000007ab-00000000-00000000"


@dataclass(frozen=True)
class HostPlan:
    """The hardware of each simulated host and its local storage."""

    memory_mib: int = 64 * 1024
    cpus: int = 16
    control_domain_mib: int = 4096
    local_sr_type: str = "ext"
    local_sr_gib: int = 500
    gpus: int = 0
    nics: int = 1


class Population:
    """Fills the tables of a new pool. Expects the tables' lock."""

    def __init__(self, toolstack: "Toolstack", plan: HostPlan):
        self._toolstack = toolstack
        self._db = toolstack.db
        self._plan = plan

    def install(self, host_names: list[str], addresses: list[str]) -> None:
        """Make a pool of these hosts; the first is its master."""
        pool_ref = self._db.create("pool", master=NULL, tls_verification_enabled=True)
        self._toolstack.roles.install()
        self._drivers()
        self._internal_network()
        for name, address in zip(host_names, addresses, strict=True):
            self.add_host(name, address)
        master_ref = next(iter(self._db.tables["host"]))
        local_ref = next(sr.ref for sr in self._db.select("SR", name_label="Local storage"))
        self._db.set(
            "pool",
            pool_ref,
            master=master_ref,
            default_SR=local_ref,
            suspend_image_SR=local_ref,
            crash_dump_SR=local_ref,
        )
        self._tools()
        self._templates()
        self._toolstack.hosts.refresh_free_memory()
        self._toolstack.operations.refresh()

    def _drivers(self) -> None:
        for kind, (name, features) in DRIVERS.items():
            capabilities = features.split()
            self._db.create(
                "SM",
                name_label=name,
                type=kind,
                vendor="XenServer",
                version="3.0",
                required_api_version="1.0",
                capabilities=capabilities,
                features=dict.fromkeys(capabilities, 1),
                driver_filename=f"/opt/xensource/sm/{kind.upper()}SR",
            )

    def _internal_network(self) -> None:
        self._db.create(
            "network",
            name_label="Host internal management network",
            name_description="Network on which guests will be assigned a private link-local IP address",
            bridge="xenapi",
            other_config={
                "is_guest_installer_network": "true",
                "is_host_internal_management_network": "true",
                "ip_begin": "169.254.0.1",
                "ip_end": "169.254.255.254",
                "netmask": "255.255.0.0",
            },
        )

    def add_host(self, name: str, address: str) -> str:
        """Add a host with its control domain, interface and local storage. Return its reference."""
        plan, now = self._plan, timestamp_text(time.time())
        metrics_ref = self._db.create(
            "host_metrics", memory_total=plan.memory_mib * MIB, memory_free=0, live=True, last_updated=now
        )
        cpu_info = {**CPU, "cpu_count": str(plan.cpus), "socket_count": "1", "threads_per_core": "2", "nr_nodes": "1"}
        for kind in ("features_pv", "features_hvm", "features_pv_host", "features_hvm_host"):
            cpu_info[kind] = FEATURES
        host_ref = self._db.create(
            "host",
            name_label=name,
            name_description="Default install",
            hostname=name,
            address=address,
            memory_overhead=300 * MIB,
            API_version_major=API_VERSION[0],
            API_version_minor=API_VERSION[1],
            API_version_vendor="XenSource",
            enabled=True,
            software_version={**SOFTWARE_VERSION, "hostname": name},
            capabilities=list(CAPABILITIES),
            cpu_info=cpu_info,
            cpu_configuration={},
            bios_strings=dict(BIOS_STRINGS),
            sched_policy="credit",
            supported_bootloaders=["pygrub", "eliloader"],
            metrics=metrics_ref,
            other_config={
                "agent_start_time": f"{time.time():.0f}.",
                "boot_time": f"{time.time() - 300:.0f}.",
                "iscsi_iqn": f"iqn.2026-01.com.example:{name}",
            },
            iscsi_iqn=f"iqn.2026-01.com.example:{name}",
            license_params={"expiry": "20991231T00:00:00Z"},
            edition="trial",
            https_only=False,
            ssl_legacy=False,
            tls_verification_enabled=True,
            virtual_hardware_platform_versions=[0, 1, 2],
        )
        for number in range(plan.cpus):
            self._cpu(host_ref, number)
        for number in range(plan.nics):
            self._interface(host_ref, name, address, number)
        Hardware(self._toolstack).add(host_ref, plan.gpus)
        self._control_domain(host_ref, name)
        self._local_storage(host_ref)
        return host_ref

    def _cpu(self, host_ref: str, number: int) -> None:
        words = {key: CPU[key] for key in ("vendor", "modelname", "stepping", "flags")}
        self._db.create(
            "host_cpu", host=host_ref, number=number, speed=2400, family=6, model=106, features=FEATURES, **words
        )

    def _interface(self, host_ref: str, name: str, address: str, number: int) -> None:
        """Add an interface; the first one is the host's for management and has its address."""
        label, is_first = f"Pool-wide network associated with eth{number}", number == 0
        found = next(self._db.select("network", name_label=label), None)
        network_ref = found.ref if found else self._db.create("network", name_label=label, bridge=f"xenbr{number}")
        metrics_ref = self._db.create(
            "PIF_metrics", carrier=True, speed=10000, duplex=True, device_name="simulated", last_updated=EPOCH
        )
        digest = uuid_module.uuid5(uuid_module.NAMESPACE_DNS, name if is_first else f"{name}/{number}").hex
        self._db.create(
            "PIF",
            device=f"eth{number}",
            network=network_ref,
            host=host_ref,
            MAC="00:16:3e:" + ":".join(digest[index : index + 2] for index in (0, 2, 4)),
            MTU=1500,
            VLAN=-1,
            metrics=metrics_ref,
            physical=True,
            currently_attached=True,
            ip_configuration_mode="DHCP" if is_first else "None",
            IP=(address.rpartition(":")[0] or address) if is_first else "",
            netmask="255.0.0.0" if is_first else "",
            management=is_first,
        )

    def _control_domain(self, host_ref: str, name: str) -> None:
        memory, vcpus = self._plan.control_domain_mib * MIB, min(self._plan.cpus, 16)
        metrics_ref = self._db.create(
            "VM_metrics",
            memory_actual=memory,
            VCPUs_number=vcpus,
            start_time=timestamp_text(time.time()),
            current_domain_type="pv",
        )
        vm_ref = self._db.create(
            "VM",
            name_label=f"Control domain on host: {name}",
            name_description="The domain which manages physical devices and manages other domains",
            is_control_domain=True,
            power_state="Running",
            domid=0,
            resident_on=host_ref,
            affinity=host_ref,
            memory_static_min=memory,
            memory_static_max=memory,
            memory_dynamic_min=memory,
            memory_dynamic_max=memory,
            memory_target=memory,
            VCPUs_max=vcpus,
            VCPUs_at_startup=vcpus,
            actions_after_shutdown="destroy",
            actions_after_reboot="destroy",
            actions_after_crash="destroy",
            domain_type="pv",
            metrics=metrics_ref,
            has_vendor_device=False,
        )
        self._db.set("host", host_ref, control_domain=vm_ref)
        self._toolstack.consoles.open(self._db.row("VM", vm_ref))

    def _local_storage(self, host_ref: str) -> None:
        kind, size = self._plan.local_sr_type, self._plan.local_sr_gib * GIB
        local_ref = self._repository(
            host_ref, kind, "Local storage", "user", {"i18n-key": "local-storage"}, {"device": "/dev/sda3"}, size
        )
        self._db.set("host", host_ref, suspend_image_sr=local_ref, crash_dump_sr=local_ref)
        self._repository(
            host_ref, "udev", "DVD drives", "iso", {"i18n-key": "local-hotplug-cd"}, {"location": "/dev/xapi/cd"}, 0
        )
        self._repository(
            host_ref, "udev", "Removable storage", "disk", {"i18n-key": "local-hotplug-disk"},
            {"location": "/dev/xapi/block"}, 0,
        )  # fmt: skip
        self._repository(
            host_ref, "iso", "Local storage ISO", "iso", {"i18n-key": "local-storage-iso"},
            {"location": "/var/opt/xen/ISO_Store", "legacy_mode": "true"}, 100 * GIB,
        )  # fmt: skip

    def _repository(
        self, host_ref, kind, label, content_type, other_config, device_config, size, *, is_shared=False
    ) -> str:
        sr_ref = self._db.create(
            "SR",
            name_label=label,
            type=kind,
            content_type=content_type,
            shared=is_shared,
            other_config=other_config,
            physical_size=size,
        )
        self._connect(host_ref, sr_ref, device_config)
        return sr_ref

    def _connect(self, host_ref: str, sr_ref: str, device_config: dict[str, str]) -> None:
        self._db.create("PBD", host=host_ref, SR=sr_ref, device_config=device_config, currently_attached=True)

    def _tools(self) -> None:
        config = {"location": "/opt/xensource/packages/iso", "legacy_mode": "true"}
        hosts = self._db.rows("host")
        other_config = {"xenserver_tools_sr": "true", "i18n-key": "xenserver-tools"}
        sr_ref = self._repository(
            hosts[0].ref, "iso", "XenServer Tools", "iso", other_config, config, GIB, is_shared=True
        )
        for host in hosts[1:]:
            self._connect(host.ref, sr_ref, config)
        self._db.set("SR", sr_ref, is_tools_sr=True)
        vdi_ref = self._toolstack.vdis.new(
            self._db.row("SR", sr_ref), 2 * MIB, name_label="guest-tools.iso", read_only=True, is_tools_iso=True
        )
        self._db.set("VDI", vdi_ref, location="guest-tools.iso")

    def add_host_to_shared(self, host_ref: str) -> None:
        """Connect a host that joins to the repositories that all hosts share."""
        for sr in list(self._db.select("SR", shared=True)):
            pbds = [self._db.row("PBD", ref) for ref in sr["PBDs"]]
            if pbds and not any(pbd["host"] == host_ref for pbd in pbds):
                self._connect(host_ref, sr.ref, pbds[0]["device_config"])

    # templates

    def _templates(self) -> None:
        restrictions = (
            '<restrictions><restriction field="memory-static-max" max="137438953472" />'
            '<restriction field="vcpus-max" max="64" /><restriction field="has-vendor-device" value="false" />'
            '<restriction property="number-of-vbds" max="255" /><restriction property="number-of-vifs" max="7" />'
            "</restrictions>"
        )
        self._template("Other install media", INSTALL_MEDIA, 128, 256, restrictions, {"install-methods": "cdrom"})
        disk = '<disk device="0" size="10737418240" sr="" bootable="true" type="system"/>'
        linux = {
            "install-methods": "cdrom,nfs,http,ftp",
            "linux_template": "true",
            "disks": f"<provision>{disk}</provision>",
        }
        for label in ("Debian Bookworm 12", "Ubuntu Noble Numbat 24.04", "Rocky Linux 9"):
            self._template(label, "", 1024, 2048, restrictions, linux)

    def _template(self, label, template_uuid, least_mib, memory_mib, recommendations, other_config) -> None:
        metrics_ref = self._toolstack.vms.new_metrics()
        platform = dict.fromkeys(("nx", "acpi", "apic", "pae", "hpet", "viridian"), "true")
        ref = self._db.create(
            "VM",
            uuid=template_uuid,
            name_label=label,
            name_description="Template which allows VM installation from install media",
            is_a_template=True,
            is_default_template=True,
            reference_label=label.lower().replace(" ", "-"),
            memory_static_min=least_mib * MIB,
            memory_static_max=memory_mib * MIB,
            memory_dynamic_min=memory_mib * MIB,
            memory_dynamic_max=memory_mib * MIB,
            VCPUs_max=1,
            VCPUs_at_startup=1,
            actions_after_shutdown="destroy",
            actions_after_reboot="restart",
            actions_after_crash="restart",
            HVM_boot_policy="BIOS order",
            HVM_boot_params={"firmware": "bios", "order": "cd" if template_uuid else "cdn"},
            platform={**platform, "secureboot": "false", "device_id": "0001"},
            recommendations=recommendations,
            other_config={"default_template": "true", "mac_seed": str(uuid_module.uuid4()), **other_config},
            domid=-1,
            domain_type="hvm",
            metrics=metrics_ref,
            has_vendor_device=False,
        )
        self._toolstack.vms.refresh_overhead(ref)


def prepare_directory(path: str) -> str:
    """Make sure the state directory exists and return its absolute path."""
    os.makedirs(os.path.join(path, "sr"), exist_ok=True)
    return os.path.abspath(path)
