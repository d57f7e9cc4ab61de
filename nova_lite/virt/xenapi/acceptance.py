"""Looking at a host before it is put to work: can this driver use it? Nothing is changed there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.driver import HypervisorUnavailable
from nova_lite.virt.xenapi import direct_vhd, errors, firewall_drivers, plugins, requirements
from nova_lite.virt.xenapi.orphans import moment
from nova_lite.virt.xenapi.records import GIB, MIB
from nova_lite.virt.xenapi.storage import Storage
from nova_lite.virt.xenapi.transfer import TransferFailed, Transfers

OK, WARNING, FAILED = "ok", "warning", "failed"
OLDEST_PRODUCT = (6, 5)
SKEW_WARNING_S, SKEW_FAILED_S = 5, 60
TASKS_WARNING = 150  # xapi prunes above 200
MEMORY_WARNING_MB = 512
FREE_DISK_WARNING_GB = 10
LONG_LIST_OF_DISKS = 600
WITHOUT_PLUGINS = ("passwords, files and network resets through the guest agent, live xenstore writes, console logs, "
                   "separate kernels")
IMPORTANT_FEATURES = ("VDI_CREATE", "VDI_DELETE", "VDI_CLONE", "VDI_SNAPSHOT", "VDI_RESIZE")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    result: str
    detail: str


class Acceptance:
    """The checks of one host for a service with this configuration."""

    def __init__(self, session, conf: Any):
        self._session = session
        self._api = session.call_xenapi
        self._conf = conf
        self._options = conf.xenserver

    def run(self, tell: Callable[[str], None] = lambda line: None) -> list[Finding]:
        """Return what every check found; one that cannot be made is failed, and is the last where the host is away."""
        found: list[Finding] = []
        for check in (self._transport, self._version, self._host, self._capabilities, self._clock, self._memory,
                      self._storage, self._networks, self._events, self._metrics, self._plugins, self._limits):
            name = check.__name__.strip("_")
            tell(name)
            try:
                for result, detail in check():
                    found.append(Finding(name, result, detail))
            except XenAPI.Failure as failure:
                found.append(Finding(name, FAILED, errors.describe(failure)))
            except HypervisorUnavailable as error:
                return [*found, Finding(name, FAILED, f"{error}; nothing else was checked")]
            except exception.NovaException as error:
                found.append(Finding(name, FAILED, str(error)))
        return found

    def _transport(self) -> Iterator[tuple[str, str]]:
        endpoint = self._session.host_endpoint
        if endpoint.scheme == "http":
            yield WARNING, "passwords and disks travel unencrypted: use https"
        elif endpoint.scheme == "unix":
            yield OK, "local socket"
        elif endpoint.tls.fingerprint:
            yield OK, "https, certificate pinned by its fingerprint"
        elif endpoint.tls.verify:
            yield OK, "https, certificate verified"
        else:
            yield WARNING, "https, but the certificate is not verified: pin it, connection_fingerprint"
        pool = next(iter(self._api("pool.get_all_records").values()))
        if not pool.get("tls_verification_enabled", True):
            yield WARNING, "hosts of the pool do not verify each other: live migrations can be listened to"

    def _version(self) -> Iterator[tuple[str, str]]:
        software = self._api("host.get_software_version", self._session.host_ref)
        text = f"{software.get('product_brand')} {software.get('product_version')}, xapi {software.get('xapi', '?')}"
        if self._session.product_version < OLDEST_PRODUCT:
            yield FAILED, f"{text}: older than {'.'.join(map(str, OLDEST_PRODUCT))}"
        else:
            yield OK, text

    def _host(self) -> Iterator[tuple[str, str]]:
        record = self._api("host.get_record", self._session.host_ref)
        role = "member of a pool" if self._session.is_slave else "master of its pool"
        others = len(self._api("host.get_all")) - 1
        text = f"{record['hostname']} ({record['uuid']}), {role}, {others} other hosts"
        yield (OK, text) if record["enabled"] else (WARNING, f"{text}; it is disabled and takes no guests")
        if not record["other_config"].get("iscsi_iqn") and not record.get("iscsi_iqn"):
            yield WARNING, "it has no iSCSI initiator name: volumes cannot be attached"

    def _capabilities(self) -> Iterator[tuple[str, str]]:
        capabilities = self._api("host.get_capabilities", self._session.host_ref)
        if not any(entry.startswith("hvm-") for entry in capabilities):
            yield FAILED, "it boots no HVM guests: is virtualisation off in its firmware?"
            return
        paravirtual = any(entry.startswith("xen-3.0-x86_64") for entry in capabilities)
        yield OK, "HVM guests" + (" and paravirtual ones" if paravirtual else ", no paravirtual ones")

    def _clock(self) -> Iterator[tuple[str, str]]:
        before = self._session.clock.time()
        there = moment(self._api("host.get_servertime", self._session.host_ref)).timestamp()
        after = self._session.clock.time()
        # The host tells whole seconds.
        skew_s = max(0.0, before - there - 1, there - after)
        text = f"differs from here by {skew_s:.0f} s"
        if skew_s >= SKEW_FAILED_S:
            yield FAILED, f"{text}: disks from the future damage a storage repository"
        else:
            yield (WARNING if skew_s >= SKEW_WARNING_S else OK), text

    def _memory(self) -> Iterator[tuple[str, str]]:
        free_mb = int(self._api("host.compute_free_memory", self._session.host_ref)) // MIB
        yield (WARNING if free_mb < MEMORY_WARNING_MB else OK), f"{free_mb} MB free for guests"

    def _storage(self) -> Iterator[tuple[str, str]]:
        storage = Storage(self._session, self._options.sr_matching_filter, 0)
        sr = storage.for_guests()
        free_gb = (sr.physical_size_b - sr.physical_utilisation_b) // GIB
        text = f"{sr.uuid}, {sr.type}, {'shared' if sr.shared else 'local'}, {free_gb} GB free"
        yield (WARNING if free_gb < FREE_DISK_WARNING_GB else OK), text
        drivers = self._api("SM.get_all_records_where", f'field "type"="{sr.type}"')
        for driver in drivers.values():
            missing = [name for name in IMPORTANT_FEATURES
                       if not any(feature.partition("/")[0] == name for feature in driver["features"])]
            if missing:
                yield FAILED, f"its driver lacks {', '.join(missing)}"
        if self._options.image_handler == direct_vhd.HANDLER and sr.type not in direct_vhd.FILE_BASED:
            yield WARNING, f"no repository of VHD files: disks stream, image_handler = {direct_vhd.HANDLER} or not"
        disks = len(self._api("SR.get_VDIs", sr.ref))
        if disks > LONG_LIST_OF_DISKS:
            yield WARNING, f"{disks} disks: scans become slow"

    def _networks(self) -> Iterator[tuple[str, str]]:
        networks = self._api("network.get_all_records")
        bridges = sorted(record["bridge"] for record in networks.values())
        yield (OK if bridges else FAILED), f"bridges {', '.join(bridges) or 'none'}"
        wanted = self._options.ovs_integration_bridge
        needs_it = self._options.vif_driver == "ovs" or self._options.vif_driver.endswith("XenAPIOpenVswitchDriver")
        if wanted and wanted not in bridges and needs_it:
            yield FAILED, f"there is no bridge {wanted}, which ovs_integration_bridge names"
        pifs = self._session.records_where("PIF", management="true", host=self._session.host_ref)
        addresses = [pif["IP"] for pif in pifs.values() if pif["IP"]]
        if len(addresses) == 1:
            yield OK, f"management address {addresses[0]}"
        else:
            yield WARNING, f"{len(addresses)} management addresses, live migration needs one"
        backend = self._api("host.get_software_version", self._session.host_ref).get("network_backend", "openvswitch")
        if firewall_drivers.named(self._conf.firewall_driver).locks_vifs and backend != "openvswitch":
            yield WARNING, f"its network backend, {backend}, does not keep guests to their own addresses"

    def _events(self) -> Iterator[tuple[str, str]]:
        batch = self._api("event.from", ["vm"], "", 0.0)
        yield OK, f"{len(batch['events'])} VMs and templates reported"

    def _metrics(self) -> Iterator[tuple[str, str]]:
        start = str(int(self._session.clock.time()) - 5)
        try:
            Transfers(self._session).get("/rrd_updates", {"start": start, "cf": "AVERAGE"})
        except TransferFailed as error:
            yield WARNING, f"no bandwidth figures: {error}"
        else:
            yield OK, "served over HTTP"

    def _plugins(self) -> Iterator[tuple[str, str]]:
        version = plugins.installed_version(self._session)
        if version is None:
            yield WARNING, f"not installed (nova-lite dom0 install); without them: no {WITHOUT_PLUGINS}"
        else:
            yield OK, f"version {version}"
        for option, required in requirements.needed_plugins(self._conf):
            if not plugins.goes_with(version, required):
                yield FAILED, f"{option} needs version {required} or later"

    def _limits(self) -> Iterator[tuple[str, str]]:
        tasks = len(self._api("task.get_all"))
        guests = sum(not (vm["is_a_template"] or vm["is_control_domain"])
                     for vm in self._api("VM.get_all_records").values())
        text = f"{guests} guests, {tasks} tasks, {self._options.connection_concurrent} sessions for each kind of call"
        yield (WARNING if tasks > TASKS_WARNING else OK), text
