#!/usr/bin/env python3
"""Runs the commands a network agent needs in dom0, and no others."""

import json

import nova_lite_dom0 as dom0
import XenAPIPlugin

ALLOWED = frozenset([
    "ip", "ipset", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore", "sysctl", "ovs-ofctl",
    "ovs-vsctl", "ovsdb-client", "conntrack"])


def run_command(session, args):
    """Run a command given as a JSON list; returns {"returncode", "out", "err"}."""
    command = json.loads(dom0.exists(args, "cmd"))
    if not command or command[0] not in ALLOWED or not all(isinstance(part, str) for part in command):
        raise dom0.PluginError("Dom0 execution of '{}' is not permitted".format(command[0] if command else ""))
    status, out, err = dom0.run(*command, given=json.loads(args.get("cmd_input") or "null"))
    return json.dumps({"returncode": status, "out": out, "err": err})


if __name__ == "__main__":
    XenAPIPlugin.dispatch({"run_command": run_command})
