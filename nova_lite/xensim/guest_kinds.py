"""Kinds of guest: what each writes into xenstore as it boots, and how each departs from a good one.

A word is given to a VM by the control interface; a guest without any is a Linux guest with present drivers and agent.
"""

from collections.abc import Iterator

NEW_AGENT_KEYS = {
    "data/os_name": "Debian GNU/Linux 12 (bookworm)",
    "data/os_uname": "6.1.0-18-amd64",
    "data/os_distro": "debian",
    "data/os_majorver": "12",
    "control/feature-balloon": "1",
    "control/feature-shutdown": "1",
    "control/feature-suspend": "1",
    "control/feature-reboot": "1",
    "control/feature-vcpu-hotplug": "1",
    "feature/hotplug/vbd": "1",
    "feature/hotplug/vif": "1",
    "attr/PVAddons/MajorVersion": "8",
    "attr/PVAddons/MinorVersion": "4",
    "attr/PVAddons/MicroVersion": "0",
    "attr/PVAddons/BuildVersion": "1",
}
OLD_AGENT_KEYS = {
    "data/os_name": "CentOS release 5.6 (Final)",
    "data/os_uname": "2.6.18-238.el5xen",
    "data/os_distro": "centos",
    "data/os_majorver": "5",
    "data/os_minorver": "6",
    "attr/PVAddons/MajorVersion": "5",
    "attr/PVAddons/MinorVersion": "6",
    "attr/PVAddons/BuildVersion": "31188",
}
OLD_AGENT_COMMANDS = frozenset({"version", "keyinit", "password", "resetnetwork"})
HOSTILE_NODES = 2000  # more than a domain may own
NONSENSE = '{"returncode": "0", "message": "' + "A" * 1500

BEHAVIOURS = {
    "no-drivers": "neither drivers nor agent",
    "no-agent": "drivers, but nobody answers requests",
    "old-agent": "an agent of 2011: addresses under attr/eth<n>, no features, no file injection",
    "hostile": "fills its xenstore until that is refused, answers requests with broken JSON",
    "crashing": "its domain dies soon after each boot",
    "hanging": "stops reacting: requests, shutdowns and devices time out",
    "ignores-shutdown": "does not acknowledge requests to shut down",
    "holds-devices": "does not let its devices go",
}


def boot_keys(has_old_agent: bool) -> dict[str, str]:
    """Return what drivers and agent write, by path below the domain's."""
    return OLD_AGENT_KEYS if has_old_agent else NEW_AGENT_KEYS


def address_keys(device: str, family: str, index: int, has_old_agent: bool) -> Iterator[str]:
    """Yield the paths under which an agent reports an address of an interface."""
    if not has_old_agent:
        yield f"attr/vif/{device}/{family}/{index}"
    elif family == "ipv6":
        yield f"attr/eth{device}/ipv6/{index}/addr"
    elif index == 0:
        yield f"attr/eth{device}/ip"
