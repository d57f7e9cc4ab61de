"""Security groups of a cell (compute specification §10.4)."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from nova_lite import exception
from nova_lite.compute import api_checks as checks
from nova_lite.compute import rpcapi
from nova_lite.compute.api_guards import as_instance
from nova_lite.compute.api_quota import Quotas
from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance, InstanceList

Group = dict[str, Any]
# `list` is the name of a method below.
Groups = list[Group]
Rules = list[dict[str, Any]]
Instances = list[Instance]

PROTOCOLS = ("tcp", "udp", "icmp")


class SecurityGroupAPI:
    """Groups are dicts: `id, name, description, project_id, user_id, rules`.

    A changed rule refreshes the hosts of the group's members; a changed membership those of the members of groups
    whose rules grant something to the changed group.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._db = services.db
        self._compute = rpcapi.SecurityGroupAPI(services)
        self._quotas = Quotas(services)

    # -- groups --

    def create_security_group(self, context: RequestContext, name: str, description: str) -> Group:
        """Make a group of the user's project. Raises Invalid, SecurityGroupExists, SecurityGroupLimitExceeded."""
        checks.check_name("the name of a security group", name)
        checks.check_text("the description of a security group", description)
        self._quotas.check_security_groups(context, security_groups=len(self.list(context)) + 1)
        return self._db.security_group_create(context, {
            "name": name, "description": description, "user_id": context.user_id, "project_id": context.project_id})

    def get(self, context: RequestContext, name: str | None = None, id: int | None = None) -> Group:
        """Return the group of an id, or of a name, in the user's project. Raises SecurityGroupNotFound."""
        if id is not None:
            group = self._db.security_group_get(context, int(id))
            if not context.is_admin and group["project_id"] != context.project_id:
                raise exception.SecurityGroupNotFound(security_group_id=id)
            return group
        return self._db.security_group_get_by_name(context, context.project_id, name)

    def list(self, context: RequestContext, project: str | None = None) -> Groups:
        """Return the groups of a project, by default the user's own."""
        return self._db.security_group_get_by_project(context, project or context.project_id)

    def destroy(self, context: RequestContext, security_group: Group) -> None:
        """Delete a group that no instance is in. Raises Invalid."""
        if security_group["name"] == "default":
            raise exception.Invalid("The default security group cannot be deleted")
        if self._db.security_group_in_use(context, security_group["id"]):
            raise exception.Invalid(f"Security group {security_group['name']} is in use")
        self._db.security_group_destroy(context, security_group["id"])

    # -- rules --

    def add_rules(self, context: RequestContext, id: int, name: str, vals: Iterable[dict[str, Any]]) -> Rules:
        """Add rules of `protocol, from_port, to_port` and `cidr` or `group_id`; returns them.

        Raises InvalidInput, SecurityGroupNotFound, SecurityGroupLimitExceeded.
        """
        rules = [_checked(rule) for rule in vals]
        for group_id in {id, *(rule["group_id"] for rule in rules if rule["group_id"] is not None)}:
            self.get(context, id=group_id)
        there = len(self._db.security_group_rule_get_by_security_group(context, id))
        self._quotas.check_security_groups(context, security_group_rules=there + len(rules))
        made = [self._db.security_group_rule_create(context, {**rule, "parent_group_id": id}) for rule in rules]
        self.trigger_rules_refresh(context, id)
        return made

    def remove_rules(self, context: RequestContext, security_group: Group, rule_ids: Iterable[int]) -> None:
        """Remove rules of the group; those of other groups are left alone."""
        own = {rule["id"] for rule in self._db.security_group_rule_get_by_security_group(context,
                                                                                         security_group["id"])}
        for rule_id in own.intersection(rule_ids):
            self._db.security_group_rule_destroy(context, rule_id)
        self.trigger_rules_refresh(context, security_group["id"])

    # -- members --

    def add_to_instance(self, context: RequestContext, instance: Any, security_group_name: str) -> None:
        """Put an instance into a group of its project. Raises SecurityGroupNotFoundForProject."""
        instance, group = self._both(context, instance, security_group_name)
        self._db.instance_add_security_group(context, instance.uuid, group["id"])
        self._membership_changed(context, instance, group)

    def remove_from_instance(self, context: RequestContext, instance: Any, security_group_name: str) -> None:
        """Take an instance out of a group. Raises SecurityGroupNotFoundForProject."""
        instance, group = self._both(context, instance, security_group_name)
        self._db.instance_remove_security_group(context, instance.uuid, group["id"])
        self._membership_changed(context, instance, group)

    def _both(self, context: RequestContext, instance: Any, name: str) -> tuple[Instance, Group]:
        instance = as_instance(context, instance)
        return instance, self._db.security_group_get_by_name(context, instance.project_id, name)

    def _membership_changed(self, context: RequestContext, instance: Instance, group: Group) -> None:
        self._refresh(context, [instance])
        self.trigger_members_refresh(context, [group["id"]])

    # -- telling hosts --

    def trigger_rules_refresh(self, context: RequestContext, id: int) -> None:
        """Have the hosts of the group's members apply its rules anew."""
        self._refresh(context, self._members(context, [id]))

    def trigger_members_refresh(self, context: RequestContext, group_ids: Iterable[int]) -> None:
        """Have hosts apply the rules that grant something to the members of these groups."""
        granting = {rule["parent_group_id"] for group_id in group_ids
                    for rule in self._db.security_group_rule_get_by_security_group_grantee(context, group_id)}
        self._refresh(context, self._members(context, granting))

    def _members(self, context: RequestContext, group_ids: Iterable[int]) -> Instances:
        group_ids = sorted(group_ids)
        return list(InstanceList.get_by_security_groups(context.elevated(), group_ids)) if group_ids else []

    def _refresh(self, context: RequestContext, instances: Iterable[Instance]) -> None:
        for instance in instances:
            if instance.host:
                self._compute.refresh_instance_security_rules(context, instance.host, instance)


_RANGES = {"tcp": "ports", "udp": "ports", "icmp": "types and codes"}


def _is_range(protocol: str | None, first: Any, last: Any) -> bool:
    """Whether the two are a range of ports, or type and code of ICMP (-1: any); no protocol has neither."""
    if protocol in ("tcp", "udp"):
        return isinstance(first, int) and isinstance(last, int) and 1 <= first <= last <= 65535
    return all(value is None or (isinstance(value, int) and -1 <= value <= 65535) for value in (first, last))


def _checked(rule: dict[str, Any]) -> dict[str, Any]:
    protocol, first, last = rule.get("protocol"), rule.get("from_port"), rule.get("to_port")
    if protocol is not None:
        protocol = str(protocol).lower()
        if protocol not in PROTOCOLS:
            raise exception.InvalidInput(
                reason=f"the protocol of a rule is one of {', '.join(PROTOCOLS)}, not {protocol}")
    if not _is_range(protocol, first, last):
        raise exception.InvalidInput(reason=f"{first!s:.40} to {last!s:.40} is no range of {_RANGES.get(protocol)}")
    cidr = rule.get("cidr")
    if cidr is None and rule.get("group_id") is None:
        raise exception.InvalidInput(reason="a rule grants to a cidr or to a group")
    if cidr is not None:
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            raise exception.InvalidInput(reason=f"cidr: {error}") from error
    return {"protocol": protocol, "from_port": first, "to_port": last, "cidr": cidr,
            "group_id": rule.get("group_id")}
