"""Security groups, their rules and members, and the provider's own rules."""

from collections.abc import Collection, Mapping
from typing import Any

import oslo_db.exception
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models
from nova_lite.db.operations import Part, operation
from nova_lite.db.store import RowSession, own_project, visible

GROUPS = models.SecurityGroup.__table__
RULES = models.SecurityGroupRule.__table__
LINKS = models.SecurityGroupInstanceAssociation.__table__
PROVIDER_RULES = models.ProviderFirewallRule.__table__


class SecurityGroups(Part):
    """Groups are found by project and name; rules by the group they belong to."""

    # -- groups --

    @operation
    def security_group_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a group and return it. Raises SecurityGroupExists."""
        with self.store.writer(context) as session:
            try:
                return session.insert_row(models.SecurityGroup, values)
            except oslo_db.exception.DBDuplicateEntry as exc:
                raise exception.SecurityGroupExists(security_group_name=values.get("name"),
                                                    project_id=values.get("project_id")) from exc

    @operation
    def security_group_get(self, context: Any, security_group_id: int) -> dict[str, Any]:
        """Return a group with its ``rules``. Raises SecurityGroupNotFound."""
        groups = self._groups(context, GROUPS.c.id == security_group_id)
        if not groups:
            raise exception.SecurityGroupNotFound(security_group_id=security_group_id)
        return groups[0]

    @operation
    def security_group_get_by_name(self, context: Any, project_id: str, group_name: str) -> dict[str, Any]:
        """Return a project's group with its ``rules``. Raises SecurityGroupNotFoundForProject."""
        groups = self._groups(context, GROUPS.c.project_id == project_id, GROUPS.c.name == group_name)
        if not groups:
            raise exception.SecurityGroupNotFoundForProject(project_id=project_id, security_group_id=group_name)
        return groups[0]

    @operation
    def security_group_get_by_project(self, context: Any, project_id: str) -> list[dict[str, Any]]:
        """Return a project's groups with their ``rules``."""
        return self._groups(context, GROUPS.c.project_id == project_id)

    @operation
    def security_group_get_all(self, context: Any) -> list[dict[str, Any]]:
        """Return every group with its ``rules``."""
        return self._groups(context)

    @operation
    def security_group_get_by_instance(self, context: Any, instance_uuid: str) -> list[dict[str, Any]]:
        """Return the groups of an instance with their ``rules``."""
        member = sqlalchemy.exists().where(LINKS.c.security_group_id == GROUPS.c.id, LINKS.c.deleted == 0,
                                           LINKS.c.instance_uuid == instance_uuid)
        return self._groups(context, member)

    @operation
    def security_group_in_use(self, context: Any, security_group_id: int) -> bool:
        """Return whether a live instance is in the group."""
        with self.store.reader(context) as session:
            return session.one(sqlalchemy.select(LINKS.c.id).where(
                LINKS.c.security_group_id == security_group_id, LINKS.c.deleted == 0).limit(1)) is not None

    @operation
    def security_group_destroy(self, context: Any, security_group_id: int) -> None:
        """Soft-delete a group, its rules and memberships. Raises SecurityGroupNotFound."""
        with self.store.writer(context) as session:
            if not session.soft_delete(models.SecurityGroup, GROUPS.c.id == security_group_id):
                raise exception.SecurityGroupNotFound(security_group_id=security_group_id)
            session.soft_delete(models.SecurityGroupInstanceAssociation,
                                LINKS.c.security_group_id == security_group_id)
            session.soft_delete(models.SecurityGroupRule, sqlalchemy.or_(
                RULES.c.parent_group_id == security_group_id, RULES.c.group_id == security_group_id))

    def _groups(self, context: Any, *criteria: Any) -> list[dict[str, Any]]:
        with self.store.reader(context) as session:
            groups = session.all(sqlalchemy.select(GROUPS).where(
                *criteria, *visible(models.SecurityGroup, context),
                *own_project(models.SecurityGroup, context)).order_by(GROUPS.c.id))
            by_id = {group["id"]: group.setdefault("rules", []) for group in groups}
            for rule in self._rules(session, RULES.c.parent_group_id.in_(list(by_id))) if groups else ():
                by_id[rule["parent_group_id"]].append(rule)
        return groups

    # -- members --

    def associate(self, session: RowSession, context: Any, instance: Mapping[str, Any],
                  names: Collection[Any]) -> None:
        """Make the groups of an instance the named ones, inside a transaction; missing groups are made, without rules.
        """
        names = list(dict.fromkeys(name["name"] if isinstance(name, Mapping) else name for name in names))
        session.soft_delete(models.SecurityGroupInstanceAssociation, LINKS.c.instance_uuid == instance["uuid"])
        for name in names:
            group_id = self._group_id(session, instance.get("project_id"), instance.get("user_id"), name)
            session.insert_row(models.SecurityGroupInstanceAssociation, {
                "security_group_id": group_id, "instance_uuid": instance["uuid"]})

    def _group_id(self, session: RowSession, project_id: str | None, user_id: str | None, name: str) -> int:
        statement = sqlalchemy.select(GROUPS.c.id).where(
            GROUPS.c.project_id == project_id, GROUPS.c.name == name, GROUPS.c.deleted == 0)
        found = session.one(statement)
        if found is None:
            try:
                with session.begin_nested():
                    return session.insert_row(models.SecurityGroup, {
                        "name": name, "description": "", "project_id": project_id, "user_id": user_id})["id"]
            except oslo_db.exception.DBDuplicateEntry:
                found = session.one(statement)  # somebody else made it meanwhile
        return found["id"]

    @operation
    def instance_add_security_group(self, context: Any, instance_uuid: str, security_group_id: int) -> None:
        """Put an instance into a group; once is enough."""
        with self.store.writer(context) as session:
            if session.one(sqlalchemy.select(LINKS.c.id).where(
                    LINKS.c.instance_uuid == instance_uuid, LINKS.c.security_group_id == security_group_id,
                    LINKS.c.deleted == 0)) is None:
                session.insert_row(models.SecurityGroupInstanceAssociation, {
                    "security_group_id": security_group_id, "instance_uuid": instance_uuid})

    @operation
    def instance_remove_security_group(self, context: Any, instance_uuid: str, security_group_id: int) -> None:
        """Take an instance out of a group."""
        with self.store.writer(context) as session:
            session.soft_delete(models.SecurityGroupInstanceAssociation, LINKS.c.instance_uuid == instance_uuid,
                                LINKS.c.security_group_id == security_group_id)

    # -- rules --

    @operation
    def security_group_rule_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a rule and return it."""
        with self.store.writer(context) as session:
            return session.insert_row(models.SecurityGroupRule, values)

    @operation
    def security_group_rule_get_by_security_group(self, context: Any, security_group_id: int) -> list[dict[str, Any]]:
        """Return the rules of a group; those that grant to a group have it as ``grantee_group`` with the uuids of
        its ``instances``.
        """
        with self.store.reader(context) as session:
            rules = self._rules(session, RULES.c.parent_group_id == security_group_id)
            for rule in rules:
                rule["grantee_group"] = self._grantee(session, rule["group_id"]) if rule["group_id"] else None
        return rules

    @operation
    def security_group_rule_get_by_security_group_grantee(self, context: Any,
                                                          security_group_id: int) -> list[dict[str, Any]]:
        """Return the rules that grant to a group."""
        with self.store.reader(context) as session:
            return self._rules(session, RULES.c.group_id == security_group_id)

    @operation
    def security_group_rule_destroy(self, context: Any, rule_id: int) -> int:
        """Soft-delete a rule; returns how many there were."""
        with self.store.writer(context) as session:
            return session.soft_delete(models.SecurityGroupRule, RULES.c.id == rule_id)

    def _rules(self, session: RowSession, criterion: Any) -> list[dict[str, Any]]:
        return session.all(sqlalchemy.select(RULES).where(criterion, RULES.c.deleted == 0).order_by(RULES.c.id))

    def _grantee(self, session: RowSession, group_id: int) -> dict[str, Any] | None:
        group = session.one(sqlalchemy.select(GROUPS).where(GROUPS.c.id == group_id, GROUPS.c.deleted == 0))
        if group is not None:
            links = session.all(sqlalchemy.select(LINKS.c.instance_uuid).where(
                LINKS.c.security_group_id == group_id, LINKS.c.deleted == 0).order_by(LINKS.c.id))
            group["instances"] = [link["instance_uuid"] for link in links]
        return group

    # -- the provider's rules --

    @operation
    def provider_fw_rule_create(self, context: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert a rule that holds for every instance."""
        with self.store.writer(context) as session:
            return session.insert_row(models.ProviderFirewallRule, values)

    @operation
    def provider_fw_rule_get_all(self, context: Any) -> list[dict[str, Any]]:
        """Return the rules that hold for every instance."""
        with self.store.reader(context) as session:
            return session.all(sqlalchemy.select(PROVIDER_RULES).where(
                *visible(models.ProviderFirewallRule, context)).order_by(PROVIDER_RULES.c.id))

    @operation
    def provider_fw_rule_destroy(self, context: Any, rule_id: int) -> int:
        """Soft-delete such a rule; returns how many there were."""
        with self.store.writer(context) as session:
            return session.soft_delete(models.ProviderFirewallRule, PROVIDER_RULES.c.id == rule_id)
