import json

import pytest

from nova_lite import concurrency
from nova_lite.virt.virtapi import VirtAPI
from nova_lite.virt.xenapi.dom0_firewall import Dom0IptablesFirewallDriver, FilterTable, chain_of
from tests.fixtures.security_groups import STRANGER, Groups
from tests.fixtures.xen_bench import make_instance, make_network_info


class Tables:
    """A session with a host whose plugin keeps the tables in memory; with real ones the driver is tested elsewhere."""

    def __init__(self):
        self.locks = concurrency.KeyedLocks()
        self.commands = []
        self._texts = {"iptables": STRANGER, "ip6tables": STRANGER}

    def forget(self):
        """What a host that boots does."""
        self._texts = {"iptables": STRANGER, "ip6tables": STRANGER}

    def call_plugin(self, plugin, function, args):
        command = json.loads(args["cmd_args"])[0]
        self.commands.append(command)
        family, _, verb = command.partition("-")
        if verb == "restore":
            self._texts[family] = args["process_input"]
        return json.dumps({"out": self._texts[family] if verb == "save" else "", "err": ""})

    def text(self, family="iptables"):
        return self._texts[family]

    def chain(self, name, family="iptables"):
        return [line.split(" ", 2)[2] for line in self.text(family).splitlines() if line.startswith(f"-A {name} ")]


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def compute():
    return VirtAPI()


@pytest.fixture
def groups(compute):
    return Groups(compute)


@pytest.fixture
def firewall(tables, compute, groups):
    return Dom0IptablesFirewallDriver(virtapi=compute, xenapi_session=tables, host="host")


def test_a_guest_is_sent_what_its_groups_allow_and_nothing_else(tables, groups, firewall):
    groups.rules = [
        {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "0.0.0.0/0", "group_id": None},
        {"protocol": "udp", "from_port": 100, "to_port": 200, "cidr": "10.1.0.0/16", "group_id": None},
        {"protocol": "icmp", "from_port": -1, "to_port": -1, "cidr": "0.0.0.0/0", "group_id": None},
        {"protocol": "icmp", "from_port": 8, "to_port": 0, "cidr": "::/0", "group_id": None},
        {"protocol": None, "from_port": None, "to_port": None, "cidr": "2001:db8::/32", "group_id": None}]
    groups.provider = [{"protocol": "tcp", "from_port": 25, "to_port": 25, "cidr": "6.6.6.0/24"}]
    instance, network_info = make_instance(), make_network_info()

    firewall.prepare_instance_filter(instance, network_info)

    chain = chain_of(instance)
    assert tables.chain(chain) == [
        "-m state --state INVALID -j DROP", "-m state --state ESTABLISHED,RELATED -j ACCEPT", "-j nova-provider",
        "-s 192.168.1.1/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        "-p tcp -s 0.0.0.0/0 -m tcp --dport 22 -j ACCEPT", "-p udp -s 10.1.0.0/16 -m udp --dport 100:200 -j ACCEPT",
        "-p icmp -s 0.0.0.0/0 -j ACCEPT", "-j sg-fallback"]
    assert tables.chain(chain, "ip6tables")[3:] == [
        "-s fe80::1/128 -p icmpv6 -j ACCEPT", "-p icmpv6 -s ::/0 -m icmp6 --icmpv6-type 8/0 -j ACCEPT",
        "-s 2001:db8::/32 -j ACCEPT", "-j sg-fallback"]
    assert tables.chain("nova-forward") == [f"-d 192.168.1.101/32 -j {chain}"]
    assert tables.chain("nova-provider") == ["-p tcp -s 6.6.6.0/24 -m tcp --dport 25 -j DROP"]
    assert tables.chain("sg-fallback") == tables.chain("sg-fallback", "ip6tables") == ["-j DROP"]
    assert tables.chain("FORWARD") == ["-j nova-forward", "-j RH-Firewall"]
    assert ":INPUT ACCEPT [1:2]" in tables.text() and len(chain) <= 28


def test_filters_of_other_guests_and_of_the_host_stay_when_one_goes(tables, groups, firewall):
    one, other = make_instance(), make_instance()
    firewall.prepare_instance_filter(one, make_network_info())
    before = tables.text()
    firewall.prepare_instance_filter(other, make_network_info(2))
    firewall.unfilter_instance(other)
    firewall.unfilter_instance(other)
    assert sorted(tables.text().splitlines()) == sorted(before.splitlines())


def test_a_group_that_changed_is_applied_to_its_guests_after_a_restart_too(tables, groups, firewall):
    instance, member = make_instance(), make_instance()
    network_info = make_network_info(2)
    groups.know(instance, type(network_info)(network_info[:1]))
    firewall.refresh_security_group_rules(2)
    assert chain_of(instance) not in tables.text()

    groups.rules = [{"protocol": "tcp", "from_port": 1, "to_port": 9, "cidr": None, "group_id": 7,
                           "grantee_group": {"id": 7, "instances": [member["uuid"]]}}]
    groups.know(member, type(network_info)(network_info[1:]))
    firewall.refresh_security_group_members(7)
    assert "-p tcp -s 192.168.1.102/32 -m tcp --dport 1:9 -j ACCEPT" in tables.chain(chain_of(instance))

    groups.rules = []
    firewall.refresh_security_group_rules(1)
    assert not [rule for rule in tables.chain(chain_of(instance)) if "dport 1:9" in rule]


def test_changes_that_are_collected_are_applied_at_once_at_the_end(tables, groups, firewall):
    instance = make_instance()
    firewall.filter_defer_apply_on()
    firewall.prepare_instance_filter(instance, make_network_info())
    firewall.refresh_provider_fw_rules()
    assert tables.commands == []
    firewall.filter_defer_apply_off()
    assert tables.commands == ["iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"]
    assert tables.chain(chain_of(instance))


def test_a_table_that_is_new_has_the_kernels_own_chains():
    table = FilterTable("")
    table.lead("FORWARD", "own")
    assert str(table).splitlines() == ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]",
                                       ":OUTPUT ACCEPT [0:0]", "-A FORWARD -j own", "COMMIT"]


def test_filters_that_dom0_has_lost_or_never_had_are_made_before_the_guest_arrives_or_goes_on(tables, groups, firewall):
    groups.rules = [{"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr": "0.0.0.0/0", "group_id": None}]
    instance, network_info = make_instance(), make_network_info()
    firewall.prepare_instance_filter(instance, network_info)
    made = tables.text()
    tables.forget()

    firewall.ensure_instance_filter(instance, network_info)

    assert tables.text() == made and tables.chain(chain_of(instance))
