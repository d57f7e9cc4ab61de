#!/usr/bin/env python3
"""What the host knows and the API does not tell, and what is done in dom0 alone."""

import json
import os
import re
import time

import nova_lite_dom0 as dom0
import nova_lite_remote as remote
import XenAPI
import XenAPIPlugin

CONFIG = "/etc/nova_lite_xenhost.json"
SM_CLEANUP = "/opt/xensource/sm/cleanup.py"
PCI_DEVICES = "/sys/bus/pci/devices"
IPTABLES = ("iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore")
CPU_NUMBERS = ("cpu_count", "family", "model", "stepping")
START_ATTEMPTS, START_PAUSE_S = 23, 10
NAME = re.compile(r"^[A-Za-z0-9_.:-]+\Z")


def host_uptime(session, args):
    """Return {"uptime": text}."""
    return json.dumps({"uptime": dom0.must_run("uptime").strip()})


def host_data(session, args):
    """Return figures and facts of the host, memory in bytes, and the settings kept with set_config."""
    host_ref = session.xenapi.host.get_by_uuid(dom0.validated(args, "host_uuid"))
    record = session.xenapi.host.get_record(host_ref)
    metrics = session.xenapi.host_metrics.get_record(record["metrics"])
    return json.dumps(dict({
        "enabled": record["enabled"],
        "host_uuid": record["uuid"],
        "host_name-label": record["name_label"],
        "host_name-description": record["name_description"],
        "host_hostname": record["hostname"],
        "host_ip_address": record["address"],
        "host_other-config": record["other_config"],
        "host_capabilities": record["capabilities"],
        "host_cpu_info": {key: int(value) if key in CPU_NUMBERS and value.isdigit() else value
                          for key, value in record["cpu_info"].items()},
        "host_memory": {
            "total": int(metrics["memory_total"]),
            "overhead": int(record["memory_overhead"]),
            "free": int(metrics["memory_free"]),
            "free-computed": int(session.xenapi.host.compute_free_memory(host_ref)),
        },
    }, **_config()))


def set_host_enabled(session, args):
    """Let the host accept guests, or not; returns {"status"}."""
    try:
        enabled = dom0.validated_bool(args, "enabled")
    except dom0.ArgumentError as error:
        raise dom0.PluginError(str(error)) from error
    host_ref = session.xenapi.host.get_by_uuid(dom0.validated(args, "host_uuid"))
    if enabled:
        session.xenapi.host.enable(host_ref)
    else:
        session.xenapi.host.disable(host_ref)
    return json.dumps({"status": "enabled" if enabled else "disabled"})


def host_reboot(session, args):
    """Reboot the host after its guests were shut down."""
    return _power_off(session, args, "reboot")


def host_shutdown(session, args):
    """Switch the host off after its guests were shut down."""
    return _power_off(session, args, "shutdown")


def host_start(session, args):
    """Have a host that is off switched on, by the means its power_on_mode names."""
    session.xenapi.host.power_on(session.xenapi.host.get_by_uuid(dom0.validated(args, "host_uuid")))
    return json.dumps({"power_action": "startup"})


def _power_off(session, args, action):
    host_ref = session.xenapi.host.get_by_uuid(dom0.validated(args, "host_uuid"))
    session.xenapi.host.disable(host_ref)
    for vm_ref in session.xenapi.host.get_resident_VMs(host_ref):
        if not session.xenapi.VM.get_is_control_domain(vm_ref):
            _shut_down(session, vm_ref)
    getattr(session.xenapi.host, action)(host_ref)
    return json.dumps({"power_action": action})


def _shut_down(session, vm_ref):
    """Shut a guest down, hard if it does not by itself."""
    try:
        session.xenapi.VM.clean_shutdown(vm_ref)
    except XenAPI.Failure:
        session.xenapi.VM.hard_shutdown(vm_ref)


# Pools ----------------------------------------------------------------------------------------------------------------

def host_join(session, args):
    """Have another host join our pool, whose compute service runs in a guest of its own.

    That guest cannot run while its host joins: it is shut down before, and started again whatever became of it.
    """
    given = {name: dom0.exists(args, name) for name in ("url", "user", "password", "master_user", "master_pass")}
    compute_uuid, address = dom0.validated(args, "compute_uuid"), dom0.validated(args, "master_addr")
    # Only the one who says "false" wants a host refused that differs from the others of the pool.
    method = "pool.join_force" if dom0.validated_bool(args, "force") else "pool.join"
    joining = remote.Session(given["url"], args.get("fingerprints", ""))
    joining.log_in(given["user"], given["password"])
    compute_ref = joining.call("VM.get_by_uuid", compute_uuid)
    joining.call("VM.clean_shutdown", compute_ref)
    joined = False
    try:
        joining.call(method, address, given["master_user"], given["master_pass"])
        joined = True
    finally:
        if not joined:
            joining.call("VM.start", compute_ref, False, True)
    _start_again(session, compute_uuid)
    return ""


def _start_again(session, compute_uuid):
    """Start a guest of the host that joined, which takes a while to be one of the pool."""
    for attempt in range(START_ATTEMPTS):
        if attempt:
            time.sleep(START_PAUSE_S)
        try:
            session.xenapi.VM.start(session.xenapi.VM.get_by_uuid(compute_uuid), False, True)
            return
        except XenAPI.Failure as failure:
            problem = failure.details[0]
            if problem == "VM_BAD_POWER_STATE":
                return
    raise dom0.PluginError(f"the host joined, and its compute service does not start again: {problem}")


# Settings that belong to the host ------------------------------------------------------------------------------------

def _config():
    try:
        with open(CONFIG) as settings:
            return json.load(settings)
    except FileNotFoundError:
        return {}


def get_config(session, args):
    """Return a setting, or "None"."""
    key = json.loads(dom0.exists(args, "params"))["key"]
    return json.dumps(_config().get(key, "None"))


def set_config(session, args):
    """Keep a setting; the value null removes it."""
    given = json.loads(dom0.exists(args, "params"))
    settings = _config()
    if given.get("value") is None:
        settings.pop(given["key"], None)
    else:
        settings[given["key"]] = given["value"]
    with open(CONFIG + ".new", "w") as file:
        json.dump(settings, file)
    os.rename(CONFIG + ".new", CONFIG)
    return ""


# Packet filter, collector, devices ------------------------------------------------------------------------------------

def iptables_config(session, args):
    """Save or restore the packet filter; returns {"out", "err"}."""
    command = json.loads(dom0.exists(args, "cmd_args"))
    if not command or command[0] not in IPTABLES or not all(_is_option(part) for part in command[1:]):
        raise dom0.PluginError("only iptables-save and iptables-restore may be run")
    given = args.get("process_input") or None
    return json.dumps({"out": dom0.must_run(*command, given=given), "err": ""})


def _is_option(part):
    return part in ("-c", "--counters", "-t", "--table", "filter", "nat", "mangle", "raw")


@dom0.serialized
def query_gc(session, sr_uuid, vdi_uuid=None):
    """Tell whether the collector of a repository works."""
    out = dom0.must_run(SM_CLEANUP, "-q", "-u", dom0.checked(sr_uuid, "sr_uuid"))
    return out.strip().endswith("True")


@dom0.serialized
def get_pci_device_details(session):
    """Return what lspci tells of all devices."""
    return dom0.must_run("lspci", "-vmmnk")


@dom0.serialized
def get_pci_type(session, pci_device):
    """Return type-VF for a virtual function, type-PF for what has some, type-PCI for the rest."""
    device = pci_device if pci_device.count(":") == 2 else "0000:" + pci_device
    folder = os.path.join(PCI_DEVICES, dom0.checked(device, "pci_device"))
    if not os.path.isdir(folder):
        raise dom0.PluginError(f"there is no PCI device {device}")
    if os.path.exists(os.path.join(folder, "physfn")):
        return "type-VF"
    return "type-PF" if os.path.exists(os.path.join(folder, "virtfn0")) else "type-PCI"


# Network --------------------------------------------------------------------------------------------------------------

def _external_ids(ids):
    return [f"external-ids:{key}={value}" for key, value in ids.items()]


NETWORK_COMMANDS = {
    "ovs_add_patch_port": lambda bridge, port, peer: (
        "ovs-vsctl", "--", "--if-exists", "del-port", port, "--", "add-port", bridge, port, "--", "set", "interface",
        port, "type=patch", f"options:peer={peer}"),
    "ovs_add_port": lambda bridge, port: ("ovs-vsctl", "--", "--if-exists", "del-port", port, "--", "add-port", bridge,
                                          port),
    "ovs_create_port": lambda bridge, port, iface_id, mac, status: (
        "ovs-vsctl", "--", "--if-exists", "del-port", port, "--", "add-port", bridge, port, "--", "set", "Interface",
        port, *_external_ids({"iface-id": iface_id, "iface-status": status, "attached-mac": mac,
                              "xs-vif-uuid": iface_id})),
    "ovs_del_port": lambda bridge, port: ("ovs-vsctl", "--", "--if-exists", "del-port", bridge, port),
    "ovs_del_br": lambda bridge: ("ovs-vsctl", "--", "--if-exists", "del-br", bridge),
    "ovs_set_if_external_id": lambda interface, external_id, value: (
        "ovs-vsctl", "set", "Interface", interface, f"external-ids:{external_id}={value}"),
    "ip_link_add_veth_pair": lambda dev1_name, dev2_name: (
        "ip", "link", "add", dev1_name, "type", "veth", "peer", "name", dev2_name),
    "ip_link_del_dev": lambda device_name: ("ip", "link", "del", device_name),
    "ip_link_get_dev": lambda device_name: ("ip", "link", "show", device_name),
    "ip_link_set_dev": lambda device_name, option: ("ip", "link", "set", device_name, option),
    "ip_link_set_promisc": lambda device_name, option: ("ip", "link", "set", device_name, "promisc", option),
    "brctl_add_br": lambda bridge_name: ("brctl", "addbr", bridge_name),
    "brctl_add_if": lambda bridge_name, interface_name: ("brctl", "addif", bridge_name, interface_name),
    "brctl_del_br": lambda bridge_name: ("brctl", "delbr", bridge_name),
    "brctl_del_if": lambda bridge_name, interface_name: ("brctl", "delif", bridge_name, interface_name),
    "brctl_set_fd": lambda bridge_name, fd: ("brctl", "setfd", bridge_name, fd),
    "brctl_set_stp": lambda bridge_name, stp_opt: ("brctl", "stp", bridge_name, stp_opt),
}


def _network_command(request):
    """Return the program and arguments of a request {"cmd", "args"}."""
    build = NETWORK_COMMANDS.get(request.get("cmd"))
    if build is None:
        raise dom0.PluginError("Dom0 execution of '{}' is not permitted".format(request.get("cmd")))
    given = {name: str(value) for name, value in request["args"].items()}
    for name, value in given.items():
        if not NAME.match(value) or value.startswith("-"):
            raise dom0.ArgumentError(f"Invalid value for argument {name}")
    try:
        return build(**given)
    except TypeError as error:
        raise dom0.ArgumentError(str(error)) from error


@dom0.serialized
def network_config(session, request):
    """Run one of the network commands of the table with named arguments; returns its output."""
    return dom0.must_run(*_network_command(request))


@dom0.serialized
def change_network(session, requests):
    """Run network commands one after the other; all are checked before the first runs.

    A request may say "unless" and "where": a device that must not, and one that must be there, else it is left out;
    "may_fail" ignores its failure.
    """
    for request, command in [(request, _network_command(request)) for request in requests]:
        if request.get("unless") and _has_device(request["unless"]):
            continue
        if request.get("where") and not _has_device(request["where"]):
            continue
        run = dom0.run if request.get("may_fail") else dom0.must_run
        run(*command)
    return ""


def _has_device(name):
    status, _, _ = dom0.run("ip", "link", "show", dom0.checked(name, "device"))
    return status == 0


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "host_uptime": host_uptime,
        "host_data": host_data,
        "set_host_enabled": set_host_enabled,
        "host_reboot": host_reboot,
        "host_shutdown": host_shutdown,
        "host_start": host_start,
        "host_join": host_join,
        "get_config": get_config,
        "set_config": set_config,
        "iptables_config": iptables_config,
        "query_gc": query_gc,
        "get_pci_device_details": get_pci_device_details,
        "get_pci_type": get_pci_type,
        "network_config": network_config,
        "change_network": change_network,
    })
