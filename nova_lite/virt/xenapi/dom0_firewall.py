"""Packet filters of guests in their host's dom0, by iptables on Linux bridges, through the plugin `xenhost`.

    FORWARD -> nova-forward -> nova-i-XXXXXXXX, by the address of a guest
                                 established connections, what the provider forbids (nova-provider), DHCP and router
                                 advertisements, the rules of the guest's security groups; the rest ends in sg-fallback

Chains of guests are changed one at a time: those of guests this process has not seen stay as they are.
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances, plugins, vif
from nova_lite.virt.xenapi.firewall import FirewallDriver

FORWARD, PROVIDER, FALLBACK = "nova-forward", "nova-provider", "sg-fallback"
COMMANDS = {4: ("iptables-save", "iptables-restore"), 6: ("ip6tables-save", "ip6tables-restore")}
ICMP = {4: ("icmp", "icmp", "--icmp-type"), 6: ("icmpv6", "icmp6", "--icmpv6-type")}
ALL_TYPES = -1


class FilterTable:
    """The filter table of one address family, as iptables-save tells it and iptables-restore takes it."""

    def __init__(self, text: str):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self._chains = {line[1:].split()[0]: line for line in lines if line.startswith(":")}
        self._rules = [line for line in lines if line.startswith("-A ")]
        for name in ("INPUT", "FORWARD", "OUTPUT"):
            self._chains.setdefault(name, f":{name} ACCEPT [0:0]")

    def set_chain(self, name: str, rules: Iterable[str]) -> None:
        """Make the rules those of the chain, in place of the ones it has."""
        self._chains.setdefault(name, f":{name} - [0:0]")
        self._rules = [rule for rule in self._rules if rule.split()[1] != name]
        self._rules += [f"-A {name} {rule}" for rule in rules]

    def remove_chain(self, name: str) -> None:
        """Remove the chain and every way to it."""
        self._chains.pop(name, None)
        self._rules = [rule for rule in self._rules if rule.split()[1] != name and not rule.endswith(f"-j {name}")]

    def lead(self, chain: str, target: str, *conditions: str) -> None:
        """Lead packets of the chain that meet the conditions to another one before anything else."""
        self._chains.setdefault(chain, f":{chain} - [0:0]")
        rule = " ".join([f"-A {chain}", *conditions, f"-j {target}"])
        self._rules = [rule, *(other for other in self._rules if other != rule)]

    def __str__(self):
        return "\n".join(["*filter", *self._chains.values(), *self._rules, "COMMIT", ""])


class Dom0IptablesFirewallDriver(FirewallDriver):
    """Applies security groups and the provider's rules in dom0; also keeps interfaces to their own addresses."""

    locks_vifs = True

    def __init__(self, virtapi=None, xenapi_session=None, host=None):
        super().__init__(virtapi, xenapi_session)
        self._host = host
        self._deferred: list[Any] | None = None

    def prepare_instance_filter(self, instance, network_info):
        self._change(lambda version, table: self._put(version, table, instance, network_info))

    def ensure_instance_filter(self, instance, network_info):
        """Make them anew: dom0 forgets them when it boots, and that of another host never had them."""
        self.prepare_instance_filter(instance, network_info)

    def unfilter_instance(self, instance, network_info=None):
        self._change(lambda version, table: table.remove_chain(chain_of(instance)))

    def refresh_security_group_rules(self, security_group_id):
        self._refresh(lambda groups: security_group_id in {group["id"] for group in groups})

    def refresh_security_group_members(self, security_group_id):
        self._refresh(lambda groups: any(
            rule.get("group_id") == security_group_id for group in groups for rule in self._rules_of(group)))

    def refresh_instance_security_rules(self, instance):
        self.prepare_instance_filter(instance, network_of(instance))

    def refresh_provider_fw_rules(self):
        self._change(self._put_provider)

    def filter_defer_apply_on(self):
        self._deferred = []

    def filter_defer_apply_off(self):
        changes, self._deferred = self._deferred or [], None
        if changes:
            self._change(lambda version, table: [change(version, table) for change in changes])

    def _refresh(self, concerns) -> None:
        """Make the filters of our host's instances anew whose groups the change concerns."""
        context = self.virtapi.admin_context()
        for instance in self.virtapi.instance_get_all_by_host(context, self._host):
            if concerns(self.virtapi.security_group_get_by_instance(context, instance)):
                whole = self.virtapi.instance_get_by_uuid(context, instance["uuid"])
                self.refresh_instance_security_rules(whole)

    # The tables -----------------------------------------------------------------------------------------------

    def _change(self, change) -> None:
        """Apply change(version, table) to the tables of both families."""
        if self._deferred is not None:
            self._deferred.append(change)
            return
        with self.session.locks.hold("xenapi-dom0-iptables"):
            for version, (save, restore) in COMMANDS.items():
                table = FilterTable(self._run(save, "-t", "filter"))
                table.lead("FORWARD", FORWARD)
                table.set_chain(FALLBACK, ["-j DROP"])
                change(version, table)
                self._run(restore, given=str(table))

    def _run(self, *command: str, given: str = "") -> str:
        try:
            answer = self.session.call_plugin("xenhost", "iptables_config", {
                "cmd_args": json.dumps(command), "process_input": given})
        except XenAPI.Failure as failure:
            if errors.is_code(failure, *plugins.PLUGIN_FAILURES, *plugins.MISSING):
                raise exception.PluginError(reason=f"{command[0]}: {errors.last_line(failure)}") from failure
            raise
        return json.loads(answer)["out"]

    def _put(self, version: int, table: FilterTable, instance: Any, network_info: Any) -> None:
        chain = chain_of(instance)
        table.remove_chain(chain)
        mappings = [mapping for _, mapping in vif.records(network_info)]
        kind = "ips" if version == 4 else "ip6s"
        addresses = [entry["ip"] for mapping in mappings for entry in mapping.get(kind, [])]
        if not addresses:
            return
        self._put_provider(version, table)
        table.set_chain(chain, [
            "-m state --state INVALID -j DROP", "-m state --state ESTABLISHED,RELATED -j ACCEPT", f"-j {PROVIDER}",
            *basic_rules(version, mappings), *self._group_rules(version, instance), f"-j {FALLBACK}"])
        for address in addresses:
            table.lead(FORWARD, chain, f"-d {address}/{32 if version == 4 else 128}")

    def _put_provider(self, version: int, table: FilterTable) -> None:
        rules = self.virtapi.provider_fw_rule_get_all(self.virtapi.admin_context())
        table.set_chain(PROVIDER, [f"{conditions} -j DROP" for rule in rules
                                   for conditions in conditions_of(version, rule, [rule["cidr"]])])

    def _group_rules(self, version: int, instance: Any) -> Iterator[str]:
        context = self.virtapi.admin_context()
        for group in self.virtapi.security_group_get_by_instance(context, instance):
            for rule in self._rules_of(group):
                sources = [rule["cidr"]] if rule.get("cidr") else self._members(rule.get("grantee_group"))
                yield from (f"{conditions} -j ACCEPT" for conditions in conditions_of(version, rule, sources))

    def _rules_of(self, group: Any) -> list[dict[str, Any]]:
        return self.virtapi.security_group_rule_get_by_security_group(self.virtapi.admin_context(), group)

    def _members(self, group: dict[str, Any] | None) -> list[str]:
        """Return the addresses of a group's instances, wherever they are."""
        context, found = self.virtapi.admin_context(), []
        for uuid in (group or {}).get("instances") or ():
            for _, mapping in vif.records(network_of(self.virtapi.instance_get_by_uuid(context, uuid))):
                found += [entry["ip"] for entry in [*mapping.get("ips", []), *mapping.get("ip6s", [])]]
        return found


def chain_of(instance: Any) -> str:
    """Return the name of an instance's chain; iptables takes 28 characters."""
    return f"nova-i-{instance['uuid'].replace('-', '')[:20]}"


def network_of(instance: Any) -> Any:
    """Return the network information that was kept with the instance."""
    cached = instances.read(instance, "info_cache")
    return (instances.read(cached, "network_info") if cached else None) or []


def basic_rules(version: int, mappings: list[dict]) -> Iterator[str]:
    """Yield what every guest may be sent: answers of its DHCP server, advertisements of its router."""
    for mapping in mappings:
        if version == 4 and mapping.get("dhcp_server"):
            yield f"-s {mapping['dhcp_server']}/32 -p udp -m udp --sport 67 --dport 68 -j ACCEPT"
        elif version == 6 and mapping.get("gateway_v6"):
            yield f"-s {mapping['gateway_v6']}/128 -p icmpv6 -j ACCEPT"


def conditions_of(version: int, rule: dict[str, Any], sources: Iterable[str]) -> Iterator[str]:
    """Yield the conditions of a rule for each of the sources of this family. There are no lists of ports in dom0."""
    for source in sources:
        network = ipaddress.ip_network(source, strict=False)
        if network.version == version:
            yield f"{_traffic(version, rule)}-s {network}{_ports(version, rule)}"


def _traffic(version: int, rule: dict[str, Any]) -> str:
    protocol = (rule.get("protocol") or "").lower()
    if not protocol:
        return ""
    return f"-p {ICMP[version][0] if protocol == 'icmp' else protocol} "


def _ports(version: int, rule: dict[str, Any]) -> str:
    protocol, first, last = (rule.get("protocol") or "").lower(), rule.get("from_port"), rule.get("to_port")
    if protocol in ("tcp", "udp") and first is not None:
        return f" -m {protocol} --dport {first}" + (f":{last}" if last != first else "")
    if protocol != "icmp" or first is None or first == ALL_TYPES:
        return ""
    _, module, option = ICMP[version]
    return f" -m {module} {option} {first}" + (f"/{last}" if last not in (None, ALL_TYPES) else "")
