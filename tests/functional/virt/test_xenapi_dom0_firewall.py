"""Packet filters in a simulated dom0, whose iptables keep their tables in files."""

import os
import sys

import pytest

from nova_lite import exception
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import XenAPIDriver, firewall_drivers
from nova_lite.virt.xenapi.dom0_firewall import chain_of
from nova_lite.xensim import Simulator
from tests.fixtures.security_groups import STRANGER, Groups
from tests.fixtures.xen_bench import make_instance, make_network_info

PROGRAM = '''#!{python} -SE
import os, sys
name = os.path.basename(sys.argv[0])
path = {folder!r} + "/" + name.split("-")[0]
if name.endswith("-save"):
    sys.stdout.write(open(path).read() if os.path.exists(path) else "")
else:
    text = sys.stdin.read()
    chains = [line.split()[0][1:] for line in text.splitlines() if line.startswith(":")]
    for line in text.splitlines():
        words = line.split()
        if words[0] == "-A" and not (words[1] in chains and words[-1] in chains + ["DROP", "ACCEPT"]):
            sys.exit("no such chain: " + line)
    assert text.startswith("*filter") and text.endswith("COMMIT" + chr(10))
    open(path, "w").write(text)
'''


class Tables:
    def __init__(self, simulator, host_ref):
        self.folder = os.path.join(os.path.dirname(simulator.toolstack.dom0.socket_path(host_ref)), "bin")
        for name in ("iptables", "ip6tables"):
            for verb in ("save", "restore"):
                path = os.path.join(self.folder, f"{name}-{verb}")
                with open(path, "w") as file:
                    file.write(PROGRAM.format(python=sys.executable, folder=self.folder))
                os.chmod(path, 0o755)
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(STRANGER)

    def text(self, family="iptables"):
        with open(os.path.join(self.folder, family)) as file:
            return file.read()

    def chain(self, name, family="iptables"):
        return [line.split(" ", 2)[2] for line in self.text(family).splitlines() if line.startswith(f"-A {name} ")]


@pytest.fixture
def firewall(bench):
    """The driver on the bench's host, which was made with another one."""
    bench.groups = Groups(bench.compute)
    bench.tables = Tables(bench.simulator, bench.vmops._session.host_ref)
    return firewall_drivers.load("nova.virt.firewall.Dom0IptablesFirewallDriver", virtapi=bench.compute,
                                 xenapi_session=bench.vmops._session, host="host")


def test_what_dom0_refuses_is_told(bench, firewall):
    with open(os.path.join(bench.tables.folder, "iptables-restore"), "w") as file:
        file.write("#!/bin/sh\necho Bad argument >&2\nexit 2\n")
    with pytest.raises(exception.PluginError, match="Bad argument"):
        firewall.prepare_instance_filter(make_instance(), make_network_info())


def test_the_filters_of_an_instance_come_and_go_with_it(bench, firewall):
    bench.vmops.spawner._firewall = bench.vmops.destroyer._firewall = firewall
    network_info = make_network_info()
    instance = bench.spawn(network_info=network_info)
    assert bench.tables.chain(chain_of(instance))
    assert "-j RH-Firewall" in bench.tables.chain("FORWARD", "ip6tables")
    bench.vmops.destroy(instance, network_info)
    assert chain_of(instance) not in bench.tables.text()


def test_a_host_without_plugins_is_refused_at_start(make_conf, tmp_path):
    conf = make_conf()
    conf.set_override("firewall_driver", "Dom0IptablesFirewallDriver")
    try:
        with Simulator(state_dir=str(tmp_path / "bare")) as simulator:
            conf.set_override("connection_url", simulator.url, "xenserver")
            with pytest.raises(exception.ConfigurationError, match="Dom0IptablesFirewallDriver needs the dom0 plugins"):
                XenAPIDriver(VirtAPI(), conf=conf, image_api=None).connect()
    finally:
        conf.clear_override("firewall_driver")
