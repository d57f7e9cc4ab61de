"""From the keys that guests write into xenstore to VM_guest_metrics."""

import re
from typing import Any

from nova_lite.xensim.xenstore import XenStore

WATCHED = re.compile(
    r"(attr|control|device|feature|rrd|vm-data|xenserver/attr|data/ts|data/service|data/pvs_target|memory/target"
    r"|memory/uncooperative|console/vnc-port|console/tc-port)(/|$)"
)
OS_KEYS = {
    "data/os_name": "name",
    "data/os_uname": "uname",
    "data/os_distro": "distro",
    "data/os_majorver": "major",
    "data/os_minorver": "minor",
    "attr/os/spmajor": "spmajor",
    "attr/os/spminor": "spminor",
}
DRIVER_KEYS = {
    "attr/PVAddons/MajorVersion": "major",
    "attr/PVAddons/MinorVersion": "minor",
    "attr/PVAddons/MicroVersion": "micro",
    "attr/PVAddons/BuildVersion": "build",
    "attr/PVAddons/Application": "application",
}
VIF_ADDRESS = re.compile(r"attr/vif/(\d+)/(ipv4|ipv6)/(\d+)$")
ETH_ADDRESS = re.compile(r"attr/(?:eth|xenbr|eno|ens|emp|enx)(\d+)/(?:ip|ipv6/(\d+)/addr)$")
SERVICE = re.compile(r"data/service/(.+)$")
TRISTATE = {"1": "yes", "0": "no"}


def guest_metrics(store: XenStore, root: str) -> dict[str, Any]:
    """Return the fields that the keys below a domain's path stand for."""
    nodes = dict(store.tree(root))
    versions = {name: nodes[key] for key, name in DRIVER_KEYS.items() if nodes.get(key)}
    if versions:
        versions.setdefault("micro", "-1")
    return {
        "os_version": {name: nodes[key] for key, name in OS_KEYS.items() if nodes.get(key)},
        "PV_drivers_version": versions,
        "networks": _networks(nodes),
        "other": _other(nodes),
        "netbios_name": {"host_name": nodes["data/host_name_dns"]} if nodes.get("data/host_name_dns") else {},
        "services": {match.group(1): nodes[key] for key in nodes if (match := SERVICE.match(key)) and nodes[key]},
        "can_use_hotplug_vbd": TRISTATE.get(nodes.get("feature/hotplug/vbd", ""), "unspecified"),
        "can_use_hotplug_vif": TRISTATE.get(nodes.get("feature/hotplug/vif", ""), "unspecified"),
    }


def _networks(nodes: dict[str, str]) -> dict[str, str]:
    networks: dict[str, str] = {}
    for key, value in nodes.items():
        if not value:
            continue
        if match := VIF_ADDRESS.match(key):
            device, family, index = match.groups()
            networks[f"{device}/{family}/{index}"] = value
            if family == "ipv4":
                networks.setdefault(f"{device}/ip", value)
        elif match := ETH_ADDRESS.match(key):
            device, index = match.groups()
            names = [f"{device}/ipv6/{index}"] if index else [f"{device}/ip", f"{device}/ipv4/0"]
            networks.update(dict.fromkeys(names, value))
    return networks


def _other(nodes: dict[str, str]) -> dict[str, str]:
    other = {key[8:]: value for key, value in nodes.items() if key.startswith("control/feature-") and value}
    if nodes.get("data/ts"):
        other["data-ts"] = nodes["data/ts"]
    if nodes.get("data/cant_suspend_reason"):
        other.pop("feature-suspend", None)
        other["data-cant-suspend-reason"] = nodes["data/cant_suspend_reason"]
    return other
