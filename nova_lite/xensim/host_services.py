"""What runs on a host beside VMs: its logs, clock, licence, shell access, caches, its agent."""

import threading
import time
import urllib.request
import zoneinfo
from collections.abc import Callable
from typing import TYPE_CHECKING

from nova_lite.xensim.dispatch import is_null
from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.model import EPOCH, NULL
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.values import timestamp_seconds, timestamp_text
from nova_lite.xensim.vm_rules import RUNNING, guest_features

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

EDITIONS = ("trial", "free", "standard-per-socket", "enterprise-per-socket", "premium-per-socket")
FREE_EDITIONS = frozenset({"trial", "free"})
POWER_ON_MODES = frozenset({"", "wake-on-lan", "DRAC", "iLO"})
SSH_TIMEOUT_LIMIT_S = 172_800
CONSOLE_TIMEOUT_LIMIT_S = 345_600
FACTORY_TIME_SERVERS = tuple(f"{number}.xenserver.pool.ntp.org" for number in range(4))
UPLOAD_TIMEOUT_S = 60
LOG_LINES = 1000
REPLY_S = 0.5  # what a reply takes to arrive before the agent that sent it goes away
CAPABILITIES = ("xenserver-config", "xenserver-logs", "hardware-info", "network-config", "system-load")


class HostServices(Noun):
    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.clock_offset_s = 0.0
        self._log_cleared_at: dict[str, float] = {}
        self._granularity: dict[str, str] = {}
        # Ends and begins the service of a host; set by whoever has its sockets.
        self.restart_agents: Callable[[], None] = lambda: None
        self.stop_agent: Callable[[str], None] = lambda _host_ref: None
        self.start_agent: Callable[[str], None] = lambda _host_ref: None
        self.retire_agent: Callable[[str], None] = lambda _host_ref: None
        self.hand_over_agent: Callable[[str], None] = lambda _host_ref: None
        self.take_back_agent: Callable[[str], None] = lambda _host_ref: None

    # logs

    @call("host.dmesg")
    def dmesg(self, _caller, ref):
        host = self.db.row("host", ref)
        booted = float(host["other_config"].get("boot_time", "0"))
        if self._log_cleared_at.get(ref, 0) > booted:
            return ""
        cpus, memory = len(host["host_CPUs"]), self.db.get("host_metrics", host["metrics"], "memory_total") >> 20
        return (
            f"(XEN) Xen version {host['software_version']['xen']}\n(XEN) System RAM: {memory}MB\n"
            f"(XEN) Brought up {cpus} CPUs\n"
        )

    @call("host.dmesg_clear")
    def dmesg_clear(self, caller, ref):
        text = self.dmesg(caller, ref)
        self._log_cleared_at[ref] = time.time()
        return text

    @call("host.get_log")
    def get_log(self, _caller, ref):
        self.db.row("host", ref)
        entries = self.toolstack.faults.log.entries()[-LOG_LINES:]
        return "".join(
            f"{timestamp_text(entry['ended'])} xapi: {entry['method']}: {entry['result']} ({entry['seconds']:.3f} s)\n"
            for entry in entries
        )

    @call("host.send_debug_keys")
    def send_debug_keys(self, _caller, ref, keys):
        self.db.row("host", ref)
        if not keys:
            raise ApiError("INVALID_VALUE", "keys", keys)
        self._log_cleared_at.pop(ref, None)

    @call("host.get_system_status_capabilities")
    def get_status_capabilities(self, _caller, ref):
        self.db.row("host", ref)
        entries = "".join(f'<capability key="{name}" default-checked="yes"/>' for name in CAPABILITIES)
        return f'<?xml version="1.0" ?><system-status-capabilities>{entries}</system-status-capabilities>'

    @call("host.bugreport_upload")
    def bugreport_upload(self, caller, ref, url, _options):
        report = self.dmesg(caller, ref).encode()
        try:
            with self.toolstack.unlocked():
                request = urllib.request.Request(url, report, {"Content-Type": "text/plain"}, method="PUT")
                urllib.request.urlopen(request, timeout=UPLOAD_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            raise ApiError("SYSTEM_STATUS_RETRIEVAL_FAILED", str(error)) from None

    @call("host.syslog_reconfigure")
    @call("host.sync_data")
    @call("host.refresh_pack_info")
    @call("host.rescan_drivers")
    def reread(self, _caller, ref):
        """Read configuration again that the simulator reads at each use."""
        self.db.touch(self.db.row("host", ref))

    @call("host.backup_rrds")
    def backup_rrds(self, caller, ref, delay):
        self.db.row("host", ref)
        self.toolstack.wait(max(delay, 0.0), caller)  # figures are computed: nothing is lost with a host

    @call("host.get_tracked_user_agents")
    def get_tracked_user_agents(self, _caller, ref):
        self.db.row("host", ref)
        return {}

    @call("host.get_uncooperative_resident_VMs")
    def get_uncooperative(self, _caller, ref):
        vms = [self.db.row("VM", each) for each in self.db.get("host", ref, "resident_VMs")]
        running = [vm for vm in vms if vm["power_state"] == RUNNING and not vm["is_control_domain"]]
        return [vm.ref for vm in running if self._is_uncooperative(vm)]

    def _is_uncooperative(self, vm) -> bool:
        """Return whether a guest could give memory back and does not."""
        balloons = guest_features(self.db, vm).get("feature-balloon") == "1"
        return balloons and self.db.get("VM_metrics", vm["metrics"], "memory_actual") > vm["memory_target"]

    # the agent itself

    @call("host.restart_agent")
    def restart_agent(self, _caller, ref):
        self.db.row("host", ref)
        self._later(self.restart_agents)

    @call("host.shutdown_agent")
    def shutdown_agent(self, caller):
        self._later(lambda: self.stop_agent(caller.host_ref))

    def power_off(self, host_ref: str) -> None:
        """Let a host fall silent once the reply that says so has been sent."""
        self._later(lambda: self.stop_agent(host_ref))

    def retire(self, host_ref: str) -> None:
        """Let a host that left the pool fall silent: it starts anew, as a host nobody knows."""
        self._later(lambda: self.retire_agent(host_ref))

    def power_up(self, host_ref: str) -> None:
        """Let a host answer again."""
        self.start_agent(host_ref)

    def _later(self, action: Callable[[], None]) -> None:
        timer = threading.Timer(REPLY_S, action)
        timer.daemon = True
        timer.start()

    # clock

    @call("host.get_servertime")
    def get_servertime(self, _caller, ref):
        self.db.row("host", ref)
        return timestamp_text(time.time() + self.clock_offset_s)

    @call("host.set_servertime")
    def set_servertime(self, _caller, ref, value):
        if self.db.get("host", ref, "ntp_mode") != "Disabled":
            raise ApiError("NOT_ALLOWED_WHEN_NTP_IS_ENABLED", ref)
        self.clock_offset_s = timestamp_seconds(value) - time.time()

    @call("host.set_ntp_mode")
    def set_ntp_mode(self, _caller, ref, value):
        if value == "Custom" and not self.db.get("host", ref, "ntp_custom_servers"):
            raise ApiError("INVALID_NTP_CONFIG", "no custom servers are set")
        self.db.set("host", ref, ntp_mode=value)
        if value != "Disabled":
            self.clock_offset_s = 0.0

    @call("host.set_ntp_custom_servers")
    def set_ntp_custom_servers(self, _caller, ref, value):
        if not value and self.db.get("host", ref, "ntp_mode") == "Custom":
            raise ApiError("INVALID_NTP_CONFIG", "the servers are in use")
        self.db.set("host", ref, ntp_custom_servers=value)

    @call("host.get_ntp_servers_status")
    def get_ntp_servers_status(self, _caller, ref):
        host = self.db.row("host", ref)
        servers = host["ntp_custom_servers"] if host["ntp_mode"] == "Custom" else FACTORY_TIME_SERVERS
        return {} if host["ntp_mode"] == "Disabled" else dict.fromkeys(servers, "Normal")

    @call("host.get_ntp_synchronized")
    def get_ntp_synchronized(self, _caller, ref):
        return self.db.get("host", ref, "ntp_mode") != "Disabled"

    @call("host.list_timezones")
    def list_timezones(self, _caller, ref):
        self.db.row("host", ref)
        return sorted(zoneinfo.available_timezones())

    @call("host.set_timezone")
    def set_timezone(self, _caller, ref, value):
        if value not in zoneinfo.available_timezones():
            raise ApiError("INVALID_VALUE", "timezone", value)
        self.db.set("host", ref, timezone=value)

    # licence

    @call("host.apply_edition")
    def apply_edition(self, _caller, ref, edition, _force):
        host = self.db.row("host", ref)
        if edition not in EDITIONS:
            raise ApiError("INVALID_EDITION", edition)
        if edition not in FREE_EDITIONS and edition != host["edition"]:
            address = host["license_server"].get("address", "")
            raise ApiError("LICENSE_CHECKOUT_ERROR", "12", f"the licence server {address} cannot be reached")
        self.db.set("host", ref, edition=edition)

    @call("pool.apply_edition")
    def apply_edition_everywhere(self, caller, ref, edition):
        self.db.row("pool", ref)
        for host in self.db.rows("host"):
            self.apply_edition(caller, host.ref, edition, False)

    @call("pool.get_license_state")
    def get_license_state(self, _caller, ref):
        self.db.row("pool", ref)
        hosts = self.db.rows("host")
        weakest = min((host["edition"] for host in hosts), key=EDITIONS.index)
        return {"edition": weakest, "expiry": min(host["license_params"].get("expiry", EPOCH) for host in hosts)}

    @call("host.license_add")
    def license_add(self, _caller, ref, _contents):
        self.db.row("host", ref)
        raise ApiError("LICENSE_PROCESSING_ERROR")

    @call("host.license_remove")
    def license_remove(self, _caller, ref):
        self.db.set("host", ref, edition="free")

    # shell access

    def _everywhere(self, **values) -> None:
        for host in self.db.rows("host"):
            self.db.set("host", host.ref, **values)

    def _ssh(self, ref: str, enabled: bool) -> dict:
        timeout_s = self.db.get("host", ref, "ssh_enabled_timeout")
        expiry = timestamp_text(time.time() + timeout_s) if enabled and timeout_s else EPOCH
        return {"ssh_enabled": enabled, "ssh_expiry": expiry}

    @call("host.enable_ssh")
    def enable_ssh(self, _caller, ref):
        self.db.set("host", ref, **self._ssh(ref, True))

    @call("host.disable_ssh")
    def disable_ssh(self, _caller, ref):
        self.db.set("host", ref, **self._ssh(ref, False))

    @call("host.set_ssh_enabled_timeout")
    def set_ssh_timeout(self, _caller, ref, value):
        self._check_seconds("ssh_enabled_timeout", value, SSH_TIMEOUT_LIMIT_S)
        self.db.set("host", ref, ssh_enabled_timeout=value)

    @call("host.set_console_idle_timeout")
    def set_console_timeout(self, _caller, ref, value):
        self._check_seconds("console_idle_timeout", value, CONSOLE_TIMEOUT_LIMIT_S)
        self.db.set("host", ref, console_idle_timeout=value)

    @staticmethod
    def _check_seconds(field: str, value: int, limit: int) -> None:
        if not 0 <= value <= limit:
            raise ApiError("VALUE_NOT_SUPPORTED", field, str(value), f"must be 0 to {limit}")

    @call("pool.enable_ssh")
    def enable_ssh_everywhere(self, caller, _pool):
        for host in self.db.rows("host"):
            self.enable_ssh(caller, host.ref)

    @call("pool.disable_ssh")
    def disable_ssh_everywhere(self, caller, _pool):
        for host in self.db.rows("host"):
            self.disable_ssh(caller, host.ref)

    @call("pool.set_ssh_enabled_timeout")
    def set_ssh_timeout_everywhere(self, _caller, _pool, value):
        self._check_seconds("ssh_enabled_timeout", value, SSH_TIMEOUT_LIMIT_S)
        self._everywhere(ssh_enabled_timeout=value)

    @call("pool.set_console_idle_timeout")
    def set_console_timeout_everywhere(self, _caller, _pool, value):
        self._check_seconds("console_idle_timeout", value, CONSOLE_TIMEOUT_LIMIT_S)
        self._everywhere(console_idle_timeout=value)

    @call("pool.set_ssh_auto_mode")
    def set_ssh_auto_mode_everywhere(self, _caller, _pool, value):
        self._everywhere(ssh_auto_mode=value)

    @call("pool.set_https_only")
    def set_https_only_everywhere(self, _caller, _pool, value):
        self._everywhere(https_only=value)

    @call("pool.disable_ssl_legacy")
    def disable_ssl_legacy(self, _caller, _pool):
        self._everywhere(ssl_legacy=False)

    # scheduling, power, caches

    @call("host.get_sched_gran")
    def get_sched_gran(self, _caller, ref):
        self.db.row("host", ref)
        return self._granularity.get(ref, "core")

    @call("host.set_sched_gran")
    def set_sched_gran(self, _caller, ref, value):
        self.db.row("host", ref)
        self._granularity[ref] = value

    @call("host.set_power_on_mode")
    def set_power_on_mode(self, _caller, ref, mode, config):
        self.db.set("host", ref, power_on_mode=mode, power_on_config=config if mode else {})

    @call("host.enable_local_storage_caching")
    def enable_caching(self, _caller, ref, sr_ref):
        host, sr = self.db.row("host", ref), self.db.row("SR", sr_ref)
        if host["enabled"]:
            raise ApiError("HOST_NOT_DISABLED")
        hosts = [self.db.get("PBD", pbd, "host") for pbd in sr["PBDs"]]
        if sr["type"] != "ext" or hosts != [ref]:
            raise ApiError("SR_OPERATION_NOT_SUPPORTED", sr_ref)
        self._set_cache(ref, sr_ref)

    def _set_cache(self, host_ref: str, sr_ref: str) -> None:
        former_ref = self.db.get("host", host_ref, "local_cache_sr")
        for each, is_cache in ((former_ref, False), (sr_ref, True)):
            if not is_null(each):
                self.db.set("SR", each, local_cache_enabled=is_cache)
        self.db.set("host", host_ref, local_cache_sr=sr_ref)

    @call("host.disable_local_storage_caching")
    def disable_caching(self, _caller, ref):
        if self.db.get("host", ref, "enabled"):
            raise ApiError("HOST_NOT_DISABLED")
        self._set_cache(ref, NULL)

    @call("pool.enable_local_storage_caching")
    def enable_caching_everywhere(self, caller, _pool):
        for host in self.db.rows("host"):
            pbds = (self.db.row("PBD", ref) for ref in host["PBDs"])
            srs = [pbd["SR"] for pbd in pbds if self.db.get("SR", pbd["SR"], "type") == "ext"]
            if not srs:
                raise ApiError("NO_LOCAL_STORAGE")
            self.enable_caching(caller, host.ref, srs[0])

    @call("pool.disable_local_storage_caching")
    def disable_caching_everywhere(self, caller, _pool):
        for host in self.db.rows("host"):
            self.disable_caching(caller, host.ref)
