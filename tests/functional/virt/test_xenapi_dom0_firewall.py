"""Packet filters in a simulated dom0, whose iptables keep their tables in files."""

import os
import sys

import pytest

from nova_lite import exception
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi import XenAPIDriver, firewall_drivers
from nova_lite.virt.xenapi.dom0_firewall import FilterTable, chain_of
from nova_lite.xensim import Simulator
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
STRANGER = """*filter
:INPUT ACCEPT [1:2]
:RH-Firewall - [0:0]
-A INPUT -j RH-Firewall
-A FORWARD -j RH-Firewall
COMMIT
"""


class Groups:
    """The security groups of the compute service above."""

    def __init__(self, compute):
        self.rules = []
        self.provider = []
        self.instances = {}
        compute.admin_context = lambda: None
        compute.security_group_get_by_instance = lambda context, instance: [{"id": 1, "name": "default"}]
        compute.security_group_rule_get_by_security_group = lambda context, group: self.rules
        compute.provider_fw_rule_get_all = lambda context: self.provider
        compute.instance_get_all_by_host = lambda context, host: [{"uuid": uuid} for uuid in self.instances]
        compute.instance_get_by_uuid = lambda context, uuid: self.instances[uuid]

    def know(self, instance, network_info):
        self.instances[instance["uuid"]] = {**instance, "info_cache": {"network_info": network_info.json()}}


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


def test_a_guest_is_sent_what_its_groups_allow_and_nothing_else(bench, firewall):
    bench.groups.rules = [
        {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "0.0.0.0/0", "group_id": None},
        {"protocol": "udp", "from_port": 100, "to_port": 200, "cidr": "10.1.0.0/16", "group_id": None},
        {"protocol": "icmp", "from_port": -1, "to_port": -1, "cidr": "0.0.0.0/0", "group_id": None},
        {"protocol": "icmp", "from_port": 8, "to_port": 0, "cidr": "::/0", "group_id": None},
        {"protocol": None, "from_port": None, "to_port": None, "cidr": "2001:db8::/32", "group_id": None}]
    bench.groups.provider = [{"protocol": "tcp", "from_port": 25, "to_port": 25, "cidr": "6.6.6.0/24"}]
    instance, network_info = make_instance(), make_network_info()

    firewall.prepare_instance_filter(instance, network_info)

    chain = chain_of(instance)
    assert bench.tables.chain(chain) == [
        "-m state --state INVALID -j DROP", "-m state --state ESTABLISHED,RELATED -j ACCEPT", "-j nova-provider",
        "-s 192.168.1.1/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        "-p tcp -s 0.0.0.0/0 -m tcp --dport 22 -j ACCEPT", "-p udp -s 10.1.0.0/16 -m udp --dport 100:200 -j ACCEPT",
        "-p icmp -s 0.0.0.0/0 -j ACCEPT", "-j sg-fallback"]
    assert bench.tables.chain(chain, "ip6tables")[3:] == [
        "-s fe80::1/128 -p icmpv6 -j ACCEPT", "-p icmpv6 -s ::/0 -m icmp6 --icmpv6-type 8/0 -j ACCEPT",
        "-s 2001:db8::/32 -j ACCEPT", "-j sg-fallback"]
    assert bench.tables.chain("nova-forward") == [f"-d 192.168.1.101/32 -j {chain}"]
    assert bench.tables.chain("nova-provider") == ["-p tcp -s 6.6.6.0/24 -m tcp --dport 25 -j DROP"]
    assert bench.tables.chain("sg-fallback") == bench.tables.chain("sg-fallback", "ip6tables") == ["-j DROP"]
    assert bench.tables.chain("FORWARD") == ["-j nova-forward", "-j RH-Firewall"]
    assert ":INPUT ACCEPT [1:2]" in bench.tables.text() and len(chain) <= 28


def test_filters_of_other_guests_and_of_the_host_stay_when_one_goes(bench, firewall):
    one, other = make_instance(), make_instance()
    firewall.prepare_instance_filter(one, make_network_info())
    before = bench.tables.text()
    firewall.prepare_instance_filter(other, make_network_info(2))
    firewall.unfilter_instance(other)
    firewall.unfilter_instance(other)
    assert sorted(bench.tables.text().splitlines()) == sorted(before.splitlines())


def test_a_group_that_changed_is_applied_to_its_guests_after_a_restart_too(bench, firewall):
    instance, member = make_instance(), make_instance()
    network_info = make_network_info(2)
    bench.groups.know(instance, type(network_info)(network_info[:1]))
    firewall.refresh_security_group_rules(2)
    assert chain_of(instance) not in bench.tables.text()

    bench.groups.rules = [{"protocol": "tcp", "from_port": 1, "to_port": 9, "cidr": None, "group_id": 7,
                           "grantee_group": {"id": 7, "instances": [member["uuid"]]}}]
    bench.groups.know(member, type(network_info)(network_info[1:]))
    firewall.refresh_security_group_members(7)
    assert "-p tcp -s 192.168.1.102/32 -m tcp --dport 1:9 -j ACCEPT" in bench.tables.chain(chain_of(instance))

    bench.groups.rules = []
    firewall.refresh_security_group_rules(1)
    assert not [rule for rule in bench.tables.chain(chain_of(instance)) if "dport 1:9" in rule]


def test_changes_that_are_collected_are_applied_at_once_at_the_end(bench, firewall):
    instance = make_instance()
    bench.simulator.control.reset_calls()
    firewall.filter_defer_apply_on()
    firewall.prepare_instance_filter(instance, make_network_info())
    firewall.refresh_provider_fw_rules()
    assert "host.call_plugin" not in bench.calls()
    firewall.filter_defer_apply_off()
    assert bench.calls().count("host.call_plugin") == 4
    assert bench.tables.chain(chain_of(instance))


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


def test_a_table_that_is_new_has_the_kernels_own_chains():
    table = FilterTable("")
    table.lead("FORWARD", "own")
    assert str(table).splitlines() == ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]",
                                       ":OUTPUT ACCEPT [0:0]", "-A FORWARD -j own", "COMMIT"]
